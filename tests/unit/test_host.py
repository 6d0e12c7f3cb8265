"""The host: whether a user who is not root owns the pod, and in which namespace a task runs."""

import os
import sys
from pathlib import Path

import pytest

from podserve import host
from podserve.errors import Problem

MARK = "_CONTAINERS_USERNS_CONFIGURED"


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run outside any user namespace of Podman."""
    monkeypatch.delenv(MARK, raising=False)
    monkeypatch.delenv("_CONTAINERS_ROOTLESS_UID", raising=False)


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that would have replaced this process by exec()."""
    words: list[str] = []
    monkeypatch.setattr(host, "become", lambda *argv: words.extend(argv))
    monkeypatch.setattr(host, "podman_info", lambda: None)
    monkeypatch.setattr(sys, "argv", ["/x/invoke", "users.add", "alice"])
    return words


def test_a_users_task_begins_anew_where_the_volumes_can_be_reached(
    became: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host.rootless()
    host.enter()
    invoke = [sys.executable, "-P", "-m", "invoke", "users.add", "alice"]
    assert became == ["podman", "unshare", "env", "--block-signal=INT,TERM,HUP", *invoke]


def test_a_users_task_does_not_become_a_podman_that_hangs(became: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs() -> None:
        raise Problem("no answer")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(host, "podman_info", hangs)
    with pytest.raises(Problem, match="no answer"):
        host.enter()
    assert became == []


def test_a_users_task_begins_anew_once(became: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv(MARK, "done")
    monkeypatch.setenv("_CONTAINERS_ROOTLESS_UID", "1000")
    host.enter()
    assert (host.rootless(), host.entered(), host.user(), became) == (True, True, 1000, [])


def test_roots_task_stays_where_it_is(became: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    host.enter()
    assert (host.rootless(), host.entered(), became) == (False, False, [])


def test_ids_are_counted_over_all_lines_of_a_user(tmp_path: Path) -> None:
    file = tmp_path / "subgid"
    file.write_text(f"{os.getuid()}:100000:1000\nothers:200000:65536\n{os.getuid()}:300000:2000\n# no:such:line\n")
    assert host.subordinate_ids(file) == 3000
    assert host.subordinate_ids(tmp_path / "missing") == 0


@pytest.mark.parametrize(
    ("uids", "gids", "free"),
    [
        ("", "", 100000),
        ("ann:100000:65536", "", 165536),
        ("", "ann:100000:65536", 165536),
        ("bob:165536:65536\nann:100000:65536", "ann:290000:10", 290010),
        ("ann:200000:65536", "1000:90000:10001", 100001),
        ("ann:165536:65536", "ann:1000:99000", 100000),
    ],
    ids=["none", "of users", "of groups", "between", "over the first", "room before"],
)
def test_ids_that_are_free_are_free_in_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uids: str, gids: str, free: int
) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    for file, text in zip(files, (uids, gids), strict=True):
        file.write_text(text)
    monkeypatch.setattr(host, "SUBORDINATE_IDS", files)
    assert host.free_ids() == free


def test_a_user_of_a_directory_is_not_in_passwd() -> None:
    assert host.in_passwd("root")
    assert not host.in_passwd("roo")
