"""Mail under kills: what got its 250 is in the mailbox, once the queue is empty."""

import hashlib
import smtplib
import stat
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from functools import partial
from pathlib import Path

from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.concurrency import together
from tests.testbed.mail import STRANGER
from tests.testbed.outcome import Outcome
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter

QUEUES = "maildrop", "incoming", "active", "deferred", "hold"
"""Where Postfix keeps messages, in the order in which they move."""
SESSION = 10
"""Messages that a sender sends in one session, while nothing goes wrong."""
LARGEST = 20_000
"""Bytes of the largest body."""
FETCHED = 100
"""Messages that are fetched at once."""
PATIENCE = 60
"""Seconds that a sender goes on trying to send one message: a sending server would for days."""
DRAIN = 120
"""Seconds that the queue may take to empty, once nobody is killed any more."""


def body(name: str) -> str:
    """Return the text of the message of that name: of any length up to LARGEST, and like no other's."""
    seed = hashlib.sha256(name.encode()).hexdigest()
    return "".join(f"{seed} {line}\n" for line in range(1 + int(seed[:8], 16) % (LARGEST // 70)))


@dataclass
class Sender:
    """Somebody who sends messages and notes which got their 250: with a login on 587, otherwise a stranger on 25."""

    server: Server
    recipient: Account
    login: Account | None
    names: Iterable[str]
    accepted: list[str] = field(default_factory=list)
    sent: int = 0
    tries: int = 0
    _session: ExitStack = field(default_factory=ExitStack)
    _client: smtplib.SMTP | None = None

    def send(self) -> None:
        """Send all, each until it got its 250, or PATIENCE s long."""
        for name in self.names:
            if self.sent % SESSION == 0:
                self._hang_up()
            self.sent += 1
            with suppress(Problem):
                wait_until(partial(self._send_one, name), PATIENCE, f"a 250 for {name}")
                self.accepted.append(name)
        self._hang_up()

    def _send_one(self, name: str) -> None:
        self.tries += 1
        try:
            if not self._client:
                server, login = self.server, self.login
                self._client = self._session.enter_context(server.submission(login) if login else server.smtp())
            sender = self.login.address if self.login else STRANGER
            self._client.send_message(letter(sender, self.recipient.address, name, body(name)))
        except OSError:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        self._client = None
        with suppress(OSError):  # who was killed says no goodbye
            self._session.close()


def found(server: Server, account: Account) -> Counter[str]:
    """Return how often each message is in an account's mailbox, by its name; a damaged one counts as none."""
    names: Counter[str] = Counter()
    with server.imap(account) as client:
        client.select_folder("INBOX", readonly=True)
        numbers = client.search()
        for first in range(0, len(numbers), FETCHED):
            for item in client.fetch(numbers[first : first + FETCHED], ["BODY.PEEK[]"]).values():
                message = message_from_bytes(item[b"BODY[]"], policy=default)
                name = str(message["Subject"])
                if message.get_content().replace("\r\n", "\n") == body(name):
                    names[name] += 1
    return names


def waiting(test_pod: PodUnderTest) -> list[Path]:
    """Return the files of the messages in Postfix's queue.

    One that is not whole, because its writer was killed, is none: it got no 250, and lacks the mark (x) of one that is.
    """
    found = []
    for name in QUEUES:
        for file in (test_pod.folder("mail") / ".postfix" / name).rglob("*"):
            with suppress(FileNotFoundError):  # it has moved on meanwhile
                status = file.stat()
                if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IXUSR:
                    found.append(file)
    return found


def wait_for_empty_queue(test_pod: PodUnderTest) -> None:
    """Return when Postfix's queue is empty: what failed is tried again by itself, nobody asks for it."""

    def check() -> None:
        # Twice, since what moves from one of the queue's folders to the next may be missed by one look.
        for _ in range(2):
            if left := waiting(test_pod):
                raise NotYet(f"{len(left)} messages, the first: {left[0]}")

    wait_until(check, DRAIN, "the queue to be empty")


def send(
    test_pod: PodUnderTest,
    people: Sequence[Account],
    names: Sequence[Iterable[str]],
    meanwhile: AbstractContextManager[None],
) -> Outcome:
    """Send messages of these names, a sender for each list of them, and count them when the queue is empty.

    `meanwhile` is what happens while they are sent; they are sent by turns on 25 and 587.
    """
    senders = [
        Sender(test_pod.server, people[number % len(people)], people[0] if number % 2 else None, words)
        for number, words in enumerate(names)
    ]
    begin = time.monotonic()
    with meanwhile:
        together([sender.send for sender in senders])
    sending = time.monotonic() - begin
    wait_for_empty_queue(test_pod)
    draining = time.monotonic() - begin - sending

    there: Counter[str] = Counter()
    for person in people:
        there += found(test_pod.server, person)
    sent, accepted = sum(sender.sent for sender in senders), {name for sender in senders for name in sender.accepted}
    lost = accepted - set(there)
    figures = {
        "sent": sent,
        "tries": sum(sender.tries for sender in senders),
        "accepted": len(accepted),
        "lost": len(lost),
        "doubled": sum(there[name] - 1 for name in there),
        "there without a 250": len(set(there) - accepted),
        "sending s": sending,
        "queue empty after s": draining,
    }
    fault = f"lost: {', '.join(sorted(lost)[:10])}" if lost else ""
    if len(accepted) < sent:
        fault = fault or f"{sent - len(accepted)} got no 250 within {PATIENCE} s"
    return Outcome("storm", f"{len(senders)} senders on 25 and 587", figures, fault)
