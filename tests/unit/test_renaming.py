"""Renaming accounts: all that belongs to one moves, an interrupted call can be repeated, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from podserve import homes, renaming, running, state, token_uses, volumes
from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.quotas import Quotas
from podserve.renaming import Renames, finish_renames, rename_account, rename_domain
from podserve.running import Inspected
from podserve.token_uses import FOLDER
from podserve.tokens import AppPasswords
from tests.unit.helpers import pod_with

FIRST, SECOND = "one.example", "two.example"
ALICE, BOB, ANNA = f"alice@{FIRST}", f"bob@{FIRST}", f"anna@{FIRST}"
ALSO_ALICE = f"alice@{SECOND}"
PASSWORD = "correct horse"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volumes of a pod that does not run, by content, with alice, bob and a disabled alice of the second domain."""
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    for content in ("accounts", "mail", "web"):
        (tmp_path / content).mkdir()
    monkeypatch.setattr(volumes, "is_there", lambda _: True)
    monkeypatch.setattr(volumes, "folder", lambda name: Folder.at(tmp_path / name.rsplit("-", 1)[-1]))
    monkeypatch.setattr(running, "inspected", lambda _: Inspected())
    folder = Folder.at(tmp_path / "accounts")
    for account in (ALICE, BOB, ALSO_ALICE):
        Accounts(folder).add(account, PASSWORD)
        name, domain = account.split("@")
        home = tmp_path / "web" / "home" / (name if domain == FIRST else account)
        for place in (tmp_path / "mail" / domain / name / "Maildir" / "cur", home):
            place.mkdir(parents=True)
            (place / "letter").write_text(account)
    Accounts(folder).disable(ALSO_ALICE)
    Quotas(folder).set(ALICE, "2G")
    people = Accounts(folder).hashes
    Aliases(folder).add(f"info@{FIRST}", [ALICE, BOB], people)
    Aliases(folder).add(f"@{SECOND}", [ALSO_ALICE, f"info@{FIRST}"], people)
    return tmp_path


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """That pod."""
    return pod_with(tmp_path / "state", domain=FIRST, mail_domains=SECOND)


def seen(there: Path) -> dict[str, object]:
    """Return all that belongs to accounts, without the times of renaming."""
    folder = Folder.at(there / "accounts")
    letters = {str(path.relative_to(there)): path.read_text() for path in there.glob("[mw]*/**/letter*")}
    return {"accounts": Accounts(folder).hashes(), "aliases": Aliases(folder).all(), "quotas": Quotas(folder).own(),
            **letters}  # fmt: skip


def test_all_that_belongs_to_an_account_gets_its_new_name(there: Path, pod: Pod) -> None:
    hashed = Accounts(Folder.at(there / "accounts")).hashes()
    passwords = AppPasswords(Folder.at(there / "accounts"))
    passwords.make(ALICE, "phone", lambda: [ALICE])
    app_passwords, used = passwords.listed(ALICE), there / "mail" / FOLDER / f"{ALICE}:phone:imap"
    used.parent.mkdir()
    used.touch()
    os.utime(used, (app_passwords["phone"].made + 50,) * 2)
    last = token_uses.usages(pod, ALICE)
    assert last[0].protocol == "imap"
    assert rename_account(pod, "Alice", f"Anna@{FIRST}", keep=False) == {ALICE: ANNA}
    found = seen(there)
    assert found["accounts"] == {ANNA: hashed[ALICE], BOB: hashed[BOB], ALSO_ALICE: hashed[ALSO_ALICE]}
    assert found["aliases"] == {f"info@{FIRST}": (ANNA, BOB), f"@{SECOND}": (ALSO_ALICE, f"info@{FIRST}")}
    assert found["quotas"] == {ANNA: "2G"}
    assert (passwords.listed(ANNA), passwords.listed(ALICE)) == (app_passwords, {})
    assert token_uses.usages(pod, ANNA) == last
    assert found[f"mail/{FIRST}/anna/Maildir/cur/letter"] == found["web/home/anna/letter"] == ALICE
    assert not [path for path in found if "alice" in path and SECOND not in path]
    assert {old: new for old, (new, _) in Renames(Folder.at(there / "accounts")).all().items()} == {ALICE: ANNA}


