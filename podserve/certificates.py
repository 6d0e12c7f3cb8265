"""The pod's private authority, the certificate it issues, and TLS clients that trust it.

On the certificates volume, `current` leads to a folder with tls.crt, tls.key and ca.crt (Kubernetes' names); it is a
symbolic link, replaced in one step, so that a reader finds a pair that fits or the pair before it.
"""

import datetime as dt
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podserve.errors import Problem

AUTHORITY_LIFETIME = dt.timedelta(days=3650)
LIFETIME = dt.timedelta(days=397)
"""The longest that browsers take (CA/Browser Forum Baseline Requirements, section 6.3.2: 398 days)."""
_CLOCKS_APART = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Certificate:
    """What a certificate says: its names, its end (UTC), its serial number in hexadecimal."""

    names: tuple[str, ...]
    ends: dt.datetime
    serial: str

    @property
    def days_left(self) -> int:
        """Whole days until its end; negative when that is past."""
        return (self.ends - dt.datetime.now(dt.UTC)).days

    @property
    def due(self) -> bool:
        """Whether less than a third of a lifetime is left."""
        return self.ends - dt.datetime.now(dt.UTC) < LIFETIME / 3


def current(folder: Path) -> Certificate | None:
    """Return the certificate that a volume's `current` leads to, or None where there is none."""
    file = folder / "current" / "tls.crt"
    if not file.exists():
        return None
    try:
        loaded = x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as error:
        raise Problem(f"{file} is no certificate: {error}. Remove {file.parent}; invoke up makes another") from error
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Certificate(
        tuple(names.get_values_for_type(x509.DNSName)), loaded.not_valid_after_utc, f"{loaded.serial_number:x}"
    )


def ensure(folder: Path, authority: Path, names: tuple[str, ...]) -> Certificate:
    """Return the current certificate for `names`, after the authority has issued one where it is missing or due.

    `folder` and `authority` are the two volumes' folders; the authority is made on its first use.
    """
    there = current(folder)
    if there and set(names) <= set(there.names) and not there.due:
        return there
    _issue(folder, authority, names)
    issued = current(folder)
    assert issued  # noqa: S101  # for the type checker: _issue has just written it
    return issued


def _write(file: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that nobody could read with more rights than `mode`, synced."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(folder: Path, domain: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the pod's authority, made anew where there is none, or none that outlasts what it issues."""
    certificate, private = folder / "ca.crt", folder / "ca.key"
    there = x509.load_pem_x509_certificate(certificate.read_bytes()) if certificate.exists() else None
    if there and there.not_valid_after_utc - dt.datetime.now(dt.UTC) > LIFETIME:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  # written below
        return there, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"PodServe authority of {domain}"[:64])])
    made = (
        _builder(name, name, key, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(private, _pem(key), 0o600)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))
    return made, key


def _issue(folder: Path, authority: Path, names: tuple[str, ...]) -> None:
    issuer, issuer_key = _authority(authority, names[0])
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= 64 else [])  # noqa: PLR2004  # X.520's upper bound
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    issued = (
        _builder(subject, issuer.subject, key, LIFETIME)
        .add_extension(alternative, critical=not subject.rdns)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    pair = folder / f"{issued.serial_number:x}"
    pair.mkdir(mode=0o755)
    _write(pair / "tls.key", _pem(key), 0o600)
    _write(pair / "tls.crt", issued.public_bytes(serialization.Encoding.PEM))
    _write(pair / "ca.crt", issuer.public_bytes(serialization.Encoding.PEM))
    link = folder / ".current"
    link.unlink(missing_ok=True)
    link.symlink_to(pair.name)
    link.rename(folder / "current")


class _NamedContext(ssl.SSLContext):
    """A client's context that asks for, and verifies, one name whatever address was connected to."""

    name: str

    def wrap_socket(self, sock, **options):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN003,ANN202
        return super().wrap_socket(sock, **{**options, "server_hostname": self.name})


def client_context(name: str, authority: Path | str | None) -> ssl.SSLContext:
    """Return a TLS client's context that expects a server certificate for `name`.

    It trusts the authority in that PEM file, or without one what the host trusts.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = name
    if authority:
        context.load_verify_locations(authority)
    else:
        context.load_default_certs()
    return context
