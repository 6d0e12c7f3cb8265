"""The mail queue: what an operator sees of messages that wait, and does with them; and what their senders are told."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import arrived, queued
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, letter, token
from tests.testbed.vantage import Vantage


@pytest.fixture
def waiting(test_pod: PodUnderTest, neighbour: Vantage, alice: Account) -> Iterator[dict[str, Any]]:
    """A message of alice that waits, because no server of its recipient's domain listens, as queue.list shows it."""
    domain = f"{token()}.sethlakowske.com"
    test_pod.name_addresses({domain: neighbour.address})
    with test_pod.server.submission(alice) as client:
        client.send_message(letter(alice.address, f"anna@{domain}", f"Hello, {domain}"))

    def deferred() -> dict[str, Any]:
        messages = json.loads(test_pod.invoke("queue.list", "--json").stdout)["messages"]
        for message in messages:
            if message["recipients"].get(f"anna@{domain}"):
                return dict(message)
        raise NotYet(f"{messages}")

    found = wait_until(deferred, 20, "a deferred message")
    yield found
    test_pod.exec("mail", "postsuper", "-d", found["identity"])


def attempts(test_pod: PodUnderTest, identity: str) -> int:
    """Return how often Postfix has tried to deliver a message."""
    told = json.loads(test_pod.invoke("mail.why", identity, "--json").stdout)
    return sum(" to=<" in event for event in told["events"])


def test_a_message_that_waits_is_listed_with_its_reason(
    test_pod: PodUnderTest, alice: Account, waiting: dict[str, Any]
) -> None:
    assert waiting["sender"] == alice.address
    assert "Connection refused" in "".join(waiting["recipients"].values())
    shown = test_pod.invoke("queue.list").stdout
    assert f"{waiting['identity']} deferred" in shown
    assert "Connection refused" in shown


def test_a_message_that_waits_is_shown_without_its_body(test_pod: PodUnderTest, waiting: dict[str, Any]) -> None:
    shown = test_pod.invoke("queue.show", waiting["identity"]).stdout
    assert "Subject: Hello, " in shown
    assert "Hello.\n" not in shown


def test_a_message_that_waits_is_tried_at_once_when_asked(test_pod: PodUnderTest, waiting: dict[str, Any]) -> None:
    identity, before = waiting["identity"], attempts(test_pod, waiting["identity"])
    test_pod.invoke("queue.flush", "--identity", identity)

    def tried() -> None:
        if attempts(test_pod, identity) == before:
            raise NotYet("not tried again")

    wait_until(tried, 4, "another attempt (by itself, Postfix waits for 5 s or more)")
    test_pod.invoke("queue.flush")


def test_a_removed_message_is_gone_and_the_others_stay(
    test_pod: PodUnderTest, alice: Account, waiting: dict[str, Any]
) -> None:
    recipient = next(iter(waiting["recipients"]))
    with test_pod.server.submission(alice) as client:
        client.send_message(letter(alice.address, recipient, token()))
    refused = test_pod.invoke("queue.remove", waiting["identity"], check=False)
    assert refused.code == 1
    assert "--yes" in refused.stderr
    test_pod.invoke("queue.remove", waiting["identity"], "--yes")
    [other] = queued(test_pod, recipient)
    assert other != waiting["identity"]
    test_pod.exec("mail", "postsuper", "-d", other)


@pytest.mark.parametrize("words", [("show",), ("remove", "--yes"), ("flush", "--identity")], ids=lambda words: words[0])
@pytest.mark.parametrize("identity", ["ALL", "0123456789A", "-", "../x"])
def test_what_is_no_message_in_the_queue_is_refused(
    test_pod: PodUnderTest, waiting: dict[str, Any], words: tuple[str, ...], identity: str
) -> None:
    name, *options = words
    refused = test_pod.invoke(f"queue.{name}", *options, identity, check=False)
    assert refused.code == 1
    assert "expected one of invoke queue.list" in refused.stderr
    assert queued(test_pod, next(iter(waiting["recipients"]))) == [waiting["identity"]]


def test_a_message_that_has_waited_for_too_long_is_a_problem(test_pod: PodUnderTest, waiting: dict[str, Any]) -> None:
    seen = json.loads(test_pod.invoke("status", "--json").stdout)
    assert seen["queue_oldest"] <= waiting["arrived"]
    assert seen["queue_stuck"] == ""
    late = test_pod.invoke("status", check=False, INVOKE_QUEUE_HOURS="0")
    assert late.code == 1
    assert "a message has waited in the mail queue for 0 hours" in late.stdout
    assert "Connection refused" in late.stdout


def test_the_sender_of_a_message_that_waits_is_warned(
    test_pod: PodUnderTest, new_account: Account, neighbour: Vantage
) -> None:
    container = test_pod.container("mail")
    assert podman("exec", container, "postconf", "-h", "delay_warning_time").stdout.strip() == "4h"
    domain = f"{token()}.sethlakowske.com"
    test_pod.name_addresses({domain: neighbour.address})
    podman("exec", container, "postconf", "-e", "delay_warning_time=1s")
    try:
        podman("exec", container, "postfix", "reload")
        with test_pod.server.submission(new_account) as client:
            client.send_message(letter(new_account.address, f"anna@{domain}", token()))
        warning = arrived(test_pod.server, new_account, "Delayed Mail (still being retried)")
        assert f"Final-Recipient: rfc822; anna@{domain}".encode() in warning
        assert b"Action: delayed" in warning
    finally:
        podman("exec", container, "postconf", "-e", "delay_warning_time=4h")
        podman("exec", container, "postfix", "reload")
        for identity in queued(test_pod, domain):
            podman("exec", container, "postsuper", "-d", identity)


def test_the_postmaster_is_told_of_a_problem_once(test_pod: PodUnderTest, waiting: dict[str, Any]) -> None:
    subject = f"{test_pod.name} has 1 problem"
    (test_pod.pod.state / f"{test_pod.name}.told").unlink(missing_ok=True)
    assert test_pod.invoke("status", "--tell").ok
    for _ in range(2):
        assert test_pod.invoke("status", "--tell", check=False, INVOKE_QUEUE_HOURS="0").code == 1
    told = arrived(test_pod.server, test_pod.postmaster, subject)  # the one message
    assert b"a message has waited in the mail queue for 0 hours" in told
    assert b"Auto-Submitted: auto-generated" in told
    assert waiting["identity"] in queued(test_pod, next(iter(waiting["recipients"])))
