"""DNS over TLS to the forwarders: the certificate is verified, and nothing else is used when it is wrong."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from podserve.commands import Result, podman
from podserve.resolver import FORWARDERS_ROOT
from podserve.waiting import NotYet, wait_until
from tests.testbed.forwarders import Encrypted, encrypted_upstream
from tests.testbed.pod import PodUnderTest
from tests.testbed.resolver import Resolver, started_resolver
from tests.testbed.server import token
from tests.testbed.vantage import Vantage, first_process

NAME, OTHER = "dot.example", "other.example"
"""The name in the upstream's certificate, and another name."""
THERE, HERE = "fd53::1", "fd53::2"
"""Private IPv6 addresses (RFC 4193) of the upstream and of a resolver."""


@pytest.fixture(scope="module")
def encrypted(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """An upstream with a certificate of an authority of the test's own, on the pod's network."""
    folder = tmp_path_factory.mktemp("encrypted")
    with encrypted_upstream(f"{test_pod.name}-encrypted", test_pod.name, folder, NAME) as there:
        yield there


@pytest.fixture(scope="module")
def resolver(
    test_pod: PodUnderTest, encrypted: Encrypted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Resolver]:
    """A resolver that forwards to that upstream over TLS, and to nothing else."""
    files = tmp_path_factory.mktemp("files")
    (files / FORWARDERS_ROOT).write_bytes((encrypted.authority / FORWARDERS_ROOT).read_bytes())
    files.chmod(0o755)
    settings = {"FORWARDERS": encrypted.forwarder()}
    with started_resolver(f"{test_pod.name}-resolver", test_pod.name, files, settings) as made:
        yield made


def new_name() -> str:
    """Return a name that no query had before."""
    return f"{token()}.once.example.com"


def resolve(resolver: Resolver, name: str) -> str:
    """Return the address of a name at a resolver, or the name of its error."""
    answer = dns.query.udp(dns.message.make_query(name, "A"), resolver.address, timeout=5)
    if answer.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(answer.rcode())
    return str(answer.answer[0][0])


def test_a_forwarder_over_tls_answers_and_is_asked_by_nothing_else(resolver: Resolver, encrypted: Encrypted) -> None:
    name = new_name()
    assert resolve(resolver, name) == "192.0.2.90"
    assert encrypted.upstream.questions(name) == 1
    assert resolver.exec("forwarder-problems") == ""


def test_a_connection_to_a_forwarder_is_used_again(resolver: Resolver, encrypted: Encrypted) -> None:
    folder = f"{token()}.once.example.com"
    for number in range(30):
        assert resolve(resolver, f"{number}.{folder}") == "192.0.2.90"
    assert len(encrypted.upstream.clients(folder)) <= 3


@dataclass(frozen=True)
class Wrong:
    """A forwarder that must not be used: the name that is expected, what is wrong besides, and OpenSSL's reason."""

    reason: str
    name: str = NAME
    ended: bool = False
    unknown_root: bool = False


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("hostname mismatch", name=OTHER),
        Wrong("certificate has expired", ended=True),
        Wrong("unable to get local issuer certificate", unknown_root=True),
    ],
    ids=lambda wrong: wrong.reason,
)
def test_a_forwarder_whose_certificate_is_wrong_is_not_used(
    test_pod: PodUnderTest, encrypted: Encrypted, tmp_path: Path, wrong: Wrong
) -> None:
    # Each resolver is new: a connection that is open was verified when it began.
    tmp_path.chmod(0o755)
    files, settings = (
        tmp_path if wrong.unknown_root else encrypted.authority,
        {"FORWARDERS": encrypted.forwarder(wrong.name)},
    )
    with (
        encrypted.certificate_that_has_ended() if wrong.ended else nullcontext(),
        started_resolver(f"{test_pod.name}-refusing", test_pod.name, files, settings) as own,
    ):

        def refused() -> None:
            if wrong.reason not in (said := own.exec("forwarder-problems")):
                raise NotYet(said)

        wait_until(refused, 5, "the upstream to show its certificate")
        asked = new_name()
        assert resolve(own, asked) == "SERVFAIL"
        ready = podman("exec", own.container, "healthcheck", "dns-ready", check=False)
        assert (ready.ok, wrong.reason in ready.stderr) == (False, True)
        assert encrypted.upstream.questions(asked) == 0


def test_a_forwarder_over_tls_may_have_an_ipv6_address_and_a_port(test_pod: PodUnderTest, encrypted: Encrypted) -> None:
    settings = {"FORWARDERS": f"tls://{THERE}@8853#{NAME}"}
    with started_resolver(f"{test_pod.name}-ipv6", test_pod.name, encrypted.authority, settings) as own:
        for container, address in ((encrypted.upstream.container, THERE), (own.container, HERE)):
            added = Vantage(container, address, first_process(container)).run(
                "ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad"
            )
            assert added.ok, added

        def used() -> None:
            if said := own.exec("forwarder-problems"):
                raise NotYet(said)

        wait_until(used, 5, "the upstream to listen on its new address")
        name = new_name()
        assert resolve(own, name) == "192.0.2.90"
        assert {address for address, _ in encrypted.upstream.clients(name)} == {HERE}


def test_status_says_why_a_forwarder_over_tls_is_not_used(test_pod: PodUnderTest, encrypted: Encrypted) -> None:
    def invoke(task: str, forwarder: str, *options: str, check: bool = True) -> Result:
        root = str(encrypted.authority / FORWARDERS_ROOT)
        return test_pod.invoke(task, *options, check=check, INVOKE_FORWARDERS=forwarder, INVOKE_FORWARDERS_ROOT=root)

    wrong = encrypted.forwarder(OTHER)
    try:
        told = " ".join(invoke("up", wrong).stdout.split())
        assert f"the forwarders ({wrong}) did not resolve a name of google.com: SERVFAIL" in told
        seen = invoke("status", wrong, "--json", check=False)
    finally:
        test_pod.invoke("up")
    assert seen.code == 1
    (problem,) = json.loads(seen.stdout)["problems"]
    assert problem.endswith(f"#{OTHER}: hostname mismatch; check the name after the # in forwarders")
    assert problem.removeprefix("forwarder ") in told


def test_the_records_are_checked_over_tls_at_a_forwarder_that_is_verified(
    test_pod: PodUnderTest, encrypted: Encrypted
) -> None:
    def states(name: str) -> set[str]:
        own = {"INVOKE_FORWARDERS": encrypted.forwarder(name), "INVOKE_PUBLIC_ADDRESS": "203.0.113.7"}
        own["INVOKE_FORWARDERS_ROOT"] = str(encrypted.authority / FORWARDERS_ROOT)
        seen = json.loads(test_pod.invoke("dns.check", "--json", check=False, **own).stdout)
        assert seen["resolvers"] == encrypted.forwarder(name)
        return {record["state"] for record in seen["records"]}

    assert "missing" in states(NAME)
    assert states(OTHER) == {"unanswered"}
