"""App passwords: where they log in, and what ends with one when it is revoked."""

import contextlib
import json
import poplib
import smtplib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from podserve.accounts import random_password
from podserve.waiting import NotYet, wait_until
from tests.acceptance.mail.test_open_sessions import PROMPT, ended_by_the_server, wait_in_idle, wait_until_ended
from tests.testbed.envelopes import answer
from tests.testbed.mail import arrived, wait_until_answered
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import SUBMISSIONS, Account, Server, letter, token
from tests.testbed.tokens import LOGIN_PORTS, accepting, seconds_until_refused, wait_until_accepted, with_app_password

EVERYWHERE = set(LOGIN_PORTS)


@pytest.fixture
def phone(test_pod: PodUnderTest, new_account: Account) -> Account:
    """The new account, with its app password `phone`."""
    return with_app_password(test_pod, new_account)


def ended_often(test_pod: PodUnderTest, login: str, times: int) -> None:
    """Raise NotYet until the log says so often that the sessions of a login end: twice after each change."""
    if test_pod.logs().count(f"sessions of {login} end") < times:
        raise NotYet("sessions may still end")


def usages(test_pod: PodUnderTest, account: Account) -> dict[str, tuple[str | None, str | None]]:
    """Return the last use of each app password: when, and by which protocol."""
    there = json.loads(test_pod.invoke("users.tokens", account.address, "--json").stdout)["app_passwords"]
    return {one["label"]: (one["last_used"], one["protocol"]) for one in there}


def test_an_app_password_logs_in_everywhere_beside_the_password_and_nothing_similar_does(
    test_pod: PodUnderTest, new_account: Account, phone: Account, bob: Account
) -> None:
    assert accepting(test_pod, phone) == EVERYWHERE
    assert accepting(test_pod, new_account) == EVERYWHERE
    capitals = replace(phone, address=phone.address.upper())
    assert accepting(test_pod, capitals) == EVERYWHERE
    for wrong in (phone.password[:-1], phone.password.upper(), f"{phone.password} ", "phone", ""):
        assert accepting(test_pod, replace(phone, password=wrong)) == set(), wrong
    assert accepting(test_pod, replace(bob, password=phone.password)) == set()
    for name in (f"{phone.address}/phone", phone.local_part, f"{token()}@{test_pod.server.domain}"):
        assert accepting(test_pod, replace(phone, address=name)) == set(), name


def test_a_revoked_one_is_refused_within_two_seconds_and_all_others_are_accepted(
    test_pod: PodUnderTest, new_account: Account, phone: Account, bob: Account
) -> None:
    tablet, other = with_app_password(test_pod, new_account, "tablet"), with_app_password(test_pod, bob, token())
    test_pod.invoke("users.revoke", phone.address, "Phone")
    assert seconds_until_refused(test_pod, phone) < PROMPT
    for account in (new_account, tablet, other):
        assert accepting(test_pod, account) == EVERYWHERE
    again = with_app_password(test_pod, new_account)
    assert again.password != phone.password
    assert accepting(test_pod, phone) == set()


def test_it_outlives_a_changed_password_and_rests_while_the_account_is_disabled(
    test_pod: PodUnderTest, phone: Account
) -> None:
    said = test_pod.invoke("users.passwd", phone.address, "--password-stdin", stdin=f"{random_password()}\n").stdout
    assert "Its app passwords still work: phone." in said
    wait_until(lambda: ended_often(test_pod, phone.address, 2), 6, "the end of the old sessions")
    assert accepting(test_pod, phone) == EVERYWHERE
    test_pod.invoke("users.disable", phone.address)
    assert seconds_until_refused(test_pod, phone) < PROMPT
    wait_until(lambda: ended_often(test_pod, phone.address, 4), 6, "the end of the sessions")
    test_pod.invoke("users.enable", phone.address)
    wait_until_accepted(test_pod, phone)
    assert accepting(test_pod, phone) == EVERYWHERE


def test_that_of_a_removed_account_opens_no_account_of_the_same_name(test_pod: PodUnderTest, phone: Account) -> None:
    test_pod.invoke("users.remove", phone.address)
    new = test_pod.new_account(phone.local_part)
    assert seconds_until_refused(test_pod, phone) < PROMPT
    wait_until_accepted(test_pod, new)
    assert usages(test_pod, new) == {}


Read = Callable[[], object]


