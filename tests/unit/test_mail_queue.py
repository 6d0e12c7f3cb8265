"""The mail queue, as postqueue(1) shows it."""

from datetime import UTC, datetime, timedelta

import pytest

from podserve.mail_queue import Message, Queue

NOW = datetime.now(UTC)


def message(hours: float, *reasons: str) -> Message:
    """Return a message that came some hours ago, with a recipient for each reason for which it waits."""
    recipients = {f"{number}@example.com": reason for number, reason in enumerate(reasons)}
    return Message("4dKv2x1h7z1", "deferred", NOW - timedelta(hours=hours), 1000, "a@example.org", recipients)


def test_the_commonest_reason_is_that_of_most_recipients() -> None:
    assert Queue([message(3, "refused"), message(2, "unknown", "unknown"), message(1, "")]).reason == "unknown"
    assert Queue([message(1, "")]).reason == ""


@pytest.mark.parametrize(
    ("messages", "stuck"),
    [
        ([], False),
        ([message(5.9, "refused")], False),
        ([message(6.1, "refused")], True),
        ([message(7, ""), message(1, "refused")], False),
        ([message(7, "refused"), message(1, "refused")], True),
    ],
)
def test_a_deferred_message_is_stuck_after_some_hours(messages: list[Message], stuck: bool) -> None:  # noqa: FBT001
    assert bool(Queue(messages).stuck(6)) == stuck


def test_what_is_stuck_is_told_with_its_age_and_the_reason() -> None:
    told = Queue([message(7.5, "refused")]).stuck(6)
    assert told.startswith(
        "a message has waited in the mail queue for 7 hours (queue_hours: 6), mostly because: refused"
    )
