"""IMAP: logins, fetches, and the delay of the notice that a client in IDLE gets for a message."""

import time
from collections.abc import Iterator

from bench import load
from bench.figures import Figure, Goal
from bench.running import in_turn, seconds
from bench.sides import Side
from podserve.errors import Problem
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, letter, token

SECTION = "imap"
MESSAGES = 1000
_WAITED = 2
"""Seconds in IDLE before a message arrives: longer than imap_hibernate_timeout (dovecot.conf)."""


def fetch(side: Side, account: Account) -> float:
    """Return the messages fetched a second, whole messages. Raises Problem if some are missing."""
    with side.server.imap(account) as client:
        client.select_folder("INBOX", readonly=True)
        begin = time.perf_counter()
        found = client.fetch(client.search(), ["BODY.PEEK[]"])
        if len(found) < MESSAGES:
            raise Problem(f"{len(found)} messages of {MESSAGES} were fetched")
        return len(found) / (time.perf_counter() - begin)


def notice(side: Side, account: Account) -> float:
    """Return the seconds from the 250 for a message at port 25 to its notice in IDLE. Raises Problem after 10 s."""
    with side.server.imap(account) as client, side.server.smtp() as sender:
        client.select_folder("INBOX")
        client.idle()
        client.idle_check(timeout=_WAITED)
        # It returns after the reply to DATA.
        sender.send_message(letter("sender@example.com", account.address, token()), "sender@example.com")
        taken = seconds(lambda: _exists(client.idle_check(timeout=10)))
        client.idle_done()
    return taken


def _exists(answers: list[tuple[object, ...]]) -> None:
    if not any(b"EXISTS" in answer for answer in answers):
        raise Problem(f"IDLE announced no message within 10 s: expected EXISTS, got {answers}")


def measure(test_pod: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Log in, fetch and wait in IDLE on both sides."""
    reader, waiting = test_pod.new_account(), test_pod.new_account()
    taken, beside = in_turn(*(side.measured(lambda s: load.log_in(s, waiting, workers=4, duration=1.5))
                            for side in (pod, native)))  # fmt: skip
    yield Figure(SECTION, "IMAPS logins a second, 4 clients", "/s", taken, native.name, beside)
    for side in (pod, native):
        side.call(lambda s: load.deliver(s, reader.address, MESSAGES))
    taken, beside = in_turn(*(side.measured(lambda s: fetch(s, reader)) for side in (pod, native)))
    yield Figure(SECTION, f"messages a second, {MESSAGES} of 10 kB fetched", "/s", taken, native.name, beside)
    taken, beside = in_turn(*(side.measured(lambda s: notice(s, waiting)) for side in (pod, native)))
    yield Figure(SECTION, "SMTP 250 to the IDLE notice", "s", taken, native.name, beside, Goal("median", 0.1))
