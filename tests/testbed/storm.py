"""Mail during kills: every message with a 250 is in the mailbox when the queue is empty."""

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
"""The folders of Postfix's queue, in the order in which a message moves through them."""
SESSION = 10
"""Messages in one session of a sender, if there is no error."""
LARGEST = 20_000
"""Bytes of the largest body."""
FETCHED = 100
"""Messages in one FETCH."""
PATIENCE = 60
"""Seconds for which a sender retries one message. A real mail server retries for days."""
DRAIN = 120
"""Seconds within which the queue must be empty after the last kill."""


def body(name: str) -> str:
    """Return the body of the message of that name: up to LARGEST bytes, different for each name."""
    seed = hashlib.sha256(name.encode()).hexdigest()
    return "".join(f"{seed} {line}\n" for line in range(1 + int(seed[:8], 16) % (LARGEST // 70)))


@dataclass
class Sender:
    """A client that sends messages and records which got a 250. It uses port 587 with a login, port 25 without."""

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
        """Send all messages. Retry each until it gets a 250, for at most PATIENCE seconds."""
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
        with suppress(OSError):  # a killed server ends no session cleanly
            self._session.close()


def found(server: Server, account: Account) -> Counter[str]:
    """Return the number of copies of each message in a mailbox, by name. Damaged copies do not count."""
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

    An incomplete file, whose writer was killed, does not count: its message got no 250. Only complete files have the
    mode bit x.
    """
    found = []
    for name in QUEUES:
        for file in (test_pod.folder("mail") / ".postfix" / name).rglob("*"):
            with suppress(FileNotFoundError):  # the message has just moved to the next folder
                status = file.stat()
                if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IXUSR:
                    found.append(file)
    return found


def wait_for_empty_queue(test_pod: PodUnderTest) -> None:
    """Wait until Postfix's queue is empty. Postfix must retry failed deliveries by itself."""

    def check() -> None:
        # Check twice: one pass may miss a message that moves from one folder to the next.
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
    """Send messages, with one sender for each list of names, and count them when the queue is empty.

    `meanwhile` is entered while they are sent. The senders alternate between ports 25 and 587.
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
