"""The lines of logs: their order, and those about a message."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from podserve import commands, running
from podserve.errors import Problem
from podserve.logs import Line, Wanted, about_mail
from tests.unit.helpers import pod_with

LOGGED = {
    "apache": ["2026-11-27T10:00:02.5+00:00 second", "2026-11-27T10:00:04Z fourth"],
    "mail": [
        "2026-11-27T10:00:01.123456789Z first",
        'time="2026-11-27T10:00:09Z" level=warning msg="a word of Podman itself"',
        "2026-11-27T10:00:03+00:00 third\033[2J",
    ],
    "dns": [],
}
MAIL = """\
mail postfix/smtpd[7]: connect from unknown[192.0.2.7]
mail postfix/smtpd[8]: connect from unknown[192.0.2.8]
mail postfix/smtpd[7]: 4dKv2x1h7z1: client=unknown[192.0.2.7]
mail postfix/smtpd[8]: 4dKv2x1h7z2: client=unknown[192.0.2.8]
mail postfix/cleanup[9]: 4dKv2x1h7z1: message-id=<one@example.com>
mail postfix/cleanup[9]: 4dKv2x1h7z2: message-id=<two@example.com>
mail postfix/lmtp[5]: 4dKv2x1h7z1: to=<alice@example.org>, status=sent
mail lmtp(alice@example.org)<5>: sieve: msgid=<one@example.com>: stored mail into mailbox 'INBOX'
mail imap-login: Info: Logged in: user=<alice@example.org>
mail postfix/smtpd[7]: disconnect from unknown[192.0.2.7]
mail postfix/smtpd[8]: disconnect from unknown[192.0.2.8]
""".splitlines()
ABOUT_ONE = [0, 2, 4, 6, 7, 9]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `logs` shows of a pod that has logged these lines."""

    def read(argv: list[str], **_: object) -> Iterator[str]:
        yield from LOGGED[argv[-1].rpartition("-")[2]]

    monkeypatch.setattr(running, "exists", lambda _: True)
    monkeypatch.setattr(commands, "lines", read)
    return list(map(str, Wanted([]).stored(pod_with())))


def test_lines_of_all_services_are_in_the_order_of_time_and_harm_no_terminal(shown: list[str]) -> None:
    lines = [line for line in shown if "Podman itself" not in line]
    assert lines == ["2026-11-27 10:00:01 mail   first", "2026-11-27 10:00:02 apache second",
                     "2026-11-27 10:00:03 mail   third\\x1b[2J", "2026-11-27 10:00:04 apache fourth"]  # fmt: skip


def test_what_podman_itself_says_is_shown_after_the_line_before(shown: list[str]) -> None:
    place = next(number for number, line in enumerate(shown) if "level=warning" in line)
    assert shown[place - 1].endswith("first")


@pytest.mark.parametrize("word", ["one@example.com", "<one@example.com>", "4dKv2x1h7z1", "Alice@example.org"])
def test_a_message_is_followed_from_connection_to_mailbox(word: str) -> None:
    lines = [Line(datetime.fromtimestamp(number, UTC), "mail", text) for number, text in enumerate(MAIL)]
    assert [MAIL.index(line.text) for line in about_mail(lines, word)] == ABOUT_ONE


def test_an_unknown_message_is_told() -> None:
    with pytest.raises(Problem, match=r"the log of mail has no message with 'three@example\.com'"):
        about_mail([], "three@example.com")
