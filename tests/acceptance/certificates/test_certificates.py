"""The pod's certificate: show, import, refuse bad files, and report a port that serves another certificate."""

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import ExtensionOID

from podserve import answering, endpoints
from podserve.certificates import authority, store
from podserve.certificates.clients import unverified_context
from podserve.certificates.keypair import KeyPair, to_pem
from podserve.choices import KeyType
from podserve.commands import podman
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.certificates import current, every, only
from tests.testbed.pod import PodUnderTest


class Brought:
    """A key pair of a foreign authority, in two PEM files."""

    def __init__(self, folder: Path, *names: str, key_type: KeyType = KeyType.EC256) -> None:
        """Make the authority, a key pair for the names, and its files in `folder`."""
        self.folder, self.key_type = folder, key_type
        folder.mkdir(exist_ok=True)
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.pair = self.another(*names)
        self.cert.write_bytes(to_pem([*self.pair.chain, *self.pair.roots]))
        self.key.write_bytes(self.pair.key.pem)

    def another(self, *names: str) -> KeyPair:
        """Return another key pair of the same authority, for these names."""
        return authority.issue_for(Folder.at(self.folder), names, self.key_type)

    def elsewhere(self) -> KeyPair:
        """Return a key pair of another authority that has the same name."""
        folder = self.folder / "elsewhere"
        folder.mkdir()
        return authority.issue_for(Folder.at(folder), self.pair.certificate.names, KeyType.EC256)


@pytest.fixture
def brought(test_pod: PodUnderTest, tmp_path: Path) -> Brought:
    """A foreign key pair for the pod's names."""
    return Brought(tmp_path, *test_pod.settings.certified_names)


@pytest.fixture
def own_again(test_pod: PodUnderTest) -> Iterator[None]:
    """Let the pod's own authority issue the certificate again after the test."""
    yield
    test_pod.invoke("certs.issue")


def answers(test_pod: PodUnderTest) -> dict[str, str]:
    """Return the fingerprint of the certificate that each TLS port serves, by the port's name."""
    context = unverified_context(test_pod.settings.domain)
    seen = endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod))
    assert all(answer.ok for answer in seen), seen
    return {answer.port: answer.fingerprint for answer in seen}


def test_the_certificate_is_shown_with_what_each_port_serves(test_pod: PodUnderTest) -> None:
    shown = test_pod.invoke("certs.show").stdout
    for there in every(test_pod):
        days = f"{there.days_left} days left"
        for word in (there.key, *there.names, there.issuer, there.fingerprint, days, "authority"):
            assert word in shown
    assert shown.count("this one") == len(endpoints.tls_ports(test_pod.pod))


def answers_to(test_pod: PodUnderTest, algorithm: str) -> dict[str, list[str]]:
    """Return the TLS ports, by the fingerprint of what they show to a client that knows only this algorithm.

    The client verifies the certificate. The fingerprint is empty for a port that has none for this client.
    """
    context, ports = only(algorithm, test_pod.server.context()), dict[str, list[str]]()
    for answer in endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod)):
        ports.setdefault(answer.fingerprint, []).append(answer.port)
    return ports


def require_shown(test_pod: PodUnderTest, ec: str, rsa: str) -> None:
    """Check that all TLS ports show these fingerprints to clients that know only one algorithm."""
    ports = endpoints.tls_ports(test_pod.pod)
    assert (answers_to(test_pod, "ec"), answers_to(test_pod, "rsa")) == ({ec: ports}, {rsa: ports})


def test_a_client_that_knows_one_algorithm_verifies_its_certificate_on_every_port(test_pod: PodUnderTest) -> None:
    first, second = every(test_pod)
    assert (first.key, second.key) == ("ec256", "rsa2048")
    require_shown(test_pod, first.fingerprint, second.fingerprint)


def test_one_pair_as_of_an_earlier_version_is_served_and_up_adds_the_second(test_pod: PodUnderTest) -> None:
    folder, names = Folder.at(test_pod.folder("authority")), test_pod.settings.certified_names
    (one,) = store.take(test_pod.pod, [authority.issue_for(folder, names, KeyType.EC256)])
    answering.wait_until_served(test_pod.pod)
    require_shown(test_pod, one.fingerprint, "")
    up = " ".join(test_pod.invoke("up").stdout.split())
    assert "already up: nothing was changed" in up
    assert "a second key pair is served, so that there are ec256 and rsa2048 now" in up
    first, second = every(test_pod)
    require_shown(test_pod, first.fingerprint, second.fingerprint)
    assert "Warning" not in test_pod.invoke("up").stdout


def test_the_authority_that_is_printed_is_the_one_that_the_site_offers(test_pod: PodUnderTest) -> None:
    with test_pod.server.http() as client:
        offered = client.get("/ca.crt")
        assert "/ca.crt" in client.get("/").text
    assert test_pod.invoke("certs.ca").stdout == offered.text


