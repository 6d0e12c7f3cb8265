"""The ports: free, or taken by a process that the error names."""

import os
import socket
from collections.abc import Iterator

import pytest

from podserve import ports
from podserve.pod import Pod
from tests.unit.helpers import pod_with


@pytest.fixture(params=["tcp", "udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A port of 127.0.0.1 that is taken: its protocol and its number."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[request.param]
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if request.param == "tcp":
            other.listen()
        yield request.param, other.getsockname()[1]


def on_ports(number: int = 0, bind: str = "127.0.0.1") -> Pod:
    """Return a pod with DNS on this port (UDP and TCP). Its other ports are 0, which means any free port."""
    pod = pod_with(bind=bind)
    for container in pod.manifests.pod["spec"]["containers"]:
        for port in container["ports"]:
            port["hostPort"] = number if container["name"] == "dns" else 0
    return pod


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "::1"])
def test_free_ports_are_no_obstacle(bind: str) -> None:
    assert ports.obstacles(on_ports(bind=bind)) == []


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_another_holds_is_told_with_its_name(taken: tuple[str, int], bind: str) -> None:
    protocol, number = taken
    (obstacle,) = ports.obstacles(on_ports(number, bind))
    assert obstacle.said.startswith(f"port {number}/{protocol.upper()} is taken on {bind} by ")
    assert obstacle.said.endswith(f"(process {os.getpid()})")
    assert obstacle.fix.startswith((f"kill {os.getpid()}", "systemctl disable --now "))


def test_the_same_port_of_another_address_is_free(taken: tuple[str, int]) -> None:
    assert ports.obstacles(on_ports(taken[1], "127.0.0.2")) == []


def test_an_address_that_is_not_of_this_host_is_told_once() -> None:
    (obstacle,) = ports.obstacles(on_ports(bind="192.0.2.1"))
    assert obstacle.said == "bind is 192.0.2.1, which is not an address of this host"
    assert obstacle.fix.startswith("ip -brief address")


@pytest.mark.parametrize(
    ("unit", "by", "fix"),
    [
        ("exim4.service", "exim4", "systemctl disable --now exim4.service"),
        ("systemd-resolved.service", "systemd-resolved", "set bind in invoke.yaml to the address to serve on"),
    ],
)
def test_a_service_that_holds_a_port_is_told_with_how_to_live_with_it(
    taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch, unit: str, by: str, fix: str
) -> None:
    monkeypatch.setattr(ports, "_unit_of", lambda _: unit)
    (obstacle,) = ports.obstacles(on_ports(taken[1]))
    assert f" by {by} (process " in obstacle.said
    assert obstacle.fix.startswith(fix)
