"""Mail: messages a second from port 25 to the mailbox, and IMAP."""

from collections.abc import Iterator
from functools import partial

from bench import growth, imap, load
from bench.figures import Figure
from bench.peers.contestants import Contest
from bench.running import seconds
from bench.sides import Side
from podserve.errors import Problem
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

_LARGE = 10_000
"""Messages of the large mailbox. One in ten has the word that `_search` looks for."""


def _begin(side: Side, account: Account) -> None:
    """Append ten messages to the mailbox."""
    with side.server.imap(account) as client:
        for word in ("wanted", *["other"] * 9):
            client.append("INBOX", f"From: sender@example.com\r\nSubject: {word}\r\n\r\nHello.\r\n".encode())


def _grow(side: Side, account: Account, messages: int) -> None:
    """Copy messages of the mailbox within it until there are `messages`: thousands of deliveries would take minutes."""
    with side.server.imap(account) as client:
        client.use_uid = False  # number messages by their position
        while (there := int(client.select_folder("INBOX")[b"EXISTS"])) < messages:
            client.copy(f"1:{min(there, messages - there)}", "INBOX")


def _search(side: Side, account: Account) -> float:
    """Return the seconds of a search in the subjects of the large mailbox."""
    with side.server.imap(account) as client:
        client.select_folder("INBOX", readonly=True)
        found: list[int] = []
        taken = seconds(lambda: found.extend(client.search(["SUBJECT", "wanted"])))
        if len(found) != _LARGE // 10:
            raise Problem(f"{side.name} found {len(found)} of {_LARGE // 10} messages")
        return taken


def measure(contest: Contest, _own: PodUnderTest) -> Iterator[Figure]:
    """Deliver to the same accounts on all sides, and read their mailboxes."""
    reader, collector = contest.accounts
    name = f"messages of 10 kB to the mailbox, {load.SENDERS} senders"
    yield contest.compare(name, "/s", lambda side: load.deliver(side, reader.address))
    yield contest.compare(
        "IMAPS logins, 4 clients", "/s", lambda side: load.log_in(side, reader, workers=4, duration=1.5)
    )
    for side in contest.sides:
        side.call(partial(_grow, account=reader, messages=imap.MESSAGES))
    yield contest.compare(f"{imap.MESSAGES:,} messages fetched", "/s", lambda side: imap.fetch(side, reader))
    for side in contest.sides:
        side.call(partial(_begin, account=collector))
        side.call(partial(_grow, account=collector, messages=_LARGE))
    yield contest.compare(f"mailbox of {_LARGE:,} opened", "s",
                          lambda side: growth.open_mailbox(side, collector, _LARGE), cost=True)  # fmt: skip
    yield contest.compare(f"search in {_LARGE:,}", "s", lambda side: _search(side, collector), cost=True)
