"""The tasks on people: what is told of an account, accounts from a file, and the log of changes."""

import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest

from podserve.accounts import random_password
from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server, letter, token


def shown(test_pod: PodUnderTest, account: Account) -> dict[str, Any]:
    """Return what `users.show` tells."""
    found: dict[str, Any] = json.loads(test_pod.invoke("users.show", account.address, "--json").stdout)
    return found


def seconds(since: str) -> float:
    """Return how long ago a time is."""
    return time.time() - dt.datetime.fromisoformat(since).timestamp()


def test_an_account_is_shown_with_its_addresses_state_and_mailbox(
    server: Server, test_pod: PodUnderTest, new_account: Account
) -> None:
    before = shown(test_pod, new_account)
    assert (before["addresses"], before["quota"], before["used"]) == ([new_account.address], None, 0)
    assert (before["can_log_in"], before["disabled"], before["last_logins"], before["sessions"]) == (
        True,
        False,
        {},
        [],
    )
    assert before["app_passwords"] == []
    inner, outer = sorted(f"{token()}@{server.domain}" for _ in range(2))
    test_pod.invoke("aliases.add", inner, new_account.address)
    test_pod.invoke("aliases.add", outer, inner)
    test_pod.invoke("users.quota", new_account.address, "2M")
    with server.smtp() as client:
        message = letter(STRANGER, new_account.address, subject := token())
        message.set_content("x\n" * 250_000)
        client.send_message(message, STRANGER)
    assert arrived(server, new_account, subject)
    test_pod.invoke("users.disable", new_account.address)
    after = shown(test_pod, new_account)
    assert (after["addresses"], after["quota"]) == ([new_account.address, inner, outer], 2 * 2**20)
    assert 500_000 < after["used"] < 2**20
    assert (after["can_log_in"], after["disabled"]) == (False, True)
    lines = test_pod.invoke("users.show", new_account.local_part).stdout.splitlines()
    addresses = f"addresses    {new_account.address}, {inner}, {outer}"
    test_pod.invoke("users.token", new_account.address, "phone")
    assert shown(test_pod, new_account)["app_passwords"][0]["label"] == "phone"
    assert lines[:3] == [f"{new_account.address} is disabled", addresses, "mailbox      0.7 MB used, 2M"]


def test_the_postmaster_has_its_other_addresses(test_pod: PodUnderTest) -> None:
    domain = test_pod.settings.domain
    assert shown(test_pod, test_pod.postmaster)["addresses"][:2] == [f"postmaster@{domain}", f"abuse@{domain}"]


def test_the_last_login_of_each_protocol_is_shown_and_those_of_others_are_not(
    server: Server, test_pod: PodUnderTest, new_account: Account, bob: Account
) -> None:
    other = test_pod.new_account()
    with server.pop3(new_account), server.rules(new_account), server.submission(new_account) as client:
        client.send_message(letter(new_account.address, bob.address, token()))
    with server.imap(new_account):
        pass
    with server.http(new_account) as web, server.http(Account(other.address, random_password())) as stranger:
        assert web.get(f"/webdav/home/{new_account.local_part}/").is_success
        assert stranger.get(f"/webdav/home/{other.local_part}/").status_code == 401

    def told() -> dict[str, str]:
        last: dict[str, str] = shown(test_pod, new_account)["last_logins"]
        if set(last) != {"imap", "pop3", "sieve", "submission", "web"}:
            raise NotYet(str(last))
        return last

    assert all(-1 < seconds(when) < 60 for when in wait_until(told, 10, "all last logins").values())
    assert shown(test_pod, other)["last_logins"] == {}
    assert f"last login   imap {told()['imap']}" in test_pod.invoke("users.show", new_account.address).stdout


def test_the_last_login_outlives_the_log(server: Server, test_pod: PodUnderTest, new_account: Account) -> None:
    with server.imap(new_account), server.pop3(new_account):
        pass
    files = [test_pod.folder("mail") / ".logins" / f"{new_account.address}::{name}" for name in ("imap", "pop3")]
    assert all(0 <= time.time() - file.stat().st_mtime < 60 for file in files)
    for file in files:
        os.utime(file, (4_000_000_000, 4_000_000_000))  # later than what the log has
    assert shown(test_pod, new_account)["last_logins"] == dict.fromkeys(("imap", "pop3"), "2096-10-02T07:06:40Z")


