"""What becomes of a message's content between SMTP and IMAP: what is removed, what is added, what stays as it is."""

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes

import pytest

from tests.testbed.mail import STRANGER, arrived, ordinary
from tests.testbed.server import Account, Server, token

LONGEST_LINE = 998
"""The longest line in bytes, without CRLF, that every server takes (RFC 5321, section 4.5.3.1.6)."""


@dataclass(frozen=True)
class Sender:
    """A client, and the address from which it may send."""

    client: smtplib.SMTP
    address: str

    def send(self, account: Account, content: bytes) -> None:
        """Send this content after ordinary headers, of which it may have some itself.

        Only dots at the beginning of lines are doubled (RFC 5321, section 4.5.2).
        """
        head = ordinary(self.address, account.address).splitlines(keepends=True)
        content = "".join(line for line in head if line.partition(":")[0].encode() not in content).encode() + content
        assert self.client.docmd("MAIL", f"FROM:<{self.address}>")[0] == 250
        assert self.client.docmd("RCPT", f"TO:<{account.address}>")[0] == 250
        assert self.client.docmd("DATA")[0] == 354
        self.client.send(content.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
        code, answer = self.client.getreply()
        assert code == 250, answer


@pytest.fixture(params=["stranger", "account"])
def sender(request: pytest.FixtureRequest, server: Server, alice: Account) -> Iterator[Sender]:
    """A stranger on port 25, and alice on port 587."""
    if request.param == "stranger":
        with server.smtp() as client:
            yield Sender(client, STRANGER)
    else:
        with server.submission(alice) as client:
            yield Sender(client, alice.address)


@pytest.mark.parametrize("header", ["Bcc", "Resent-Bcc", "Return-Path", "Content-Length"])
def test_a_header_that_is_not_for_the_recipient_is_removed(
    sender: Sender, server: Server, alice: Account, header: str
) -> None:
    # Bcc names hidden recipients. The server that delivers the message sets Return-Path (RFC 5321, section 4.4).
    subject, secret = token(), f"{token()}@example.com"
    head = f"From: {sender.address}\r\nSubject: {subject}\r\n{header}: {secret}\r\nX-Kept: {subject}"
    sender.send(alice, f"{head}\r\n\r\n{header}: in the text".encode())
    content = arrived(server, alice, subject)
    assert secret.encode() not in content
    assert message_from_bytes(content).get_all("Return-Path") == [f"<{sender.address}>"]
    assert f"X-Kept: {subject}\r\n".encode() in content
    assert content.endswith(f"\r\n\r\n{header}: in the text\r\n".encode())


@pytest.mark.parametrize(
    "name", ["{domain}", "mail.{domain}", "MAIL.{domain}", '"mail.{domain}"', "(a;\\) comment)\r\n mail.{domain}"]
)
def test_nobody_else_writes_results_of_authentication_in_the_servers_name(
    sender: Sender, server: Server, alice: Account, name: str
) -> None:
    # RFC 8601, section 5: the reader believes results that bear the name of the reader's own server.
    subject, ours = token(), name.format(domain=server.domain)
    forged = f"Authentication-Results: {ours}; dkim=pass header.d=bank.example"
    theirs = "Authentication-Results: mx.example.com; spf=fail"
    nested = f"Content-Type: message/rfc822\r\n\r\n{forged}\r\nSubject: inner\r\n\r\nHi."
    sender.send(alice, f"Subject: {subject}\r\n{forged}\r\n{theirs}\r\n{nested}".encode())
    content = arrived(server, alice, subject)
    head, _, attached = content.partition(b"\r\n\r\n")
    assert b"bank.example" not in head
    assert theirs.encode() in head
    assert forged.encode() in attached, "a message inside the message stays as it is"


def test_the_first_trace_is_the_servers_own(sender: Sender, server: Server, alice: Account) -> None:
    # A server adds its Received above all others, and changes none (RFC 5321, section 4.4).
    subject, forged = token(), f"from bank.example by mail.{server.domain} with ESMTPS id 1; Fri, 27 Nov 2026 00:00:00"
    sender.send(alice, f"Received: {forged}\r\nSubject: {subject}\r\n\r\nHi.".encode())
    *_, ours, theirs = message_from_bytes(arrived(server, alice, subject)).get_all("Received", [])
    begin = f"by mail.{server.domain} (Postfix)" if sender.address == alice.address else "from client.example.com ("
    assert ours.startswith(begin)
    assert theirs == forged


def test_no_bare_cr_or_lf_and_no_nul_is_delivered(sender: Sender, server: Server, alice: Account) -> None:
    # None of them may be sent (RFC 5321, section 2.3.8; RFC 2045, section 2.7), and programs read them differently.
    subject = token()
    strange = b"X-Strange: a\rb\nX-Next: c\0d\r\n\r\none\rtwo\nthree\0four\r\r\n\rfive\n\n\0"
    sender.send(alice, f"Subject: {subject}\r\n".encode() + strange)
    content = arrived(server, alice, subject)
    lines = content.split(b"\r\n")
    assert not [line for line in lines if b"\r" in line or b"\n" in line]
    assert b"\0" not in content
    assert b"\x80" not in content, "Dovecot shows a NUL as this byte"
    assert lines[lines.index(b"") + 1 :][:2] == [b"one two", b"threefour "], content
    with server.pop3(alice) as pop:
        number = len(pop.list()[1])
        assert b"threefour " in pop.retr(number)[1]


# Python's client of POP3 refuses long lines. So these tests do not use the mailbox that other tests read. The account
# is made before the sender connects, because Postfix opens the table of accounts then.
@pytest.mark.parametrize("length", [LONGEST_LINE, LONGEST_LINE + 1, 2048, 2049, 100_000])
def test_a_long_line_stays_as_it_is(new_account: Account, sender: Sender, server: Server, length: int) -> None:
    subject = token()
    body = b"\r\n".join((b"0123456789" * (length // 10 + 1))[:length] for _ in range(3)) + b"\r\n.\r\n..\r\n end \r\n"
    sender.send(new_account, f"Subject: {subject}\r\n\r\n".encode() + body.removesuffix(b"\r\n"))
    assert arrived(server, new_account, subject).partition(b"\r\n\r\n")[2] == body


def test_a_long_header_line_stays_as_it_is(new_account: Account, sender: Sender, server: Server) -> None:
    subject = token()
    line = f"X-Long: {'x' * (LONGEST_LINE - 8)}\r\n {'y' * 3000}\r\n".encode()
    sender.send(new_account, f"Subject: {subject}\r\n".encode() + line + b"\r\nHi.")
    assert line in arrived(server, new_account, subject)
