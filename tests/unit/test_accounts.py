"""The accounts file: its content, its permissions, and that concurrent changes are all kept."""

import multiprocessing
import os
import re
import stat
from pathlib import Path
from typing import Never

import bcrypt
import pytest

from podserve import accounts, addresses
from podserve.accounts import Accounts
from podserve.errors import Problem
from podserve.folder import Folder

ALICE, BOB = "alice@example.org", "bob@example.org"
GOOD, BETTER = "correct horse", "battery staple"
WRITERS = 20


@pytest.fixture
def there(tmp_path: Path) -> Accounts:
    """The accounts of a new volume."""
    return Accounts(Folder.at(tmp_path))


def is_password(password: str, hashed: str) -> bool:
    """Return whether a hash is that of a password."""
    return bcrypt.checkpw(password.encode(), hashed.encode())


@pytest.mark.parametrize("name", ["alice", "Alice@MÜLLER.de", "alice@xn--mller-kva.de"])
def test_an_account_is_named_with_either_form_of_its_domain(name: str) -> None:
    assert addresses.address(name, "xn--mller-kva.de") == "alice@xn--mller-kva.de"


@pytest.mark.parametrize("name", ["alice", "Alice", "alice@example.org", "ALICE@Example.ORG"])
def test_an_account_is_named_with_or_without_its_domain(name: str) -> None:
    assert addresses.address(name, "example.org") == ALICE


@pytest.mark.parametrize("local", ["a", "7", "a.b", "a_b", "a-b", "a" * 64])
def test_an_account_may_be_named(local: str) -> None:
    assert addresses.address(local, "example.org") == f"{local}@example.org"


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "@", "@example.org", "alice@other.org", "alice@example.org@example.org", "alice@sub.example.org"),
        *("a+tag", "a:b", "a/b", "..", "../a", ".a", "a.", "a..b", "-a", "#a", "$a", "a b", "a\n", "a\nb:c", "a" * 65),
        *("álice", "\N{CYRILLIC SMALL LETTER A}lice"),
    ],
)
def test_an_account_may_not_be_named(name: str) -> None:
    with pytest.raises(Problem, match=r"cannot be an account of example\.org: expected a name such as alice or"):
        addresses.address(name, "example.org")


def test_a_new_volume_has_no_accounts(there: Accounts) -> None:
    assert there.hashes() == {}


