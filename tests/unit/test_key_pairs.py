"""Imported key pairs: usable ones are accepted, all others are refused with the reason."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Key, to_pem
from podserve.certificates.pem import read_key_pair
from podserve.errors import Problem

NAMES = ("example.org", "mail.example.org")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass
class Maker:
    """A root, an intermediate authority, and the two files of a key pair that an operator imports."""

    folder: Path
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    middle_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        """Issue the certificates of the root and the intermediate authority."""
        self.root = self.certificate("root", self.root_key, "root", self.root_key, authority=True)
        self.middle = self.certificate("middle", self.middle_key, "root", self.root_key, authority=True)
        self.cert, self.key = self.folder / "cert.pem", self.folder / "key.pem"

    @staticmethod
    def certificate(  # noqa: PLR0913  # one for each field that a test changes
        name: str,
        key: Key | ed25519.Ed25519PrivateKey,
        issuer: str,
        signer: ec.EllipticCurvePrivateKey,
        *,
        names: tuple[str, ...] = (),
        authority: bool = False,
        begins: dt.datetime = NOW - DAY,
        ends: dt.datetime = NOW + 90 * DAY,
        use: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        raw: tuple[x509.ObjectIdentifier, bytes] | None = None,
    ) -> x509.Certificate:
        """Return a certificate. `raw` is an extension (identifier, bytes) that is added instead of `use`."""
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            made = made.add_extension(alternative, critical=False)
        if raw:
            made = made.add_extension(x509.UnrecognizedExtension(*raw), critical=False)
        elif not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        return made.sign(signer, hashes.SHA256())

    def bring(
        self,
        *,
        names: tuple[str, ...] = NAMES,
        key: Key | ed25519.Ed25519PrivateKey | None = None,
        chain: Callable[[x509.Certificate], list[x509.Certificate]] | None = None,
        **says: object,
    ) -> None:
        """Write a key pair for `names` and its chain to the two files, with the given differences."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        leaf = self.certificate("leaf", key, "middle", self.middle_key, names=names, **says)  # type: ignore[arg-type]
        self.cert.write_bytes(to_pem(chain(leaf) if chain else [leaf, self.middle]))
        self.write_key(key)

    def write_key(
        self,
        key: object,
        encryption: serialization.KeySerializationEncryption | None = None,
        form: Encoding = Encoding.PEM,
    ) -> None:
        """Write a private key."""
        encryption = encryption or serialization.NoEncryption()
        self.key.write_bytes(key.private_bytes(form, serialization.PrivateFormat.PKCS8, encryption))  # type: ignore[attr-defined]

    def judge(self) -> list[str]:
        """Read the two files and judge them, as certs.import does."""
        return require_good(read_key_pair(self.cert, self.key, IMPORTED, [self.root]), NAMES)

    def misname(self, leaf: x509.Certificate) -> list[x509.Certificate]:
        """Return a chain whose first certificate has a subject of ASN.1 type REAL, which is not text."""
        content = leaf.public_bytes(Encoding.DER).replace(b"\x0c\x04leaf", b"\x09\x04leaf")
        return [x509.load_der_x509_certificate(content), self.middle]

    def swap(self) -> None:
        """Swap the two files."""
        self.cert, self.key = self.key, self.cert

    def cut(self, file: Path) -> None:
        """Keep the first half of a file."""
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """The authorities, shared by the tests of this module."""
    return Maker(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def maker(authority: Maker, tmp_path: Path) -> Maker:
    """The authorities, with a valid key pair in two files of this test."""
    authority.cert, authority.key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.bring()
    return authority


GOOD: dict[str, Callable[[Maker], object]] = {
    "a chain without its root": lambda _: None,
    "a chain with its root": lambda made: made.bring(chain=lambda leaf: [leaf, made.middle, made.root]),
    "RSA of 2048 bits": lambda made: made.bring(key=rsa.generate_private_key(65537, 2048)),
    "ECDSA P-384": lambda made: made.bring(key=ec.generate_private_key(ec.SECP384R1())),
    "a wildcard beside the domain": lambda made: made.bring(names=("example.org", "*.example.org")),
    "names in capitals": lambda made: made.bring(names=("Example.ORG", "MAIL.example.org")),
    "both in one file": lambda made: (
        made.cert.write_bytes(made.key.read_bytes() + made.cert.read_bytes()),
        made.key.write_bytes(made.cert.read_bytes()),
    ),
    "text around the PEM": lambda made: made.cert.write_bytes(b"Bag Attributes\r\n" + made.cert.read_bytes()),
}
WARNED: dict[str, tuple[Callable[[Maker], object], str]] = {
    "an unknown root": (
        lambda made: made.bring(chain=lambda leaf: [leaf]),
        "no root certificate of this host verifies the certificate: unable to get local issuer certificate",
    ),
    "a name less": (lambda made: made.bring(names=NAMES[:1]), "the certificate is not for mail.example.org"),
    "an end that is near": (
        lambda made: made.bring(begins=NOW - 80 * DAY, ends=NOW + 10 * DAY),
        "the certificate has only 9 days left",
    ),
}
BAD: dict[str, tuple[Callable[[Maker], object], str]] = {
    "no certificate file": (lambda made: made.cert.unlink(), "cannot be read (No such file or directory)"),
    "no key file": (lambda made: made.key.unlink(), "cannot be read (No such file or directory)"),
    "a directory": (lambda made: setattr(made, "cert", made.cert.parent), "is a directory: expected a certificate"),
    "an empty certificate": (lambda made: made.cert.write_text("\n"), "is empty: expected a certificate"),
    "an empty key": (lambda made: made.key.write_text(""), "is empty: expected a private key"),
    "a huge file": (lambda made: made.cert.write_bytes(b" x" * 2**20), "has more than 1048576 bytes"),
    "swapped": (lambda made: made.swap(), "holds a private key: expected a certificate. The order is CERT KEY"),
    "two certificates": (
        lambda made: made.key.write_bytes(made.cert.read_bytes()),
        "holds a certificate: expected its private key",
    ),
    "a certificate in DER": (
        lambda made: made.cert.write_bytes(made.root.public_bytes(Encoding.DER)),
        "holds no certificate in PEM",
    ),
    "a key in DER": (
        lambda made: made.write_key(made.root_key, form=Encoding.DER),
        "holds no private key in PEM",
    ),
    "a certificate cut off": (lambda made: made.cut(made.cert), "is truncated: a certificate in it has no END line"),
    "a key cut off": (lambda made: made.cut(made.key), "holds no private key that can be read; it may be truncated"),
    "a certificate of nonsense": (
        lambda made: made.cert.write_text("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n"),
        "holds no certificate that can be read",
    ),
    "names of nonsense": (
        lambda made: made.bring(names=(), raw=(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"nonsense")),
        "cannot be read as a certificate",
    ),
    "a name beyond ASCII": (
        lambda made: made.bring(names=(), raw=(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"0\x03\x82\x01\xff")),
        "cannot be read as a certificate",
    ),
    "a use of nonsense": (
        lambda made: made.bring(raw=(ExtensionOID.EXTENDED_KEY_USAGE, b"nonsense")),
        "cannot be read as a certificate",
    ),
    "a subject of no type": (lambda made: made.bring(chain=made.misname), "cannot be read as a certificate"),
    "an encrypted key": (
        lambda made: made.write_key(made.root_key, serialization.BestAvailableEncryption(b"secret")),
        "is encrypted, and the services cannot ask",
    ),
    "another's key": (lambda made: made.write_key(made.root_key), "the key does not belong to the certificate"),
    "an expired certificate": (
        lambda made: made.bring(begins=NOW - 2 * DAY, ends=NOW - DAY),
        "the certificate CN=leaf has expired: it ended on ",
    ),
    "a certificate of tomorrow": (
        lambda made: made.bring(begins=NOW + DAY),
        "the certificate CN=leaf is not valid yet: it begins on ",
    ),
    "wrong names": (
        lambda made: made.bring(names=("example.com", "mail.example.org")),
        "the certificate is for example.com, mail.example.org: expected example.org among its names",
    ),
    "a wildcard alone": (lambda made: made.bring(names=("*.example.org",)), "expected example.org among its names"),
    "no names": (lambda made: made.bring(names=()), "the certificate is for no name at all: expected example.org"),
    "a chain upside down": (
        lambda made: made.bring(chain=lambda leaf: [made.middle, leaf]),
        "the chain is not in order: expected the server's own certificate first",
    ),
    "a chain with a gap": (
        lambda made: made.bring(chain=lambda leaf: [leaf, made.root]),
        "the chain is not in order: certificate 1 (CN=leaf) was not issued by the one after it (CN=root)",
    ),
    "the leaf twice": (
        lambda made: made.bring(chain=lambda leaf: [leaf, leaf, made.middle]),
        "the chain is not in order",
    ),
    "an authority's": (lambda made: made.bring(authority=True), "the first certificate is a CA certificate"),
    "a client's": (
        lambda made: made.bring(use=ExtendedKeyUsageOID.CLIENT_AUTH),
        "the certificate is not for a server",
    ),
    "RSA of 1024 bits": (
        lambda made: made.bring(key=rsa.generate_private_key(65537, 1024)),  # noqa: S505  # too weak on purpose
        "clients do not accept such a key",
    ),
    "Ed25519": (
        lambda made: made.bring(key=ed25519.Ed25519PrivateKey.generate()),
        "clients do not accept such a key",
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_a_good_pair_is_taken(maker: Maker, what: str) -> None:
    GOOD[what](maker)
    assert maker.judge() == []


@pytest.mark.parametrize("what", WARNED)
def test_a_pair_of_some_use_is_taken_with_a_warning(maker: Maker, what: str) -> None:
    change, warning = WARNED[what]
    change(maker)
    (told,) = maker.judge()
    assert told.startswith(warning)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_pair_is_refused_with_what_is_wrong(maker: Maker, what: str) -> None:
    change, told = BAD[what]
    change(maker)
    with pytest.raises(Problem) as refused:
        maker.judge()
    assert told in refused.value.text


def test_a_key_does_not_show_itself(maker: Maker) -> None:
    read = read_key_pair(maker.cert, maker.key, IMPORTED)
    secret = maker.key.read_text().splitlines()[1]
    assert secret not in f"{read!r} {read} {read.key}"
    assert secret.encode() in read.key.pem
