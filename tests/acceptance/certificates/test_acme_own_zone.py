"""Certificates by DNS challenges in the pod's own public zone, which the ACME directory asks as a stranger."""

from collections.abc import Iterator

import pytest

from podserve import endpoints
from podserve.certificates import store
from podserve.certificates.clients import client_context
from podserve.certificates.keypair import Certificate
from podserve.commands import Result
from podserve.folder import Folder
from tests.testbed.pebble import Directory, directory
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import token
from tests.testbed.vantage import Vantage

UPDATE = """
import dns.query, dns.rcode, dns.tsig, dns.tsigkeyring, dns.update, sys
host, zone, name, data, *secret = sys.argv[1:]
keyring = dns.tsigkeyring.from_text({"local-ddns": secret[0]}) if secret else None
update = dns.update.Update(zone, keyring=keyring, keyname="local-ddns" if secret else None, keyalgorithm="hmac-sha256")
update.add(name, 1, "TXT", data)
try:
    print(dns.rcode.to_text(dns.query.tcp(update, host, timeout=10).rcode()))
except dns.tsig.PeerError as error:
    print(type(error).__name__)
"""
"""A script that adds a TXT record to a zone, and prints the response."""
QUERY = """
import dns.message, dns.query, dns.rcode, sys
answer = dns.query.tcp(dns.message.make_query(*sys.argv[2:]), sys.argv[1], timeout=10)
print(dns.rcode.to_text(answer.rcode()), *(data for rrset in answer.answer for data in rrset))
"""


@pytest.fixture(scope="module")
def public() -> Iterator[PodUnderTest]:
    """A pod that serves its zone to the world. Its public address leads nowhere, so nobody reaches its port 80."""
    with play_test_pod("-acme", zone="public", public_address="203.0.113.7") as made:
        yield made


@pytest.fixture(scope="module")
def pebble(public: PodUnderTest, outsider: Vantage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """A directory that runs among the strangers."""
    with directory(public, tmp_path_factory.mktemp("pebble"), outsider) as there:
        there.start()
        yield there


def invoke(public: PodUnderTest, pebble: Directory, *argv: str, **more: str) -> Result:
    """Run a task with this directory, for the domain and all names below it."""
    chosen = {
        **pebble.settings,
        "INVOKE_ACME_CHALLENGE": "dns",
        "INVOKE_CERTIFICATE_NAMES": f"*.{public.settings.domain}",
    }
    return public.invoke(*argv, check=False, **{**chosen, **more})


def current(public: PodUnderTest) -> Certificate:
    """Return the certificate on the volume."""
    there = store.current(Folder.at(public.folder("certificates")))
    assert there
    return there


def test_the_domain_and_a_wildcard_are_issued_by_the_pods_own_zone_with_port_80_out_of_reach(
    public: PodUnderTest, pebble: Directory
) -> None:
    issued = invoke(public, pebble, "certs.issue")
    assert "a new certificate is served: acme https://" in issued.stdout, issued
    assert "Warning" not in issued.stdout + issued.stderr
    there, domain = current(public), public.settings.domain
    assert set(there.names) == {domain, f"*.{domain}"}
    for name in (domain, public.settings.mail_host, f"{token()}.{domain}"):
        context = client_context(name, pebble.folder / "roots.pem")
        answers = endpoints.attempt_all(public.pod, context, endpoints.tls_ports(public.pod))
        assert all(answer.ok for answer in answers), answers


def test_each_name_of_the_certificate_has_a_zone_for_its_proof(
    public: PodUnderTest, pebble: Directory, outsider: Vantage
) -> None:
    domain = public.settings.domain
    issued = invoke(public, pebble, "certs.issue", INVOKE_CERTIFICATE_NAMES=f"www.{domain}")
    assert issued.ok, issued
    assert set(current(public).names) == {domain, public.settings.mail_host, f"www.{domain}"}
    for name in (domain, public.settings.mail_host, f"www.{domain}"):
        seen = outsider.python(QUERY, public.address, f"_acme-challenge.{name}", "NS")
        assert seen == f"NOERROR ns.{domain}."
        left = outsider.python(QUERY, public.address, f"_acme-challenge.{name}", "TXT")
        assert left == "NOERROR", "lego removes its proof"


def test_only_the_pod_itself_can_update_and_only_the_zones_for_proofs(
    public: PodUnderTest, pebble: Directory, outsider: Vantage, neighbour: Vantage
) -> None:
    domain, proof = public.settings.domain, token()
    assert invoke(public, pebble, "certs.issue").ok
    zone = f"_acme-challenge.{domain}"
    key = public.exec("dns", "cat", "/run/named/session.key").stdout.partition('secret "')[2].partition('"')[0]
    for place in (outsider, neighbour):
        for secret, refusal in (((), "REFUSED"), ((key,), "REFUSED"), (("c3Bvb2ZlZA==",), "PeerBadSignature")):
            assert place.python(UPDATE, public.address, zone, f"{zone}.", proof, *secret) == refusal, (place, secret)
    inside = public.inside
    assert inside.python(UPDATE, inside.address, zone, f"{zone}.", proof) == "REFUSED"
    for name in (f"{domain}.", f"{zone}.", f"evil.{domain}."):
        assert inside.python(UPDATE, inside.address, domain, name, proof, key) == "REFUSED"
    assert outsider.python(QUERY, public.address, zone, "TXT") == "NOERROR"
    assert inside.python(UPDATE, inside.address, zone, f"{zone}.", proof, key) == "NOERROR", "the twin of the refusals"
    assert outsider.python(QUERY, public.address, zone, "TXT") == f'NOERROR "{proof}"'
