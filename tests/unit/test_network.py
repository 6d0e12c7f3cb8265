"""The network mode: for root and for users it keeps the addresses of clients."""

from pathlib import Path

import pytest

from podserve import host, network
from podserve.commands import Result
from tests.unit.helpers import pod_with

GOOD = host.PodmanInfo((5, 4, 2), "netavark", "v2", Path("/"), ("memory", "pids"))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of Podman. No network exists yet."""
    calls: list[str] = []

    def podman(*argv: str, **_: object) -> Result:
        calls.append(" ".join(argv))
        return Result(argv, int("exists" in argv), "", "")

    monkeypatch.setattr(network, "podman", podman)
    monkeypatch.setattr(host, "podman_info", lambda: GOOD)
    return calls


@pytest.mark.parametrize(("ipv6", "words"), [(True, "--disable-dns --ipv6"), (False, "--disable-dns")])
def test_roots_pod_has_a_bridge_of_its_own_with_ipv6_where_the_host_has_it(
    called: list[str],
    monkeypatch: pytest.MonkeyPatch,
    ipv6: bool,  # noqa: FBT001
    words: str,
) -> None:
    monkeypatch.setattr(host, "rootless", lambda: False)
    monkeypatch.setattr(host, "has_ipv6", lambda: ipv6)
    assert network.mode(pod_with()) == "podserve-simple"
    network.ensure_network(pod_with())
    assert called == ["network exists podserve-simple", f"network create {words} podserve-simple"]


def test_a_users_pod_has_a_mode_that_keeps_addresses_and_no_bridge(
    called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "rootless", lambda: True)
    assert network.mode(pod_with()) == "pasta"
    network.ensure_network(pod_with())
    assert called == []
