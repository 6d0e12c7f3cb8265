"""The pod, as far as it can be judged without one: the ports it needs."""

import socket
from collections.abc import Iterator

import pytest

from podserve import pod
from podserve.errors import Problem
from podserve.manifests import Manifests
from tests.unit.helpers import chosen


@pytest.fixture(autouse=True)
def _no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask no Podman: there is no pod."""
    monkeypatch.setattr(pod, "exists", lambda _: False)


@pytest.fixture(params=["tcp", "udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A port of 127.0.0.1 that another holds: its protocol and its number."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[request.param]
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if request.param == "tcp":
            other.listen()
        yield request.param, other.getsockname()[1]


def on_ports(number: int = 0, bind: str = "127.0.0.1") -> Manifests:
    """Return a pod whose DNS has that number over both protocols; all its other ports may be any that is free."""
    manifests = Manifests(chosen(bind=bind))
    for container in manifests.pod["spec"]["containers"]:
        for port in container["ports"]:
            port["hostPort"] = number if container["name"] == "dns" else 0
    return manifests


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_pod_may_start_where_all_ports_are_free(bind: str) -> None:
    pod.require_free_ports(on_ports(bind=bind))


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_another_holds_is_told_with_how_to_see_by_whom(taken: tuple[str, int], bind: str) -> None:
    protocol, number = taken
    with pytest.raises(Problem) as refused:
        pod.require_free_ports(on_ports(number, bind))
    first, *lines = str(refused.value.message).splitlines()
    assert first == "podserve: the pod cannot be started:"
    (line,) = lines
    assert line.strip().startswith(f"port {number}/{protocol.upper()} is taken on {bind}. See by whom: ss -l")
    assert f"ss -l{protocol[0]}np 'sport = :{number}'" in line


def test_the_same_port_of_another_address_is_free(taken: tuple[str, int]) -> None:
    pod.require_free_ports(on_ports(taken[1], "127.0.0.2"))


def test_ports_that_the_pod_holds_itself_are_its_own(taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "exists", lambda _: True)
    pod.require_free_ports(on_ports(taken[1]))


def test_an_address_that_is_not_of_this_host_is_told() -> None:
    with pytest.raises(Problem, match=r"bind is 192\.0\.2\.1, which is no address of this host\. See them: ip -brief"):
        pod.require_free_ports(on_ports(bind="192.0.2.1"))
