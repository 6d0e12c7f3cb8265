"""The archive of a backup: what a restore brings back, and which archives are refused."""

import errno
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path

import pytest
import zstandard

from podserve.backup import members, reading, writing
from podserve.backup.layout import FORMAT, Header
from podserve.commands import run
from podserve.descriptors import closing, new_file, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.walk import LONGEST, Descent
from tests.testbed.crafted import Member, crafted, folder, foreign, hard, header, link, manifest, plain

HEADER = Header(FORMAT, "2026-11-23T12:00:00+00:00", {"domain": "example.org"})
PLACES = 10
CHANGES = 20
PIECE = 2**17
"""Bytes of a block of zstd, which compresses pieces of this size fastest."""


def ignore(_: int) -> None:
    """Ignore progress."""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with content as on volumes: names of all kinds, empty and large files, links, modes, a pipe."""
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
    (web / "inside").symlink_to("../dav/empty")
    (web / "nowhere").symlink_to("no such file")
    (web / "zeros").write_bytes(bytes(20_000_000))
    os.mkfifo(folder / "mail" / "pickup")
    (folder / "accounts").mkdir(mode=0o750)
    return folder


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return mode, owner, group, content and link target of each entry of a folder, by path. Pipes are left out."""
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
    """An archive of the folder `kept`."""
    file = tmp_path / "archive"
    with file.open("wb") as out:
        writing.write_archive(Folder.at(kept), HEADER, out, ignore)
    return file


def test_what_was_put_in_comes_back_as_it_was(kept: Path, made: Path, tmp_path: Path) -> None:
    header, extent = reading.verify_archive(made, ignore)
    assert header == HEADER
    assert extent.size > 300_000
    back = tmp_path / "back"
    back.mkdir()
    reading.extract_archive(made, Folder.at(back), ignore)
    assert seen(back) == seen(kept)


def test_a_disk_that_is_full_while_it_is_unpacked_is_not_laid_to_the_archive(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "back").mkdir()
    monkeypatch.setattr(members, "new_file", full)
    with pytest.raises(OSError, match="No space left"):
        reading.extract_archive(made, Folder.at(tmp_path / "back"), ignore)


def test_links_that_lead_out_and_special_bits_are_left_out_of_it_and_told(kept: Path, tmp_path: Path) -> None:
    (kept / "web" / "out").symlink_to("/etc/shadow")
    (kept / "accounts" / "passwd.new").symlink_to("passwd")
    (kept / "web" / "sh").touch()
    (kept / "web" / "sh").chmod(0o6755)
    file, back = tmp_path / "archive", tmp_path / "back"
    with file.open("wb") as out:
        told = writing.write_archive(Folder.at(kept), HEADER, out, ignore)
    assert [line.split()[0] for line in told] == ["'volumes/accounts/passwd.new'", "'volumes/web/out'"]
    reading.verify_archive(file, ignore)
    back.mkdir()
    reading.extract_archive(file, Folder.at(back), ignore)
    assert (back / "web" / "sh").stat().st_mode & 0o7777 == 0o755
    assert not (back / "web" / "out").is_symlink()


def test_a_file_that_is_mostly_holes_is_left_out_of_it_and_told(kept: Path, tmp_path: Path) -> None:
    with (kept / "web" / "holes").open("wb") as file:
        file.truncate(2**42)
    with (tmp_path / "archive").open("wb") as out:
        (told,) = writing.write_archive(Folder.at(kept), HEADER, out, ignore)
    assert told == f"'volumes/web/holes' has {2**42} bytes of holes, too many for a backup: remove it"
    reading.verify_archive(tmp_path / "archive", ignore)


def refusal(file: Path) -> str:
    """Return the error for an archive. It must name the file, and say that nothing was changed."""
    with pytest.raises(Problem) as refused:
        reading.verify_archive(file, ignore)
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
        assert "data after its end" in refusal(made)


def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "archive"
    assert "not a backup of PodServe" in refusal(foreign(file, (tarfile.TarInfo("etc/passwd"), b"x")))
    file.write_bytes(b"no archive at all")
    refusal(file)
    file.write_bytes(zstandard.ZstdCompressor().compress(b"no tar file"))
    refusal(file)


def test_one_of_a_newer_podserve_is_refused(tmp_path: Path) -> None:
    assert "update" in refusal(foreign(tmp_path / "archive", header(format=FORMAT + 1)))


def test_one_that_is_a_folder_or_missing_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none"):
        with pytest.raises(Problem, match="cannot be read"):
            reading.verify_archive(file, ignore)


