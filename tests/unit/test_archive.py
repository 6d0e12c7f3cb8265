"""The archive of a backup: what comes back, and what is refused."""

import errno
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from podserve.backup import archive
from podserve.backup.archive import FORMAT, Header
from podserve.errors import Problem

HEADER = Header(FORMAT, "2026-11-23T12:00:00+00:00", {"domain": "example.org"})
PLACES = 10
CHANGES = 20


def ignore(_: int) -> None:
    """Take no notice of progress."""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with what volumes hold: names of all kinds, empty and large files, links, modes, a pipe."""
    folder = tmp_path / "kept"
    mail, web = folder / "mail" / "example.org" / "ada" / "Maildir" / "cur", folder / "web" / "dav"
    for place in (mail, web):
        place.mkdir(parents=True)
    (mail / "1.M2.host:2,FS").write_bytes(b"Subject: x\r\n\r\n" + b"body" * 1000)
    os.link(mail / "1.M2.host:2,FS", mail / "3.M4.host:2,")
    (mail / ("n" * 255)).write_text("a long name")
    (web / "Grüße & 日本.txt").write_bytes(os.urandom(300_000))
    (web / "empty").touch(0o600)
    (web / b"\xff\xfe".decode(errors="surrogateescape")).write_text("no UTF-8")
    (folder / "certificates" / "abc").mkdir(parents=True)
    (folder / "certificates" / "current").symlink_to("abc")
    (web / "elsewhere").symlink_to("../../mail")
    (web / "nowhere").symlink_to("/no/such/file")
    (web / "zeros").write_bytes(bytes(20_000_000))
    os.mkfifo(folder / "mail" / "pickup")
    (folder / "accounts").mkdir(mode=0o750)
    return folder


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what matters of all that a folder holds, but pipes."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        there, link = path.lstat(), path.readlink() if path.is_symlink() else None
        if not path.is_fifo():
            content = path.read_bytes() if path.is_file() and not link else b""
            mode = None if link else there.st_mode
            found[str(path.relative_to(folder))] = (mode, there.st_uid, there.st_gid, content, link)
    return found


@pytest.fixture
def made(kept: Path, tmp_path: Path) -> Path:
    """An archive of it."""
    file = tmp_path / "archive"
    with file.open("wb") as out:
        archive.write(kept, HEADER, out, ignore)
    return file


def test_what_was_put_in_comes_back_as_it_was(kept: Path, made: Path, tmp_path: Path) -> None:
    header, size = archive.verify(made, ignore)
    assert header == HEADER
    assert size > 300_000
    back = tmp_path / "back"
    back.mkdir()
    archive.extract(made, back, ignore)
    assert seen(back) == seen(kept)


def test_a_disk_that_is_full_while_it_is_unpacked_is_not_laid_to_the_archive(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(OSError, match="No space left"):
        archive.extract(made, tmp_path / "back", ignore)


def refusal(file: Path) -> str:
    """Return why an archive is refused; it says which, and that nothing was changed."""
    with pytest.raises(Problem) as refused:
        archive.verify(file, ignore)
    said = refused.value.text
    assert "podserve: " not in said
    assert str(file) in said
    assert "Nothing was changed" in said
    return said


def test_one_that_is_cut_off_is_refused_wherever(made: Path) -> None:
    whole = made.read_bytes()
    for cut in [0, 1, *(len(whole) * number // PLACES for number in range(1, PLACES)), len(whole) - 1]:
        made.write_bytes(whole[:cut])
        refusal(made)


def test_one_with_a_changed_byte_is_refused_wherever(made: Path) -> None:
    whole = made.read_bytes()
    for place in (len(whole) * number // CHANGES for number in range(CHANGES)):
        made.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refusal(made)


def test_one_that_goes_on_after_its_end_is_refused(made: Path) -> None:
    whole = made.read_bytes()
    for more in (b"x", whole):
        made.write_bytes(whole + more)
        assert "goes on" in refusal(made)


def foreign(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Write an archive by hand."""
    with (
        file.open("wb") as out,
        zstandard.ZstdCompressor(write_checksum=True).stream_writer(out, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as tar,
    ):
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def header(**changed: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return an archive's first member."""
    told = {"format": FORMAT, "made": "", "settings": {"domain": "example.org"}, **changed}
    return tarfile.TarInfo("podserve.json"), json.dumps(told).encode()


def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    assert "none of PodServe's" in refusal(foreign(file, (tarfile.TarInfo("etc/passwd"), b"x")))
    file.write_bytes(b"no archive at all")
    refusal(file)
    file.write_bytes(zstandard.ZstdCompressor().compress(b"no tar file"))
    refusal(file)


def test_one_of_a_newer_podserve_is_refused(tmp_path: Path) -> None:
    assert "update" in refusal(foreign(tmp_path / "archive", header(format=FORMAT + 1)))


def test_one_that_is_a_folder_or_missing_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none"):
        with pytest.raises(Problem, match="cannot be read"):
            archive.verify(file, ignore)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member that is a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def plain(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return a member that is an empty file."""
    return tarfile.TarInfo(name), b""


EVIL: dict[str, Callable[[], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "an absolute name": lambda: [plain("/etc/cron.d/evil")],
    "a name that climbs": lambda: [plain("volumes/../../evil")],
    "a name beside the volumes": lambda: [plain("evil")],
    "a link for a volume": lambda: [link("volumes/web", "/etc")],
    "a link for all volumes": lambda: [link("volumes", "/etc")],
    "a file behind a link that climbs": lambda: [link("volumes/web/l", "../../.."), plain("volumes/web/l/evil")],
    "no name": lambda: [plain("")],
    "a file behind a link": lambda: [link("volumes/web/l", "mail"), plain("volumes/web/l/evil")],
    "a hard link behind a link": lambda: [
        link("volumes/web/l", "/etc"),
        link("volumes/web/h", "volumes/web/l/passwd", tarfile.LNKTYPE),
    ],
    "a hard link elsewhere": lambda: [link("volumes/web/l", "/etc/passwd", tarfile.LNKTYPE)],
    "a hard link that climbs": lambda: [link("volumes/web/l", "../../etc/passwd", tarfile.LNKTYPE)],
    "a device": lambda: [link("volumes/web/disk", "", tarfile.BLKTYPE)],
}


@pytest.mark.parametrize("evil", EVIL)
def test_one_that_leads_out_of_the_volumes_is_refused(tmp_path: Path, evil: str) -> None:
    assert "leads out" in refusal(foreign(tmp_path / "archive", header(), *EVIL[evil]()))
    (tmp_path / "back").mkdir()
    with pytest.raises(Problem, match="leads out"):
        archive.extract(tmp_path / "archive", tmp_path / "back", ignore)
