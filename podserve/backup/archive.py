"""The archive: a tar file, compressed with zstd, that begins with what it is and ends with a checksum of each file.

    podserve.json               Header
    volumes/CONTENT/…           the files of each volume, with owners as numbers
    manifest.json               {path: SHA-256 in hexadecimal}, in the order of the files

A file that was cut off, or changed anywhere, is told from a whole one. An archive may come from anywhere: each member
is judged before it is read, by the same code when it is verified and when it is unpacked, and memory for it is bounded.
Python's own extraction filter (tarfile.data_filter) is not in the Python of Debian 12, asks the host about whole paths,
which may be longer than the host can look up, and drops owners. So none is used, and tarfile only reads.
"""

import errno
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from podserve import accounts
from podserve.descriptors import CHUNK, closing, extents, is_name, new_file, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.walk import LONGEST, Descent, Place

FORMAT = 1
"""The one that is written, and the newest that is read."""
_FIRST, _LAST, _BODY = "podserve.json", "manifest.json", "volumes"
_ACCOUNTS = f"{_BODY}/accounts/{accounts.FILE}"
_BUFFER = 2**16
"""Bytes that tarfile asks for in one go."""
_PIECE = 2**12
"""Compressed bytes that are looked at in one go: of zstd's best case, a byte for each 32 kB, they make 128 MB."""
_HEADERS = 2**18
"""Bytes of headers that a member may have, its path in them; tarfile holds them all in memory."""
_HEADER = 2**16
"""Bytes that podserve.json may have: it holds a pod's settings."""
_MEMBERS = 10_000_000
"""Members of an archive, each of which takes some 100 bytes of memory while it is read: a folder can hold as many."""
_LATEST = 2**34
"""Seconds from 1970, either way, past which no file system keeps a time."""
_HOLES = 2**30
"""Bytes of holes that a file in an archive may have: there they are zeros, of which one could write without an end."""
_BLOCK = 4096
"""Bytes of which most file systems give a file whole ones."""
_NAME_MAX, _TARGET_MAX = 255, 4095
"""Bytes of a name, and of what a link leads to, in Linux (limits.h)."""
Progress = Callable[[int], object]
"""Gets the number of bytes that were read since it was called last."""


@dataclass(frozen=True)
class _Content:
    """What a volume may hold: the users and groups that own files there (docker/base), and whether there are links.

    Any other owner, such as the one who copied a site to the volume on the host, is replaced by root.
    """

    users: frozenset[int]
    groups: frozenset[int]
    links: bool


_WWW_DATA, _VMAIL, _POSTFIX, _POSTDROP = 33, 5000, 5001, 5003
_CONTENTS = {
    "web": _Content(frozenset({_WWW_DATA}), frozenset({_WWW_DATA}), links=True),
    "mail": _Content(frozenset({_VMAIL, _POSTFIX}), frozenset({_VMAIL, _POSTFIX, _POSTDROP}), links=True),
    "certificates": _Content(frozenset(), frozenset(), links=True),
    "accounts": _Content(frozenset(), frozenset({accounts.GROUP}), links=False),
    "authority": _Content(frozenset(), frozenset(), links=False),
}