def test_its_own_sessions_end_within_two_seconds_when_it_is_revoked_and_all_others_go_on(
    test_pod: PodUnderTest, server: Server, new_account: Account, phone: Account
) -> None:
    tablet = with_app_password(test_pod, new_account, "tablet")
    with contextlib.ExitStack() as stack:
        # The first of these ends, the others go on. (poplib's broken sessions come first: see test_open_sessions.)
        pop3 = [stack.enter_context(ended_by_the_server(server.pop3(phone)))]
        pop3 += [stack.enter_context(server.pop3(each)) for each in (tablet, new_account)]
        imap = [stack.enter_context(ended_by_the_server(server.imap(phone)))]
        idle = [stack.enter_context(ended_by_the_server(server.imap(phone)))]
        rules = [stack.enter_context(ended_by_the_server(server.rules(phone)))]
        smtp = [
            stack.enter_context(server.submission(phone)),
            stack.enter_context(server.submission(phone, SUBMISSIONS)),
        ]
        for each in (tablet, new_account):
            imap.append(stack.enter_context(server.imap(each)))
            idle.append(stack.enter_context(server.imap(each)))
            rules.append(stack.enter_context(server.rules(each)))
            smtp.append(stack.enter_context(server.submission(each)))
        for client in idle:
            wait_in_idle(client)
        test_pod.invoke("users.revoke", phone.address, "phone")
        wait_until_ended(lambda: idle[0].idle_check(timeout=0.05))
        wait_until_ended(imap[0].noop)
        wait_until_ended(pop3[0].stat)
        wait_until_ended(rules[0].listscripts)

        def check() -> None:
            if smtp[0].docmd("MAIL", f"FROM:<{phone.address}>")[0] == 250:
                smtp[0].docmd("RSET")
                raise NotYet("MAIL is accepted")

        wait_until(check, PROMPT, "the refusal of a sender")
        assert smtp[1].docmd("MAIL", "FROM:<>")[0] == 421
        # A second round of ends follows after 1.2 s (`mailboxes`).
        wait_until(lambda: ended_often(test_pod, f"{phone.address}/phone", 2), 5, "the second round")
        for going in (1, 2):
            assert idle[going].idle_check(timeout=0.05) == []
            idle[going].idle_done()
        for going in (1, 2):
            assert imap[going].select_folder("INBOX")
            assert pop3[going].stat()
            assert rules[going].listscripts() is not None
            subject = token()
            smtp[going + 1].send_message(letter(phone.address, phone.address, subject))
            assert arrived(server, new_account, subject)


def test_its_sessions_count_with_those_of_the_password(server: Server, new_account: Account, phone: Account) -> None:
    with contextlib.ExitStack() as stack:
        for account in (new_account, phone) * 5:  # docs/operation.md: 10 sessions of POP3 from one address
            stack.enter_context(server.pop3(account))

        def refused() -> None:  # a session counts when its process has begun
            with pytest.raises(poplib.error_proto, match="Maximum number of connections"), server.pop3(phone):
                raise NotYet("an eleventh session")

        wait_until(refused, 2, "the limit")


def test_its_session_that_is_older_than_the_certificate_ends_too(
    test_pod: PodUnderTest, server: Server, phone: Account
) -> None:
    with ended_by_the_server(server.imap(phone)) as reads, ended_by_the_server(server.imap(phone)) as waits:
        wait_in_idle(waits)
        test_pod.exec("mail", "read-certificate")
        reads.noop()
        test_pod.invoke("users.revoke", phone.address, "phone")
        wait_until_ended(lambda: waits.idle_check(timeout=0.05))
        wait_until_ended(reads.noop)


@pytest.mark.parametrize("task", ["users.passwd", "users.disable", "users.remove"])
def test_its_sessions_end_with_those_of_its_account(
    test_pod: PodUnderTest, server: Server, phone: Account, task: str
) -> None:
    with (
        ended_by_the_server(server.imap(phone)) as reads,
        ended_by_the_server(server.imap(phone)) as waits,
        server.submission(phone) as sends,
    ):
        wait_in_idle(waits)
        option = ["--password-stdin"] if task == "users.passwd" else []
        test_pod.invoke(task, phone.address, *option, stdin=f"{random_password()}\n")
        wait_until_ended(lambda: waits.idle_check(timeout=0.05))
        wait_until_ended(reads.noop)

        def check() -> None:
            if sends.docmd("MAIL", f"FROM:<{phone.address}>")[0] == 250:
                sends.docmd("RSET")
                raise NotYet("MAIL is accepted")

        if task != "users.passwd":
            wait_until(check, PROMPT, "the refusal of a sender")


