"""The pod's nine endpoints, each with an exchange that shows that it works."""

import hashlib
import http.client
import imaplib
import poplib
import secrets
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.query
import dns.rcode

from podserve.manifests import Manifests
from podserve.waiting import NotYet

PATIENCE = 2.0
"""Seconds that one exchange may take."""
QUESTION = "google.com"
"""What the pod's health checks ask its resolver for."""

Exchange = Callable[[str, int, ssl.SSLContext], bytes | None]
"""Returns the certificate that was shown (DER), or None where there is no TLS."""


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise NotYet(what)


def _certificate(connection: object) -> bytes | None:
    assert isinstance(connection, ssl.SSLSocket)  # noqa: S101  # for the type checker: a handshake was done on it
    return connection.getpeercert(binary_form=True)


def _http(host: str, port: int, _context: ssl.SSLContext) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    _expect(status == http.client.MOVED_PERMANENTLY, f"HTTP {status} instead of the way to HTTPS")


def _https(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
    try:
        connection.connect()
        certificate = _certificate(connection.sock)
        connection.request("GET", "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    _expect(status < http.client.INTERNAL_SERVER_ERROR, f"HTTP {status}")
    return certificate


def _smtp(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
        client.starttls(context=context)
        client.ehlo()
        return _certificate(client.sock)


def _submission(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
        client.starttls(context=context)
        client.ehlo()
        _expect(client.has_extn("auth"), "no login offered after STARTTLS")
        return _certificate(client.sock)


def _imap(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    with imaplib.IMAP4(host, port, timeout=PATIENCE) as client:
        client.starttls(context)
        _expect("AUTH=PLAIN" in client.capabilities, "no login offered after STARTTLS")
        return _certificate(client.sock)


def _imaps(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    with imaplib.IMAP4_SSL(host, port, ssl_context=context, timeout=PATIENCE) as client:
        _expect("AUTH=PLAIN" in client.capabilities, "no login offered")
        return _certificate(client.sock)


def _pop3s(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    client = poplib.POP3_SSL(host, port, timeout=PATIENCE, context=context)
    try:
        _expect("SASL" in client.capa(), "no login offered")
        return _certificate(client.sock)
    finally:
        client.close()


def udp(query: dns.message.Message, host: str, *, port: int, timeout: float) -> dns.message.Message:
    """Ask over UDP, from a socket that hears when nobody listens there: one that is not connected waits in vain."""
    with socket.socket(dns.inet.af_for_address(host), socket.SOCK_DGRAM) as connected:
        connected.setblocking(False)  # noqa: FBT003  # dnspython wants it so
        connected.connect((host, port))
        return dns.query.udp(query, host, port=port, timeout=timeout, sock=connected)


def _dns(ask: Callable[..., dns.message.Message]) -> Exchange:
    def exchange(host: str, port: int, _context: ssl.SSLContext) -> None:
        # Without recursion: that named answers is asked here, not that its forwarders do.
        ask(dns.message.make_query(QUESTION, "A", flags=dns.flags.Flag(0)), host, port=port, timeout=PATIENCE)

    return exchange


TLS = ("https", "smtp", "submission", "imap", "imaps", "pop3s")
"""The endpoints that show the pod's certificate."""
EXCHANGES: dict[str, Exchange] = {
    "http": _http,
    "https": _https,
    "smtp": _smtp,
    "submission": _submission,
    "imap": _imap,
    "imaps": _imaps,
    "pop3s": _pop3s,
    "dns-udp": _dns(udp),
    "dns-tcp": _dns(dns.query.tcp),
}
"""By the port's name in kube/podserve.yaml."""

FAILURES = (NotYet, OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, http.client.HTTPException,
            dns.exception.DNSException, EOFError)  # fmt: skip
"""What an exchange raises when its endpoint does not do what it should (EOFError: dnspython, a closed connection)."""


@dataclass(frozen=True)
class Answer:
    """How an endpoint answered: its error, empty when all was well, and the seconds it took.

    `fingerprint` is the SHA-256 (hexadecimal) of the certificate that it showed; empty where there was none.
    """

    port: str
    error: str
    seconds: float
    fingerprint: str = ""

    @property
    def ok(self) -> bool:
        """Whether all was well."""
        return not self.error


def attempt(manifests: Manifests, context: ssl.SSLContext, port: str) -> Answer:
    """Try one endpoint."""
    begin = time.monotonic()
    try:
        shown = EXCHANGES[port](manifests.settings.local_address, manifests.ports[port].number, context)
    except FAILURES as error:
        return Answer(port, str(error) or type(error).__name__, time.monotonic() - begin)
    fingerprint = hashlib.sha256(shown).hexdigest() if shown else ""
    return Answer(port, "", time.monotonic() - begin, fingerprint)


def attempt_all(manifests: Manifests, context: ssl.SSLContext, ports: Collection[str]) -> list[Answer]:
    """Try these endpoints at once; the answers come in the same order."""
    with ThreadPoolExecutor(len(ports)) as pool:
        return list(pool.map(lambda port: attempt(manifests, context, port), ports))


def line_problem(manifests: Manifests) -> str:
    """Return why the pod cannot resolve names of the internet at the moment, or an empty text when it can."""
    # A name that was never asked for, and need not exist: a known one would be answered from the cache.
    query = dns.message.make_query(f"{secrets.token_hex(8)}.{QUESTION}", "A")
    port = manifests.ports["dns-udp"].number
    try:
        said = dns.query.udp(query, manifests.settings.local_address, port=port, timeout=1).rcode()
    except (OSError, dns.exception.DNSException):
        said = None
    if said in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return ""
    reason = "no answer within 1 s" if said is None else dns.rcode.to_text(said)
    return f"the forwarders ({manifests.settings.forwarders}) did not resolve a name of {QUESTION}: {reason}"