def test_a_renewal_before_its_time_changes_nothing(test_pod: PodUnderTest) -> None:
    before = current(test_pod)
    assert "nothing was changed" in test_pod.invoke("certs.renew").stdout
    assert current(test_pod) == before


@pytest.mark.usefixtures("own_again")
def test_an_imported_pair_is_served_everywhere_and_up_does_not_replace_it(
    test_pod: PodUnderTest, brought: Brought
) -> None:
    imported = test_pod.invoke("certs.import", str(brought.cert), str(brought.key))
    assert "no root certificate of this host verifies the certificate" in " ".join(imported.stderr.split())
    assert set(answers(test_pod).values()) == {brought.pair.certificate.fingerprint}
    assert test_pod.invoke("certs.ca").stdout == to_pem(brought.pair.roots).decode()
    assert "nothing was changed" in test_pod.invoke("up").stdout
    assert "nothing was changed" in test_pod.invoke("certs.renew").stdout
    refused = test_pod.invoke("certs.renew", "--force", check=False)
    assert refused.code == 1
    assert "an imported certificate cannot be renewed" in refused.stderr
    assert set(answers(test_pod).values()) == {brought.pair.certificate.fingerprint}
    secret = brought.key.read_text().splitlines()[1]
    assert secret not in imported.stdout + imported.stderr + test_pod.logs()


@pytest.mark.usefixtures("own_again")
def test_two_pairs_are_imported_together_and_one_that_is_imported_alone_is_served_alone(
    test_pod: PodUnderTest, brought: Brought, tmp_path: Path
) -> None:
    other = Brought(tmp_path / "rsa", *test_pod.settings.certified_names, key_type=KeyType.RSA2048)
    files = str(brought.cert), str(brought.key)
    second = "--second-certificate", str(other.cert), "--second-key", str(other.key)
    imported = test_pod.invoke("certs.import", *files, *second)
    first, last = brought.pair.certificate, other.pair.certificate
    for there in (first, last):
        assert f"{there.key} SHA-256 {there.fingerprint}" in imported.stdout
    # Clients verify by ca.crt, which holds both roots.
    require_shown(test_pod, first.fingerprint, last.fingerprint)
    alone = Brought(tmp_path / "alone", *test_pod.settings.certified_names)
    test_pod.invoke("certs.import", str(alone.cert), str(alone.key))
    require_shown(test_pod, alone.pair.certificate.fingerprint, "")


@pytest.mark.usefixtures("own_again")
def test_no_authority_is_offered_where_a_pair_came_without_one(test_pod: PodUnderTest, brought: Brought) -> None:
    brought.cert.write_bytes(to_pem(brought.pair.chain))
    test_pod.invoke("certs.import", str(brought.cert), str(brought.key))
    context = unverified_context(test_pod.server.domain)
    with httpx.Client(base_url=f"https://{test_pod.server.host}", verify=context) as client:
        offered, landing = (client.get(path, headers={"Host": test_pod.server.domain}) for path in ("/ca.crt", "/"))
    assert (offered.status_code, landing.status_code) == (404, 200)
    assert "IMAP" in landing.text
    assert "/ca.crt" not in landing.text


NONSENSE = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"nonsense")