def test_a_login_with_one_sends_as_the_accounts_addresses_and_the_log_names_its_label(
    test_pod: PodUnderTest, server: Server, phone: Account, bob: Account, since: float
) -> None:
    alias = f"{token()}@{server.domain}"
    test_pod.invoke("aliases.add", alias, phone.address)
    wait_until_answered(server, alias, 250)
    for sender in (phone.address, alias, phone.address.replace("@", "+tag@")):
        sent = letter(sender, bob.address, subject := token())
        with server.submission(phone) as client:
            client.send_message(sent, sender)
        message = arrived(server, bob, subject)
        assert f"\nFrom: {sender}".encode() in message.replace(b"\r\n", b"\n")
        assert b"/phone" not in message
        told = test_pod.invoke("mail.why", str(sent["Message-ID"])).stdout
        assert f"sasl_username={phone.address}/phone" in told
        assert f"user: {phone.address}" in told
    with server.submission(phone) as client:
        assert answer(client, bob.address, bob.address) == 553
        with pytest.raises(smtplib.SMTPDataError, match=f"From: must be one address of {phone.address}'"):
            client.send_message(letter(bob.address, bob.address, token()), phone.address)
    assert f"user=<{phone.address}>, method=PLAIN" in test_pod.logs(since)
    assert "app-password=<phone>" in test_pod.logs(since)


def test_the_postmaster_sends_as_abuse_with_one(test_pod: PodUnderTest, server: Server, bob: Account) -> None:
    made = with_app_password(test_pod, test_pod.postmaster, label := token())
    sender = f"abuse@{server.domain}"
    with server.submission(made) as client:
        client.send_message(letter(sender, bob.address, subject := token()), sender)
    assert arrived(server, bob, subject)
    test_pod.invoke("users.revoke", made.address, label)


def test_the_last_use_is_told_with_its_protocol(
    test_pod: PodUnderTest, server: Server, new_account: Account, bob: Account
) -> None:
    made = replace(
        new_account, password=test_pod.invoke("users.token", new_account.address, "tv").stdout.split("\n")[0]
    )
    assert usages(test_pod, made) == {"tv": (None, None)}
    wait_until_accepted(test_pod, made)

    def told(protocol: str) -> None:
        if (found := usages(test_pod, made)["tv"][1]) != protocol:
            raise NotYet(found)

    for protocol, use in (
        ("imap", server.imap),
        ("sieve", server.rules),
        ("pop3", server.pop3),
        ("imap", server.imap),
    ):
        with use(made):
            wait_until(lambda protocol=protocol: told(protocol), 3, protocol)  # type: ignore[misc]
    with server.submission(made) as client:
        client.send_message(letter(made.address, bob.address, token()))
        wait_until(lambda: told("submission"), 3, "submission")
    before = usages(test_pod, made)["tv"]
    with server.imap(new_account) as client_with_password:
        client_with_password.noop()
    assert usages(test_pod, made)["tv"] == before
    test_pod.invoke("users.revoke", made.address, "tv")
    test_pod.invoke("users.token", made.address, "tv")
    assert usages(test_pod, made) == {"tv": (None, None)}


def test_no_file_and_no_log_holds_it(test_pod: PodUnderTest, phone: Account) -> None:
    assert phone.password not in test_pod.logs()
    holding = [
        file
        for content in ("accounts", "mail", "web")
        for file in test_pod.folder(content).rglob("*")
        if file.is_file() and phone.password.encode() in file.read_bytes()
    ]
    assert holding == []
    for service in ("mail", "apache"):
        found = test_pod.exec(service, "grep", "-rlF", phone.password, "/run", "/tmp", check=False)  # noqa: S108
        assert found.stdout == ""
    in_use = Path(test_pod.exec("mail", "stat", "-c", "%a %U %G", "/run/dovecot/tokens").stdout.strip())
    assert str(in_use) == "640 root accounts"


def test_a_malformed_line_gives_nobody_a_login_and_changes_no_other(test_pod: PodUnderTest, phone: Account) -> None:
    file = test_pod.folder("accounts") / "tokens"
    hashed = next(line for line in file.read_text().splitlines() if line.startswith(f"{phone.address}/"))
    wrong = [
        f"{phone.address}/a b:{'0' * 64}:1.000",
        f"{phone.address}:{hashed.split(':')[1]}:1.000",
        "/:::",
        f"{hashed}:nopassword",
    ]
    before = file.read_text()
    new = file.with_name("tokens.try")
    new.write_text(before + "\n".join(wrong) + "\n")
    new.rename(file)
    try:
        later = test_pod.new_account()
        assert accepting(test_pod, phone) == EVERYWHERE
        assert accepting(test_pod, replace(later, password=phone.password)) == set()
        assert accepting(test_pod, replace(phone, password="anything")) == set()
    finally:
        new.write_text(before)
        new.rename(file)
