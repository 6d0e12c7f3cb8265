"""A login on the web is computed once. Apache remembers that it was right, and for which accounts file."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest

from podserve.accounts import FILE, Accounts
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token
from tests.testbed.webdav import folder

COSTLY = 12
"""A cost of bcrypt at which a hash takes some 200 ms of a core, which Apache's processor time shows."""
HASH = 0.1
"""Seconds of a core that a hash of that cost takes at least. Ten requests without a hash take less."""
MEGABYTE = 2**20
WRONG = 10_000


@pytest.fixture
def costly(test_pod: PodUnderTest) -> Account:
    """A new account whose hash takes long."""
    return test_pod.new_account(cost=COSTLY)


def accounts(test_pod: PodUnderTest) -> Accounts:
    """Return the accounts of the pod."""
    return Accounts(Folder.at(test_pod.folder("accounts")))


def status(client: httpx.Client, account: Account) -> int:
    """Return the status of a request with this login."""
    return client.get("/webdav/", auth=(account.address, account.password)).status_code


def processor(test_pod: PodUnderTest) -> float:
    """Return the seconds of a core that Apache has used in user mode: utime in proc_pid_stat(5)."""
    ticks = 0
    for process in test_pod.processes("apache"):
        with suppress(OSError):  # it has just exited
            stat = (process / "stat").read_text()
            ticks += int(stat.rpartition(")")[2].split()[11]) if "(apache2)" in stat else 0
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("path", ["/webdav/", "/webdav/home/{}/", "/git/"])
def test_a_login_is_computed_once(test_pod: PodUnderTest, costly: Account, path: str) -> None:
    took = [processor(test_pod)]
    with test_pod.server.http(costly) as client:
        for number in (1, 10):
            for _ in range(number):
                assert client.get(path.format(costly.local_part)).status_code == 200
            took.append(processor(test_pod))
    assert took[1] - took[0] > HASH, "a hash was computed"
    assert took[2] - took[1] < HASH, took


@pytest.mark.parametrize("number", [1, 3])
def test_a_login_is_refused_at_the_first_request_after_its_password_has_changed(
    test_pod: PodUnderTest, new_account: Account, number: int
) -> None:
    there, account = accounts(test_pod), new_account
    with test_pod.server.http() as client:
        for _ in range(number):
            assert [status(client, account) for _ in range(3)] == [200, 200, 200]
            changed = replace(account, password=token())
            there.set_password(account.address, changed.password)
            assert [status(client, each) for each in (account, changed, account)] == [401, 200, 401]
            account = changed


def test_a_file_that_was_changed_by_hand_within_the_same_second_is_read_again(
    test_pod: PodUnderTest, new_account: Account
) -> None:
    other, file, second = test_pod.new_account(), test_pod.folder("accounts") / FILE, 10**9
    with test_pod.server.http() as client:
        assert [status(client, new_account) for _ in range(2)] == [200, 200]
        before, hashes = file.stat(), accounts(test_pod).hashes()
        own, foreign = (hashes[each.address].encode() for each in (new_account, other))
        file.write_bytes(file.read_bytes().replace(own, foreign))
        since = before.st_mtime_ns // second * second
        os.utime(file, ns=(before.st_atime_ns, since + (before.st_mtime_ns - since + 1000) % second))
        after = file.stat()
        assert (after.st_ino, after.st_size, int(after.st_mtime)) == (
            before.st_ino,
            before.st_size,
            int(before.st_mtime),
        )
        changed = replace(new_account, password=other.password)
        assert [status(client, each) for each in (new_account, changed, new_account)] == [401, 200, 401]


def test_an_account_is_refused_at_the_first_request_after_its_removal_and_taken_when_it_is_back(
    test_pod: PodUnderTest, new_account: Account
) -> None:
    there = accounts(test_pod)
    with test_pod.server.http() as client:
        assert status(client, new_account) == 200
        there.remove(new_account.address)
        assert status(client, new_account) == 401
        there.add(new_account.address, new_account.password)
        assert status(client, new_account) == 200
        there.remove(new_account.address)
        assert status(client, new_account) == 401