@dataclass(frozen=True)
class Header:
    """What an archive is of: its format, when it was made (ISO 8601, UTC), the settings of the pod."""

    format: int
    made: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Extent:
    """How much an archive holds: bytes of its files, bytes that they take on a disk, files and folders."""

    size: int = 0
    on_disk: int = 0
    members: int = 0

    def and_one(self, size: int) -> "Extent":
        """Return this with a file of that size, or a folder, more."""
        blocks = max(1, -(-size // _BLOCK)) * _BLOCK
        return Extent(self.size + size, self.on_disk + blocks, self.members + 1)


class _Hashing(io.RawIOBase):
    """A file that is read once, with its checksum."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file, self._progress, self._sum = file, progress, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._sum.update(chunk)
        self._progress(len(chunk))
        return chunk

    @property
    def holes(self) -> int:
        """Bytes of its holes, where it is so large that they count."""
        size = os.fstat(self._file.fileno()).st_size
        if size <= _HOLES:
            return 0
        held = sum(end - begin for begin, end in extents(self._file.fileno()))
        self._file.seek(0)
        return size - held

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


class _Whole(io.RawIOBase):
    """The decompressed content of an archive, to its end: one that was cut off, or goes on, raises Problem."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress, self._left, self._at = file, progress, b"", 0
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._allowed = _HEADERS

    def readable(self) -> bool:
        return True

    def allow(self, size: int) -> None:
        """Let no more than that many bytes, and a few headers, be read until it is called again."""
        self._allowed = size + _HEADERS

    def read(self, size: int = -1) -> bytes:
        while (size < 0 or len(self._left) - self._at < size) and (chunk := self._file.read(_PIECE)):
            if self._frame.eof:
                raise Problem("it goes on after its end")
            self._progress(len(chunk))
            self._left, self._at = self._left[self._at :] + self._frame.decompress(chunk), 0
            if self._frame.unused_data:
                raise Problem("it goes on after its end")
        begin = self._at
        self._at = len(self._left) if size < 0 else min(begin + size, len(self._left))
        self._allowed -= self._at - begin
        if self._allowed < 0:
            raise Problem(f"the header of a member has more than {_HEADERS} bytes")
        return self._left[begin : self._at]

    def finish(self) -> None:
        """Read to the end. Raises Problem when that is missing."""
        self.allow(_HEADERS)
        while self.read(_BUFFER):
            pass
        if not self._frame.eof:
            raise Problem("its end is missing")


class _Sums:
    """manifest.json, piece by piece: it grows with the files that were read, and is never read whole."""

    def __init__(self) -> None:
        self._count = 0

    def piece(self, name: str, checksum: str) -> bytes:
        """Return what the next file adds."""
        before = ", " if self._count else "{"
        self._count += 1
        return f"{before}{json.dumps(name)}: {json.dumps(checksum)}".encode("ascii")

    @property
    def end(self) -> bytes:
        return b"}" if self._count else b"{}"


def _target_is_inside(parts: list[str], target: str) -> bool:
    """Return whether a link, with this path in the archive, leads to its own volume.

    Where `..` stands first alone, each is the folder above: what lies above a member is folders, no links.
    """
    names = target.split("/")
    ups = next((number for number, name in enumerate(names) if name != ".."), len(names))
    return ups <= len(parts) - 3 and (target == "." or all(is_name(name) for name in names[ups:]))


def _refusal(name: str, parts: list[str], there: tarfile.TarInfo) -> str:
    """Return why a link that is in an archive, or to be put there, must not be; an empty text where it may."""
    if len(parts) < 3 or not _CONTENTS[parts[1]].links:  # noqa: PLR2004  # volumes/CONTENT/NAME
        return f"{name!r} is a link, where no link may be"
    if "\0" in there.linkname or len(os.fsencode(there.linkname)) > _TARGET_MAX:
        return f"{name!r} is a link to no path"
    return "" if _target_is_inside(parts, there.linkname) else f"{name!r} leads out of it, to {there.linkname[:100]!r}"


def _add_json(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    tar.addfile(info, content)


def _described(name: str, there: os.stat_result) -> tarfile.TarInfo:
    """Return the member for a file, folder or link: tarfile's own makes a hard link of a file's second name."""
    info = tarfile.TarInfo(name)
    info.uid, info.gid = there.st_uid, there.st_gid
    info.mtime = max(1 - _LATEST, min(there.st_mtime, _LATEST - 1))  # a service may have set any
    info.mode = stat.S_IMODE(there.st_mode)
    if stat.S_ISDIR(there.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, info.mode & ~stat.S_ISUID
    elif stat.S_ISLNK(there.st_mode):
        info.type = tarfile.SYMTYPE
    else:
        # Nothing on a volume is run as the user who owns it, and no archive may hold what could be.
        info.size, info.mode = there.st_size, info.mode & 0o777
    return info


def _entries(place: Place, prefix: str, progress: Progress) -> Iterator[tuple[tarfile.TarInfo, _Hashing | None]]:
    """Yield the members for a folder and for the files and links in it, with their content."""
    yield _described(prefix, os.fstat(place.descriptor)), None
    for name in sorted([*place.files, *place.links]):
        path = f"{prefix}/{name}"
        if name in place.links:
            info = _described(path, os.stat(name, dir_fd=place.descriptor, follow_symlinks=False))
            info.linkname = os.readlink(name, dir_fd=place.descriptor)
            yield info, None
        else:
            with os.fdopen(open_file(name, place.descriptor), "rb") as file:
                yield _described(path, os.fstat(file.fileno())), _Hashing(file, progress)


def _unwritten(info: tarfile.TarInfo, parts: list[str], content: "_Hashing | None") -> str:
    """Return why a member is not written, and what to do; an empty text where it is."""
    if info.issym() and (why := _refusal(info.name, parts, info)):
        return f"{why}: remove it, or have it lead to its own volume"
    if content and content.holes > _HOLES:
        return f"{info.name!r} has {content.holes} bytes of holes: remove it"
    return ""


def write(folder: Folder, header: Header, out: BinaryIO, progress: Progress) -> list[str]:
    """Write the archive of a folder that holds a folder for each volume; return a line for each thing left out.

    Those are the links that `verify` refuses, and files that are mostly holes. Sockets and pipes, which services make
    anew, are left out, too.
    """
    sums, left_out, compressor = _Sums(), list[str](), zstandard.ZstdCompressor(write_checksum=True)
    first, members, length = json.dumps(asdict(header)).encode(), 0, 0
    with (
        tempfile.TemporaryFile() as kept,
        compressor.stream_writer(out, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        # Compressed: the paths in it repeat, and an account can make many that are long.
        manifest = zstandard.ZstdCompressor().stream_writer(kept, closefd=False)
        _add_json(tar, _FIRST, len(first), io.BytesIO(first))
        for place in folder.walk():
            place.folders.sort()
            parts = [_BODY, *place.parts]
            for info, content in _entries(place, "/".join(parts), progress):
                if why := _unwritten(info, [*parts, ""], content):
                    left_out.append(why)
                    continue
                tar.addfile(info, content)
                tar.members = []  # type: ignore[attr-defined]  # it would remember each
                members += 1
                if members > _MEMBERS:
                    raise Problem(f"the volumes hold more than {_MEMBERS} files and folders, too many for an archive")
                if content:
                    piece = sums.piece(info.name, content.hexdigest())
                    manifest.write(piece)
                    length += len(piece)
        manifest.write(sums.end)
        manifest.flush(zstandard.FLUSH_FRAME)
        kept.seek(0)
        with zstandard.ZstdDecompressor().stream_reader(kept, closefd=False) as plain:
            _add_json(tar, _LAST, length + len(sums.end), plain)
    return left_out


def _header(tar: tarfile.TarFile) -> Header:
    first = tar.next()
    content = tar.extractfile(first) if first and first.name == _FIRST and first.size <= _HEADER else None
    if not content:
        raise Problem("it is none of PodServe's")
    told = json.load(content)
    if told["format"] > FORMAT:
        raise Problem(f"a newer PodServe made it (format {told['format']}; this one reads {FORMAT}): update this one")
    texts = [told["made"], told["settings"]["domain"], *told["settings"].values()]
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise Problem("it is none of PodServe's")
    return Header(**told)


class _Judge:
    """Judges each member before it is read: it must lie in a folder of a volume, once, and be what may be there."""

    def __init__(self) -> None:
        # Hashes of names: names are many, and may be long.
        self._folders, self._files, self._links = set[int](), set[int](), set[int]()

    def _require_place(self, name: str) -> list[str]:
        """Return the parts of a name. It is judged as it is written, since the name that is judged is what is used."""
        parts = name.split("/")
        if parts[0] != _BODY or not all(is_name(part) for part in parts):
            raise Problem(f"it holds {name[:200]!r}, which leads out of it")
        encoded = os.fsencode(name)
        if len(encoded) > LONGEST + len(f"{_BODY}/certificates/") or max(map(len, encoded.split(b"/"))) > _NAME_MAX:
            raise Problem(f"it holds {name[:200]!r}…, which is too long for a name")
        if len(parts) > 1 and parts[1] not in _CONTENTS:
            raise Problem(f"it holds {name[:200]!r}: expected one of the volumes {', '.join(_CONTENTS)}")
        if any(hash(name) in seen for seen in (self._folders, self._files, self._links)):
            raise Problem(f"it holds {name[:200]!r} twice")
        if len(parts) > 1 and hash("/".join(parts[:-1])) not in self._folders:
            raise Problem(f"it holds {name[:200]!r}, which leads out of it: what it lies in is none of its folders")
        return parts

    def require(self, member: tarfile.TarInfo) -> list[str]:
        """Return the parts of a member's name, and correct its owner. Raises Problem for one that may not be."""
        parts = self._require_place(member.name)
        name = member.name[:200]
        if len(self._files) + len(self._folders) + len(self._links) >= _MEMBERS:
            raise Problem(f"it holds more than {_MEMBERS} files and folders")
        if not -_LATEST < member.mtime < _LATEST:
            raise Problem(f"it holds {name!r}, whose time is none")
        if member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse() and len(parts) > 2:  # noqa: PLR2004
            allowed = 0o777
            self._files.add(hash(member.name))
        elif member.isdir() and member.name != _ACCOUNTS:
            # Postfix's own folders may have the bits that pass on a group, and that keep others from removing files.
            allowed = 0o3777
            self._folders.add(hash(member.name))
        elif member.issym():
            if why := _refusal(name, parts, member):
                raise Problem(f"it holds what may not be there: {why}")
            allowed = 0o7777
            self._links.add(hash(member.name))
        elif member.islnk():
            # Not written any more: up to version 0.1.0 the second name of a file was one.
            target, may_link = member.linkname.split("/"), _CONTENTS[parts[1]].links if len(parts) > 1 else False
            if not may_link or target[:2] != parts[:2] or hash(member.linkname) not in self._files:
                raise Problem(f"it holds {name!r}, a hard link that leads out of it, to {member.linkname[:200]!r}")
            allowed = 0o7777
            self._files.add(hash(member.name))
        else:
            raise Problem(f"it holds {name!r}, which is no file, folder or link, and leads out of it")
        if member.mode & ~allowed or member.size < 0:
            raise Problem(f"it holds {name!r} with the mode {member.mode:o}: expected no bits but {allowed:o}")
        content = _CONTENTS[parts[1]] if len(parts) > 1 else None
        member.uid = member.uid if content and member.uid in content.users else 0
        member.gid = member.gid if content and member.gid in content.groups else 0
        return parts


class _Nowhere:
    """Takes what an archive holds, and keeps nothing."""

    def folder(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Take a folder."""

    def file(self, parts: list[str], member: tarfile.TarInfo, chunks: Iterator[bytes]) -> None:  # noqa: ARG002
        """Take a file."""
        for _ in chunks:
            pass

    def link(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Take a symbolic link."""

    def second_name(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Take a hard link."""


class _Unpacked(_Nowhere):
    """Puts it into an empty folder: by descriptors, as new files alone, through no link."""

    def __init__(self, folder: Folder) -> None:
        self._way, self._other = Descent(folder), Descent(folder)

    def _become(self, descriptor: int, member: tarfile.TarInfo) -> None:
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode)
        os.utime(descriptor, (member.mtime, member.mtime))

    def folder(self, parts: list[str], member: tarfile.TarInfo) -> None:
        if len(parts) > 1:
            os.mkdir(parts[-1], 0o700, dir_fd=self._way.to(parts[1:-1]))
            self._become(self._way.to(parts[1:]), member)

    def file(self, parts: list[str], member: tarfile.TarInfo, chunks: Iterator[bytes]) -> None:
        with closing(new_file(parts[-1], self._way.to(parts[1:-1]))) as descriptor:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(descriptor, left) :]
            self._become(descriptor, member)

    def link(self, parts: list[str], member: tarfile.TarInfo) -> None:
        here = self._way.to(parts[1:-1])
        os.symlink(member.linkname, parts[-1], dir_fd=here)
        os.chown(parts[-1], member.uid, member.gid, dir_fd=here, follow_symlinks=False)

    def second_name(self, parts: list[str], member: tarfile.TarInfo) -> None:
        here, target = self._way.to(parts[1:-1]), member.linkname.split("/")
        there = self._other.to(target[1:-1])
        os.link(target[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)


@contextmanager
def _opened(file: Path, progress: Progress) -> Iterator[tuple[tarfile.TarFile, _Whole]]:
    """Yield an archive to be read from its beginning. Raises Problem for all that is wrong with it, but a full disk."""
    try:
        with file.open("rb") as compressed:
            whole = _Whole(compressed, progress)
            with tarfile.open(fileobj=whole, mode="r|", bufsize=_BUFFER) as tar:
                yield tar, whole
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # where it is unpacked
            raise
        raise Problem(f"{file} cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, zstandard.ZstdError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise Problem(f"{file} is no whole archive of PodServe's ({error}). Nothing was changed") from error
    except Problem as problem:
        raise Problem(f"{file} is no good archive: {problem.text}. Nothing was changed") from problem


def _chunks(content: IO[bytes], whole: _Whole, checksum: "hashlib._Hash", kept: list[bytes] | None) -> Iterator[bytes]:
    """Yield the content of a file, with its checksum; keep it, too, where a list is given."""
    while True:
        whole.allow(CHUNK)
        chunk = content.read(CHUNK)
        if not chunk:
            return
        checksum.update(chunk)
        if kept is not None:
            kept.append(chunk)
        yield chunk


def _read(file: Path, progress: Progress, taker: _Nowhere) -> tuple[Header, Extent]:
    """Read a whole archive, give each member that was judged to `taker`, and compare all with the checksums."""
    with _opened(file, progress) as (tar, whole):
        header, judge, extent = _header(tar), _Judge(), Extent()
        sums, expected, length = _Sums(), hashlib.sha256(), 0
        whole.allow(0)
        while (member := tar.next()) is not None and member.name != _LAST:
            tar.members = []  # type: ignore[attr-defined]  # it would remember each
            if tar.pax_headers:
                raise Problem("it has a header for all of its members, which PodServe writes none of")
            parts = judge.require(member)
            content = tar.extractfile(member) if member.isreg() else None
            if member.isdir():
                taker.folder(parts, member)
            elif member.issym():
                taker.link(parts, member)
            elif content is None:
                taker.second_name(parts, member)
            else:
                kept = list[bytes]() if member.name == _ACCOUNTS else None
                if kept is not None and member.size > accounts.LARGEST:
                    raise Problem(f"{member.name} has more than {accounts.LARGEST} bytes")
                checksum = hashlib.sha256()
                taker.file(parts, member, _chunks(content, whole, checksum, kept))
                if kept is not None:
                    accounts.parse(b"".join(kept), member.name)
                piece = sums.piece(member.name, checksum.hexdigest())
                expected.update(piece)
                length += len(piece)
            extent = extent.and_one(member.size if content else 0)
            whole.allow(0)
        if member is None:
            raise Problem("its checksums are missing")
        expected.update(sums.end)
        _require_sums(tar, whole, member, expected.digest(), length + len(sums.end))
        whole.allow(0)
        if tar.next() is not None:
            raise Problem("it goes on after its checksums")
        whole.finish()
    return header, extent


def _require_sums(tar: tarfile.TarFile, whole: _Whole, member: tarfile.TarInfo, expected: bytes, length: int) -> None:
    """Raise Problem where manifest.json is another than what was read makes; one of another length is not read."""
    content = tar.extractfile(member) if member.isreg() and not member.issparse() and member.size == length else None
    there = hashlib.sha256()
    if content:
        for _ in _chunks(content, whole, there, None):
            pass
    if not content or there.digest() != expected:
        raise Problem("what it holds is not what was put in: its checksums are others")


def verify(file: Path, progress: Progress) -> tuple[Header, Extent]:
    """Read a whole archive; return what it is of, and how much. Raises Problem for one that `extract` would refuse."""
    return _read(file, progress, _Nowhere())


def extract(file: Path, folder: Folder, progress: Progress) -> tuple[Header, Extent]:
    """Unpack an archive into an empty folder, which gets a folder for each volume; return what it is of, and how much.

    Raises Problem as `verify` does.
    """
    seen = _read(file, progress, _Unpacked(folder))
    os.sync()
    return seen
