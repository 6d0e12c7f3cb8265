"""The pod's authority and its certificate: made once, renewed in time, and trusted for its names alone."""

import datetime as dt
import socket
import ssl
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from podserve import certificates
from podserve.certificates import Certificate
from podserve.errors import Problem

NAMES = ("example.org", "mail.example.org")
LONG_NAME = ".".join(["a" * 49] * 5)


class Volumes:
    """The folders of the two volumes."""

    def __init__(self, folder: Path) -> None:
        """Make them."""
        self.certificates, self.authority = folder / "certificates", folder / "authority"
        self.certificates.mkdir()
        self.authority.mkdir()
        self.current = self.certificates / "current"
        self.ca = self.current / "ca.crt"

    def ensure(self, *names: str) -> Certificate:
        """Have a certificate issued, if need be."""
        return certificates.ensure(self.certificates, self.authority, names or NAMES)

    def content(self) -> dict[Path, bytes]:
        """Return every file of both, `current` by where it leads."""
        files = [file for folder in (self.certificates, self.authority) for file in folder.rglob("*") if file.is_file()]
        return {file.resolve(): file.read_bytes() for file in files}


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    """Two new volumes."""
    return Volumes(tmp_path)


def loaded(file: Path) -> x509.Certificate:
    """Return the certificate of a file."""
    return x509.load_pem_x509_certificate(file.read_bytes())


def verify(leaf: Path, authority: Path, name: str) -> list[x509.Certificate]:
    """Return the chain from a server's certificate to the authority. Raises VerificationError where there is none."""
    verifier = PolicyBuilder().store(Store([loaded(authority)])).build_server_verifier(x509.DNSName(name))
    return verifier.verify(loaded(leaf), [])


def test_a_new_volume_has_no_certificate(volumes: Volumes) -> None:
    assert certificates.current(volumes.certificates) is None


def test_the_certificate_has_the_names_and_lasts_as_long_as_browsers_take(volumes: Volumes) -> None:
    made = volumes.ensure()
    assert made == certificates.current(volumes.certificates)
    assert made.names == NAMES
    assert made.days_left == 396
    assert not made.due


def test_what_is_there_is_left_as_it_is(volumes: Volumes) -> None:
    made, before = volumes.ensure(), volumes.content()
    assert volumes.ensure() == made
    assert volumes.ensure(*reversed(NAMES)) == made
    assert volumes.ensure(NAMES[0]) == made
    assert volumes.content() == before


def test_another_name_renews_the_certificate_under_the_same_authority(volumes: Volumes) -> None:
    made, authority = volumes.ensure(), volumes.ca.read_bytes()
    renewed = volumes.ensure(*NAMES, "more.example.org")
    assert renewed.serial != made.serial
    assert renewed.names == (*NAMES, "more.example.org")
    assert volumes.ca.read_bytes() == authority


def test_a_certificate_that_is_due_is_renewed(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    third = certificates.LIFETIME / 3
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "LIFETIME", third - dt.timedelta(hours=1))
        old = volumes.ensure()
    assert old.due
    renewed = volumes.ensure()
    assert renewed.serial != old.serial
    assert renewed.days_left == 396


def test_a_certificate_that_is_not_yet_due_is_kept(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    third = certificates.LIFETIME / 3
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "LIFETIME", third + dt.timedelta(hours=1))
        old = volumes.ensure()
    assert not old.due
    assert volumes.ensure() == old


