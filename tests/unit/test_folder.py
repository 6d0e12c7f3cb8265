"""A Folder on a volume follows no link, even one that is created meanwhile. No other module opens paths on volumes."""

import ast
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from podserve import volumes
from podserve.commands import ROOT
from podserve.descriptors import new_file, written_whole
from podserve.errors import Problem, printable
from podserve.folder import Folder
from podserve.walk import Descent


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The folder of a volume, beside a folder of the host."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("secret")
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../host", "a\0b"])
def test_a_name_is_that_of_an_entry(volume: Path, name: str) -> None:
    uses: list[Callable[[Folder], object]] = [
        lambda folder: folder.enter(name),
        lambda folder: folder.read(name, 10),
        lambda folder: folder.ensure(name, 0o755, 0),
        lambda folder: folder.remove(name),
        lambda folder: folder.locked(name).__enter__(),
        lambda folder: folder.replacing(name, 0o644).__enter__(),
    ]
    for use in uses:
        with pytest.raises(Problem, match="cannot be the name of a file"):
            use(Folder.at(volume))


def test_a_file_is_read_through_no_link_and_no_pipe_nor_to_its_end_where_that_is_far(volume: Path) -> None:
    (volume / "link").symlink_to("../host/secret")
    (volume / "nowhere").symlink_to("/no/such/file")
    os.mkfifo(volume / "pipe")
    (volume / "folder").mkdir()
    os.mknod(volume / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    (volume / "long").write_bytes(bytes(11))
    folder = Folder.at(volume)
    for name in ("link", "nowhere", "pipe", "folder", "zero"):
        with pytest.raises(Problem, match="not a regular file"):
            folder.read(name, 10)
    with pytest.raises(Problem, match="more than 10 bytes"):
        folder.read("long", 10)
    assert folder.read("none", 10) is None


def test_a_file_is_replaced_through_no_link(volume: Path) -> None:
    (volume / "passwd").symlink_to("../host/secret")
    (volume / "passwd.new").symlink_to("../host/new")
    with Folder.at(volume).replacing("passwd", 0o640) as file:
        file.write(b"mine")
    assert (volume / "passwd").read_text() == "mine"
    assert not (volume / "passwd").is_symlink()
    assert [path.name for path in (volume.parent / "host").iterdir()] == ["secret"]
    assert (volume.parent / "host" / "secret").read_text() == "secret"


def test_a_new_file_is_made_in_the_place_of_nothing_and_through_no_link(volume: Path) -> None:
    (volume / "file").touch()
    (volume / "link").symlink_to("../host/new")
    folder = Folder.at(volume)
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            new_file(name, folder.descriptor)
    assert not (volume.parent / "host" / "new").exists()


@pytest.mark.parametrize("step", ["fchmod", "fsync", "rename"])
def test_a_file_that_cannot_be_written_whole_stays_as_it_was(
    volume: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (volume / "file").write_text("before")
    folder = Folder.at(volume)
    monkeypatch.setattr(os, step, full)
    with (
        pytest.raises(OSError, match="No space left"),
        written_whole("file", folder.descriptor, unfinished="file.part", mode=0o600) as file,
    ):
        file.write(b"after")
    assert {path.name: path.read_text() for path in volume.iterdir()} == {"file": "before"}


def test_a_file_that_is_written_is_seen_when_it_is_whole_and_not_before(volume: Path) -> None:
    (volume / "file").write_text("before")
    folder = Folder.at(volume)
    with written_whole("file", folder.descriptor, unfinished="file.part", mode=0o640) as file:
        file.write(b"after")
        file.flush()
        assert (volume / "file").read_text() == "before"
        with (
            pytest.raises(FileExistsError),
            written_whole("file", folder.descriptor, unfinished="file.part", mode=0o600),
        ):
            pass
    assert {path.name: path.read_text() for path in volume.iterdir()} == {"file": "after"}
    assert (volume / "file").stat().st_mode & 0o777 == 0o640


def test_a_lock_is_taken_through_no_link(volume: Path) -> None:
    (volume / ".lock").symlink_to("../host/lock")
    with pytest.raises(Problem, match="cannot be locked"), Folder.at(volume).locked(".lock"):
        pass
    assert not (volume.parent / "host" / "lock").exists()


def test_what_is_removed_is_the_volumes_alone(volume: Path) -> None:
    (volume / "out").symlink_to("../host")
    (volume / "folder").mkdir()
    (volume / "folder" / "out").symlink_to("../../host")
    Folder.at(volume).clear()
    assert list(volume.iterdir()) == []
    assert (volume.parent / "host" / "secret").exists()


def test_a_walk_goes_through_no_link_and_up_to_no_other_folder(volume: Path) -> None:
    (volume / "out").symlink_to("../host")
    (volume / "a" / "b").mkdir(parents=True)
    assert [place.path() for place in Folder.at(volume).walk()] == ["", "a", "a/b"]
    way = Descent(Folder.at(volume))
    way.to(["a", "b"])
    (volume / "a" / "b").rename(volume.parent / "host" / "b")
    with pytest.raises(Problem, match="was moved meanwhile"):
        way.up()


@contextmanager
def swapping(entry: Path, target: Path) -> Iterator[None]:
    """Replace a folder by a link again and again during the body."""
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            try:
                entry.rmdir()
                entry.symlink_to(target)
            except OSError:
                continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_folder_that_is_swapped_while_it_is_made_gives_nothing_away(volume: Path) -> None:
    host, home = volume.parent / "host", volume / "home"
    for _ in range(200):
        with swapping(home, host), suppress(Problem):
            Folder.at(volume).ensure("home", 0o777, 33)
        home.unlink() if home.is_symlink() else home.rmdir()
    assert (host.stat().st_uid, host.stat().st_mode & 0o777) == (0, 0o755)


def test_what_comes_from_a_volume_is_shown_without_what_a_terminal_obeys() -> None:
    assert printable("Grüße, 日本\n\t[x]") == "Grüße, 日本\n\t[x]"
    assert printable("\x1b[2J\x07\r\udcff\N{RIGHT-TO-LEFT OVERRIDE}") == r"\x1b[2J\x07\r\udcff\u202e"
    assert Problem("\x1b]0;x\x07").text == r"\x1b]0;x\x07"


def test_a_folder_is_mounted_where_nobody_but_root_can_replace_it(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "_found", {"web": volume})
    (volume / "acme").mkdir()
    (volume / "link").symlink_to("../host")
    assert volumes.mountable("web", "acme") == str(volume / "acme")
    with pytest.raises(Problem, match="not a folder"):
        volumes.mountable("web", "link")
    for owner, mode in ((33, 0o755), (0, 0o775), (0, 0o757)):
        os.chown(volume, owner, 0)
        volume.chmod(mode)
        with pytest.raises(Problem, match="can be changed by users other than root"):
            volumes.mountable("web", "acme")


@cache
def uses(file: Path) -> set[str]:
    """Return all names and attributes that a module uses."""
    tree = ast.parse(file.read_text())
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }


def test_no_module_but_one_gets_paths_on_volumes() -> None:
    """Two more checks: `volumes.folder` returns a Folder, not a path (mypy), and ruff bans `path_on_host` (TID251)."""
    modules = [ROOT / "tasks.py", *(ROOT / "podserve").rglob("*.py")]
    users = {file.name for file in modules if "path_on_host" in uses(file)}
    assert users == {"volumes.py"}
    mounts = {file.name for file in modules if "Mountpoint" in file.read_text()}
    assert mounts == {"volumes.py"}


def test_one_function_writes_all_files() -> None:
    other = {"write_text", "write_bytes", "NamedTemporaryFile", "mkstemp"}
    assert [file.name for file in (ROOT / "podserve").rglob("*.py") if other & uses(file)] == []
    assert [file.name for file in (ROOT / "podserve").rglob("*.py") if "fsync" in uses(file)] == ["descriptors.py"]
