"""Sessions that are open when a password changes, or an account is disabled or removed: they end within 2 s."""

import contextlib
import poplib
import smtplib
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import pytest
import sievelib.managesieve
from imapclient import IMAPClient

from podserve.accounts import random_password
from podserve.waiting import NotYet, wait_until
from tests.testbed.envelopes import answer
from tests.testbed.mail import STRANGER, queued
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import SUBMISSION, SUBMISSIONS, Account, Server, letter, token

PROMPT = 2.0
"""Seconds after which every service uses a change of the accounts (README)."""
ENDED = IMAPClient.Error, IMAPClient.AbortError, poplib.error_proto, sievelib.managesieve.Error, OSError
"""What clients raise in a session that the server has ended."""
Revoke = Callable[[Account], None]
T = TypeVar("T")


@pytest.fixture(params=["users.passwd", "users.remove", "users.disable", "users.rename"])
def revoke(request: pytest.FixtureRequest, test_pod: PodUnderTest) -> Revoke:
    """Each task that ends the right of an account's open sessions."""

    def change_the_password(account: Account) -> None:
        test_pod.invoke("users.passwd", account.address, "--password-stdin", stdin=f"{random_password()}\n")

    def change_the_account(account: Account) -> None:
        new_name = [token()] if request.param == "users.rename" else []
        test_pod.invoke(request.param, account.address, *new_name)

    return change_the_password if request.param == "users.passwd" else change_the_account


@contextlib.contextmanager
def ended_by_the_server(session: contextlib.AbstractContextManager[T]) -> Iterator[T]:
    """Yield the client of a session that the server ends before the client does."""
    client = session.__enter__()
    try:
        yield client
    finally:
        with contextlib.suppress(*ENDED):
            session.__exit__(None, None, None)


def wait_in_idle(client: IMAPClient) -> None:
    """Wait in IDLE for so long that the process imap-hibernate holds the session."""
    client.select_folder("INBOX")
    client.idle()
    assert client.idle_check(timeout=1.5) == []


def wait_until_ended(read: Callable[[], object]) -> None:
    """Wait until `read`, which takes an answer of the session, finds that the server has ended it."""

    def check() -> None:
        try:
            answer = read()
        except ENDED:
            return
        if "BYE" not in str(answer):
            raise NotYet(f"the session goes on: {answer}")

    wait_until(check, PROMPT, "the end of the session")


def test_an_imap_session_ends(server: Server, new_account: Account, bob: Account, revoke: Revoke) -> None:
    with server.imap(bob) as other, ended_by_the_server(server.imap(new_account)) as client:
        revoke(new_account)
        wait_until_ended(lambda: client.select_folder("INBOX"))
        assert other.select_folder("INBOX")


def test_a_session_that_waits_in_idle_ends(server: Server, new_account: Account, bob: Account, revoke: Revoke) -> None:
    with server.imap(bob) as other, ended_by_the_server(server.imap(new_account)) as client:
        other.select_folder("INBOX")
        other.idle()
        wait_in_idle(client)
        revoke(new_account)
        wait_until_ended(lambda: client.idle_check(timeout=0.05))
        other.idle_done()


def test_a_session_that_is_older_than_the_certificate_ends(
    server: Server, test_pod: PodUnderTest, new_account: Account, revoke: Revoke
) -> None:
    # A new certificate replaces Dovecot's process `anvil`, which knows who has which session.
    imap = server.imap(new_account), server.imap(new_account)
    with ended_by_the_server(imap[0]) as reads, ended_by_the_server(imap[1]) as waits:
        wait_in_idle(waits)
        test_pod.exec("mail", "read-certificate")
        reads.noop()
        revoke(new_account)
        wait_until_ended(lambda: waits.idle_check(timeout=0.05))
        wait_until_ended(reads.noop)


