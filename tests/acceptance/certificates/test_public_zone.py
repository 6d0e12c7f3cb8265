"""Certificates of a pod that serves its own zone: DNS challenges in it, and its TLSA records when the key changes.

The ACME directory and a mail server that verifies by DANE (RFC 7672) are strangers, so they ask the zone for the world.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.flags
import pytest

from podserve import endpoints
from podserve.certificates import authority
from podserve.certificates.clients import client_context
from podserve.certificates.keypair import KeyPair, to_pem
from podserve.certificates.pem import parse_keys
from podserve.certificates.rollover import WAIT
from podserve.choices import KeyType
from podserve.commands import Result
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.certificates import current
from tests.testbed.internet import PUBLIC, SECONDARY, internet_around
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
VERIFY = """
import hashlib, pathlib, smtplib, ssl, sys, time
import dns.message, dns.query
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
host, name, visits, end, algorithms, *kept = sys.argv[1:]
contexts = []
for algorithm in algorithms.split():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if algorithm == "rsa":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aRSA")
    contexts.append(context)
failed = 0
while True:
    last = pathlib.Path(end).exists()
    answer = dns.query.tcp(dns.message.make_query(f"_25._tcp.{name}", "TLSA"), host, timeout=10)
    known = {str(record).split()[-1] for rrset in answer.answer for record in rrset}
    shown = []
    for context in contexts:
        with smtplib.SMTP(host, 25, timeout=20) as client:
            client.starttls(context=context)
            key = x509.load_der_x509_certificate(client.sock.getpeercert(True)).public_key()
        shown.append(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest())
    failed += sum(key not in digests for key in shown for digests in (known, set(kept) or known))
    with open(visits, "a") as file:
        print(*shown, file=file)
    if last:
        break
    time.sleep(0.05)
print(",".join(shown), failed, *known)
"""
"""A script that verifies the keys of port 25 by the TLSA records of the moment, and by digests that were kept.

It comes in turn as a client of each of the algorithms: `ec` knows both, and gets ECDSA. It goes on until the file `end`
exists. It appends the keys to the file `visits`, and prints the last ones, the number of keys that no record named, and
the last records.
"""


@pytest.fixture(scope="module")
def public() -> Iterator[PodUnderTest]:
    """A pod that serves its zone to the world. Its public address leads nowhere, so nobody reaches its port 80."""
    with play_test_pod("-acme", zone="public", public_address=PUBLIC, secondaries=SECONDARY) as made:
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
        "INVOKE_MTA_STS": "",  # the default, which follows from the source of the certificate
    }
    return public.invoke(*argv, check=False, **{**chosen, **more})


def test_the_domain_and_a_wildcard_are_issued_by_the_pods_own_zone_with_port_80_out_of_reach(
    public: PodUnderTest, pebble: Directory
) -> None:
    issued = invoke(public, pebble, "certs.renew", "--force")
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
    names = {domain, public.settings.mail_host, f"mta-sts.{domain}", f"www.{domain}"}
    assert set(current(public).names) == names
    for name in names:
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


def following(public: PodUnderTest) -> set[str]:
    """Return the digests of the next keys."""
    file = public.folder("authority") / "next.pem"
    return {key.digest for key in parse_keys(file.read_bytes(), str(file))}


def let_pass(public: PodUnderTest, seconds: float) -> None:
    """Make the next keys, and the key pairs, as much older."""
    for file in (public.folder("authority") / "next.pem", *public.folder("certificates").iterdir()):
        if not file.is_symlink():
            at = file.stat().st_mtime - seconds
            os.utime(file, (at, at))


class Sender:
    """A mail server among the strangers that verifies this pod by DANE."""

    def __init__(self, public: PodUnderTest, place: Vantage, folder: Path) -> None:
        """Take its place, and a folder for its files."""
        self.public, self.place, self.visits, self.end = public, place, folder / "visits", folder / "end"
        self.algorithms = "ec rsa"

    def verify(self, *kept: str) -> tuple[set[str], int, set[str]]:
        """Verify until `end` exists; return the last keys, the number of failures, and the last records."""
        options = str(self.visits), str(self.end), self.algorithms
        said = self.place.python(VERIFY, self.public.address, self.public.settings.mail_host, *options, *kept)
        shown, failed, *known = said.split()
        return set(shown.split(",")), int(failed), set(known)

    def once(self) -> tuple[set[str], set[str]]:
        """Verify once; return the keys and the records."""
        self.end.touch()
        shown, failed, known = self.verify()
        assert not failed, (shown, known)
        return shown, known

    def wait_for(self, keys: set[str]) -> None:
        """Wait until it has seen these keys on port 25, while it verifies."""

        def seen() -> None:
            if not self.visits.exists() or not keys <= set(self.visits.read_text().split()):
                raise NotYet

        wait_until(seen, 20, "the mail server to see the keys")


@pytest.fixture
def sender(public: PodUnderTest, outsider: Vantage, tmp_path: Path) -> Iterator[Sender]:
    """The mail server, when the next key is new. The certificate is of the pod's own authority, also afterwards."""
    os.utime(public.folder("authority") / "next.pem")
    public.invoke("certs.issue")
    yield Sender(public, outsider, tmp_path)
    public.invoke("certs.issue")


