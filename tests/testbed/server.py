"""The server under test, as its clients see it, and real clients of every protocol."""

import imaplib
import os
import poplib
import smtplib
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import localtime
from unittest import mock

import httpx
import sievelib.managesieve
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from podserve.certificates import client_context
from podserve.endpoints import ENDPOINTS
from podserve.exchanges import Login, Target
from podserve.manifests import Port
from podserve.waiting import NotYet

RUN = uuid.uuid4().hex[:6]
"""The part of each `token` that says which run, or worker, made it."""
PATIENCE = 30.0
"""Seconds that a client waits for one reply. Dovecot delays an address up to 15 s after failed logins."""
SUBMISSION, SUBMISSIONS = 587, 465
KEPT = 2.0
"""Seconds that a client keeps an idle connection. Apache keeps it for 5 s (KeepAliveTimeout) and would close it under a
request that is sent just then."""


@dataclass(frozen=True)
class Account(Login):
    """An account: the full address, and the password."""

    @property
    def local_part(self) -> str:
        """The part of the address before the @."""
        return self.address.partition("@")[0]


@dataclass(frozen=True)
class Server:
    """A server: its IP address, its domain, and the PEM file of its authority (None: this host's trusted roots)."""

    host: str
    domain: str
    authority: str | None

    @property
    def literal(self) -> str:
        """The address as in a URL (RFC 3986): an IPv6 address stands in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def context(self) -> ssl.SSLContext:
        """Return a TLS context for clients. It verifies the chain and the domain, whatever address is used."""
        return client_context(self.domain, self.authority)

    def exchange(self, port: Port, account: Account | None = None) -> None:
        """Make the exchange of an endpoint, with a login if an account is given, and verify the certificate.

        Raises one of exchanges.FAILURES.
        """
        target = Target(self.host, port.number, self.domain, self.context(), PATIENCE)
        ENDPOINTS[port.name].exchange(target, account)

    @contextmanager
    def http(self, account: Account | None = None, *, http2: bool = False, port: int = 443) -> Iterator[httpx.Client]:
        """Yield an HTTP client for this server: HTTPS, or plain HTTP for port 80. It does not follow redirects."""
        base = f"{'http' if port == 80 else 'https'}://{self.literal}"
        auth = (account.address, account.password) if account else None
        with httpx.Client(
            base_url=base,
            headers={"Host": self.domain},
            verify=self.context(),
            auth=auth,
            http2=http2,
            timeout=PATIENCE,
            limits=httpx.Limits(keepalive_expiry=KEPT),
            trust_env=False,
        ) as client:
            yield client

    def answers(self) -> None:
        """Get the first page of the site. Raises NotYet if there is no response."""
        try:
            with self.http() as client:
                client.get("/")
        except httpx.TransportError as error:
            raise NotYet(str(error)) from error

    @contextmanager
    def smtp(self, *, tls: bool = True, port: int = 25) -> Iterator[smtplib.SMTP]:
        """Yield an SMTP client after EHLO and, with `tls`, after STARTTLS and a second EHLO (not on port 465)."""
        name, implicit_tls = "client.example.com", port == SUBMISSIONS
        with (
            smtplib.SMTP_SSL(self.host, port, timeout=PATIENCE, local_hostname=name, context=self.context())
            if implicit_tls
            else smtplib.SMTP(self.host, port, timeout=PATIENCE, local_hostname=name)
        ) as client:
            client.ehlo()
            if tls and not implicit_tls:
                client.starttls(context=self.context())
                client.ehlo()
            yield client

    @contextmanager
    def submission(self, account: Account, port: int = SUBMISSION) -> Iterator[smtplib.SMTP]:
        """Yield a client of port 587, or 465, that has logged in over TLS."""
        with self.smtp(port=port) as client:
            client.login(account.address, account.password)
            yield client

    @contextmanager
    def imap(self, account: Account, *, implicit_tls: bool = True) -> Iterator[IMAPClient]:
        """Yield an IMAP client that has logged in: over port 993, or over port 143 after STARTTLS."""
        with self.encrypted_imap(implicit_tls=implicit_tls) as client:
            client.login(account.address, account.password)
            yield client

    @contextmanager
    def encrypted_imap(self, *, implicit_tls: bool = True) -> Iterator[IMAPClient]:
        """Yield an IMAP client that has not logged in: over port 993, or over port 143 after STARTTLS."""
        with IMAPClient(
            self.host, ssl=implicit_tls, ssl_context=self.context() if implicit_tls else None, timeout=PATIENCE
        ) as client:
            if not implicit_tls:
                client.starttls(self.context())
            yield client

    @contextmanager
    def plain_imap(self) -> Iterator[imaplib.IMAP4]:
        """Yield an IMAP client on port 143 that has sent no command yet."""
        with imaplib.IMAP4(self.host, 143, timeout=PATIENCE) as client:
            yield client

    @contextmanager
    def rules(self, account: Account) -> Iterator[sievelib.managesieve.Client]:
        """Yield a client of ManageSieve that has logged in after STARTTLS. Raises LoginError if it may not."""
        client = sievelib.managesieve.Client(self.host, srvhostname=self.domain)
        trusted = {"SSL_CERT_FILE": self.authority} if self.authority else {}
        try:
            with mock.patch.dict(os.environ, trusted):  # OpenSSL reads it when the client makes its TLS context
                logged_in = client.connect(account.address, account.password, starttls=True)
            if not logged_in:
                raise LoginError(client.errmsg)
            yield client
            client.logout()
        finally:
            if client.sock:
                client.sock.close()

    @contextmanager
    def pop3(self, account: Account | None) -> Iterator[poplib.POP3_SSL]:
        """Yield a POP3S client that has logged in, if an account is given."""
        client = poplib.POP3_SSL(self.host, 995, timeout=PATIENCE, context=self.context())
        try:
            if account:
                client.user(account.address)
                client.pass_(account.password)
            yield client
            client.quit()
        finally:
            client.close()


def token() -> str:
    """Return a unique word, for the name of a message, file or repository of one test."""
    return f"t{RUN}{uuid.uuid4().hex[:10]}"


def letter(sender: str, recipient: str, subject: str, body: str = "Hello.\n") -> EmailMessage:
    """Return a message. A test finds it by its subject."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message["Date"], message["Message-ID"] = localtime(), f"<{token()}@client.example.com>"
    message.set_content(body)
    return message
