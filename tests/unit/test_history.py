"""The log of changes: a line for each change of an account or alias, with who and when, and none for a refused one."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from podserve import history, people, volumes
from podserve.folder import Folder
from podserve.history import History
from tests.unit.helpers import FakePodman, pod_with

ALICE = "alice@lab.sethlakowske.com"
PASSWORD = "correct horse"
NEW = "--password-stdin"


@pytest.fixture
def there(fake_podman: FakePodman) -> FakePodman:
    """A pod with the account alice, which has the alias info, and an account bob."""
    for name in ("alice", "bob"):
        assert fake_podman.invoke_here("users.add", name, NEW, stdin=f"{PASSWORD}\n").code == 0
    assert fake_podman.invoke_here("aliases.add", "info", "alice").code == 0
    return fake_podman


def logged(fake_podman: FakePodman) -> list[str]:
    """Return the lines of the log without their times."""
    return [line.partition(" ")[2] for line in fake_podman.invoke_here("users.log").stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("users.add", "carol", NEW), "users.add carol@lab.sethlakowske.com"),
        (("users.passwd", "Alice", NEW), f"users.passwd {ALICE}"),
        (("users.disable", "alice"), f"users.disable {ALICE}"),
        (("users.enable", "alice"), f"users.enable {ALICE}"),
        (("users.quota", "alice", "2G"), f"users.quota {ALICE} 2G"),
        (("users.remove", "bob"), "users.remove bob@lab.sethlakowske.com"),
        (("aliases.add", "info", "bob,x@example.com"),
         "aliases.add info@lab.sethlakowske.com bob@lab.sethlakowske.com,x@example.com"),
        (("aliases.remove", "info"), "aliases.remove info@lab.sethlakowske.com"),
    ],
)  # fmt: skip
def test_each_change_leaves_one_line_with_who_and_no_password(
    there: FakePodman, words: Sequence[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logged(there)
    monkeypatch.setenv("SUDO_USER", "dora")
    changed = there.invoke_here(*words, stdin="battery staple\n")
    assert changed.code == 0, changed
    assert logged(there) == [*before, f"dora {line}"]
    text = (there.folder / "log" / "changes").read_text()
    assert not re.search(r"staple|horse|\$2y", text)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", one) for one in text.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        *(("users.add", "alice", NEW), ("users.add", "b:c", NEW), ("users.passwd", "nobody", NEW)),
        *(("users.disable", "nobody"), ("users.disable", "postmaster"), ("users.enable", "nobody")),
        *(("users.quota", "alice", "much"), ("users.quota", "nobody", "2G"), ("users.remove", "alice")),
        *(("aliases.add", "info", "nobody"), ("aliases.remove", "nobody"), ("users.import", "/nowhere")),
    ],
)
def test_a_refused_change_leaves_none(there: FakePodman, words: Sequence[str]) -> None:
    before = logged(there)
    assert there.invoke_here(*words, stdin=f"{PASSWORD}\n").code == 1
    assert logged(there) == before


def test_the_changes_of_one_account_are_shown_with_its_aliases(there: FakePodman) -> None:
    shown = there.invoke_here("users.log", "--name", "alice").stdout.splitlines()
    assert [line.split(" ", 2)[2] for line in shown] == [
        f"users.add {ALICE}", f"aliases.add info@lab.sethlakowske.com {ALICE}"
    ]  # fmt: skip
    assert there.invoke_here("users.log", "--name", "nobody").stdout == "no changes\n"


def test_the_log_is_roots_and_stands_where_no_service_sees_it_change(there: FakePodman) -> None:
    folder = there.folder / "log"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "changes")] == [0o700, 0o600]
    assert "changes" not in [path.name for path in there.folder.iterdir()]


def test_a_name_from_the_environment_forges_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "dora users.add x@y\n2026-11-27T00:00:00Z eve")
    log = History(Folder.at(tmp_path))
    log.add("users.add", [ALICE])
    (change,) = log.changes()
    assert (change.who, change.what) == ("dora_users.add_x@y_2026-11-27T00:00:00Z_eve", ALICE)


def test_the_oldest_changes_are_dropped_when_the_log_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_LARGEST", 1000)
    monkeypatch.setenv("SUDO_USER", "dora")
    log = History(Folder.at(tmp_path))
    for number in range(50):
        log.add("users.add", [f"{number}@example.org"])
    kept = [change.what for change in log.changes()]
    assert 10 < len(kept) < 20
    assert kept == [f"{number}@example.org" for number in range(50 - len(kept), 50)]


def test_the_account_that_up_adds_is_in_the_log_once(there: FakePodman, monkeypatch: pytest.MonkeyPatch) -> None:
    before = logged(there)
    monkeypatch.setattr(volumes, "path_on_host", lambda _: there.folder)
    passwords = [people.with_postmaster(pod_with())[1] for _ in range(2)]
    assert [bool(password) for password in passwords] == [True, False]
    assert logged(there) == [*before, f"{history.operator()} up postmaster@lab.sethlakowske.com"]
