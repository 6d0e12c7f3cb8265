"""Shared by the tests of mail: finding a message, Postfix's queue, and old versions of TLS."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from select import select
from typing import Any

from imapclient import IMAPClient

from podserve.commands import run
from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token

STRANGER = "stranger@example.com"
"""A sender of another domain."""


def ordinary(sender: str, recipient: str) -> str:
    """Return the headers that every letter has, as lines. The filter takes a letter without them for doubtful."""
    identity = f"<{token()}@{sender.partition('@')[2]}>"
    return f"From: {sender}\r\nTo: {recipient}\r\nDate: {formatdate()}\r\nMessage-ID: {identity}\r\n"


def arrived(server: Server, account: Account, subject: str) -> bytes:
    """Wait for the one message whose subject contains `subject`, and return it as IMAP serves it.

    It may be in Junk, too: many of the tests' messages lack the headers that a letter has.
    """
    return delivered(server, account, subject)[1]


def delivered(server: Server, account: Account, subject: str) -> tuple[str, bytes]:
    """Wait for the one message whose subject contains `subject`; return its folder (INBOX or Junk) and the message."""
    with server.imap(account) as client:

        def check() -> tuple[str, bytes]:
            copies = list[tuple[str, bytes]]()
            for folder in ("INBOX", "Junk"):
                client.select_folder(folder, readonly=True)
                found = client.search(["SUBJECT", subject])
                copies += [(folder, there[b"BODY[]"]) for there in client.fetch(found, ["BODY.PEEK[]"]).values()]
            if not copies:
                raise NotYet("no such message in INBOX or Junk")
            assert len(copies) == 1, f"{subject} was delivered {len(copies)} times"
            return copies[0]

        return wait_until(check, 10, f"the message {subject} to {account.address}")


def has_news(client: IMAPClient, timeout: float) -> bool:
    """Return whether the server sends anything to a client in IDLE within `timeout` seconds. Read nothing."""
    return bool(select([client.socket()], [], [], timeout)[0])


def news(client: IMAPClient, timeout: float) -> list[Any]:
    """Wait for news for a client in IDLE, `timeout` seconds at most. Return all that has come, and go on in IDLE.

    Dovecot may send a line in two parts: `* 1 FETCH (FLAGS ()` and `)`. IMAPClient.idle_check loses the first part if
    it reads before the second has come. At the end of IDLE the client reads whole lines.
    """
    has_news(client, timeout)
    responses: list[Any] = client.idle_done()[1]
    client.idle()
    return responses


def wait_until_answered(server: Server, recipient: str, code: int, sender: str = STRANGER) -> None:
    """Wait until a stranger gets this answer to a recipient: 2 s at most."""

    def answered() -> None:
        with server.smtp(tls=False) as client:
            if (said := answer(client, sender, recipient)) != code:
                raise NotYet(f"{said}")

    wait_until(answered, 2, f"{recipient} to be answered with {code}")


def sasl_plain(account: Account) -> str:
    """Return the login of an account in the SASL mechanism PLAIN (RFC 4616), in base64."""
    return base64.b64encode(f"\0{account.address}\0{account.password}".encode()).decode()


@contextmanager
def a_right_login_follows(server: Server, account: Account) -> Iterator[None]:
    """Log in with the right password after the body: wrong logins must not lock the account.

    This login also ends Dovecot's penalty: after a wrong login the next from that address waits 4 s, later ones longer
    (https://doc.dovecot.org/2.4.2/core/config/auth/penalty.html).
    """
    yield
    with server.imap(account):
        pass


def queued(test_pod: PodUnderTest, word: str) -> list[str]:
    """Return the queue ids of the messages in Postfix's queue with this word in an address."""
    lines = test_pod.exec("mail", "postqueue", "-j").stdout.splitlines()
    return [str(json.loads(line)["queue_id"]) for line in lines if word in line]


def wait_until_left(test_pod: PodUnderTest, word: str, timeout: float, what: str) -> None:
    """Wait until Postfix's queue has no message with this word in an address. `what` completes "waited for …"."""

    def left() -> None:
        if queued(test_pod, word):
            raise NotYet("it is still in the queue")

    wait_until(left, timeout, what)


def refusal_of_tls_1_1(server: Server, port: int, starttls: str = "") -> str:
    """Return OpenSSL's error when it offers only TLS 1.1; with `starttls`, after the STARTTLS of that protocol."""
    return refusal_of(server, port, starttls, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


def refusal_of(server: Server, port: int, starttls: str, *offer: str) -> str:
    """Return OpenSSL's error when it offers what these options of s_client say. `starttls` is as above."""
    upgrade = ["-starttls", starttls] if starttls else []
    client = ["openssl", "s_client", "-connect", f"{server.literal}:{port}"]
    tried = run([*client, *upgrade, *offer], check=False, timeout=20)
    assert not tried.ok, tried
    return tried.stderr
