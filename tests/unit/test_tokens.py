"""App passwords: how they are made, what is kept of them, what is refused, and how the tasks show them."""

import json
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from podserve.accounts import Accounts
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.tokens import MOST, AppPasswords
from tests.unit.helpers import FakePodman

DOMAIN = "lab.sethlakowske.com"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
SECRET = re.compile(r"[a-z2-9]{7}(-[a-z2-9]{7}){3}")
"""28 characters of 32: 140 bits."""


@pytest.fixture
def people(fake_podman: FakePodman) -> Accounts:
    """The accounts alice and bob of a volume."""
    there = Accounts(Folder.at(fake_podman.folder))
    for account in (ALICE, BOB):
        there.add(account, "correct horse")
    return there


@pytest.fixture
def there(fake_podman: FakePodman, people: Accounts) -> AppPasswords:
    """The app passwords of the same volume."""
    assert set(people.hashes()) == {ALICE, BOB}
    return AppPasswords(Folder.at(fake_podman.folder))


def kept(fake_podman: FakePodman) -> str:
    """Return what is in the file."""
    return (fake_podman.folder / "tokens").read_text()


def labels(there: AppPasswords, account: str) -> list[str]:
    """Return the labels of an account's app passwords."""
    return list(there.listed(account))


def test_an_app_password_is_printed_once_and_only_its_hash_is_kept(
    fake_podman: FakePodman, there: AppPasswords
) -> None:
    made = [fake_podman.invoke_here("users.token", "Alice", label).stdout.splitlines() for label in ("Phone", "tv")]
    secrets = [lines[0] for lines in made]
    assert all(SECRET.fullmatch(secret) for secret in secrets)
    assert len(set(secrets)) == 2
    assert labels(there, ALICE) == ["phone", "tv"]
    hashes = [one.hashed for one in there.listed(ALICE).values()]
    assert hashes == [sha256(secret.encode()).hexdigest() for secret in secrets]
    assert not any(secret in kept(fake_podman) for secret in secrets)
    shown = [fake_podman.invoke_here("users.tokens", "alice", *option) for option in ((), ("--json",))]
    assert not any(secret in ended.stdout for ended in shown for secret in secrets)
    mode = (fake_podman.folder / "tokens").stat()
    assert (mode.st_mode & 0o777, mode.st_uid, mode.st_gid) == (0o640, os.getuid(), 5002)


@pytest.mark.parametrize("label", ["a", "7", "phone", "laptop-2", "a.b_c", "PHONE", "a" * 32])
def test_a_label_may_be(there: AppPasswords, label: str) -> None:
    there.make(ALICE, label, lambda: {ALICE})
    assert labels(there, ALICE) == [label.lower()]


@pytest.mark.parametrize(
    "label", ["", " ", "old phone", "-a", ".a", "..", "a/b", "a:b", "a\n", "a\nb", "á", "\N{KELVIN SIGN}", "a" * 33]
)
def test_a_label_may_not_be(fake_podman: FakePodman, there: AppPasswords, label: str) -> None:
    with pytest.raises(Problem, match="cannot be a label: expected a word such as phone or laptop-2, of at most 32"):
        there.make(ALICE, label, lambda: {ALICE})
    assert not (fake_podman.folder / "tokens").exists()


def test_a_label_is_unique_for_its_account(fake_podman: FakePodman, there: AppPasswords) -> None:
    fake_podman.invoke_here("users.token", "alice", "phone")
    before = kept(fake_podman)
    ended = fake_podman.invoke_here("users.token", "alice", "Phone")
    assert (ended.code, ended.stdout) == (1, "")
    assert f"{ALICE} has an app password phone already" in ended.stderr
    assert f"invoke users.revoke {ALICE} phone" in ended.stderr
    assert kept(fake_podman) == before
    assert fake_podman.invoke_here("users.token", "bob", "phone").code == 0
    assert (labels(there, ALICE), labels(there, BOB)) == (["phone"], ["phone"])


@pytest.mark.parametrize("task", ["users.token", "users.tokens", "users.revoke"])
def test_there_are_none_without_an_account(fake_podman: FakePodman, there: AppPasswords, task: str) -> None:
    words = [] if task == "users.tokens" else ["phone"]
    ended = fake_podman.invoke_here(task, "nobody", *words)
    assert (ended.code, ended.stdout) == (1, "")
    told = "has no app password phone" if task == "users.revoke" else f"there is no account nobody@{DOMAIN}"
    assert told in ended.stderr
    assert labels(there, f"nobody@{DOMAIN}") == []