EVIL: dict[str, list[Member]] = {
    "an absolute name": [plain("/etc/cron.d/evil")],
    "a name that climbs": [plain("volumes/../../evil")],
    "a name beside the volumes": [plain("evil")],
    "a name with two slashes": [plain("volumes//etc/cron.d/evil", b"* * * * * root true\n", mode=0o755)],
    "a name with two slashes within": [plain("volumes/web//evil")],
    "a name with a dot": [plain("volumes/./web/evil")],
    "a name that begins with a dot": [plain("./volumes/web/evil")],
    "a link for a volume": [link("volumes/mail/x", "y"), link("volumes/web", "/etc")],
    "a link for all volumes": [link("volumes", "/etc")],
    "a link by another spelling": [link("./volumes/web/l", "/etc"), plain("volumes/web/l/evil")],
    "a file behind a link that climbs": [link("volumes/web/l", "../../.."), plain("volumes/web/l/evil")],
    "a folder that climbs": [folder("volumes/web/.."), plain("volumes/web/../evil")],
    "a folder that is the same": [folder("volumes/web/."), plain("volumes/web/./evil")],
    "a name with a zero": [plain("volumes/web/a\0b")],
    "no name": [plain("")],
    "a file behind a link": [link("volumes/web/l", "mail"), plain("volumes/web/l/evil")],
    "a link in the place of a folder": [
        folder("volumes/web/l"), link("volumes/web/l", "/etc"), plain("volumes/web/l/evil")
    ],
    "a hard link behind a link": [link("volumes/web/l", "/etc"), hard("volumes/web/h", "volumes/web/l/passwd")],
    "a hard link elsewhere": [hard("volumes/web/l", "/etc/passwd")],
    "a hard link by two slashes": [hard("volumes/web/l", "volumes//etc/hostname")],
    "a hard link that climbs": [hard("volumes/web/l", "../../etc/passwd")],
    "a second name that is the accounts file": [
        plain("volumes/accounts/x", b"../../evil:x\n"), hard("volumes/accounts/passwd", "volumes/accounts/x"),
    ],
    "a folder in the place of the accounts file": [folder("volumes/accounts/passwd")],
    "a hard link to a link": [link("volumes/web/l", "x"), hard("volumes/web/h", "volumes/web/l")],
    "a hard link to another volume": [plain("volumes/web/f"), hard("volumes/mail/h", "volumes/web/f")],
    "a hard link to nothing": [hard("volumes/web/h", "volumes/web/f")],
    "a device": [link("volumes/web/disk", "", tarfile.BLKTYPE)],
    "a pipe": [link("volumes/web/pipe", "", tarfile.FIFOTYPE)],
    "a link to the host": [link("volumes/web/l", "/etc/shadow")],
    "a link that climbs": [link("volumes/web/l", "../mail/x")],
    "a link that climbs by way of another": [
        folder("volumes/web/a"), link("volumes/web/a/up", ".."), link("volumes/web/l", "a/up/../x")
    ],
    "a link of the accounts": [link("volumes/accounts/passwd.new", "passwd")],
    "a link of the authority": [link("volumes/authority/ca.pem", "other")],
    "a volume that there is not": [folder("volumes/other")],
    "a folder that is missing": [plain("volumes/web/a/b")],
    "a file twice": [plain("volumes/web/a"), plain("volumes/web/a")],
    "a file and a folder": [plain("volumes/web/a"), folder("volumes/web/a")],
    "a file in the place of a volume": [plain("volumes/web")],
    "a setuid program": [plain("volumes/web/sh", mode=0o4755)],
    "a setgid program": [plain("volumes/web/sh", mode=0o2755)],
    "a setuid folder": [folder("volumes/web/d", mode=0o4755)],
    "a name that no disk takes": [plain(f"volumes/web/{'n' * 256}")],
    "a path without an end": [folder("volumes/web/" + "/".join(["n" * 200] * 100))],
    "an account that climbs": [plain("volumes/accounts/passwd", b"ada@example.org:x\n../../../etc/x@example.org:x\n")],
}  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_one_that_leads_elsewhere_is_refused_and_nothing_is_put_there(tmp_path: Path, evil: str) -> None:
    file, back = crafted(tmp_path / "archive", *EVIL[evil]), tmp_path / "back"
    back.mkdir()
    before = Path("/etc/hostname").stat()
    refusal(file)
    with pytest.raises(Problem, match="Nothing was changed"):
        reading.extract_archive(file, Folder.at(back), ignore)
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "back"}
    assert not [path for path in back.rglob("*") if path.name == "evil"]
    assert (Path("/etc/hostname").stat().st_mode, Path("/etc/hostname").stat().st_nlink) == (
        before.st_mode,
        before.st_nlink,
    )
    assert not Path("/etc/cron.d/evil").exists()


def test_one_as_earlier_versions_made_it_with_hard_links_comes_back(tmp_path: Path) -> None:
    cur = "volumes/mail/example.org"
    members = [folder(cur), plain(f"{cur}/1", b"Subject: x\n", owner=5000), hard(f"{cur}/2", f"{cur}/1")]
    file, back = crafted(tmp_path / "archive", *members), tmp_path / "back"
    back.mkdir()
    reading.verify_archive(file, ignore)
    reading.extract_archive(file, Folder.at(back), ignore)
    first, second = (back / "mail" / "example.org" / name for name in "12")
    assert first.samefile(second)
    assert (second.read_text(), second.stat().st_uid) == ("Subject: x\n", 5000)