def test_the_next_key_is_used_only_when_no_resolver_lacks_its_record(public: PodUnderTest, sender: Sender) -> None:
    first, records = sender.once()
    assert first | following(public) <= records
    assert len(first) == len(following(public)) == 2
    let_pass(public, WAIT - 60)
    assert public.invoke("certs.renew", "--force").ok
    assert "the key stays" in public.invoke("certs.issue").stderr
    assert sender.once() == (first, records)


def test_no_mail_server_sees_a_key_without_its_record_over_a_renewal_under_load(
    public: PodUnderTest, sender: Sender
) -> None:
    first, records = sender.once()
    second = following(public)
    let_pass(public, WAIT)
    sender.visits.unlink()
    sender.end.unlink()
    with ThreadPoolExecutor(1) as pool:
        verified = pool.submit(sender.verify, *records)
        try:
            sender.wait_for(first)
            public.invoke("certs.renew", "--force")
            sender.wait_for(second)
        finally:
            sender.end.touch()
        last, failed, after = verified.result()
    assert (last, failed) == (second, 0)
    assert first | second | following(public) <= after
    let_pass(public, WAIT - 60)
    public.invoke("certs.renew")
    assert first <= sender.once()[1], "a resolver may have the old records"
    let_pass(public, 60)
    public.invoke("certs.renew")
    assert sender.once() == (second, second | following(public))


def test_a_key_that_a_person_brings_is_served_when_its_record_is_known(
    public: PodUnderTest, sender: Sender, tmp_path: Path
) -> None:
    def brought(name: str) -> tuple[KeyPair, tuple[str, str]]:
        """Return a foreign key pair, and its two files."""
        (folder := tmp_path / name).mkdir()
        pair = authority.issue_for(Folder.at(folder), public.settings.certified_names, KeyType.EC256)
        (folder / "cert").write_bytes(to_pem(pair.chain))
        (folder / "key").write_bytes(pair.key.pem)
        return pair, (str(folder / "cert"), str(folder / "key"))

    sender.algorithms = "ec"
    first, _ = sender.once()
    pair, files = brought("one")
    for _ in range(2):
        said = public.invoke("certs.import", *files)
        assert "nothing was changed" in said.stdout
        assert "Run the same command again at" in " ".join(said.stderr.split())
        assert sender.once()[0] == first
        let_pass(public, WAIT / 2 - 60)
    assert pair.key.digest in sender.once()[1]
    let_pass(public, 120)
    assert "a new certificate is served: import" in public.invoke("certs.import", *files).stdout
    assert sender.once()[0] == {pair.key.digest}
    assert first <= sender.once()[1]
    other, files = brought("two")
    public.invoke("certs.import", *files, "--now")
    assert sender.once()[0] == {other.key.digest}


def test_a_resolver_that_validates_takes_the_proof_and_vouches_for_the_keys(
    public: PodUnderTest, pebble: Directory, outsider: Vantage, tmp_path: Path
) -> None:
    domain, proof = public.settings.domain, token()
    assert invoke(public, pebble, "certs.renew").ok
    zone, tlsa = f"_acme-challenge.{domain}", f"_25._tcp.{public.settings.mail_host}"
    key = public.exec("dns", "cat", "/run/named/session.key").stdout.partition('secret "')[2].partition('"')[0]
    assert public.inside.python(UPDATE, "127.0.0.1", zone, f"{zone}.", proof, key) == "NOERROR"
    with internet_around(public, outsider, tmp_path) as internet:
        answer = internet.ask(zone, "TXT")
        assert f'"{proof}"' in answer.to_text()
        assert not answer.flags & dns.flags.AD, "the zone for proofs is unsigned"
        assert len(internet.validated(tlsa, "TLSA")) > 1