@pytest.mark.parametrize(("hours", "kept"), [(1, True), (-1, False)])
def test_an_authority_issues_nothing_that_outlasts_it(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch, hours: int, *, kept: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "AUTHORITY_LIFETIME", certificates.LIFETIME + dt.timedelta(hours=hours))
        volumes.ensure()
    authority = volumes.ca.read_bytes()
    volumes.ensure(*NAMES, "more.example.org")
    assert (volumes.ca.read_bytes() == authority) is kept
    assert loaded(volumes.ca).not_valid_after_utc >= loaded(volumes.current / "tls.crt").not_valid_after_utc
    assert verify(volumes.current / "tls.crt", volumes.ca, NAMES[0])


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_the_days_left_are_whole_days(days: int) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    assert Certificate(NAMES, ends, "1").days_left == days


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_verifies_for_each_name(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    chain = verify(volumes.current / "tls.crt", volumes.authority / "ca.crt", name)
    assert chain == [loaded(volumes.current / "tls.crt"), loaded(volumes.authority / "ca.crt")]


@pytest.mark.parametrize("name", ["example.com", "org", "www.example.org", "mail.mail.example.org"])
def test_the_chain_verifies_for_no_other_name(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    with pytest.raises(VerificationError):
        verify(volumes.current / "tls.crt", volumes.ca, name)


def test_another_pods_authority_does_not_vouch_for_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = Volumes(tmp_path), Volumes(tmp_path / "other")
    for volumes in (one, other):
        volumes.ensure()
    with pytest.raises(VerificationError):
        verify(one.current / "tls.crt", other.ca, NAMES[0])


def test_a_name_too_long_for_a_subject_verifies_too(volumes: Volumes) -> None:
    volumes.ensure(LONG_NAME)
    assert verify(volumes.current / "tls.crt", volumes.ca, LONG_NAME)
    assert not loaded(volumes.current / "tls.crt").subject.rdns


def test_the_key_belongs_to_the_certificate(volumes: Volumes) -> None:
    volumes.ensure()
    key = load_pem_private_key((volumes.current / "tls.key").read_bytes(), None).public_key()
    certified = loaded(volumes.current / "tls.crt").public_key()
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    assert key.public_bytes(*form) == certified.public_bytes(*form)


def test_keys_are_for_root_alone_and_certificates_for_all(volumes: Volumes) -> None:
    volumes.ensure()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in volumes.content()}
    assert modes == {"tls.key": 0o600, "tls.crt": 0o644, "ca.crt": 0o644, "ca.key": 0o600}


def test_the_authoritys_key_is_not_where_the_services_look(volumes: Volumes) -> None:
    volumes.ensure()
    assert {file.name for file in volumes.current.iterdir()} == {"tls.key", "tls.crt", "ca.crt"}
    secret = (volumes.authority / "ca.key").read_bytes()
    assert secret not in [file.read_bytes() for file in volumes.current.iterdir()]


def test_current_leads_to_the_newest_pair_within_the_volume(volumes: Volumes) -> None:
    for names in (NAMES, (*NAMES, "more.example.org")):
        made = volumes.ensure(*names)
        assert volumes.current.is_symlink()
        assert str(volumes.current.readlink()) == made.serial


def handshake(volumes: Volumes, context: ssl.SSLContext) -> str | None:
    """Have a client with that context greet a server with the current pair; return TLS's version. Raises SSLError."""
    pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair.load_cert_chain(volumes.current / "tls.crt", volumes.current / "tls.key")
    here, there = socket.socketpair()

    def serve() -> None:
        with closing(pair.wrap_socket(there, server_side=True, do_handshake_on_connect=False)) as server:
            server.do_handshake()

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        # The address that was connected to, which the context is to pass over.
        with here, context.wrap_socket(here, server_hostname="127.0.0.1") as client:
            version = client.version()
        served.result()
        return version


@pytest.mark.parametrize("name", NAMES)
def test_a_client_of_the_pods_name_greets_it_at_any_address(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    assert handshake(volumes, certificates.client_context(name, volumes.ca)) == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.com", "www.example.org", "127.0.0.1"])
def test_a_client_of_another_name_refuses_it(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(volumes, certificates.client_context(name, volumes.ca))


def strangers_authority(volumes: Volumes) -> Path:
    """Return the authority of another pod."""
    other = volumes.certificates.parent / "other"
    other.mkdir()
    elsewhere = Volumes(other)
    elsewhere.ensure()
    return elsewhere.ca


@pytest.mark.parametrize("authority", [lambda _: None, strangers_authority], ids=["the host's", "another pod's"])
def test_a_client_of_another_authority_refuses_it(
    volumes: Volumes, authority: Callable[[Volumes], Path | None]
) -> None:
    volumes.ensure()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate"):
        handshake(volumes, certificates.client_context(NAMES[0], authority(volumes)))


def test_a_certificate_that_is_none_is_told_with_its_place(volumes: Volumes) -> None:
    volumes.ensure()
    (volumes.current / "tls.crt").write_text("no certificate")
    with pytest.raises(Problem, match=r"current/tls\.crt is no certificate"):
        volumes.ensure()
