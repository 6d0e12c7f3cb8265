"""Scripts that send mail on to another domain: the sender that its server sees, what is returned, and what is not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.letters import phishing
from tests.testbed.mail import arrived, delivered
from tests.testbed.pod import PodUnderTest
from tests.testbed.receivers import Received, Receiver, add_address, serving
from tests.testbed.server import Account, letter, token

ADDRESS = "192.0.2.41"
"""The address of the other domain's mail server."""
MARK = "/var/mail/vhosts/.sieve/redirects"


@dataclass(frozen=True)
class Redirecting:
    """The pod, another domain with its server, and an account whose script sends its mail to bob there."""

    own: PodUnderTest
    domain: str
    receiver: Receiver
    account: Account

    @property
    def sender(self) -> str:
        """A new address of a stranger, whose mail server is the same."""
        return f"{token()}@{self.domain}"

    def send(self, sender: str, recipient: str = "") -> str:
        """Send a message from a stranger, by default to the account, and return its subject."""
        message = letter(sender, recipient or self.account.address, token())
        with self.own.server.smtp() as client:
            client.send_message(message, sender)
        return str(message["Subject"])

    def sent_on(self, sender: str) -> Received:
        """Return what left for the other domain of a message to the account."""
        return self.receiver.taken(self.send(sender))

    def runs(self) -> bool:
        """Return whether the daemon that signs senders runs."""
        return self.own.exec("mail", "pgrep", "-x", "postsrsd", check=False).ok


def redirect(test_pod: PodUnderTest, account: Account, *targets: str) -> None:
    """Make a script that sends the account's mail on."""
    with test_pod.server.rules(account) as client:
        assert client.putscript("on", "".join(f'redirect "{target}";\n' for target in targets)), client.errmsg
        assert client.setactive("on")


def forget(test_pod: PodUnderTest) -> None:
    """Let the pod look as if the last message was sent on 22 days ago, and wait for the end of the daemon."""
    test_pod.exec("mail", "touch", "-d", "22 days ago", MARK)
    test_pod.exec("mail", "mailboxes")

    def ended() -> None:
        if test_pod.exec("mail", "pgrep", "-x", "postsrsd", check=False).ok:
            raise NotYet("it runs")

    wait_until(ended, 5, "the daemon that signs senders to end")


@pytest.fixture(scope="module")
def redirecting(test_pod: PodUnderTest) -> Iterator[Redirecting]:
    """Another domain, and an account that sends its mail there while this module's tests run."""
    domain, account = f"{token()}.sethlakowske.com", test_pod.new_account()
    add_address(ADDRESS)
    with serving(receiver := Receiver(ADDRESS, 25, None)):
        made = Redirecting(test_pod, domain, receiver, account)
        test_pod.name_addresses({domain: ADDRESS})
        redirect(test_pod, account, f"bob@{domain}")
        assert not made.runs(), "it costs nothing while nobody's mail is sent on"
        made.sent_on(made.sender)
        assert made.runs()
        yield made
    forget(test_pod)
    with test_pod.server.smtp() as client:
        assert answer(client, "", f"SRS0=a=b={domain}=bob@{test_pod.settings.domain}") == 554


def test_a_message_is_sent_on_with_a_sender_of_ours_and_unchanged(redirecting: Redirecting) -> None:
    sender, domain = redirecting.sender, redirecting.own.settings.domain
    left = redirecting.sent_on(sender)
    local, _, there = sender.partition("@")
    assert re.fullmatch(rf"SRS0=[^=@]{{8}}=[A-Z0-9]{{2}}={there}={local}@{domain}", left.sender)
    assert (left.message["From"], left.message["To"]) == (sender, redirecting.account.address)
    assert left.message["X-Sieve-Redirected-From"] == redirecting.account.address
    assert "DKIM-Signature" not in left.message, "what others wrote is not signed as ours"