def _encrypt(brought: Brought) -> None:
    secret = serialization.BestAvailableEncryption(b"secret")
    brought.key.write_bytes(brought.pair.key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


def _swap(brought: Brought) -> None:
    brought.cert, brought.key = brought.key, brought.cert


def _again(brought: Brought, *, ended: bool = False, names: x509.ExtensionType | None = None) -> None:
    """Replace the certificate file by the same certificate with other dates or names, signed by the same authority."""
    leaf, now = brought.pair.chain[0], dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number, now - dt.timedelta(days=2),
        now + dt.timedelta(days=-1 if ended else 1),
    )  # fmt: skip
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    signer = serialization.load_pem_private_key((brought.folder / "ca.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    signed = made.add_extension(names or alternative, critical=False).sign(signer, hashes.SHA256())
    brought.cert.write_bytes(to_pem([signed]))


BAD: dict[str, tuple[Callable[[Brought], object], str]] = {
    "no file": (lambda b: b.cert.unlink(), "cannot be read"),
    "a directory": (lambda b: setattr(b, "cert", b.folder), "is a directory"),
    "an empty file": (lambda b: b.key.write_text(""), "is empty"),
    "swapped": (_swap, "The order is CERT KEY"),
    "DER": (lambda b: b.cert.write_bytes(b.pair.chain[0].public_bytes(Encoding.DER)), "no certificate in PEM"),
    "truncated": (lambda b: b.cert.write_bytes(b.cert.read_bytes()[:300]), "is truncated"),
    "a truncated key": (lambda b: b.key.write_bytes(b.key.read_bytes()[:100]), "it may be truncated"),
    "another's key": (
        lambda b: b.key.write_bytes(b.another("example.org").key.pem),
        "does not belong to the certificate",
    ),
    "an encrypted key": (_encrypt, "is encrypted"),
    "an authority": (
        lambda b: b.cert.write_bytes(to_pem([*b.pair.roots, *b.pair.chain])),
        "the chain is not in order",
    ),
    "other names": (
        lambda b: Brought(b.folder, "example.org", "mail.example.org"),
        "the certificate is for example.org",
    ),
    "expired": (lambda b: _again(b, ended=True), "has expired"),
    "a chain with a gap": (
        lambda b: b.cert.write_bytes(to_pem([*b.pair.chain, *b.elsewhere().roots])),
        "was not issued by the one after it",
    ),
    "names of nonsense": (lambda b: _again(b, names=NONSENSE), "cannot be read as a certificate"),
    "neither": (lambda b: b.cert.write_text("Dear sir,\n"), "no certificate in PEM"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_served_is_refused_and_what_was_served_stays(
    test_pod: PodUnderTest, brought: Brought, what: str
) -> None:
    before, (spoil, told) = (current(test_pod), (test_pod.folder("certificates") / "current").readlink()), BAD[what]
    spoil(brought)
    refused = test_pod.invoke("certs.import", str(brought.cert), str(brought.key), check=False)
    assert refused.code == 1
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (current(test_pod), (test_pod.folder("certificates") / "current").readlink()) == before
    assert set(answers(test_pod).values()) == {before[0].fingerprint}


def test_a_port_that_serves_another_certificate_is_told(test_pod: PodUnderTest, brought: Brought) -> None:
    """The watch for certificates in mail is stopped, so mail keeps the old certificate."""
    folder = test_pod.folder("certificates")
    before = (folder / "current").readlink()
    test_pod.exec("mail", "s6-svc", "-d", "-wD", "-T", "5000", "/run/s6/certificates")
    try:
        store.take(test_pod.pod, [brought.pair])
        seen = test_pod.invoke("status", "--json", check=False)
        assert seen.code == 1
        told = json.loads(seen.stdout)["problems"]
        for port in ("smtp", "submission", "submissions", "imap", "imaps", "pop3s", "sieve"):
            assert f"{port} serves a certificate other than the volume's: invoke restart" in told
        assert test_pod.invoke("certs.show").stdout.count("this one") <= 1
    finally:
        (folder / ".current").symlink_to(before)
        (folder / ".current").rename(folder / "current")
        test_pod.exec("mail", "s6-svc", "-u", "/run/s6/certificates")

    def well() -> None:
        if set(answers(test_pod).values()) != {current(test_pod).fingerprint}:
            raise NotYet("not everywhere")

    wait_until(well, 5, "the certificate of the volume on every port")


def test_a_pair_that_does_not_fit_is_not_read_by_a_service(test_pod: PodUnderTest, brought: Brought) -> None:
    """The volume gets, by hand, a certificate with the key of another certificate."""
    folder, served = test_pod.folder("certificates"), answers(test_pod)
    before, bad = (folder / "current").readlink(), folder / "by-hand"
    bad.mkdir()
    (bad / "tls.crt").write_bytes(brought.cert.read_bytes())
    (bad / "tls.key").write_bytes(brought.another("example.org").key.pem)
    try:
        (folder / ".current").symlink_to("by-hand")
        (folder / ".current").rename(folder / "current")
        for service in ("apache", "mail"):
            test_pod.wait_for_log(service, "does not belong to its certificate: not served", since=0)
        assert answers(test_pod) == served
    finally:
        (folder / ".current").symlink_to(before)
        (folder / ".current").rename(folder / "current")
        for file in bad.iterdir():
            file.unlink()
        bad.rmdir()


def test_no_process_list_and_no_container_left_over_shows_a_key(test_pod: PodUnderTest) -> None:
    """The arguments and environments of all processes are read repeatedly while a key pair is issued."""
    seen: list[bytes] = []

    def look() -> None:
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                seen.extend((process / name).read_bytes() for name in ("cmdline", "environ"))

    with ThreadPoolExecutor(1) as pool:
        issuing = pool.submit(test_pod.invoke, "certs.issue")
        while not issuing.done():
            look()
    assert b"take-pair" in b"".join(seen), "the moment was seen"
    secret = (test_pod.folder("certificates") / "current" / "tls.key").read_bytes().splitlines()[1]
    assert secret not in b"".join(seen)
    volume = test_pod.pod.volumes["certificates"].name
    ours = podman("ps", "--all", "--filter", f"volume={volume}", "--format", "{{.Names}}").stdout
    assert set(ours.split()) == {test_pod.container("apache"), test_pod.container("mail")}