def test_the_open_sessions_are_shown_with_the_client_and_the_begin_and_others_are_not(
    server: Server, test_pod: PodUnderTest, new_account: Account, bob: Account
) -> None:
    with server.imap(new_account) as waits, server.imap(new_account), server.pop3(new_account), server.imap(bob):
        with server.imap(new_account), server.rules(new_account):
            pass  # these have ended
        waits.select_folder("INBOX")
        waits.idle()
        assert waits.idle_check(timeout=1.5) == []

        def told() -> list[dict[str, str]]:
            sessions: list[dict[str, str]] = shown(test_pod, new_account)["sessions"]
            if sorted(session["protocol"] for session in sessions) != ["imap", "imap", "pop3"]:
                raise NotYet(str(sessions))
            return sessions

        found = wait_until(told, 10, "the open sessions")
        assert len({session["client"] for session in found}) == 1
        assert all(-1 < seconds(session["since"]) < 60 for session in found)
        line = f"session      pop3 from {found[0]['client']}, since "
        assert line in test_pod.invoke("users.show", new_account.address).stdout
    assert "sessions     none" in test_pod.invoke("users.show", test_pod.new_account().address).stdout


def test_an_account_is_shown_while_the_mail_service_is_down(test_pod: PodUnderTest, new_account: Account) -> None:
    test_pod.exec("mail", "s6-svc", "-wd", "-d", "/run/s6/dovecot")
    try:
        down = shown(test_pod, new_account)
        lines = test_pod.invoke("users.show", new_account.address).stdout
    finally:
        test_pod.exec("mail", "s6-svc", "-wU", "-u", "/run/s6/dovecot")
    assert (down["used"], down["sessions"]) == (None, None)
    assert "sessions     unknown: the mail service does not answer" in lines


@pytest.mark.parametrize("name", ["nobody", "nobody@example.org", "a b"])
def test_an_account_that_does_not_exist_is_not_shown(test_pod: PodUnderTest, name: str) -> None:
    refused = test_pod.invoke("users.show", name, check=False)
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        ("podserve: there is no account nobody@", f"podserve: {name!r} cannot be an account")
    )


@pytest.fixture
def another_pod(test_pod: PodUnderTest) -> Iterator[PodUnderTest]:
    """A pod for one test, which makes so many accounts that to remove them would delay others."""
    del test_pod  # begun before, because it ends last
    with play_test_pod("-many") as made:
        yield made


def test_a_thousand_accounts_are_imported_and_in_use_within_two_seconds(another_pod: PodUnderTest) -> None:
    server, password = another_pod.server, random_password()
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    text = "name,hash,quota,aliases\n" + "".join(f"person-{number},{hashed},1G,all\n" for number in range(1000))
    begun = time.monotonic()
    done = another_pod.invoke("users.import", "-", stdin=text)
    assert time.monotonic() - begun < 5
    assert done.stdout.splitlines()[-1] == "accounts: 1000 added, 0 were there already"
    last = Account(f"person-999@{server.domain}", password)
    another_pod.wait_until_known(last)
    with server.imap(last) as client:
        assert client.get_quota("INBOX")[0].limit == 2**20
    with server.http(last) as web:
        assert web.get(f"/webdav/home/{last.local_part}/").is_success
    again = another_pod.invoke("users.import", "-", stdin=text)
    assert again.stdout.splitlines()[-1] == "accounts: 0 added, 1000 were there already"
    changes = json.loads(another_pod.invoke("users.log", "--name", last.address, "--json").stdout)["changes"]
    assert [(change["task"], change["what"]) for change in changes] == [("users.import", last.address)]
    assert -1 < seconds(changes[0]["time"]) < 60


def test_the_log_of_changes_is_roots_and_no_service_reads_it(test_pod: PodUnderTest, new_account: Account) -> None:
    test_pod.invoke("users.quota", new_account.address, "3G")
    assert test_pod.invoke("users.log").stdout.splitlines()[-1].endswith(f" users.quota {new_account.address} 3G")
    for service, user in (("mail", "vmail"), ("mail", "postfix"), ("apache", "www-data")):
        tried = test_pod.exec(service, "s6-setuidgid", user, "cat", "/data/state/accounts/log/changes", check=False)
        assert "Permission denied" in tried.stderr
