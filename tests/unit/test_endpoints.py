"""Trying the endpoints: each port has an exchange, and ports that do not answer are reported."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from podserve import endpoints
from podserve.pod import Pod
from tests.unit.helpers import pod_with

PORTS = list(pod_with(dns_over_tls="yes").ports)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is bound over TCP and UDP, but does not answer."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        yield tcp.getsockname()[1]


def at(number: int) -> Pod:
    """Return a pod with this number for all its ports."""
    pod = pod_with(bind="127.0.0.1", dns_over_tls="yes")
    for container in pod.manifests.pod["spec"]["containers"]:
        for port in container["ports"]:
            port["hostPort"] = number
    return pod


def test_each_port_of_the_pod_is_an_endpoint_and_no_other() -> None:
    assert list(endpoints.ENDPOINTS) == PORTS


def test_ports_that_do_not_answer_are_told_in_the_order_asked(dead_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "PATIENCE", 0.1)
    asked = list(reversed(PORTS))
    answers = endpoints.attempt_all(at(dead_port), ssl.create_default_context(), asked)
    assert [answer.port for answer in answers] == asked
    assert not any(answer.ok for answer in answers)
    assert all(answer.error and 0 < answer.seconds < 1 for answer in answers)


def test_a_datagram_port_behind_which_nobody_listens_is_told_at_once() -> None:
    # As while the container starts. Waiting for the answer to a lost query would delay the next attempt.
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    answer = endpoints.attempt(at(number), ssl.create_default_context(), "dns-udp")
    assert "refused" in answer.error
    assert answer.seconds < endpoints.PATIENCE / 2


@pytest.mark.parametrize("name", [port for port in PORTS if port != "dns-udp"])
def test_a_port_that_closes_each_connection_is_told(name: str) -> None:
    # pasta, which forwards a user's ports, accepts and closes a connection if nothing listens in the container.
    def close() -> None:
        with server.accept()[0] as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(close)
        answer = endpoints.attempt(at(server.getsockname()[1]), ssl.create_default_context(), name)
    assert answer.error
