"""The exchanges that show that an endpoint works: one for each protocol, anonymous or with a login."""

import http.client
import imaplib
import poplib
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.query
import dns.rcode

from podserve.waiting import NotYet

QUESTION = "google.com"
"""What the pod's health checks ask its resolver for."""
FAILURES = (NotYet, OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, http.client.HTTPException,
            dns.exception.DNSException, EOFError)  # fmt: skip
"""What an exchange raises when its endpoint does not do what it should (EOFError: dnspython, a closed connection)."""


@dataclass(frozen=True)
class Login:
    """An account's address and password."""

    address: str
    password: str


@dataclass(frozen=True)
class Target:
    """Where an endpoint is, the domain that it serves, and how long (s) an answer may take.

    `context` verifies its certificate.
    """

    host: str
    port: int
    domain: str
    context: ssl.SSLContext
    timeout: float


Exchange = Callable[[Target, Login | None], bytes | None]
"""Returns the certificate that was shown (DER), or None without TLS."""


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise NotYet(what)


def _certificate(connection: object) -> bytes | None:
    assert isinstance(connection, ssl.SSLSocket)  # noqa: S101  # for the type checker: a handshake was done on it
    return connection.getpeercert(binary_form=True)


def _get(connection: http.client.HTTPConnection, to: Target, path: str, login: Login | None) -> int:
    headers = {"Host": to.domain}
    if login:
        headers["Authorization"] = f"Basic {b64encode(f'{login.address}:{login.password}'.encode()).decode('ascii')}"
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def by_http(to: Target, _login: Login | None) -> None:
    """Expect the redirection to HTTPS."""
    with closing(http.client.HTTPConnection(to.host, to.port, timeout=to.timeout)) as connection:
        status = _get(connection, to, "/", None)
    _expect(status == http.client.MOVED_PERMANENTLY, f"HTTP {status} instead of a redirection to HTTPS")


def by_https(to: Target, login: Login | None) -> bytes | None:
    """Get the site or, with a login, /webdav/."""
    with closing(http.client.HTTPSConnection(to.host, to.port, timeout=to.timeout, context=to.context)) as connection:
        connection.connect()
        certificate = _certificate(connection.sock)
        status = _get(connection, to, "/webdav/" if login else "/", login)
    _expect(status < (http.client.MULTIPLE_CHOICES if login else http.client.INTERNAL_SERVER_ERROR), f"HTTP {status}")
    return certificate


def by_smtp(to: Target, _login: Login | None) -> bytes | None:
    """Use STARTTLS."""
    with smtplib.SMTP(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(context=to.context)
        client.ehlo()
        return _certificate(client.sock)


def _log_in(client: smtplib.SMTP, login: Login | None) -> bytes | None:
    client.ehlo()
    _expect(client.has_extn("auth"), "no login offered")
    if login:
        client.login(login.address, login.password)
    return _certificate(client.sock)


def by_submission(to: Target, login: Login | None) -> bytes | None:
    """Use STARTTLS, then log in."""
    with smtplib.SMTP(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(context=to.context)
        return _log_in(client, login)


def by_submissions(to: Target, login: Login | None) -> bytes | None:
    """Log in; TLS is there from the beginning."""
    with smtplib.SMTP_SSL(to.host, to.port, timeout=to.timeout, context=to.context) as client:
        return _log_in(client, login)


def _look(client: imaplib.IMAP4, login: Login | None) -> bytes | None:
    _expect("AUTH=PLAIN" in client.capabilities, "no login offered")
    if login:
        client.login(login.address, login.password)
        status, answer = client.select("INBOX", readonly=True)
        _expect(status == "OK", str(answer))
    return _certificate(client.sock)


def by_imap(to: Target, login: Login | None) -> bytes | None:
    """Use STARTTLS, then log in and open INBOX."""
    with imaplib.IMAP4(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(to.context)
        return _look(client, login)


def by_imaps(to: Target, login: Login | None) -> bytes | None:
    """Log in and open INBOX; TLS is there from the beginning."""
    with imaplib.IMAP4_SSL(to.host, to.port, ssl_context=to.context, timeout=to.timeout) as client:
        return _look(client, login)


def by_pop3s(to: Target, login: Login | None) -> bytes | None:
    """Log in and count the messages."""
    with closing(poplib.POP3_SSL(to.host, to.port, timeout=to.timeout, context=to.context)) as client:
        _expect("SASL" in client.capa(), "no login offered")
        certificate = _certificate(client.sock)
        if login:
            client.user(login.address)
            client.pass_(login.password)
            client.stat()
            client.quit()
    return certificate


def by_sieve(to: Target, login: Login | None) -> bytes | None:
    """Use STARTTLS, then log in and list the scripts (RFC 5804)."""
    with socket.create_connection((to.host, to.port), to.timeout) as plain:
        _manage(plain, "")
        _manage(plain, "STARTTLS")
        with to.context.wrap_socket(plain, server_hostname=to.domain) as client:
            _expect(b"PLAIN" in _manage(client, ""), "no login offered after STARTTLS")
            if login:
                words = b64encode(f"\0{login.address}\0{login.password}".encode()).decode("ascii")
                _manage(client, f'AUTHENTICATE "PLAIN" "{words}"')
                _manage(client, "LISTSCRIPTS")
            return _certificate(client)


def _manage(client: socket.socket, command: str) -> bytes:
    """Send a command of ManageSieve, if there is one, and return the answer. Raises NotYet if it is not OK."""
    if command:
        client.sendall(f"{command}\r\n".encode("ascii"))
    said, line = b"", b""
    with client.makefile("rb", buffering=0) as lines:
        while (line := lines.readline()) and not line.startswith((b"OK", b"NO", b"BYE")):
            said += line
    _expect(line.startswith(b"OK"), line.decode(errors="replace").strip() or "no answer")
    return said


def udp(query: dns.message.Message, host: str, *, port: int, timeout: float) -> dns.message.Message:
    """Ask over UDP, from a connected socket: it fails with ECONNREFUSED where nobody listens, instead of timing out."""
    with socket.socket(dns.inet.af_for_address(host), socket.SOCK_DGRAM) as connected:
        connected.setblocking(False)  # noqa: FBT003  # dnspython wants it so
        connected.connect((host, port))
        return dns.query.udp(query, host, port=port, timeout=timeout, sock=connected)


def _ask(exchange: Callable[[dns.message.Message], dns.message.Message], login: Login | None) -> None:
    # Without a login, without recursion: the answer then says that named works, whether or not its forwarders do.
    flags = dns.flags.RD if login else dns.flags.Flag(0)
    answer = exchange(dns.message.make_query(QUESTION, "A", flags=flags))
    _expect(not login or answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode()))


def by_dns(ask: Callable[..., dns.message.Message]) -> Exchange:
    """Return the exchange of a function that asks, such as dns.query.tcp."""
    return lambda to, login: _ask(lambda query: ask(query, to.host, port=to.port, timeout=to.timeout), login)


def by_dns_over_tls(to: Target, login: Login | None) -> bytes | None:
    """Ask within TLS."""
    with (
        socket.create_connection((to.host, to.port), to.timeout) as plain,
        to.context.wrap_socket(plain, server_hostname=to.domain) as client,
    ):
        _ask(lambda query: dns.query.tcp(query, to.host, timeout=to.timeout, sock=client), login)
        return _certificate(client)
