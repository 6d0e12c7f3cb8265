"""Aliases: what is refused when one is made, and how the tasks show them."""

import json

import pytest

from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from tests.unit.helpers import FakePodman

DOMAIN = "lab.sethlakowske.com"
ALICE, BOB, INFO, TEAM = (f"{name}@{DOMAIN}" for name in ("alice", "bob", "info", "team"))


@pytest.fixture
def there(fake_podman: FakePodman) -> Aliases:
    """The aliases of a volume with the accounts alice and bob."""
    people = Accounts(Folder.at(fake_podman.folder))
    for account in (ALICE, BOB):
        people.add(account, "correct horse")
    return Aliases(Folder.at(fake_podman.folder))


@pytest.mark.parametrize(
    ("alias", "targets", "told"),
    [
        ("bob", "alice", f"{BOB} cannot be an alias: it is an account"),
        ("info", "nobody", f"nobody@{DOMAIN} cannot be a target: there is no such account or alias"),
        ("info", "alice,nobody", f"nobody@{DOMAIN} cannot be a target: there is no such account or alias"),
        ("info", "info", f"these aliases would be a loop: {INFO} -> {INFO}"),
        ("info", "@", "'@' cannot be a target: expected an account or an alias, or an address elsewhere"),
        *(
            ("info", name, f"{name!r} cannot be a target")
            for name in ("bob@example", "b ob@example.com", "@example.com", "a@b@c.org")
        ),
        ("info", f"@{DOMAIN}", "cannot be a target"),
        ("info", "alice,", "'' cannot be a target"),
        ("info", "alice bob", "'alice bob' cannot be a target"),
        ("postmaster", "alice", f"postmaster@{DOMAIN} cannot be an alias: its mail goes to"),
        (f"Abuse@{DOMAIN}", "alice", f"abuse@{DOMAIN} cannot be an alias: its mail goes to"),
        *((name, "alice", f"{name!r} cannot be an alias") for name in ("info+tag", "@example.com", "../x", "a b")),
    ],
)
def test_a_wrong_alias_is_refused_and_changes_nothing(
    fake_podman: FakePodman, there: Aliases, alias: str, targets: str, told: str
) -> None:
    ended = fake_podman.invoke_here("aliases.add", alias, targets)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("podserve: ")
    assert told in ended.stderr
    assert there.all() == {}


@pytest.mark.parametrize("steps", [2, 3, 10])
def test_a_loop_is_refused_over_any_number_of_steps(there: Aliases, steps: int) -> None:
    names = [f"a{number}@{DOMAIN}" for number in range(steps)]
    for name, target in zip(names, (ALICE, *names), strict=False):
        there.add(name, [BOB, target], lambda: {ALICE, BOB})
    before = there.all()
    with pytest.raises(Problem, match=f"loop: {' -> '.join([names[0], *reversed(names)])}\\."):
        there.add(names[0], [names[-1]], lambda: {ALICE, BOB})
    assert there.all() == before


def test_an_alias_is_no_name_for_an_account(fake_podman: FakePodman, there: Aliases) -> None:
    there.add(INFO, [ALICE], lambda: {ALICE})
    ended = fake_podman.invoke_here("users.add", "info", "--password-stdin", stdin="correct horse\n")
    assert (ended.code, ended.stdout) == (1, "")
    assert f"{INFO} cannot be an account: it is an alias. " in ended.stderr
    assert f"invoke aliases.remove {INFO}" in ended.stderr
    assert set(Accounts(Folder.at(fake_podman.folder)).hashes()) == {ALICE, BOB}


def test_aliases_are_listed_with_those_of_another_domain_which_can_be_removed(
    fake_podman: FakePodman, there: Aliases
) -> None:
    assert json.loads(fake_podman.invoke_here("aliases.list", "--json").stdout) == {"domain": DOMAIN, "aliases": []}
    assert fake_podman.invoke_here("aliases.add", f"Info@{DOMAIN}", "Alice,bob").stdout == (
        f"mail to {INFO} goes to {ALICE}, {BOB}\n"
    )
    fake_podman.invoke_here("aliases.add", "@", "info")
    there.add("info@other.org", [ALICE], lambda: {ALICE})
    lines = [f"@{DOMAIN}: {INFO}", f"{INFO}: {ALICE}, {BOB}",
             f"info@other.org: {ALICE} is not in use: this pod serves {DOMAIN}"]  # fmt: skip
    assert fake_podman.invoke_here("aliases.list").stdout.splitlines() == lines
    assert json.loads(fake_podman.invoke_here("aliases.list", "--json").stdout)["aliases"] == [
        {"address": f"@{DOMAIN}", "targets": [INFO], "in_use": True},
        {"address": INFO, "targets": [ALICE, BOB], "in_use": True},
        {"address": "info@other.org", "targets": [ALICE], "in_use": False},
    ]
    assert fake_podman.invoke_here("aliases.remove", "info", "--targets", "bob").stdout == (
        f"mail to {INFO} goes to {ALICE}\n"
    )
    for name in ("info@other.org", "@", INFO):
        assert fake_podman.invoke_here("aliases.remove", name).code == 0
    assert there.all() == {}


@pytest.mark.parametrize(("words", "told"), [(("team",), f"no alias {TEAM}"), (("info", "--targets", "bob"), BOB)])
def test_what_is_not_there_is_not_removed(
    fake_podman: FakePodman, there: Aliases, words: tuple[str, ...], told: str
) -> None:
    there.add(INFO, [ALICE], lambda: {ALICE})
    ended = fake_podman.invoke_here("aliases.remove", *words)
    assert (ended.code, ended.stdout) == (1, "")
    assert told in ended.stderr
    assert there.all() == {INFO: (ALICE,)}


def test_the_only_target_of_an_alias_is_not_removed(fake_podman: FakePodman, there: Aliases) -> None:
    there.add(INFO, [ALICE], lambda: {ALICE})
    there.add(TEAM, [INFO], lambda: {ALICE})
    for task, name, alias in (("users.remove", ALICE, INFO), ("aliases.remove", INFO, TEAM)):
        ended = fake_podman.invoke_here(task, name)
        assert (ended.code, ended.stdout) == (1, "")
        assert f"{name} is the only target of the alias {alias}" in ended.stderr
    assert there.all() == {INFO: (ALICE,), TEAM: (INFO,)}
    assert ALICE in Accounts(Folder.at(fake_podman.folder)).hashes()


@pytest.mark.parametrize("line", ["info", f"{INFO}", f"info {ALICE}", f"{INFO} alice"])
def test_a_line_that_is_no_alias_is_named(fake_podman: FakePodman, there: Aliases, line: str) -> None:
    (fake_podman.folder / "aliases").write_text(f"# ours\n\n{line}\n")
    with pytest.raises(Problem, match=r"line 3 of .*/aliases is .*, which is not an alias"):
        there.all()
