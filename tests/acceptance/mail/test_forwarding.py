"""Aliases that lead to another domain: the sender that its server sees, what is returned, and what is not forwarded."""

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.letters import phishing
from tests.testbed.mail import arrived, wait_until_answered, wait_until_left
from tests.testbed.pod import PodUnderTest
from tests.testbed.receivers import Received, Receiver, add_address, serving
from tests.testbed.server import Account, letter, token

ADDRESS = "192.0.2.40"
"""The address of the other domain's mail server."""


@dataclass(frozen=True)
class Elsewhere:
    """The pod, another domain with its server, and an alias that leads to a name there."""

    own: PodUnderTest
    domain: str
    receiver: Receiver
    alias: str
    target: str

    @property
    def sender(self) -> str:
        """A new address of a stranger, whose mail server is the same."""
        return f"{token()}@{self.domain}"

    def send(self, sender: str, *recipients: str) -> Received:
        """Send a message from a stranger, and return what left for the other domain."""
        message = letter(sender, recipients[0], token())
        with self.own.server.smtp() as client:
            client.send_message(message, sender, recipients)
        return self.receiver.taken(message["Subject"])

    def runs(self) -> set[str]:
        """Return the users of the processes of the daemon that signs senders."""
        return set(self.own.exec("mail", "ps", "-o", "user=", "-C", "postsrsd", check=False).stdout.split())


@pytest.fixture(scope="module")
def elsewhere(test_pod: PodUnderTest) -> Iterator[Elsewhere]:
    """Another domain, and an alias that leads there while this module's tests run."""
    domain, alias = f"{token()}.sethlakowske.com", token()
    add_address(ADDRESS)
    with serving(receiver := Receiver(ADDRESS, 25, None)):
        made = Elsewhere(test_pod, domain, receiver, f"{alias}@{test_pod.settings.domain}", f"bob@{domain}")
        assert not made.runs()
        test_pod.name_addresses({domain: ADDRESS})
        test_pod.invoke("aliases.add", alias, made.target)

        def listens() -> None:
            if not made.runs() or not test_pod.inside.run("ss", "-Hltn", "sport = 10002").stdout:
                raise NotYet("the daemon does not listen")

        wait_until(listens, 2, "the daemon that signs senders")
        yield made
        test_pod.invoke("aliases.remove", alias)

        def ended() -> None:
            if made.runs():
                raise NotYet("it runs")

        wait_until(ended, 2, "the daemon to end with the last alias of its kind")
        with test_pod.server.smtp() as client:
            assert answer(client, "", f"SRS0=a=b={domain}=bob@{test_pod.settings.domain}") == 554


def returned(elsewhere: Elsewhere, address: str, sender: str = "") -> int:
    """Return the answer to a stranger's message for an address."""
    with elsewhere.own.server.smtp() as client:
        return answer(client, sender, address)


def test_mail_leaves_with_a_sender_of_ours_and_unchanged_and_stays_here_with_its_own(
    elsewhere: Elsewhere, alice: Account
) -> None:
    elsewhere.own.invoke("aliases.add", both := token(), f"{alice.address},{elsewhere.target}")
    sender, domain = elsewhere.sender, elsewhere.own.settings.domain
    message = letter(sender, f"{both}@{domain}", token(), "Grüße.\n")
    wait_until_answered(elsewhere.own.server, f"{both}@{domain}", 250, sender)
    with elsewhere.own.server.smtp() as client:
        client.send_message(message, sender, [f"{both}+tag@{domain}"])
    left = elsewhere.receiver.taken(message["Subject"])
    local, _, there = sender.partition("@")
    assert re.fullmatch(rf"SRS0=[^=@]{{8}}=[A-Z0-9]{{2}}={there}={local}@{domain}", left.sender)
    headers = [(name, str(value)) for name, value in message.items()]
    kept = [(name, str(value)) for name, value in left.message.items() if name in message]
    assert kept == headers, left.message.items()
    assert left.message.get_payload() == str(message.get_payload()).replace("\n", "\r\n")
    assert "DKIM-Signature" not in left.message, "what others wrote is not signed as ours"
    assert f"Return-Path: <{sender}>".encode() in arrived(elsewhere.own.server, alice, message["Subject"])
    elsewhere.own.invoke("aliases.remove", both)


def test_mail_why_says_that_a_message_was_forwarded_and_to_where(elsewhere: Elsewhere) -> None:
    left = elsewhere.send(elsewhere.sender, elsewhere.alias)

    def told() -> str:
        said = elsewhere.own.invoke("mail.why", str(left.message["Message-ID"])).stdout
        if not re.search(rf"to=<{elsewhere.target}>, .*relay={elsewhere.domain}\[.*status=sent", said):
            raise NotYet(said)
        return said

    wait_until(told, 5, "the log to name the other server")


