"""What the tests of mail share: a message found again, Postfix's queue, and TLS as it was."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

from podserve.commands import run
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server

STRANGER = "stranger@example.com"
"""A sender from elsewhere."""


def arrived(server: Server, account: Account, subject: str) -> bytes:
    """Return, as IMAP serves it, the one message whose subject holds this word; waits for it."""
    with server.imap(account) as client:
        client.select_folder("INBOX", readonly=True)

        def check() -> bytes:
            client.noop()
            found = client.search(["SUBJECT", subject])
            if not found:
                raise NotYet("no such message in INBOX")
            assert len(found) == 1, f"{subject} was delivered {len(found)} times"
            content: bytes = client.fetch(found, ["BODY.PEEK[]"])[found[0]][b"BODY[]"]
            return content

        return wait_until(check, 10, f"the message {subject} to {account.address}")


def sasl_plain(account: Account) -> str:
    """Return an account's login for the mechanism PLAIN (RFC 4616), as it goes over the wire."""
    return base64.b64encode(f"\0{account.address}\0{account.password}".encode()).decode()


@contextmanager
def a_right_login_follows(server: Server, account: Account) -> Iterator[None]:
    """Log in rightly afterwards: wrong logins lock nobody out.

    It ends Dovecot's penalty, too: after a wrong login the next from that address waits 4 s, and longer after each
    (https://doc.dovecot.org/2.4.2/core/config/auth/penalty.html).
    """
    yield
    with server.imap(account):
        pass


def queued(test_pod: PodUnderTest, word: str) -> list[str]:
    """Return the numbers of the messages in Postfix's queue that have this word in an address."""
    lines = test_pod.exec("mail", "postqueue", "-j").stdout.splitlines()
    return [str(json.loads(line)["queue_id"]) for line in lines if word in line]


def wait_until_left(test_pod: PodUnderTest, word: str, timeout: float, what: str) -> None:
    """Return when no message with this word in an address is in Postfix's queue; `what` completes "waited for …"."""

    def left() -> None:
        if queued(test_pod, word):
            raise NotYet("it is still in the queue")

    wait_until(left, timeout, what)


def refusal_of_tls_1_1(server: Server, port: int, starttls: str = "") -> str:
    """Return what OpenSSL says when it offers TLS 1.1 alone; with `starttls`, after that command of a protocol."""
    upgrade = ["-starttls", starttls] if starttls else []
    offer = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    tried = run(["openssl", "s_client", "-connect", f"{server.host}:{port}", *upgrade, *offer], check=False, timeout=20)
    assert not tried.ok, tried
    return tried.stderr
