"""Checks whether clients accept a server with a key pair."""

import datetime as dt
import ssl
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from podserve.certificates.clients import distrust
from podserve.certificates.keypair import KeyPair, issued, legible, to_pem
from podserve.errors import Problem

_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


@legible("the chain", "Ask its issuer for another one")
def require_good(pair: KeyPair, names: tuple[str, ...]) -> list[str]:
    """Return warnings for a key pair that may be served as the first of `names`.

    Raises Problem if the key does not belong to the certificate, the chain is out of order, a certificate has expired
    or is not valid yet, its signature or usage makes clients refuse it, or it is not for the first name.
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
        reason = distrust(names[0], to_pem(pair.chain), pair.key.pem, to_pem(pair.roots))
    except ssl.SSLError as error:
        raise Problem(f"OpenSSL cannot serve with this key pair: {error.reason}") from error
    missing = [name for name in names if not certificate.covers(name)]
    return [
        *(
            [f"the certificate is not for {', '.join(missing)}: clients that connect by these names will refuse it"]
            if missing
            else []
        ),
        *([f"no root certificate of this host verifies the certificate: {reason}"] if reason else []),
        *([f"the certificate has only {certificate.days_left} days left"] if certificate.due else []),
    ]


def _require_fit(pair: KeyPair) -> None:
    public = _public(pair.key.private.public_key())
    if _public(pair.chain[0].public_key()) == public:
        return
    if any(_public(other.public_key()) == public for other in pair.chain):
        raise Problem(
            "the chain is not in order: expected the server's own certificate first, then those that issued it"
        )
    raise Problem(
        "the key does not belong to the certificate: expected the key with which the certificate was requested"
    )


def _require_order(chain: tuple[x509.Certificate, ...]) -> None:
    for number, (certificate, issuer) in enumerate(pairwise(chain), 1):
        if not issued(certificate, issuer):
            raise Problem(
                f"the chain is not in order: certificate {number} ({certificate.subject.rfc4514_string()}) was not "
                f"issued by the one after it ({issuer.subject.rfc4514_string()}). Each must be issued by the next"
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
        who = certificate.subject.rfc4514_string() or "of the server"
        if now >= certificate.not_valid_after_utc:
            raise Problem(f"the certificate {who} has expired: it ended on {certificate.not_valid_after_utc:%d %B %Y}")
        if now < certificate.not_valid_before_utc:
            begins = f"{certificate.not_valid_before_utc:%d %B %Y %H:%M} UTC"
            raise Problem(
                f"the certificate {who} is not valid yet: it begins on {begins}. Check this host's clock: invoke doctor"
            )


def _require_server(leaf: x509.Certificate) -> None:
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints and constraints.ca:
        raise Problem(
            "the first certificate is a CA certificate: expected the server's own first, then those that issued it"
        )
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise Problem("the certificate is not for a server (its extended key usage): request one for TLS servers")
