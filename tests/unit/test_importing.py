"""Accounts from a file: which files are refused, by which line, and what is there afterwards."""

import os
from pathlib import Path

import bcrypt
import pytest

from podserve import importing
from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.importing import Imported
from podserve.quotas import Quotas
from tests.unit.helpers import FakePodman, chosen

DOMAIN = "lab.sethlakowske.com"
PASSWORD = "correct horse, battery"
HASH = "04$S7HnrNRJiTfX/OhfYJqgwuC9MV0DInaXoyy4uwIInlTIzhO6Uevqq"
"""The hash of battery staple, after $2y$."""
GOOD = f"""\
name,password,hash,quota,aliases
alice,"{PASSWORD}",,2G,info sales
bob@{DOMAIN},,{{BLF-CRYPT}}$2b${HASH},,
carol,,,none,info
"""


def imported(folder: Path, text: str) -> Imported:
    """Import a file into a folder."""
    return importing.import_accounts(Folder.at(folder), importing.parse_rows(text, chosen()))


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_size}


def test_each_line_becomes_an_account_with_its_password_quota_and_aliases(tmp_path: Path) -> None:
    done = imported(tmp_path, GOOD)
    alice, bob, carol = done.new
    hashes = Accounts(Folder.at(tmp_path)).hashes()
    assert list(done.passwords) == [carol]
    assert [bcrypt.checkpw(said.encode(), hashes[name].encode()) for name, said in
            ((alice, PASSWORD), (bob, "battery staple"), (carol, done.passwords[carol]))] == [True] * 3  # fmt: skip
    assert hashes[bob] == f"$2y${HASH}"
    assert Quotas(Folder.at(tmp_path)).own() == {alice: "2G", carol: "none"}
    there = Aliases(Folder.at(tmp_path)).all()
    assert there == {f"info@{DOMAIN}": (alice, carol), f"sales@{DOMAIN}": (alice,)}


def test_a_second_import_of_the_same_file_changes_nothing(tmp_path: Path) -> None:
    first, before = imported(tmp_path, GOOD), content(tmp_path)
    again = imported(tmp_path, GOOD)
    assert (again.new, again.same, again.passwords) == ((), first.new, {})
    assert content(tmp_path) == before


def test_a_spreadsheets_file_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes("\ufeffName;Quota\r\nalice;2G\r\n\r\nbob;\r\n".encode())
    file.chmod(0o600)
    rows = importing.parse_rows(importing.read_list(str(file)), chosen())
    assert [(row.number, row.account, row.quota) for row in rows] == [
        (2, f"alice@{DOMAIN}", "2G"), (4, f"bob@{DOMAIN}", "")
    ]  # fmt: skip


WRONG = [
    ("a b,,,,", "cannot be an account of"),
    ("dora@example.com,,,,", "cannot be an account of"),
    (",,,,", "cannot be an account of"),
    ("abuse,,,,", "mail to this address goes to"),
    ("dora,short,,,", "this password cannot be used: expected at least 8"),
    ("dora,,$6$abc$def,,", "the hash is not bcrypt's: expected $2y$"),
    (f"dora,,$2y$31${'a' * 53},,", "the hash is not bcrypt's"),
    (f"dora,,$2y$10${'a' * 52}:,,", "the hash is not bcrypt's"),
    (f"dora,long enough,$2y${HASH},,", "there are a password and a hash: expected one"),
    ("dora,,,2GB,", "'2GB' cannot be a quota"),
    ("dora,,,,postmaster", "cannot be an alias"),
    ("dora,,,,carol", "cannot be an alias: it is an account"),
    ("dora,,,,old", "cannot be an alias: it is an account"),
    ("help,,,,", "help@lab.sethlakowske.com cannot be an account: it is an alias"),
    ("carol,,,,", "is on line 4, too: expected each account once"),
    ("dora,,,,,more", "there are more fields than columns"),
    ('dora,"a"b,,,', "this is not CSV"),
    ("old,another password,,,", "exists already, and has another password"),
    (f"old,,$2y${HASH},,", "exists already, and has another hash"),
    ("old,,,2G,", "exists already, and has another quota"),
    ("old,,,,info", "exists already, and is not the target of these aliases"),
]