def test_a_pop3_session_ends(server: Server, new_account: Account, bob: Account, revoke: Revoke) -> None:
    # In this order, because Python 3.13 takes the error of the broken session for one of a session that ends later.
    with ended_by_the_server(server.pop3(new_account)) as client, server.pop3(bob) as other:
        revoke(new_account)
        wait_until_ended(client.stat)
        assert other.stat()


def test_a_managesieve_session_ends(server: Server, new_account: Account, bob: Account, revoke: Revoke) -> None:
    with server.rules(bob) as other, ended_by_the_server(server.rules(new_account)) as client:
        revoke(new_account)
        wait_until_ended(client.listscripts)
        assert other.listscripts() is not None


def test_a_session_that_has_logged_in_sends_nothing_more(
    server: Server, test_pod: PodUnderTest, new_account: Account, bob: Account, revoke: Revoke
) -> None:
    outside = f"{token()}@example.com"
    with contextlib.ExitStack() as stack:

        def session(account: Account, port: int = SUBMISSION) -> smtplib.SMTP:
            return stack.enter_context(server.submission(account, port))

        silent, receipt, begun, half = (session(new_account) for _ in range(4))
        other, implicit_tls = session(bob), session(new_account, SUBMISSIONS)
        assert begun.docmd("MAIL", f"FROM:<{new_account.address}>")[0] == 250
        assert answer(half, new_account.address, outside) == 250
        assert half.docmd("DATA")[0] == 354
        half.send(b"Subject: a\r\n\r\n")
        assert answer(other, bob.address, bob.address) == 250
        revoke(new_account)

        def check() -> None:
            if silent.docmd("MAIL", f"FROM:<{new_account.address}>")[0] == 250:
                silent.docmd("RSET")
                raise NotYet("MAIL is accepted")

        wait_until(check, PROMPT, "the refusal of a sender")
        assert implicit_tls.docmd("MAIL", "FROM:<>")[0] == 421
        assert receipt.docmd("MAIL", "FROM:<>")[0] == 421
        assert begun.docmd("RCPT", f"TO:<{outside}>")[0] == 421
        half.send(b"Hi.\r\n.\r\n")
        assert half.getreply()[0] == 421
        assert other.data(f"Subject: {token()}\r\n\r\nHi.\r\n")[0] == 250
    assert queued(test_pod, outside) == []


def test_sessions_with_the_new_password_last(
    server: Server, test_pod: PodUnderTest, new_account: Account, since: float
) -> None:
    changed = Account(new_account.address, random_password())

    def ended_twice() -> None:
        # A login with the old password may be under way when the password changes, so sessions end once more.
        if test_pod.logs(since).count(f"sessions of {changed.address} end") < 2:
            raise NotYet("sessions may still end")

    test_pod.invoke("users.passwd", changed.address, "--password-stdin", stdin=f"{changed.password}\n")
    wait_until(ended_twice, 10, "the old sessions to end")
    with server.imap(changed) as reader, server.submission(changed) as sender:
        test_pod.invoke("users.remove", test_pod.new_account().address)
        later = test_pod.new_account()  # as soon as it is known, the sessions of the removed account have ended
        reader.noop()
        sender.send_message(letter(changed.address, later.address, token()))


def test_a_stranger_sends_nothing_more_to_a_removed_account(
    server: Server, test_pod: PodUnderTest, new_account: Account
) -> None:
    with server.smtp() as client:
        assert answer(client, STRANGER, new_account.address) == 250
        test_pod.invoke("users.remove", new_account.address)

        def check() -> None:
            client.docmd("RSET")
            if answer(client, STRANGER, new_account.address) != 550:
                raise NotYet("it is accepted")

        wait_until(check, PROMPT, "the refusal of a recipient")


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_an_open_connection_of_a_web_client_gives_no_access(
    server: Server, new_account: Account, revoke: Revoke, *, http2: bool
) -> None:
    with server.http(new_account, http2=http2) as client:
        path = f"/webdav/home/{new_account.local_part}/"
        assert client.get(path).status_code == httpx.codes.OK
        revoke(new_account)
        assert client.get(path).status_code == httpx.codes.UNAUTHORIZED