def test_what_an_account_sends_to_the_alias_keeps_its_sender(elsewhere: Elsewhere, alice: Account) -> None:
    for recipient in (elsewhere.alias, elsewhere.target):
        with elsewhere.own.server.submission(alice) as client:
            client.send_message(letter(alice.address, recipient, subject := token()))
        left = elsewhere.receiver.taken(subject)
        assert left.sender == alice.address
        assert len(left.message.get_all("DKIM-Signature", [])) == 2


def test_a_bounce_goes_back_to_the_first_sender_and_no_other_mail_does(elsewhere: Elsewhere) -> None:
    sender = elsewhere.sender
    signed = elsewhere.send(sender, elsewhere.alias).sender
    with elsewhere.own.server.smtp() as client:
        client.send_message(letter("MAILER-DAEMON@example.com", signed, subject := token()), "", [signed])
    assert elsewhere.receiver.taken(subject).sender == ""
    domain = elsewhere.own.settings.domain
    victim = f"victim@{elsewhere.domain}"
    forged = [signed.replace(sender.partition("@")[0], "victim"), signed.replace("SRS0=", "SRS0=A", 1),
              f"SRS0=AAAAAAAA=AA={elsewhere.domain}=victim@{domain}",
              f"SRS1=AAAAAAAA={elsewhere.domain}==a=b=example.com=victim@{domain}",
              f"srs0=@{domain}", f"bob={elsewhere.domain}@forward.invalid"]  # fmt: skip
    elsewhere.own.invoke("aliases.add", "@", elsewhere.own.postmaster.address)
    try:
        wait_until_answered(elsewhere.own.server, f"{token()}@{domain}", 250)
        assert {address: returned(elsewhere, address) for address in forged} == dict.fromkeys(forged, 554)
        assert returned(elsewhere, signed) == 250
        for other in (victim, "stranger@example.com"):
            assert returned(elsewhere, signed, other) == 554
    finally:
        elsewhere.own.invoke("aliases.remove", "@")


def test_the_sender_learns_that_the_other_server_refuses_the_address(elsewhere: Elsewhere) -> None:
    sender = elsewhere.sender
    elsewhere.receiver.unknown.add("bob")
    try:
        with elsewhere.own.server.smtp() as client:
            client.send_message(letter(sender, elsewhere.alias, token()), sender, [elsewhere.alias])
        bounce = elsewhere.receiver.taken("Undelivered Mail Returned to Sender")
    finally:
        elsewhere.receiver.unknown.clear()
    assert (bounce.sender, sender in str(bounce.message)) == ("", True)
    assert "nobody has this name" in str(bounce.message)
    wait_until_left(elsewhere.own, sender, 5, "the bounce to leave")


def test_what_the_filter_takes_for_spam_is_refused_if_it_would_leave(elsewhere: Elsewhere, alice: Account) -> None:
    sender = elsewhere.sender
    for recipients in ([elsewhere.alias], [alice.address, elsewhere.alias.replace("@", "+tag@")]):
        message = phishing(sender, recipients[0], token())
        with elsewhere.own.server.smtp() as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.send_message(message, sender, recipients)
        assert (refused.value.smtp_code, b"is not forwarded" in refused.value.smtp_error) == (554, True)
    signed = elsewhere.send(sender, elsewhere.alias).sender
    with elsewhere.own.server.smtp() as client, pytest.raises(smtplib.SMTPDataError, match="is not forwarded"):
        client.send_message(message, "", [signed])
    with elsewhere.own.server.smtp() as client:
        client.send_message(message, sender, [alice.address])
    assert arrived(elsewhere.own.server, alice, message["Subject"])


def test_spam_that_the_postmaster_gets_is_not_forwarded_either(elsewhere: Elsewhere, since: float) -> None:
    postmaster, sender, subject = elsewhere.own.postmaster, elsewhere.sender, token()
    with elsewhere.own.server.smtp() as client:
        client.send_message(
            phishing(sender, postmaster.address, subject), sender, [postmaster.address, elsewhere.alias]
        )
    assert arrived(elsewhere.own.server, postmaster, subject)
    assert sender.partition("@")[0] in elsewhere.own.wait_for_log("mail", "discard: header X-Spam: Yes", since)
    elsewhere.send(sender, elsewhere.alias)
    assert subject not in [received.message["Subject"] for received in elsewhere.receiver.received]


def test_the_daemon_is_its_own_user_and_its_secret_is_roots(elsewhere: Elsewhere) -> None:
    assert elsewhere.runs() == {"postsrsd"}
    secret = elsewhere.own.exec("mail", "stat", "-c", "%U %a %s", "/var/mail/vhosts/.srs").stdout.split()
    assert secret == ["root", "600", "33"]
    ports = elsewhere.own.inside.run("ss", "-Hltn", "( sport = 10001 or sport = 10002 )")
    assert {line.split()[3].rpartition(":")[0] for line in ports.stdout.splitlines()} == {"127.0.0.1"}