def test_an_account_that_is_added_is_there_with_its_password(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    assert list(there.hashes()) == [ALICE]
    assert is_password(GOOD, there.hashes()[ALICE])
    assert not is_password(BETTER, there.hashes()[ALICE])


def test_the_hash_is_one_that_apache_and_dovecot_read(there: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    there.add(ALICE, GOOD)
    assert re.fullmatch(r"\$2y\$10\$[./A-Za-z0-9]{53}", there.hashes()[ALICE])


def test_the_file_is_for_root_and_the_accounts_group(there: Accounts, tmp_path: Path) -> None:
    there.add(ALICE, GOOD)
    status = (tmp_path / "passwd").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, 5002)


def test_the_file_has_a_line_an_account_in_order(there: Accounts, tmp_path: Path) -> None:
    for account in (BOB, ALICE):
        there.add(account, GOOD)
    text = (tmp_path / "passwd").read_text()
    assert text == "".join(f"{account}:{there.hashes()[account]}\n" for account in (ALICE, BOB))


def test_comments_and_empty_lines_are_no_accounts(there: Accounts, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text(f"# written by hand\n\n{ALICE}:$2y$04$abc\n")
    assert there.hashes() == {ALICE: "$2y$04$abc"}


def test_an_account_that_exists_is_not_added_again(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    with pytest.raises(Problem, match=rf"{ALICE} exists already.*users.passwd"):
        there.add(ALICE, BETTER)
    assert is_password(GOOD, there.hashes()[ALICE])


def test_another_password_replaces_the_first(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    there.add(BOB, GOOD)
    there.set_password(ALICE, BETTER)
    assert is_password(BETTER, there.hashes()[ALICE])
    assert is_password(GOOD, there.hashes()[BOB])


def test_an_account_that_is_removed_is_gone_and_the_others_stay(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    there.add(BOB, GOOD)
    there.remove(ALICE)
    assert list(there.hashes()) == [BOB]


def test_a_disabled_account_has_no_hash_that_fits_and_its_own_again_when_it_is_enabled(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    before = there.hashes()
    for _ in range(2):
        there.disable(ALICE)
        assert there.hashes() == {ALICE: f"{before[ALICE]}!"}
    for _ in range(2):
        there.enable(ALICE)
        assert there.hashes() == before


def test_a_disabled_account_stays_disabled_with_another_password(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    there.disable(ALICE)
    there.set_password(ALICE, BETTER)
    assert accounts.disabled(there.hashes()[ALICE])
    there.enable(ALICE)
    assert is_password(BETTER, there.hashes()[ALICE])


def test_an_account_that_is_missing_is_neither_disabled_nor_enabled(there: Accounts) -> None:
    for change in (there.disable, there.enable):
        with pytest.raises(Problem, match=f"there is no account {ALICE}.*users.list"):
            change(ALICE)


def test_an_account_that_is_missing_has_no_password_to_set(there: Accounts) -> None:
    with pytest.raises(Problem, match=f"there is no account {ALICE}.*users.list"):
        there.set_password(ALICE, GOOD)
    assert there.hashes() == {}


def test_an_account_that_is_missing_cannot_be_removed(there: Accounts) -> None:
    there.add(BOB, GOOD)
    with pytest.raises(Problem, match=f"there is no account {ALICE}.*users.list"):
        there.remove(ALICE)
    assert list(there.hashes()) == [BOB]


@pytest.mark.parametrize(
    "password", ["12345678", "x" * 72, "ü" * 36, "pass:word", "with space ", "$2y$10$x", "🔑🔑🔑🔑🔑🔑🔑🔑"]
)
def test_a_password_may_be(there: Accounts, password: str) -> None:
    there.add(ALICE, password)
    assert is_password(password, there.hashes()[ALICE])


@pytest.mark.parametrize(
    "password",
    ["", "1234567", "ü" * 7, "x" * 73, "ü" * 37, "new\nline!!", "tab\tbed!!", "null\x00null", "delete\x7f!!"],
)
def test_a_password_may_not_be(there: Accounts, password: str) -> None:
    there.add(BOB, GOOD)
    with pytest.raises(Problem, match="at least 8 characters, at most 72 bytes"):
        there.add(ALICE, password)
    with pytest.raises(Problem, match="at least 8 characters, at most 72 bytes"):
        there.set_password(BOB, password)
    assert list(there.hashes()) == [BOB]
    assert is_password(GOOD, there.hashes()[BOB])


def test_no_error_tells_a_password_or_a_hash(there: Accounts) -> None:
    there.add(ALICE, GOOD)
    secret = "secret\x00secret"
    for account, password in ((ALICE, BETTER), (BOB, secret)):
        with pytest.raises(Problem) as refused:
            there.add(account, password)
        told = repr(refused.value.text)
        assert not any(word in told for word in ("$2y$", there.hashes()[ALICE], "secret", GOOD, BETTER))


def test_a_password_made_here_is_long_never_the_same_and_no_option_of_a_program(there: Accounts) -> None:
    made = {accounts.random_password() for _ in range(100)}
    assert all(password.isalnum() for password in made)
    assert len(made) == 100
    assert {len(password) for password in made} == {20}
    there.add(ALICE, made.pop())


def test_of_twenty_who_add_at_once_nobody_is_lost(there: Accounts) -> None:
    processes = multiprocessing.get_context("fork")
    start = processes.Barrier(WRITERS)

    def add(number: int) -> None:
        start.wait()
        there.add(f"writer-{number}@example.org", GOOD)

    writers = [processes.Process(target=add, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert set(there.hashes()) == {f"writer-{number}@example.org" for number in range(WRITERS)}


class Crash(BaseException):
    """An exception that no handler catches, in place of a crash of the process."""


def test_a_crash_before_the_change_is_done_leaves_the_file_as_it_was(
    there: Accounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> Never:
        raise Crash

    there.add(ALICE, GOOD)
    before = (tmp_path / "passwd").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(Crash):
            there.add(BOB, GOOD)
    assert (tmp_path / "passwd").read_bytes() == before
    there.remove(ALICE)
    assert there.hashes() == {}


def test_each_change_has_a_second_of_its_own(there: Accounts, tmp_path: Path) -> None:
    # Dovecot detects a change by size and whole seconds. A new password does not change the size.
    there.add(ALICE, GOOD)
    seen = [int((tmp_path / "passwd").stat().st_mtime)]
    for password in (BETTER, GOOD, BETTER):
        there.set_password(ALICE, password)
        seen.append(int((tmp_path / "passwd").stat().st_mtime))
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    "line",
    ["../../../../etc/x@example.org:$2y$04$abc", "/etc/x@example.org:x", "..@example.org:x", "a/b@example.org:x",
     "no-domain:x", "ada@../x:x", "Ada@example.org:x", "\x1b[2J@example.org:x", "a\0@example.org:x", ":x", " "],
)  # fmt: skip
def test_a_line_that_names_no_account_is_told_with_its_number_and_nothing_is_changed(
    there: Accounts, tmp_path: Path, line: str
) -> None:
    there.add(ALICE, GOOD)
    with (tmp_path / "passwd").open("a") as file:
        file.write(f"{line}\n")
    before = (tmp_path / "passwd").read_bytes()
    for use in (there.hashes, lambda: there.add(BOB, GOOD), lambda: there.remove(ALICE)):
        with pytest.raises(Problem, match=r"^line 2 of .*/passwd begins with .* Remove that line") as told:
            use()
        assert told.value.text.isprintable()
    assert (tmp_path / "passwd").read_bytes() == before


def test_an_accounts_file_without_an_end_is_not_read(there: Accounts, tmp_path: Path) -> None:
    with (tmp_path / "passwd").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Problem, match="more than"):
        there.hashes()


def test_nothing_is_written_or_read_through_a_link_on_the_volume(there: Accounts, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("precious")
    (tmp_path / "passwd.new").symlink_to(tmp_path / "host")
    there.add(ALICE, GOOD)
    assert (tmp_path / "host").read_text() == "precious"
    (tmp_path / "passwd").unlink()
    (tmp_path / "passwd").symlink_to(tmp_path / "host")
    with pytest.raises(Problem, match="not a regular file"):
        there.add(BOB, GOOD)
    assert (tmp_path / "host").read_text() == "precious"


def test_an_account_is_made_where_it_is_missing_with_a_password_that_is_returned_once(there: Accounts) -> None:
    password = there.ensure("carol@example.org")
    assert bcrypt.checkpw(password.encode(), there.hashes()["carol@example.org"].encode())
    before = there.hashes()
    assert there.ensure("carol@example.org") == ""
    assert there.hashes() == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alice", ALICE), ("Alice@Example.net", "alice@example.net"), ("alice@müller.de", "alice@xn--mller-kva.de")],
)
def test_an_account_may_be_at_each_domain_of_the_pod(name: str, expected: str) -> None:
    domains = "example.org", "example.net", "xn--mller-kva.de"
    assert addresses.address(name, *domains) == expected
    assert addresses.target(name, *domains) == expected
    assert addresses.alias(name, *domains) == expected
    assert addresses.alias("@example.net", *domains) == "@example.net"
    for wrong in ("alice@example.edu", "alice@lists.example.net", "@example.net"):
        with pytest.raises(Problem, match=r"alice@example.org \(or @example.net, @xn--mller-kva.de\)"):
            addresses.address(wrong, *domains)
    with pytest.raises(Problem, match=r"postmaster@example.net cannot be an alias"):
        addresses.alias("postmaster@example.net", *domains)


def test_an_account_of_another_domain_is_named_by_its_whole_address_only(there: Accounts) -> None:
    other = "alice@other.org"
    there.add(ALICE, GOOD)
    there.add(other, GOOD)
    assert [there.named(name, "example.org") for name in ("Alice", ALICE, "Alice@Other.org")] == [ALICE, ALICE, other]
    with pytest.raises(Problem, match="cannot be an account of"):
        there.named("bob@other.org", "example.org")