@pytest.mark.parametrize(("line", "told"), WRONG)
def test_one_wrong_line_is_told_and_changes_nothing(tmp_path: Path, line: str, told: str) -> None:
    folder = Folder.at(tmp_path)
    Accounts(folder).add(f"old@{DOMAIN}", "long enough")
    Aliases(folder).add(f"help@{DOMAIN}", [f"old@{DOMAIN}"], Accounts(folder).hashes)
    before = content(tmp_path)
    with pytest.raises(Problem) as refused:
        imported(tmp_path, f"{GOOD}{line}\n")
    assert refused.value.text.startswith("nothing was changed, because of these lines:\n  line 5: ")
    assert told in refused.value.text
    assert content(tmp_path) == before


@pytest.mark.parametrize("first", ["", "mail,password", "alice,secret", "name,name", "name,password,role", ","])
def test_a_first_line_without_the_columns_is_refused(tmp_path: Path, first: str) -> None:
    with pytest.raises(Problem, match=r"line 1 names the columns .*: expected name, and any of password, hash, quota"):
        imported(tmp_path, f"{first}\nalice,secret\n")


def test_all_wrong_lines_are_told_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(Problem) as refused:
        imported(tmp_path, "name\n" + "a b\n" * 30)
    first, *lines, last = refused.value.text.splitlines()
    assert [int(line.split()[1].rstrip(":")) for line in lines] == list(range(2, 22))
    assert (first, last) == ("nothing was changed, because of these lines:", "  and 10 more")


def test_an_account_that_is_disabled_is_the_same_and_stays_so(tmp_path: Path) -> None:
    imported(tmp_path, GOOD)
    there = Accounts(Folder.at(tmp_path))
    there.disable(f"alice@{DOMAIN}")
    before = content(tmp_path)
    assert imported(tmp_path, GOOD).new == ()
    assert content(tmp_path) == before


def test_a_file_with_passwords_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text(GOOD)
    file.chmod(0o644)
    with pytest.raises(Problem, match=f"holds secrets, and other users can read or change it: chmod 0600 {file}"):
        importing.read_list(str(file))
    os.chmod(file, 0o600)  # noqa: PTH101
    assert importing.read_list(str(file)) == GOOD


def test_the_task_prints_the_passwords_that_it_has_made_once(fake_podman: FakePodman) -> None:
    done = fake_podman.invoke_here("users.import", "-", stdin=GOOD)
    made, *rest = done.stdout.splitlines()
    account, password = made.split()
    assert (account, rest) == (f"carol@{DOMAIN}", ["accounts: 3 added, 0 were there already"])
    hashed = Accounts(Folder.at(fake_podman.folder)).hashes()[account]
    assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert sorted(path.name for path in (fake_podman.folder / "home").iterdir()) == ["alice", "bob", "carol"]
    again = fake_podman.invoke_here("users.import", "-", stdin=GOOD)
    assert (again.stdout, again.stderr) == ("accounts: 0 added, 3 were there already\n", "")
    log = fake_podman.invoke_here("users.log").stdout.splitlines()
    assert [line.split(" ")[2:] for line in log] == [
        ["users.import", f"{name}@{DOMAIN}"] for name in ("alice", "bob", "carol")
    ]


def test_the_task_changes_nothing_for_a_wrong_line(fake_podman: FakePodman) -> None:
    ended = fake_podman.invoke_here("users.import", "-", stdin=f"{GOOD}a b\n")
    assert (ended.code, ended.stdout) == (1, "")
    assert "line 5: 'a b' cannot be an account" in ended.stderr
    assert content(fake_podman.folder).keys() <= {"podman", "info", "calls"}
