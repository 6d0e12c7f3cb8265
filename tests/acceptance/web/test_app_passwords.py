"""App passwords on the web: files and repositories take them without a slow hash, and no revoked one."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from podserve.accounts import Accounts
from podserve.folder import Folder
from podserve.homes import WWW_DATA
from podserve.shared_file import GROUP
from podserve.tokens import AppPasswords
from podserve.waiting import NotYet, wait_until
from tests.acceptance.web.test_verdicts import COSTLY, HASH, processor, status
from tests.testbed.git import Git, make
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server

PATHS = "/webdav/", "/webdav/home/{}/", "/git/"


def app_passwords(test_pod: PodUnderTest) -> AppPasswords:
    """Return the app passwords of the pod."""
    return AppPasswords(Folder.at(test_pod.folder("accounts")))


def accounts_of(test_pod: PodUnderTest) -> Accounts:
    """Return the accounts of the pod."""
    return Accounts(Folder.at(test_pod.folder("accounts")))


def made(test_pod: PodUnderTest, account: Account, label: str = "phone") -> Account:
    """Make an app password, and return the account with it as its password."""
    return replace(account, password=app_passwords(test_pod).make(account.address, label, lambda: {account.address}))


def statuses(client: httpx.Client, account: Account) -> list[int]:
    """Return the status of a request for each of PATHS."""
    login = account.address, account.password
    return [client.get(path.format(account.local_part), auth=login).status_code for path in PATHS]


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_one_is_taken_at_once_and_refused_at_the_next_request_after_it_is_revoked(
    test_pod: PodUnderTest, server: Server, new_account: Account, bob: Account, *, http2: bool
) -> None:
    there = app_passwords(test_pod)
    with server.http(http2=http2) as client:
        phone, tv = made(test_pod, new_account), made(test_pod, new_account, "tv")
        for login in (phone, tv, new_account, phone):
            assert statuses(client, login) == [200, 200, 200]
        own = f"/webdav/home/{bob.local_part}/"
        assert client.get(own, auth=(phone.address, phone.password)).status_code == 403
        for wrong in (replace(bob, password=phone.password), replace(phone, password=phone.password[:-1])):
            assert statuses(client, wrong) == [401, 401, 401]
        there.revoke(new_account.address, "phone")
        assert statuses(client, phone) == [401, 401, 401]
        for login in (tv, new_account):
            assert statuses(client, login) == [200, 200, 200]
        again = made(test_pod, new_account)
        assert [status(client, each) for each in (again, phone, again)] == [200, 401, 200]


def test_git_takes_one_for_a_push_and_refuses_a_revoked_one(
    test_pod: PodUnderTest, server: Server, new_account: Account, tmp_path: Path
) -> None:
    phone, repository = made(test_pod, new_account), make(test_pod, tmp_path / "work")
    git, clone = Git(server, phone), tmp_path / "clone"
    git.run("clone", "--quiet", git.url(repository.name), str(clone))
    pushed = git.commit(clone, "More", {"more.txt": b"more"})
    git.run("-C", str(clone), "push", "--quiet", "origin", "main")
    assert repository.tip() == pushed
    app_passwords(test_pod).revoke(phone.address, "phone")
    git.commit(clone, "Too much", {"more.txt": b"too much"})
    refused = git.run("-C", str(clone), "push", "--quiet", "origin", "main", check=False)
    assert "Authentication failed" in refused.stderr
    assert repository.tip() == pushed


def test_it_rests_while_its_account_is_disabled_and_opens_none_that_is_removed(
    test_pod: PodUnderTest, new_account: Account
) -> None:
    people, phone = accounts_of(test_pod), made(test_pod, new_account)
    with test_pod.server.http() as client:
        assert status(client, phone) == 200
        people.disable(phone.address)
        assert [status(client, phone) for _ in range(2)] == [401, 401]
        people.enable(phone.address)
        assert status(client, phone) == 200
        people.remove(phone.address)
        people.add(phone.address, new_account.password)
        assert [status(client, each) for each in (phone, new_account)] == [401, 200]


def test_no_slow_hash_is_computed_for_one(test_pod: PodUnderTest) -> None:
    account = test_pod.new_account(cost=COSTLY)
    others = [made(test_pod, account, f"device{number}") for number in range(10)]
    with test_pod.server.http() as client:
        took = [processor(test_pod)]
        for login in (*others, account):
            assert status(client, login) == 200
            took.append(processor(test_pod))
    assert took[-2] - took[0] < HASH, took
    assert took[-1] - took[-2] > HASH, "for the password, a hash was computed"


def test_the_last_use_is_told(test_pod: PodUnderTest, new_account: Account) -> None:
    def told() -> object:
        shown = json.loads(test_pod.invoke("users.tokens", new_account.address, "--json").stdout)
        (one,) = shown["app_passwords"]
        return one["protocol"]

    phone = made(test_pod, new_account)
    with test_pod.server.http() as client:
        assert status(client, new_account) == 200
        assert told() is None
        assert status(client, phone) == 200
        assert told() == "web"


def test_a_remembered_login_writes_no_file_at_each_request(test_pod: PodUnderTest, new_account: Account) -> None:
    phone, folder = made(test_pod, new_account), test_pod.folder("web") / ".logins"
    file = folder / f"{phone.address}:phone:web"
    with test_pod.server.http() as client:
        assert status(client, phone) == 200
        wait_until(lambda: os.utime(file, (0, 0)), 2, "the note of its use")  # after the response
        begun = time.monotonic()

        def ask() -> None:
            assert status(client, phone) == 200
            if time.monotonic() - begun < 1.5:
                raise NotYet("it is the same second")

        wait_until(ask, 3, "another second")
    assert file.stat().st_mtime == 0
    mode = folder.stat()
    assert (mode.st_mode & 0o777, mode.st_uid) == (0o700, WWW_DATA)


def test_the_file_is_for_root_and_the_services_that_verify_logins(test_pod: PodUnderTest, new_account: Account) -> None:
    made(test_pod, new_account)
    kept = (test_pod.folder("accounts") / "tokens").stat()
    assert (kept.st_mode & 0o777, kept.st_uid, kept.st_gid) == (0o640, 0, GROUP)