def test_an_account_changes_its_domain_and_keeps_its_old_address_as_an_alias(there: Path, pod: Pod) -> None:
    rename_account(pod, BOB, f"bob@{SECOND}", keep=True)
    found = seen(there)
    assert found[f"mail/{SECOND}/bob/Maildir/cur/letter"] == found[f"web/home/bob@{SECOND}/letter"] == BOB
    aliases = Aliases(Folder.at(there / "accounts")).all()
    assert aliases[BOB] == (f"bob@{SECOND}",)
    assert aliases[f"info@{FIRST}"] == (ALICE, f"bob@{SECOND}")


def test_a_disabled_account_stays_disabled_and_its_namesake_is_another_one(there: Path, pod: Pod) -> None:
    hashed = Accounts(Folder.at(there / "accounts")).hashes()
    rename_account(pod, ALSO_ALICE, f"carol@{SECOND}", keep=False)
    assert Accounts(Folder.at(there / "accounts")).hashes()[f"carol@{SECOND}"] == hashed[ALSO_ALICE]
    found = seen(there)
    assert hashed[ALSO_ALICE].endswith("!")
    assert found[f"mail/{FIRST}/alice/Maildir/cur/letter"] == found["web/home/alice/letter"] == ALICE


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("nobody", "anna", "there is no account nobody@one.example"),
        ("alice", "bob", f"{BOB} is an account already"),
        ("alice", ALSO_ALICE, f"{ALSO_ALICE} is an account already"),
        ("alice", "alice", f"{ALICE} is an account already"),
        ("alice", "info", f"info@{FIRST} is an alias"),
        ("alice", "alice@example.net", f"cannot be an account of {FIRST}"),
        ("alice", "../anna", "cannot be an account"),
        ("alice", f"abuse@{SECOND}", "cannot be an account: mail to this address goes to"),
        ("alice", "left", f"the mailbox {FIRST}/left belonged to a removed account left@{FIRST}"),
        ("alice", "gone", f"the folder home/gone belonged to a removed account gone@{FIRST}"),
        ("postmaster", "anna", f"postmaster@{FIRST} gets the mail to postmaster@ and abuse@"),
    ],
)
def test_what_cannot_be_renamed_changes_nothing(there: Path, pod: Pod, old: str, new: str, told: str) -> None:
    (there / "mail" / FIRST / "left").mkdir()
    (there / "web" / "home" / "gone").mkdir()
    Accounts(Folder.at(there / "accounts")).add(f"postmaster@{FIRST}", PASSWORD)
    before = seen(there)
    with pytest.raises(Problem) as refused:
        rename_account(pod, old, new, keep=False)
    assert told in refused.value.text
    assert seen(there) == before
    assert not (there / "accounts" / "renamed").exists()


