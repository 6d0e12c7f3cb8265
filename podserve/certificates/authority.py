"""The pod's own certificate authority: created at its first use, on a volume that no service mounts."""

import datetime as dt

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podserve.certificates.keypair import LARGEST, Key, KeyPair, Secret, new_key, to_pem
from podserve.choices import CertificateSource, KeyType
from podserve.errors import Problem
from podserve.folder import Folder

AUTHORITY_LIFETIME = dt.timedelta(days=3650)
LIFETIME = dt.timedelta(days=397)
"""The longest lifetime that browsers accept (CA/Browser Forum Baseline Requirements, section 6.3.2: 398 days)."""
_CLOCKS_APART = dt.timedelta(hours=1)
_FILE = "ca.pem"
"""The file with the authority's key and certificate. In one file, neither can exist without the other."""


def issue_for(folder: Folder, names: tuple[str, ...], key: KeyType | Secret) -> KeyPair:
    """Return a key pair for `names` with a new certificate, and with this key or a new one of this type.

    `folder` is the authority's volume. Raises Problem if the authority's file cannot be read.
    """
    issuer, issuer_key = _authority(folder, names[0])
    secret = new_key(key) if isinstance(key, KeyType) else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])  # X.520 allows 64 characters
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    certificate = (
        _builder(subject, issuer.subject, secret.private, LIFETIME)
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return KeyPair(CertificateSource.AUTHORITY.value, (certificate,), secret, (issuer,))


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, lifetime: dt.timedelta) -> x509.CertificateBuilder:
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


def _there(folder: Folder) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    content = folder.read(_FILE, LARGEST)
    if content is None:
        return None
    try:
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_authority(folder) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):  # as _authority writes it
        raise _no_authority(folder)
    return certificate, key


def _no_authority(folder: Folder) -> Problem:
    return Problem(
        f"{folder}/{_FILE} does not hold a private key and its certificate. Restore it from a backup; or remove it and "
        "run the same command again, which makes a new authority (clients must import its certificate)"
    )


def _authority(folder: Folder, domain: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the pod's authority. Create it if there is none, or if it would expire before a new certificate."""
    there = _there(folder)
    if there and there[0].not_valid_after_utc - dt.datetime.now(dt.UTC) > LIFETIME:
        return there
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"PodServe authority of {domain}"[:64])])
    made = (
        _builder(name, name, key, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    with folder.replacing(_FILE, 0o600) as file:
        file.write(Secret(key).pem + to_pem([made]))
    return made, key
