"""A key pair (a private key and its certificate chain), and what its certificate says."""

import datetime as dt
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from string import digits

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from podserve.choices import CertificateSource, KeyType
from podserve.errors import Problem
from podserve.values import covers

IMPORTED = CertificateSource.IMPORT.value
"""The origin of a key pair that a person imported."""
LARGEST = 2**20
"""Bytes that a file of certificates or keys may have: many times what any real one has."""

NAMES = "tls", "alt"
"""How the files of a key pair are named on the volume: the first pair's, and those of the second, if there is one."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate: names, issuer, validity (UTC), serial number and SHA-256 fingerprint in hexadecimal.

    `origin` is its source: `authority`, `acme DIRECTORY` or `import`. `key` is the type of its key, such as `ec256`.
    """

    origin: str
    names: tuple[str, ...]
    issuer: str
    starts: dt.datetime
    ends: dt.datetime
    serial: str
    fingerprint: str
    key: str

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires; negative when it has expired."""
        return (self.ends - dt.datetime.now(dt.UTC)).days

    def _left(self) -> float:
        """Return the part of the lifetime that is left: 1 at its beginning, 0 at its end."""
        return (self.ends - dt.datetime.now(dt.UTC)) / (self.ends - self.starts)

    @property
    def due(self) -> bool:
        """Whether less than a third of the lifetime is left: the certificate is to be renewed."""
        return self._left() < 1 / 3

    @property
    def ending(self) -> bool:
        """Whether less than a sixth of the lifetime is left: renewal has failed, and a person should look."""
        return self._left() < 1 / 6

    def covers(self, name: str) -> bool:
        """Return whether the certificate is for a name, also by a wildcard."""
        return covers(self.names, name)


def soonest(certificates: Iterable[Certificate]) -> Certificate:
    """Return the certificate that ends first."""
    return min(certificates, key=lambda certificate: certificate.ends)


@contextmanager
def legible(what: str, remedy: str) -> Iterator[None]:
    """Raise Problem, with the remedy, for a malformed certificate: cryptography parses many fields on access."""
    try:
        yield
    except (ValueError, LookupError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType) as error:  # fmt: skip
        raise Problem(f"{what} cannot be read as a certificate: {error}. {remedy}") from error


def describe(leaf: x509.Certificate, origin: str) -> Certificate:
    """Return the fields of a certificate. Raises what `legible` translates for a malformed one."""
    issuer = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Certificate(
        origin,
        tuple(name.lower() for name in _names(leaf)),
        str(issuer[0].value) if issuer else leaf.issuer.rfc4514_string(),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        f"{leaf.serial_number:x}",
        leaf.fingerprint(hashes.SHA256()).hex(),
        key_name(leaf.public_key()),
    )


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as PEM."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@dataclass(frozen=True)
class KeyPair:
    """A private key, its certificate followed by the issuers' (the root may be absent), and its origin.

    `roots` are certificates that clients may have to import to trust the chain. The private key is not shown by repr().
    """

    origin: str
    chain: tuple[x509.Certificate, ...]
    key: "Secret"
    roots: tuple[x509.Certificate, ...] = ()

    @property
    def certificate(self) -> Certificate:
        """The fields of its certificate."""
        return describe(self.chain[0], self.origin)

    @property
    def root(self) -> x509.Certificate | None:
        """The root that issued the last certificate of the chain, or is that certificate; None if it is unknown."""
        last = self.chain[-1]
        return next((root for root in (*self.roots, last) if issued(last, root)), None)


def archive(pairs: Iterable[KeyPair]) -> bytes:
    """Return a tar archive of one or two key pairs of one origin: files by NAMES, origin and, with a root, ca.crt."""
    files, roots = dict[str, bytes](), dict[x509.Certificate, None]()
    for name, pair in zip(NAMES, pairs, strict=False):
        files |= {f"{name}.key": pair.key.pem, f"{name}.crt": to_pem(pair.chain), "origin": f"{pair.origin}\n".encode()}
        roots |= {pair.root: None} if pair.root else {}
    files |= {"ca.crt": to_pem(roots)} if roots else {}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for file, content in files.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(content), 0o600 if file.endswith(".key") else 0o644
            made.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@dataclass(frozen=True)
class Secret:
    """A private key that repr() does not show."""

    private: Key

    def __repr__(self) -> str:
        """Return no part of the key."""
        return "Secret(…)"

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the public key, as in a TLSA record."""
        return key_digest(self.private.public_key())

    @property
    def name(self) -> str:
        """The type of the key, as KeyType names it."""
        return key_name(self.private.public_key())

    @property
    def algorithm(self) -> str:
        """The algorithm of the key, as KeyType names it."""
        return self.name.rstrip(digits)

    @property
    def pem(self) -> bytes:
        """The key as PEM, without a password."""
        return self.private.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def key_digest(public: object) -> str:
    """Return the SHA-256 digest (hexadecimal) of a public key: what a TLSA record holds (RFC 6698: 1 1)."""
    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return hashlib.sha256(encoded).hexdigest()


def key_name(public: object) -> str:
    """Return the type of a public key: an algorithm and a number of bits, such as `ec256`; otherwise its class."""
    match public:
        case rsa.RSAPublicKey():
            return f"rsa{public.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ec{public.key_size}"
        case _:
            return type(public).__name__


def new_key(key_type: KeyType) -> Secret:
    """Return a new private key of that type."""
    match key_type:
        case KeyType.EC256:
            return Secret(ec.generate_private_key(ec.SECP256R1()))
        case KeyType.EC384:
            return Secret(ec.generate_private_key(ec.SECP384R1()))
        case KeyType.RSA2048:
            return Secret(rsa.generate_private_key(65537, 2048))
        case KeyType.RSA4096:
            return Secret(rsa.generate_private_key(65537, 4096))


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key signed the certificate, under the issuer's name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