def test_owners_are_those_that_services_have_and_otherwise_root(tmp_path: Path) -> None:
    owners = {"web/site": (33, 33), "web/own": (1000, 0), "mail/a": (5000, 5000), "mail/q": (5001, 5001),
              "mail/w": (33, 0), "accounts/passwd": (33, 0), "authority/ca.pem": (5000, 0)}  # fmt: skip
    file = crafted(tmp_path / "archive", *(plain(f"volumes/{name}", owner=was) for name, (was, _) in owners.items()))
    (tmp_path / "back").mkdir()
    reading.extract_archive(file, Folder.at(tmp_path / "back"), ignore)
    assert {name: (tmp_path / "back" / name).stat().st_uid for name in owners} == {
        name: now for name, (_, now) in owners.items()
    }


def zeros(name: str, size: int) -> Iterator[bytes]:
    """Yield the pieces of a tar member whose content is `size` zero bytes (a multiple of PIECE)."""
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield from repeat(bytes(PIECE), size // PIECE)


def described() -> Iterator[bytes]:
    """Yield the first member of an archive, podserve.json."""
    info, content = header()
    info.size = len(content)
    yield info.tobuf(tarfile.GNU_FORMAT) + content.ljust(512, b"\0")


def of_pieces(file: Path, *members: Iterable[bytes]) -> Path:
    """Write an archive from the raw pieces of tar members."""
    # The fastest level, and no checksum (a reader needs none): together they halve the time of level 1.
    compressor = zstandard.ZstdCompressor(level=-100, write_checksum=False)
    with file.open("wb") as out, compressor.stream_writer(out) as compressed:
        for member in members:
            for piece in member:
                compressed.write(piece)
        compressed.write(bytes(1024))
    return file


def long_header(kind: bytes, size: int) -> Iterator[bytes]:
    """Yield an extended header of `size` bytes: of pax (kind x or g), or a long name of GNU tar (L)."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield from repeat(b"n" * PIECE, size // PIECE)


HUGE = 2**30
BOMBS: dict[str, tuple[Callable[[], list[Iterator[bytes]]], str]] = {
    "its checksums": (lambda: [zeros("manifest.json", HUGE)], "does not match its checksums"),
    "what it is": (lambda: [zeros("podserve.json", HUGE)], "not a backup of PodServe"),
    "a header of pax": (lambda: [long_header(tarfile.XHDTYPE, HUGE)], "the header of a member"),
    "a header of pax for all": (lambda: [long_header(tarfile.XGLTYPE, HUGE)], "the header of a member"),
    "a name of GNU": (lambda: [long_header(tarfile.GNUTYPE_LONGNAME, HUGE)], "the header of a member"),
    "headers before headers": (
        lambda: [long_header(tarfile.XHDTYPE, 0) for _ in range(10_000)],
        "maximum recursion depth|the header of a member",
    ),
}
VERIFYING = """
import resource, sys
from pathlib import Path
from podserve.backup import reading
from podserve.errors import Problem
resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
try:
    reading.verify_archive(Path(sys.argv[1]), lambda _: None)
except Problem as problem:
    print(problem.text)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_one_that_unpacks_to_gigabytes_in_memory_is_refused_within_little(tmp_path: Path, bomb: str) -> None:
    members, why = BOMBS[bomb]
    first = [] if bomb == "what it is" else [described()]
    file = of_pieces(tmp_path / "archive", *first, *members())
    assert file.stat().st_size < 2**20
    told = run([sys.executable, "-c", VERIFYING, str(file)], timeout=60).stdout
    assert "Nothing was changed" in told
    assert re.search(why, told), told


def test_checksums_of_other_files_are_told(tmp_path: Path) -> None:
    members = [header(), folder("volumes"), folder("volumes/web"), plain("volumes/web/a", b"one")]
    for other in ([], [plain("volumes/web/a", b"two")], [plain("volumes/web/b", b"one")]):
        assert "checksums" in refusal(foreign(tmp_path / "archive", *members, manifest(other)))


def test_paths_that_are_too_long_for_the_host_come_back(tmp_path: Path) -> None:
    """The path has LONGEST bytes, in names of 255 bytes. One system call accepts only PATH_MAX."""
    folder, back = tmp_path / "kept", tmp_path / "back"
    (folder / "web").mkdir(parents=True)
    back.mkdir()
    way = Descent(Folder.at(folder / "web"))
    for number in range(LONGEST // 256):
        with closing(new_file("file", way.descriptor)) as file:
            os.write(file, str(number).encode())
        os.mkdir("d" * 255, dir_fd=way.descriptor)
        way.down("d" * 255)
    with (tmp_path / "archive").open("wb") as out:
        assert writing.write_archive(Folder.at(folder), HEADER, out, ignore) == []
    reading.verify_archive(tmp_path / "archive", ignore)
    reading.extract_archive(tmp_path / "archive", Folder.at(back), ignore)
    found = [(len(place.parts), os.read(open_file("file", place.descriptor), 9))
             for place in Folder.at(back).walk() if "file" in place.files]  # fmt: skip
    assert found == [(number + 1, str(number).encode()) for number in range(LONGEST // 256)]
    Folder.at(tmp_path).clear()  # pytest cannot remove such a deep tree