def test_another_account_changes_nothing_for_this_one(
    test_pod: PodUnderTest, costly: Account, new_account: Account
) -> None:
    with test_pod.server.http() as client:
        assert status(client, costly) == 200
        assert status(client, replace(new_account, password=costly.password)) == 401
        assert status(client, replace(costly, password=new_account.password)) == 401
        accounts(test_pod).remove(new_account.address)
        assert [status(client, account) for account in (costly, new_account)] == [200, 401]


def test_a_wrong_password_is_wrong_each_time(test_pod: PodUnderTest, new_account: Account) -> None:
    other = replace(new_account, password=token())
    with test_pod.server.http() as client:
        assert [status(client, each) for each in (other, new_account) * 5] == [401, 200] * 5


def test_a_name_in_capitals_is_the_account(test_pod: PodUnderTest, new_account: Account) -> None:
    capitals = replace(new_account, address=new_account.address.upper())
    with test_pod.server.http() as client:
        assert status(client, new_account) == 200
        assert client.get(
            f"/webdav/home/{new_account.local_part}/", auth=(capitals.address, capitals.password)
        ).is_success


def test_forty_threads_at_once_get_what_is_right_for_each(test_pod: PodUnderTest) -> None:
    people = [test_pod.new_account() for _ in range(4)]
    logins = [replace(each, password=password) for each in people for password in (each.password, token())]

    def ask(number: int) -> list[tuple[Account, int]]:
        with test_pod.server.http(http2=bool(number % 2)) as client:
            return [(login, status(client, login)) for login in (logins[number % 8 :] + logins[: number % 8]) * 3]

    with ThreadPoolExecutor(40) as pool:
        answers = [answer for answers in pool.map(ask, range(40)) for answer in answers]
    right = {login.address: login.password for login in people}
    assert len(answers) == 40 * 24
    assert all(code == (200 if right[login.address] == login.password else 401) for login, code in answers)


def test_a_reload_of_apache_changes_no_verdict(test_pod: PodUnderTest, new_account: Account) -> None:
    other = replace(new_account, password=token())
    with test_pod.server.http() as client:
        assert [status(client, each) for each in (new_account, other)] == [200, 401]
    before = {process.name for process in test_pod.processes("apache")}
    test_pod.exec("apache", "pkill", "-USR1", "-o", "-x", "apache2")

    def replaced() -> None:
        if {process.name for process in test_pod.processes("apache")} <= before:
            raise NotYet("no new process")

    wait_until(replaced, 10, "a reload of Apache")
    with test_pod.server.http() as client:
        assert [status(client, each) for each in (new_account, other) * 3] == [200, 401] * 3
        changed = replace(new_account, password=token())
        accounts(test_pod).set_password(new_account.address, changed.password)
        assert [status(client, each) for each in (new_account, changed)] == [401, 200]


@pytest.mark.alone
def test_ten_thousand_wrong_passwords_take_no_memory(test_pod: PodUnderTest, new_account: Account) -> None:
    def memory() -> int:
        lines = (
            line
            for process in test_pod.processes("apache")
            if (process / "comm").read_text().strip() == "apache2"
            for line in (process / "smaps_rollup").read_text().splitlines()
        )
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def guess(number: int) -> None:
        with test_pod.server.http() as client:
            for _ in range(number):
                assert status(client, replace(new_account, password=token())) == 401

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(guess, [100] * 8))
        before = memory()
        list(pool.map(guess, [WRONG // 8] * 8))
    assert memory() - before < 16 * MEGABYTE, "it grows to some 45 MB in the first 10,000, and by 1 MB in the next"


@pytest.mark.parametrize(("method", "status"), [("PROPFIND", 207), ("PUT", 204)])
def test_many_requests_on_one_connection_do_not_end_apache(
    test_pod: PodUnderTest, alice: Account, method: str, status: int
) -> None:
    """A Lua interpreter that keeps a value of each request on its stack damages memory after some hundred requests."""

    def request_often(name: str) -> set[int]:
        with folder(test_pod.server, alice) as client:
            client.put(name, content=b"")
            return {client.request(method, name, content=b"").status_code for _ in range(98)}

    begun = time.time()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(request_often, [f"{number}" for number in range(8)])) == [{status}] * 8
    assert "exit signal" not in test_pod.logs(begun)