def interruptions(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> int:
    """Interrupt a call before its first file is renamed, before the second, …, until it ends; return how often."""
    rename, number = os.rename, 0
    while True:
        left = [None] * number

        def cut_off(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int, left: list[None] = left) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", cut_off)
            try:
                call()
            except KeyboardInterrupt:
                number += 1
            else:
                return number


def test_a_renaming_that_was_interrupted_is_completed_by_the_same_command(
    there: Path, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = Accounts(Folder.at(there / "accounts")).hashes()
    assert interruptions(monkeypatch, lambda: rename_account(pod, "alice", "anna", keep=True)) >= 5
    found = seen(there)
    assert found["accounts"] == {ANNA: hashed[ALICE], BOB: hashed[BOB], ALSO_ALICE: hashed[ALSO_ALICE]}
    assert found["quotas"] == {ANNA: "2G"}
    assert found[f"mail/{FIRST}/anna/Maildir/cur/letter"] == found["web/home/anna/letter"] == ALICE
    aliases = Aliases(Folder.at(there / "accounts")).all()
    assert (aliases[f"info@{FIRST}"], aliases[ALICE]) == ((ANNA, BOB), (ANNA,))
    assert {mark == renaming.MOVING for _, mark in Renames(Folder.at(there / "accounts")).all().values()} == {False}


def test_up_completes_what_was_interrupted(there: Path, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Accounts, "rename", cut_off)
        with pytest.raises(KeyboardInterrupt):
            rename_account(pod, "alice", "anna", keep=False)
    assert Renames(Folder.at(there / "accounts")).all() == {ALICE: (ANNA, renaming.MOVING)}
    finish_renames(pod, None)
    assert f"mail/{FIRST}/anna/Maildir/cur/letter" in seen(there)
    assert ANNA in Accounts(Folder.at(there / "accounts")).hashes()
    before = seen(there)
    finish_renames(pod, None)
    assert seen(there) == before


def test_mail_that_was_delivered_to_the_old_name_meanwhile_moves_too(there: Path, pod: Pod) -> None:
    rename_account(pod, "alice", "anna", keep=False)
    late = there / "mail" / FIRST / "alice" / "Maildir"
    for name in ("new", ".Sent"):
        (late / name).mkdir(parents=True)
        (late / name / f"letter{name}").write_text("late")
    (late / "cur").mkdir()
    (late / "cur" / "letter").write_text("another index")
    rename_account(pod, "alice", "anna", keep=False)
    found = seen(there)
    for name in ("new", ".Sent"):
        assert found[f"mail/{FIRST}/anna/Maildir/{name}/letter{name}"] == "late"
    assert found[f"mail/{FIRST}/anna/Maildir/cur/letter"] == ALICE
    assert not list((there / "mail" / FIRST / "alice").iterdir())


def test_an_earlier_name_leads_to_the_newest_one_and_a_name_in_use_leads_nowhere(there: Path, pod: Pod) -> None:
    for old, new in (("alice", "anna"), ("anna", "amy"), ("bob", "anna")):
        rename_account(pod, old, new, keep=False)
    found = {old: new for old, (new, _) in Renames(Folder.at(there / "accounts")).all().items()}
    assert found == {ALICE: f"amy@{FIRST}", BOB: ANNA}


def test_a_change_of_the_domain_takes_everybody_along(there: Path, tmp_path: Path) -> None:
    folder = Folder.at(there / "accounts")
    homes.follow_domain(folder, Folder.at(there / "web"), FIRST)
    new, before = "new.example", pod_with(tmp_path / "state", domain=FIRST, mail_domains=SECOND)
    Accounts(folder).add(f"postmaster@{FIRST}", PASSWORD)
    hashed = Accounts(folder).hashes()
    pod = pod_with(tmp_path / "state", domain=new, mail_domains=f"{SECOND} {FIRST}")
    homes.arrange_homes(pod)
    finish_renames(pod, before)
    assert Accounts(folder).hashes()[f"postmaster@{new}"] == hashed[f"postmaster@{FIRST}"]
    changed = rename_domain(pod, FIRST, new.upper(), keep=True)
    assert changed == {name: name.replace(FIRST, new) for name in (ALICE, BOB, f"info@{FIRST}")}
    assert sorted(Accounts(folder).hashes()) == [f"alice@{new}", ALSO_ALICE, f"bob@{new}", f"postmaster@{new}"]
    assert Aliases(folder).all() == {
        ALICE: (f"alice@{new}",),
        BOB: (f"bob@{new}",),
        f"info@{FIRST}": (f"info@{new}",),
        f"info@{new}": (f"alice@{new}", f"bob@{new}"),
        f"@{SECOND}": (ALSO_ALICE, f"info@{new}"),
    }
    with pytest.raises(Problem, match=f"no account and no alias of {FIRST}"):
        rename_domain(pod, FIRST, new, keep=True)


def test_a_catch_all_follows_its_domain_and_may_stay_at_the_old_one_too(there: Path, pod: Pod) -> None:
    pod_of_three = pod_with(pod.state, domain=FIRST, mail_domains=f"new.example {SECOND}")
    rename_domain(pod_of_three, SECOND, "new.example", keep=True)
    found = Aliases(Folder.at(there / "accounts")).all()
    assert found["@new.example"] == found[f"@{SECOND}"] == ("alice@new.example", f"info@{FIRST}")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (FIRST, SECOND, f"{FIRST} is the setting domain, whose postmaster stays there"),
        (SECOND, "new.example", f"new.example is no domain of this pod: expected one of {FIRST}, {SECOND}"),
        ("empty.example", SECOND, "there is no account and no alias of empty.example"),
        (SECOND, FIRST, f"{ALICE} is an account already"),
        (SECOND, "alice@x", "'alice@x' is no domain"),
    ],
)
def test_a_domain_that_cannot_be_renamed_changes_nothing(there: Path, pod: Pod, old: str, new: str, told: str) -> None:
    before = seen(there)
    with pytest.raises(Problem) as refused:
        rename_domain(pod, old, new, keep=False)
    assert told in refused.value.text
    assert seen(there) == before


def test_nobody_is_renamed_before_up_has_served_the_domains(there: Path, pod: Pod) -> None:
    before = pod_with(pod.state, domain=FIRST)
    before.manifests.write(state.applied_folder(before))
    with pytest.raises(Problem, match="the domains are others than at the last up: invoke up"):
        rename_account(pod, "alice", f"anna@{SECOND}", keep=False)
    assert f"mail/{FIRST}/alice/Maildir/cur/letter" in seen(there)
