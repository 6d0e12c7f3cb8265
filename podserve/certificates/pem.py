"""Reads certificates and private keys from PEM files. Errors say what a file holds instead."""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from podserve.certificates.keypair import LARGEST, Key, KeyPair, Secret
from podserve.errors import Problem

SHORTEST_RSA = 2048
"""Bits: CA/Browser Forum Baseline Requirements, section 6.1.5; OpenSSL's security level 2 refuses shorter keys, too."""
_CURVES = (ec.SECP256R1, ec.SECP384R1)
"""The curves that browsers accept (the same section), without P-521, which most browsers refuse."""


def _content(file: Path, what: str) -> bytes:
    try:
        if file.is_dir():
            raise Problem(f"{file} is a directory: expected {what}")
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise Problem(f"{file} cannot be read ({error.strerror}): expected {what}") from error
    if not content.strip():
        raise Problem(f"{file} is empty: expected {what}")
    if len(content) > LARGEST:
        raise Problem(f"{file} has more than {LARGEST} bytes: expected {what}")
    return content


def read_certificates(file: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates in a PEM file. Raises Problem, which says what the file holds instead."""
    return parse_certificates(_content(file, "a certificate and those that issued it, in PEM"), str(file))


def parse_certificates(content: bytes, file: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates in the content of a PEM file; `file` is its name in errors.

    Raises Problem, which says what the content is instead.
    """
    if b"-----BEGIN CERTIFICATE" not in content:
        if b"PRIVATE KEY-----" in content:
            raise Problem(f"{file} holds a private key: expected a certificate. The order is CERT KEY")
        raise Problem(
            f"{file} holds no certificate in PEM (-----BEGIN CERTIFICATE-----). "
            f"If it is in DER, convert it: openssl x509 -inform DER -in {file} -out cert.pem"
        )
    if content.count(b"-----BEGIN CERTIFICATE-") != content.count(b"-----END CERTIFICATE-"):
        raise Problem(f"{file} is truncated: a certificate in it has no END line. Copy it again")
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise Problem(f"{file} holds no certificate that can be read: {error}. Copy it again") from error


def read_key(file: Path) -> Secret:
    """Return the private key in a PEM file. Raises Problem, which says what the file holds instead."""
    return parse_key(_content(file, "a private key, in PEM"), str(file))


def parse_key(content: bytes, file: str) -> Secret:
    """Return the private key in the content of a PEM file; `file` is its name in errors.

    Raises Problem, which says what the content is instead.
    """
    if b"PRIVATE KEY-----" not in content:
        if b"-----BEGIN CERTIFICATE" in content:
            raise Problem(f"{file} holds a certificate: expected its private key. The order is CERT KEY")
        raise Problem(
            f"{file} holds no private key in PEM (-----BEGIN PRIVATE KEY-----). "
            f"If it is in DER, convert it: openssl pkey -inform DER -in {file} -out key.pem"
        )
    if b"ENCRYPTED" in content:
        raise Problem(
            f"the key in {file} is encrypted, and the services cannot ask for its password. "
            f"Remove the password: (umask 077; openssl pkey -in {file} -out key.pem)"
        )
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Problem(f"{file} holds no private key that can be read; it may be truncated. Copy it again") from error
    return Secret(_usable(key, file))


def parse_keys(content: bytes, file: str) -> tuple[Secret, ...]:
    """Return the private keys in the content of a PEM file, one after the other. Raises Problem as `parse_key` does."""
    begin = b"-----BEGIN"
    return tuple(parse_key(begin + part, file) for part in content.split(begin)[1:]) or (parse_key(content, file),)


def _usable(key: object, file: str) -> Key:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= SHORTEST_RSA:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise Problem(
        f"clients do not accept such a key ({file}): expected ECDSA P-256 or P-384, or RSA of at least 2048 bits"
    )


def read_key_pair(certificate: Path, key: Path, origin: str, roots: Iterable[x509.Certificate] = ()) -> KeyPair:
    """Return the key pair in two PEM files. Raises Problem, which says what either file holds instead."""
    return KeyPair(origin, read_certificates(certificate), read_key(key), tuple(roots))
