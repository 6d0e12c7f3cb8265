"""DNS over TLS and DNS over HTTPS for clients: answered to private addresses, refused to strangers, off by default."""

import base64
import hashlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import httpx
import pytest

from podserve import endpoints, resolver
from podserve.certificates.clients import unverified_context
from podserve.commands import podman
from podserve.resolver import PAIR
from tests.testbed.certificates import current, every
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.resolver import started_resolver
from tests.testbed.server import PATIENCE, token
from tests.testbed.vantage import Vantage, neighbour_of

BLOCKED = "blocked.once.example.com"
"""A name of the blocklist, which the forwarders would resolve."""
OVER_TLS = """
import dns.message, dns.query, dns.rcode, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
query = dns.message.make_query(sys.argv[2], "A")
answer = dns.query.tls(query, sys.argv[1], timeout=10, ssl_context=context)
print(dns.rcode.to_text(answer.rcode()), *(data for rrset in answer.answer for data in rrset))
"""
OVER_HTTPS = """
import base64, dns.message, httpx, sys
host, domain, name, scheme = sys.argv[1:]
wire = dns.message.make_query(name, "A").to_wire()
headers = {"Host": domain, "Content-Type": "application/dns-message"}
with httpx.Client(base_url=f"{scheme}://{host}", headers=headers, verify=False) as client:
    print(client.post("/dns-query", content=wire).status_code)
"""


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodUnderTest]:
    """A pod that answers DNS over TLS and over HTTPS, with a blocklist: the pod of the other tests has neither."""
    blocked = tmp_path_factory.mktemp("blocked") / "names"
    blocked.write_text(f"{BLOCKED}\n")
    with play_test_pod("-private", dns_over_tls="yes", dns_over_https="yes", blocklist=str(blocked)) as made:
        yield made


@pytest.fixture(scope="module")
def neighbour_there(private: PodUnderTest) -> Iterator[Vantage]:
    """Another container on that pod's network."""
    with neighbour_of(private.name) as place:
        yield place


def new_name() -> str:
    """Return a name that no query had before."""
    return f"{token()}.once.example.com"


def test_a_query_over_tls_is_answered_with_the_pods_certificate(private: PodUnderTest) -> None:
    query = dns.message.make_query(new_name(), "A")
    answer = dns.query.tls(query, private.server.host, timeout=PATIENCE, ssl_context=private.server.context())
    assert str(answer.answer[0][0]) == "192.0.2.90"
    private.exchange("dns-tls")
    assert private.invoke("status").ok


def test_a_client_over_tls_gets_the_ecdsa_certificate_and_no_other_cipher(private: PodUnderTest) -> None:
    first, _ = every(private)
    for offer, shown in (("aECDSA", first.fingerprint), ("aRSA", ""), ("aNULL:@SECLEVEL=0", "")):
        context = unverified_context(private.server.domain)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(offer)
        answer = endpoints.attempt(private.pod, context, "dns-tls")
        assert answer.fingerprint == shown
        assert answer.ok or "HANDSHAKE_FAILURE" in answer.error, answer


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_query_over_https_is_answered(private: PodUnderTest, method: str, http2: bool) -> None:  # noqa: FBT001
    query = dns.message.make_query(new_name(), "A", id=0)
    wire, headers = query.to_wire(), {"Host": private.server.domain, "Accept": "application/dns-message"}
    context, content = private.server.context(), {"Content-Type": "application/dns-message"}
    with httpx.Client(base_url=f"https://{private.server.literal}", headers=headers, verify=context, http2=http2) as to:
        asked = {"dns": base64.urlsafe_b64encode(wire).rstrip(b"=").decode()}
        response = (
            to.get("/dns-query", params=asked)
            if method == "GET"
            else to.post("/dns-query", content=wire, headers=content)
        )
    assert response.status_code == 200, response
    assert response.headers["Content-Type"] == "application/dns-message"
    assert str(dns.message.from_wire(response.content).answer[0][0]) == "192.0.2.90"