def test_an_account_has_so_many_at_most(there: AppPasswords) -> None:
    for number in range(MOST):
        there.make(ALICE, f"device{number}", lambda: {ALICE})
    with pytest.raises(Problem, match=f"has {MOST} app passwords already"):
        there.make(ALICE, "one-more", lambda: {ALICE})
    there.revoke(ALICE, "device7")
    there.make(ALICE, "one-more", lambda: {ALICE})


def test_one_is_revoked_alone_and_what_is_not_there_is_not(fake_podman: FakePodman, there: AppPasswords) -> None:
    for account, label in ((ALICE, "phone"), (ALICE, "tv"), (BOB, "phone")):
        there.make(account, label, lambda: {ALICE, BOB})
    assert fake_podman.invoke_here("users.revoke", "alice", "Phone").stdout == (
        f"the app password phone of {ALICE} is revoked\n"
    )
    assert (labels(there, ALICE), labels(there, BOB)) == (["tv"], ["phone"])
    before = kept(fake_podman)
    ended = fake_podman.invoke_here("users.revoke", "alice", "phone")
    assert (ended.code, ended.stdout) == (1, "")
    assert f"{ALICE} has no app password phone. To list them: invoke users.tokens {ALICE}" in ended.stderr
    assert kept(fake_podman) == before


def test_those_of_a_removed_account_are_gone_and_no_others(
    fake_podman: FakePodman, people: Accounts, there: AppPasswords
) -> None:
    for account in (ALICE, BOB):
        there.make(account, "phone", people.hashes)
    people.remove(ALICE)
    people.add(ALICE, "correct horse")
    assert (labels(there, ALICE), labels(there, BOB)) == ([], ["phone"])
    assert ALICE not in kept(fake_podman)


def test_a_changed_password_leaves_them_and_says_so(fake_podman: FakePodman, there: AppPasswords) -> None:
    def change(name: str) -> str:
        return fake_podman.invoke_here("users.passwd", name, "--password-stdin", stdin="battery staple\n").stdout

    for label in ("phone", "tv"):
        there.make(ALICE, label, lambda: {ALICE})
    assert "Its app passwords still work: phone, tv. To revoke one: invoke users.revoke" in change("alice")
    assert change("bob") == f"{BOB} has a new password\n"
    assert labels(there, ALICE) == ["phone", "tv"]


def test_they_are_listed_with_their_last_use(fake_podman: FakePodman, there: AppPasswords) -> None:
    assert fake_podman.invoke_here("users.tokens", "alice").stdout.startswith(
        "no app passwords. Make one: invoke users"
    )
    for label in ("phone", "tv"):
        there.make(ALICE, label, lambda: {ALICE})
    made = {label: one.made for label, one in there.listed(ALICE).items()}
    folder = fake_podman.folder / ".logins"
    folder.mkdir()
    for name, seconds in (
        (f"{ALICE}:phone:imap", made["phone"] + 50),
        (f"{ALICE}:phone:web", made["phone"] + 70),
        (f"{BOB}:phone:pop3", made["phone"] + 90),
        (f"{ALICE}:tv:web", made["tv"] - 1),  # of an earlier one with this label
        ("litter", 0),
    ):
        (folder / name).touch()
        os.utime(folder / name, (seconds, seconds))
    found = json.loads(fake_podman.invoke_here("users.tokens", "alice", "--json").stdout)
    assert found["account"] == ALICE
    phone, tv = found["app_passwords"]
    assert (phone["label"], phone["protocol"]) == ("phone", "web")
    assert phone["last_used"] > phone["made"]
    assert (tv["label"], tv["last_used"], tv["protocol"]) == ("tv", None, None)
    lines = fake_podman.invoke_here("users.tokens", "alice").stdout.splitlines()
    assert lines == [
        f"phone: made {phone['made'][:10]}, last used {phone['last_used'][:10]} (web)",
        f"tv: made {tv['made'][:10]}, never used",
    ]


@pytest.mark.parametrize(
    "line", [ALICE, f"{ALICE}:{'0' * 64}:1.000", f"{ALICE}/phone:{'0' * 63}:1.000", f"{ALICE}/a b:{'0' * 64}:1.000"]
)
def test_a_line_that_is_no_app_password_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "tokens").write_text(f"# ours\n\n{line}\n")
    with pytest.raises(Problem, match=r"line 3 of .*/tokens is .*, which is not an app password"):
        AppPasswords(Folder.at(tmp_path)).listed(ALICE)