def test_a_message_that_stays_here_keeps_its_sender(redirecting: Redirecting) -> None:
    here, other = redirecting.own.new_account(), redirecting.own.new_account()
    redirect(redirecting.own, here, other.address, f"bob@{redirecting.domain}")
    subject = redirecting.send(sender := redirecting.sender, here.address)
    assert f"Return-Path: <{sender}>".encode() in arrived(redirecting.own.server, other, subject)
    assert redirecting.receiver.taken(subject).sender.startswith("SRS0=")


def test_a_message_of_an_account_keeps_its_sender(redirecting: Redirecting, alice: Account) -> None:
    with redirecting.own.server.submission(alice) as client:
        client.send_message(letter(alice.address, redirecting.account.address, subject := token()))
    assert redirecting.receiver.taken(subject).sender == alice.address


def test_a_bounce_goes_back_to_the_first_sender_and_no_other_mail_does(redirecting: Redirecting) -> None:
    sender, server = redirecting.sender, redirecting.own.server
    signed = redirecting.sent_on(sender).sender
    with server.smtp() as client:
        client.send_message(letter("MAILER-DAEMON@example.com", signed, subject := token()), "", [signed])
    bounce = redirecting.receiver.taken(subject)
    assert bounce.sender == ""
    with server.smtp() as client:
        assert answer(client, "", signed.replace(sender.partition("@")[0], "victim")) == 554
    with server.smtp() as client:
        assert answer(client, "stranger@example.com", signed) == 554


def test_the_sender_learns_that_the_other_server_refuses_the_address(redirecting: Redirecting) -> None:
    sender = redirecting.sender
    redirecting.receiver.unknown.add("bob")
    try:
        redirecting.send(sender)
        bounce = redirecting.receiver.taken("Undelivered Mail Returned to Sender")
    finally:
        redirecting.receiver.unknown.clear()
    assert (bounce.sender, sender in str(bounce.message)) == ("", True)
    assert "nobody has this name" in str(bounce.message)


def test_an_answer_leaves_without_a_sender_and_needs_no_daemon(redirecting: Redirecting, new_account: Account) -> None:
    away = token()
    with redirecting.own.server.rules(new_account) as client:
        assert client.putscript("away", f'require "vacation";\nvacation :subject "{away}" "Away.";\n')
        assert client.setactive("away")
    forget(redirecting.own)
    redirecting.send(redirecting.sender, new_account.address)
    answered = redirecting.receiver.taken(away)
    assert answered.sender == ""
    assert len(answered.message.get_all("DKIM-Signature", [])) == 2
    assert not redirecting.runs()
    redirecting.sent_on(redirecting.sender)  # the daemon runs again


def test_a_message_that_comes_back_is_not_sent_on_again(redirecting: Redirecting) -> None:
    left = redirecting.sent_on(sender := redirecting.sender)
    subject = str(left.message["Subject"])
    with redirecting.own.server.smtp() as client:
        client.send_message(left.message, sender, [redirecting.account.address])
    later = redirecting.sent_on(sender)
    assert later.message["Subject"] != subject
    assert [received.message["Subject"] for received in redirecting.receiver.received].count(subject) == 1
    with redirecting.own.server.smtp() as client:
        assert answer(client, left.sender, redirecting.account.address) == 554, "nor with our own address as its sender"


def test_what_the_filter_takes_for_spam_is_not_sent_on(redirecting: Redirecting) -> None:
    sender, subject = redirecting.sender, token()
    with redirecting.own.server.smtp() as client:
        client.send_message(phishing(sender, redirecting.account.address, subject), sender)
    assert delivered(redirecting.own.server, redirecting.account, subject)[0] == "Junk"
    redirecting.sent_on(sender)
    assert subject not in [received.message["Subject"] for received in redirecting.receiver.received]


@pytest.mark.parametrize("target", ['"a b"@{domain}', "x=forward.invalid@{domain}", "bob+tag@{domain}"])
def test_an_address_of_any_form_is_reached(redirecting: Redirecting, new_account: Account, target: str) -> None:
    recipient = target.format(domain=redirecting.domain)
    redirect(redirecting.own, new_account, recipient.replace('"', '\\"'))
    subject = redirecting.send(redirecting.sender, new_account.address)
    assert redirecting.receiver.taken(subject).message["Subject"] == subject