def test_a_blocked_name_is_blocked_over_tls_and_over_https(private: PodUnderTest) -> None:
    query, host = dns.message.make_query(BLOCKED, "A"), private.server.host
    over_tls = dns.query.tls(query, host, timeout=PATIENCE, ssl_context=private.server.context())
    with private.server.http() as client:
        headers = {"Content-Type": "application/dns-message"}
        over_https = dns.message.from_wire(client.post("/dns-query", content=query.to_wire(), headers=headers).content)
    assert {answer.rcode() for answer in (over_tls, over_https)} == {dns.rcode.NXDOMAIN}
    assert not any(upstream.questions(BLOCKED) for upstream in private.upstreams)


def test_only_private_addresses_are_answered_over_tls(
    private: PodUnderTest, neighbour_there: Vantage, outsider: Vantage
) -> None:
    known = new_name()
    assert neighbour_there.python(OVER_TLS, private.address, known) == "NOERROR 192.0.2.90"
    for name in (known, new_name()):
        assert outsider.python(OVER_TLS, private.address, name) == "REFUSED"
    assert sum(upstream.questions(known) for upstream in private.upstreams) == 1


def test_only_private_addresses_are_answered_over_https_and_nobody_without_tls(
    private: PodUnderTest, neighbour_there: Vantage, outsider: Vantage
) -> None:
    name, domain = new_name(), private.server.domain
    assert outsider.python(OVER_HTTPS, private.address, domain, name, "https") == "403"
    assert neighbour_there.python(OVER_HTTPS, private.address, domain, name, "http") in {"301", "403"}
    assert not any(upstream.questions(name) for upstream in private.upstreams)
    assert neighbour_there.python(OVER_HTTPS, private.address, domain, name, "https") == "200"


def test_a_new_certificate_is_served_over_tls_and_an_open_connection_stays(private: PodUnderTest) -> None:
    host, context = private.server.host, private.server.context()
    with socket.create_connection((host, 853), PATIENCE) as plain, context.wrap_socket(plain) as client:
        dns.query.tcp(dns.message.make_query(new_name(), "A"), host, sock=client, timeout=PATIENCE)
        private.invoke("certs.issue")
        answer = dns.query.tcp(dns.message.make_query(new_name(), "A"), host, sock=client, timeout=PATIENCE)
        before = client.getpeercert(binary_form=True)
    assert answer.rcode() == dns.rcode.NOERROR
    there = current(private)
    answers = endpoints.attempt_all(private.pod, unverified_context("x.example"), endpoints.tls_ports(private.pod))
    assert {answer.fingerprint for answer in answers} == {there.fingerprint}
    assert before
    assert hashlib.sha256(before).hexdigest() != there.fingerprint


def test_the_copy_of_the_key_can_be_read_by_root_and_named_alone(private: PodUnderTest) -> None:
    key = private.folder("dns") / PAIR
    there = key.stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o777) == (0, 5004, 0o640)


def test_the_copy_of_the_key_is_removed_when_dns_over_tls_is_off(private: PodUnderTest) -> None:
    off = replace(private.pod, settings=replace(private.pod.settings, dns_over_tls=False))
    assert resolver.write_files(off)
    assert not (private.folder("dns") / PAIR).exists()
    assert resolver.write_files(private.pod)
    assert (private.folder("dns") / PAIR).exists()


def test_the_pod_of_the_default_settings_serves_neither(test_pod: PodUnderTest) -> None:
    assert not (test_pod.folder("dns") / PAIR).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((test_pod.address, 853), 2)
    with test_pod.server.http() as client:
        assert client.get("/dns-query").status_code == 404


@pytest.mark.parametrize("content", ["", "nonsense\n"], ids=["missing", "broken"])
def test_without_a_key_pair_named_still_answers_on_port_53_and_says_why(
    test_pod: PodUnderTest, tmp_path: Path, content: str
) -> None:
    tmp_path.chmod(0o755)
    if content:
        (tmp_path / PAIR).write_text(content)
    settings = {"FORWARDERS": test_pod.upstreams[0].address, "DNS_OVER_TLS": "yes"}
    with started_resolver(f"{test_pod.name}-keyless", test_pod.name, tmp_path, settings) as own:
        answer = dns.query.udp(dns.message.make_query(new_name(), "A"), own.address, timeout=PATIENCE)
        assert answer.rcode() == dns.rcode.NOERROR
        log = podman("logs", own.container)
        assert "holds no key pair that can be used: port 853 is not served" in log.stdout + log.stderr
