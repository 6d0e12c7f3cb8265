"""A pair: a private key and the chain of certificates that vouches for it; read from files, and judged."""

import datetime as dt
import io
import ssl
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podserve.certificates.clients import distrust
from podserve.errors import Problem

IMPORTED = "import"
"""The origin of a pair that somebody made elsewhere."""
LARGEST = 2**20
"""Bytes that a file of certificates or keys may have: many times what any has."""
SHORTEST_RSA = 2048
"""Bits: CA/Browser Forum Baseline Requirements, section 6.1.5; OpenSSL's security level 2 refuses less, too."""
_CURVES = (ec.SECP256R1, ec.SECP384R1)
"""What browsers take (the same section), but for P-521, which most do not."""
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Certificate:
    """What a certificate says: names, issuer, first and last moment (UTC), serial number and SHA-256 in hexadecimal.

    `origin` is where it is from: `authority`, `acme DIRECTORY` or `import`.
    """

    origin: str
    names: tuple[str, ...]
    issuer: str
    starts: dt.datetime
    ends: dt.datetime
    serial: str
    fingerprint: str

    @property
    def days_left(self) -> int:
        """Whole days until its end; negative when that is past."""
        return (self.ends - dt.datetime.now(dt.UTC)).days

    def _left(self) -> float:
        """Return which part of its lifetime is left: 1 at its beginning, 0 at its end."""
        return (self.ends - dt.datetime.now(dt.UTC)) / (self.ends - self.starts)

    @property
    def due(self) -> bool:
        """Whether less than a third of its lifetime is left: it is to be renewed."""
        return self._left() < 1 / 3

    @property
    def ending(self) -> bool:
        """Whether less than a sixth is left: a renewal should have come by now, and a person should look."""
        return self._left() < 1 / 6

    def covers(self, name: str) -> bool:
        """Return whether it is for that name, by itself or by a wildcard in place of its first label (RFC 6125)."""
        return bool({name, f"*.{name.partition('.')[2]}"} & set(self.names))


@contextmanager
def legible(what: str, remedy: str) -> Iterator[None]:
    """Raise Problem, with what to do, where a certificate is malformed: much of it is parsed when it is asked for."""
    try:
        yield
    except (ValueError, LookupError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType) as error:  # fmt: skip
        raise Problem(f"{what} is no certificate that can be read: {error}. {remedy}") from error


def describe(leaf: x509.Certificate, origin: str) -> Certificate:
    """Return what a certificate says, in plain words."""
    issuer = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Certificate(
        origin,
        tuple(name.lower() for name in _names(leaf)),
        str(issuer[0].value) if issuer else leaf.issuer.rfc4514_string(),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        f"{leaf.serial_number:x}",
        leaf.fingerprint(hashes.SHA256()).hex(),
    )


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as PEM."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@dataclass(frozen=True)
class Pair:
    """A private key, its certificate with those that issued it (the root may be left out), and where it is from.

    `roots` are what clients may have to import to trust it. The key is left out of what is printed.
    """

    origin: str
    chain: tuple[x509.Certificate, ...]
    key: "Secret"
    roots: tuple[x509.Certificate, ...] = ()

    @property
    def certificate(self) -> Certificate:
        """What its certificate says."""
        return describe(self.chain[0], self.origin)

    @property
    def root(self) -> x509.Certificate | None:
        """What vouches for the last of the chain, or is it, as far as it is known here."""
        last = self.chain[-1]
        return next((root for root in (*self.roots, last) if issued(last, root)), None)

    def archive(self) -> bytes:
        """Return a tar archive of its files: tls.crt, tls.key, origin and, where there is a root, ca.crt."""
        files = {"tls.key": self.key.pem, "tls.crt": pem(self.chain), "origin": f"{self.origin}\n".encode()}
        if self.root:
            files["ca.crt"] = pem([self.root])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600 if name == "tls.key" else 0o644
                archive.addfile(entry, io.BytesIO(content))
        return packed.getvalue()


@dataclass(frozen=True)
class Secret:
    """A private key, which shows itself to nobody who only prints it."""

    private: Key

    def __repr__(self) -> str:
        """Return no part of it."""
        return "Secret(…)"

    @property
    def pem(self) -> bytes:
        """It, as PEM without a password."""
        return self.private.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether one certificate was signed by the other's key, under its name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


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
    """Return the certificates in a PEM file. Raises Problem with what it is instead."""
    return certificates(_content(file, "a certificate and those that issued it, in PEM"), str(file))


