"""The snapshot of a volume: later writes do not change it, and it changes nothing on the volume."""

import os
from pathlib import Path

import pytest

from podserve.backup import snapshot
from podserve.commands import Result
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.walk import LONGEST, Descent

LONG = "n" * 255


def written(folder: Path, files: dict[str, str]) -> None:
    """Write files by their paths."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def read(folder: Path) -> dict[str, str]:
    """Return the content of all files, by their paths."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


IN_PLACE = {
    "web": ["git/a.git/refs/heads/main", "git/a.git/refs/heads/main.apart", f"git/a.git/refs/heads/{LONG}",
            "git/a.git/packed-refs", "dav/.DAV/file", ".lock/DavLock"],
    "mail": ["example.org/ada/Maildir/dovecot-uidlist", "example.org/ada/Maildir/dovecot.index.log",
             ".postfix/deferred/A"],
    "accounts": ["passwd"],
}  # fmt: skip
NEVER = {
    "web": ["dav/file", "home/ada/file", "site/index.html", "git/a.git/objects/ab/cd"],
    "mail": ["example.org/ada/Maildir/cur/1:2,S", "example.org/ada/Maildir/.Sent/new/2"],
    "accounts": [],
}


def hold(content: str, volume: Path, folder: Path) -> list[str]:
    """Make a snapshot of a volume in a new folder; return the paths that were left out."""
    folder.mkdir()
    return snapshot.hold(content, Folder.at(volume), Folder.at(folder))


@pytest.mark.parametrize("content", IN_PLACE)
def test_it_stays_as_it_was_whatever_is_written_in_place(tmp_path: Path, content: str) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "snapshot"
    volume.mkdir()
    files = {path: f"before: {path}" for path in IN_PLACE[content] + NEVER[content]}
    written(volume, files)
    hold(content, volume, folder)
    assert read(volume) == files
    for path in IN_PLACE[content]:
        with (volume / path).open("r+") as file:
            file.write("AFTER")
    assert read(folder) == files


@pytest.mark.parametrize("content", NEVER)
def test_what_is_never_written_in_place_takes_no_space(tmp_path: Path, content: str) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "snapshot"
    volume.mkdir()
    written(volume, dict.fromkeys(NEVER[content], "x"))
    hold(content, volume, folder)
    assert all((volume / path).samefile(folder / path) for path in NEVER[content])


def freezer(monkeypatch: pytest.MonkeyPatch, failures: int, why: str = "unable to freeze") -> list[str]:
    """Make Podman fail `failures` times to pause a pod. Return the list in which it records its commands."""
    asked = list[str]()

    def podman(_: str, verb: str, name: str, **_kwargs: object) -> Result:
        asked.append(verb)
        if verb == "pause" and asked.count("pause") <= failures:
            raise Problem(why)
        return Result(("podman", "pod", verb, name), 0, "", "")

    monkeypatch.setattr(snapshot, "podman", podman)
    return asked


def test_a_pod_that_cannot_be_frozen_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = freezer(monkeypatch, failures=2)
    snapshot.freeze("podserve")
    assert asked == ["pause", "unpause", "pause", "unpause", "pause"]


def test_a_pod_that_cannot_be_frozen_runs_on_and_podman_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = freezer(monkeypatch, failures=1000)
    monkeypatch.setattr(snapshot, "FREEZING", 0.2)
    with pytest.raises(Problem, match=r"for podserve to be paused; last: unable to freeze"):
        snapshot.freeze("podserve")
    assert asked[-1] == "unpause"


def test_a_pod_that_can_never_be_frozen_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = freezer(monkeypatch, failures=1000, why="can not pause pods")
    with pytest.raises(Problem, match="can not pause pods"):
        snapshot.freeze("podserve")
    assert asked == ["pause"]


def test_a_tree_that_is_deeper_than_the_host_takes_is_held_and_what_is_deeper_still_is_told(tmp_path: Path) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "snapshot"
    volume.mkdir()
    way = Descent(Folder.at(volume))
    for _ in range(LONGEST // 256 + 5):
        os.mkdir("d" * 255, dir_fd=way.descriptor)
        way.down("d" * 255)
    (told,) = hold("web", volume, folder)
    assert LONGEST < len(told) <= LONGEST + 256
    assert len(list(Folder.at(folder).walk())) == LONGEST // 256 + 1
    Folder.at(tmp_path).clear()  # pytest cannot remove such a deep tree


def test_pipes_are_left_out_and_links_come_with_it_as_they_are(tmp_path: Path) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "snapshot"
    volume.mkdir()
    os.mkfifo(volume / "pipe")
    (volume / "link").symlink_to("/no/such/file")
    (volume / "folder").mkdir(mode=0o2750)
    (volume / "folder").chmod(0o2750)
    hold("web", volume, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["folder", "link"]
    assert str((folder / "link").readlink()) == "/no/such/file"
    assert (folder / "folder").stat().st_mode & 0o7777 == 0o2750


def test_a_file_of_holes_is_held_at_once_and_keeps_them(tmp_path: Path) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "snapshot"
    volume.mkdir()
    with (volume / "passwd").open("wb") as file:
        file.write(b"begin")
        file.truncate(2**42)
        file.seek(2**41)
        file.write(b"middle")
    hold("accounts", volume, folder)
    there = (folder / "passwd").stat()
    assert (there.st_size, there.st_blocks < 1000) == (2**42, True)
    with (folder / "passwd").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(2**41)
        assert file.read(7) == b"middle\0"
