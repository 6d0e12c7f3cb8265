"""The table of the pod's endpoints: each has an exchange that shows that it works, anonymous or with a login."""

import hashlib
import http.client
import imaplib
import poplib
import smtplib
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.query
import dns.rcode

from podserve.pod import Pod
from podserve.values import as_text
from podserve.waiting import NotYet

PATIENCE = 2.0
"""Seconds that one exchange may take."""
QUESTION = "google.com"
"""What the pod's health checks ask its resolver for."""


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


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: the name of its port in kube/podserve.yaml, what it is for, whether it shows the pod's certificate.

    `exchange` without a login is anonymous. With a login, the client uses it where the endpoint takes one, and expects
    an answer that only a working service gives: a file, a mailbox, a name that resolves.
    """

    name: str
    label: str
    tls: bool
    exchange: Exchange


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


def _http(to: Target, _login: Login | None) -> None:
    with closing(http.client.HTTPConnection(to.host, to.port, timeout=to.timeout)) as connection:
        status = _get(connection, to, "/", None)
    _expect(status == http.client.MOVED_PERMANENTLY, f"HTTP {status} instead of a redirection to HTTPS")


def _https(to: Target, login: Login | None) -> bytes | None:
    with closing(http.client.HTTPSConnection(to.host, to.port, timeout=to.timeout, context=to.context)) as connection:
        connection.connect()
        certificate = _certificate(connection.sock)
        status = _get(connection, to, "/webdav/" if login else "/", login)
    _expect(status < (http.client.MULTIPLE_CHOICES if login else http.client.INTERNAL_SERVER_ERROR), f"HTTP {status}")
    return certificate


def _smtp(to: Target, _login: Login | None) -> bytes | None:
    with smtplib.SMTP(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(context=to.context)
        client.ehlo()
        return _certificate(client.sock)


def _submission(to: Target, login: Login | None) -> bytes | None:
    with smtplib.SMTP(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(context=to.context)
        client.ehlo()
        _expect(client.has_extn("auth"), "no login offered after STARTTLS")
        if login:
            client.login(login.address, login.password)
        return _certificate(client.sock)


def _look(client: imaplib.IMAP4, login: Login | None) -> bytes | None:
    _expect("AUTH=PLAIN" in client.capabilities, "no login offered")
    if login:
        client.login(login.address, login.password)
        status, answer = client.select("INBOX", readonly=True)
        _expect(status == "OK", str(answer))
    return _certificate(client.sock)


def _imap(to: Target, login: Login | None) -> bytes | None:
    with imaplib.IMAP4(to.host, to.port, timeout=to.timeout) as client:
        client.starttls(to.context)
        return _look(client, login)


def _imaps(to: Target, login: Login | None) -> bytes | None:
    with imaplib.IMAP4_SSL(to.host, to.port, ssl_context=to.context, timeout=to.timeout) as client:
        return _look(client, login)


def _pop3s(to: Target, login: Login | None) -> bytes | None:
    with closing(poplib.POP3_SSL(to.host, to.port, timeout=to.timeout, context=to.context)) as client:
        _expect("SASL" in client.capa(), "no login offered")
        certificate = _certificate(client.sock)
        if login:
            client.user(login.address)
            client.pass_(login.password)
            client.stat()
            client.quit()
    return certificate


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


def _dns(ask: Callable[..., dns.message.Message]) -> Exchange:
    return lambda to, login: _ask(lambda query: ask(query, to.host, port=to.port, timeout=to.timeout), login)


def _dns_over_tls(to: Target, login: Login | None) -> bytes | None:
    with (
        socket.create_connection((to.host, to.port), to.timeout) as plain,
        to.context.wrap_socket(plain, server_hostname=to.domain) as client,
    ):
        _ask(lambda query: dns.query.tcp(query, to.host, timeout=to.timeout, sock=client), login)
        return _certificate(client)


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("http", "redirection to HTTPS, certificate challenges", tls=False, exchange=_http),
        Endpoint("https", "site, WebDAV, GitWeb", tls=True, exchange=_https),
        Endpoint("smtp", "mail from other servers", tls=True, exchange=_smtp),
        Endpoint("submission", "mail from your clients (STARTTLS)", tls=True, exchange=_submission),
        Endpoint("imap", "mailboxes (STARTTLS)", tls=True, exchange=_imap),
        Endpoint("imaps", "mailboxes (TLS)", tls=True, exchange=_imaps),
        Endpoint("pop3s", "mailboxes (TLS)", tls=True, exchange=_pop3s),
        Endpoint("dns-udp", "resolver for loopback and private networks", tls=False, exchange=_dns(udp)),
        Endpoint("dns-tcp", "resolver for loopback and private networks", tls=False, exchange=_dns(dns.query.tcp)),
        Endpoint("dns-tls", "resolver over TLS for private networks", tls=True, exchange=_dns_over_tls),
    )
}
"""Every endpoint that a pod may have, by name. A pod has those of its ports (`Pod.ports`)."""


def tls_ports(pod: Pod) -> list[str]:
    """Return the ports of a pod that show its certificate."""
    return [port for port in pod.ports if ENDPOINTS[port].tls]


FAILURES = (NotYet, OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, http.client.HTTPException,
            dns.exception.DNSException, EOFError)  # fmt: skip
"""What an exchange raises when its endpoint does not do what it should (EOFError: dnspython, a closed connection)."""


@dataclass(frozen=True)
class Answer:
    """How an endpoint answered: its error, empty when all was well, and the seconds it took.

    `fingerprint` is the SHA-256 (hexadecimal) of the certificate that it showed; empty if it showed none.
    """

    port: str
    error: str
    seconds: float
    fingerprint: str = ""

    @property
    def ok(self) -> bool:
        """Whether all was well."""
        return not self.error


def attempt(pod: Pod, context: ssl.SSLContext, port: str, login: Login | None = None) -> Answer:
    """Try one endpoint."""
    begin, host = time.monotonic(), as_text(pod.settings.local_address)
    target = Target(host, pod.ports[port].number, pod.settings.domain, context, PATIENCE)
    try:
        shown = ENDPOINTS[port].exchange(target, login)
    except FAILURES as error:
        return Answer(port, str(error) or type(error).__name__, time.monotonic() - begin)
    fingerprint = hashlib.sha256(shown).hexdigest() if shown else ""
    return Answer(port, "", time.monotonic() - begin, fingerprint)


def attempt_all(pod: Pod, context: ssl.SSLContext, ports: Collection[str]) -> list[Answer]:
    """Try these endpoints at once; the answers come in the same order."""
    with ThreadPoolExecutor(len(ports)) as pool:
        return list(pool.map(lambda port: attempt(pod, context, port), ports))