def certificates(content: bytes, file: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates in the content of a PEM file of that name. Raises Problem with what it is instead."""
    if b"-----BEGIN CERTIFICATE" not in content:
        if b"PRIVATE KEY-----" in content:
            raise Problem(f"{file} holds a private key: expected a certificate. The order is CERT KEY")
        raise Problem(
            f"{file} holds no certificate in PEM (-----BEGIN CERTIFICATE-----). "
            f"One in DER is turned so: openssl x509 -inform DER -in {file} -out cert.pem"
        )
    if content.count(b"-----BEGIN CERTIFICATE-") != content.count(b"-----END CERTIFICATE-"):
        raise Problem(f"{file} is cut off: a certificate in it begins and does not end. Copy it again")
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise Problem(f"{file} holds no certificate that can be read: {error}. Copy it again") from error


def read_key(file: Path) -> Secret:
    """Return the private key in a PEM file. Raises Problem with what it is instead."""
    return private_key(_content(file, "a private key, in PEM"), str(file))


def private_key(content: bytes, file: str) -> Secret:
    """Return the private key in the content of a PEM file of that name. Raises Problem with what it is instead."""
    if b"PRIVATE KEY-----" not in content:
        if b"-----BEGIN CERTIFICATE" in content:
            raise Problem(f"{file} holds a certificate: expected its private key. The order is CERT KEY")
        raise Problem(
            f"{file} holds no private key in PEM (-----BEGIN PRIVATE KEY-----). "
            f"One in DER is turned so: openssl pkey -inform DER -in {file} -out key.pem"
        )
    if b"ENCRYPTED" in content:
        raise Problem(
            f"the key in {file} is encrypted, and the services have nobody to ask for its password. "
            f"Without: (umask 077; openssl pkey -in {file} -out key.pem)"
        )
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Problem(f"{file} holds no private key that can be read; it may be cut off. Copy it again") from error
    return Secret(_usable(key, file))


def _usable(key: object, file: str) -> Key:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= SHORTEST_RSA:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise Problem(f"clients do not take a key like that in {file}: expected ECDSA P-256 or P-384, or RSA of 2048 bits")


def read(certificate: Path, key: Path, origin: str, roots: Iterable[x509.Certificate] = ()) -> Pair:
    """Return the pair in two PEM files. Raises Problem, which says what either is instead."""
    return Pair(origin, read_certificates(certificate), read_key(key), tuple(roots))


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


@legible("what was brought", "Ask those who issued it for another")
def require_good(pair: Pair, names: tuple[str, ...]) -> list[str]:
    """Return warnings for a pair that may be served as the first of `names`.

    Raises Problem where the key does not fit, the chain is not in order, a date does not hold, a client would refuse
    it for what it is, or it is not for that name.
    """
    leaf, certificate = pair.chain[0], pair.certificate
    _require_fit(pair)
    _require_order(pair.chain)
    _require_dates(pair.chain)
    _require_server(leaf)
    if not certificate.covers(names[0]):
        found = ", ".join(certificate.names) or "no name at all"
        raise Problem(f"the certificate is for {found}: expected {names[0]} among its names")
    try:
        reason = distrust(names[0], pem(pair.chain), pair.key.pem, pem(pair.roots))
    except ssl.SSLError as error:
        raise Problem(f"OpenSSL cannot serve with this pair: {error.reason}") from error
    missing = [name for name in names if not certificate.covers(name)]
    return [
        *([f"the certificate is not for {', '.join(missing)}: clients that use it will refuse it"] if missing else []),
        *([f"no root that this host knows verifies the certificate: {reason}"] if reason else []),
        *([f"the certificate has only {certificate.days_left} days left"] if certificate.due else []),
    ]


def _require_fit(pair: Pair) -> None:
    public = _public(pair.key.private.public_key())
    if _public(pair.chain[0].public_key()) == public:
        return
    if any(_public(other.public_key()) == public for other in pair.chain):
        raise Problem(
            "the chain is not in order: expected the server's own certificate first, then those that issued it"
        )
    raise Problem("the key is not that of the certificate: expected the one that the certificate was asked for with")


def _require_order(chain: tuple[x509.Certificate, ...]) -> None:
    for number, (certificate, issuer) in enumerate(pairwise(chain), 1):
        if not issued(certificate, issuer):
            raise Problem(
                f"the chain is not in order: certificate {number} ({certificate.subject.rfc4514_string()}) was not "
                f"issued by the one after it ({issuer.subject.rfc4514_string()}). Expected: each by the next"
            )
    for certificate in chain:
        digest = certificate.signature_hash_algorithm
        root = certificate is chain[-1] and len(chain) > 1 and issued(certificate, certificate)
        if digest and not root and not isinstance(digest, _DIGESTS):
            raise Problem(
                f"a certificate is signed with {digest.name}, which clients refuse: expected SHA-256 or better"
            )


def _require_dates(chain: tuple[x509.Certificate, ...]) -> None:
    now = dt.datetime.now(dt.UTC)
    for certificate in chain:
        who = certificate.subject.rfc4514_string() or "the server's"
        if now >= certificate.not_valid_after_utc:
            raise Problem(f"the certificate {who} has expired: it ended on {certificate.not_valid_after_utc:%d %B %Y}")
        if now < certificate.not_valid_before_utc:
            begins = f"{certificate.not_valid_before_utc:%d %B %Y %H:%M} UTC"
            raise Problem(
                f"the certificate {who} does not hold yet: it begins on {begins}. Is this host's clock right?"
            )


def _require_server(leaf: x509.Certificate) -> None:
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints and constraints.ca:
        raise Problem(
            "the first certificate is an authority's: expected the server's own first, then those that issued it"
        )
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise Problem(
            "the certificate is for another use than a server's (its extended key usage): ask for one for TLS"
        )
