"""Whether the forwarders work: what a pod says of a resolver that fails, and of certificates that are wrong."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dns.message
import dns.rcode
import pytest

from podserve import forwarding
from podserve.commands import Result
from podserve.pod import Pod
from tests.unit.helpers import pod_with

OVER_TLS = "tls://192.0.2.1#dns.example"


def at(number: int, forwarders: str = "8.8.8.8 8.8.4.4") -> Pod:
    """Return a pod with this number for all its ports."""
    pod = pod_with(bind="127.0.0.1", forwarders=forwarders)
    for container in pod.manifests.pod["spec"]["containers"]:
        for port in container["ports"]:
            port["hostPort"] = number
    return pod


@contextmanager
def resolver(rcode: dns.rcode.Rcode) -> Iterator[int]:
    """Yield the port of a DNS server that answers one query with this code."""

    def answer() -> None:
        question, client = server.recvfrom(512)
        response = dns.message.make_response(dns.message.from_wire(question))
        response.set_rcode(rcode)
        server.sendto(response.to_wire(), client)

    with socket.socket(type=socket.SOCK_DGRAM) as server, ThreadPoolExecutor(1) as pool:
        server.bind(("127.0.0.1", 0))
        answered = pool.submit(answer)
        yield server.getsockname()[1]
        answered.result()


def test_a_resolver_whose_forwarders_answer_is_no_problem() -> None:
    with resolver(dns.rcode.NOERROR) as port:
        assert forwarding.problem(at(port)) == ""


def test_a_resolver_whose_forwarders_fail_is_told_with_what_it_said() -> None:
    with resolver(dns.rcode.SERVFAIL) as port:
        told = forwarding.problem(at(port))
    assert told == "the forwarders (8.8.8.8 8.8.4.4) did not resolve a name of google.com: SERVFAIL"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the container prints about its forwarders; the calls of Podman are not made."""
    lines: list[str] = []
    monkeypatch.setattr(forwarding, "podman", lambda *argv, **_: Result(argv, 0, "\n".join(lines), ""))
    return lines


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("certificate has expired", "its operator must renew it"),
        ("certificate is not yet valid", "check this host's clock"),
        ("hostname mismatch", "check the name after the #"),
        ("unable to get local issuer certificate", "set forwarders_root"),
        ("self-signed certificate in certificate chain", "set forwarders_root"),
        ("no TLS connection within 1.5 s", "check that this host can reach it"),
        ("Connection refused", "check that this host can reach it"),
    ],
)
def test_a_forwarder_over_tls_that_fails_is_named_with_the_reason_and_what_to_do(
    said: list[str], reason: str, hint: str
) -> None:
    said.append(f"{OVER_TLS}: {reason}")
    (line,) = forwarding.tls_problems(pod_with(forwarders=OVER_TLS))
    assert line.startswith(f"{OVER_TLS}: {reason}; ")
    assert hint in line


def test_plain_forwarders_are_not_tried_over_tls(said: list[str]) -> None:
    said.append("this container is not asked")
    assert forwarding.tls_problems(pod_with(forwarders="192.0.2.1 2001:db8::1")) == []


def test_a_resolver_that_fails_is_told_with_the_certificate_of_its_forwarder(said: list[str]) -> None:
    said.append(f"{OVER_TLS}: certificate has expired")
    with resolver(dns.rcode.SERVFAIL) as port:
        told = forwarding.problem(at(port, OVER_TLS))
    assert f"({OVER_TLS}) did not resolve a name of google.com: SERVFAIL; {OVER_TLS}: certificate has expired" in told
