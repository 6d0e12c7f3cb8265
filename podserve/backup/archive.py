"""The archive: a tar file, compressed with zstd, that begins with what it is and ends with a checksum of each file.

    podserve.json               Header
    volumes/CONTENT/…           the files of each volume, with owners as numbers
    manifest.json               {path: SHA-256 in hexadecimal}

A file that was cut off, or changed anywhere, is told from a whole one.
"""

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import zstandard

from podserve.errors import Problem

FORMAT = 1
"""The one that is written, and the newest that is read."""
_FIRST, _LAST, _BODY = "podserve.json", "manifest.json", "volumes"
_CHUNK = 2**20
_PIECE = 2**12
"""Compressed bytes that are looked at in one go: of zstd's best case, a byte for each 32 kB, they make 128 MB."""
Progress = Callable[[int], object]
"""Gets the number of bytes that were read since it was called last."""


@dataclass(frozen=True)
class Header:
    """What an archive is of: its format, when it was made (ISO 8601, UTC), the settings of the pod."""

    format: int
    made: str
    settings: dict[str, str]


class _Hashing(io.RawIOBase):
    """A file that is read once, with its checksum."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress, self._sum = file, progress, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._sum.update(chunk)
        self._progress(len(chunk))
        return chunk

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


class _Whole(io.RawIOBase):
    """The decompressed content of an archive, to its end: one that was cut off, or goes on, raises Problem."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress, self._left, self._at = file, progress, b"", 0
        self._frame = zstandard.ZstdDecompressor().decompressobj()

    def readable(self) -> bool:
        return True

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
        return self._left[begin : self._at]

    def finish(self) -> None:
        """Read to the end. Raises Problem when that is missing."""
        while self.read(_CHUNK):
            pass
        if not self._frame.eof:
            raise Problem("its end is missing")


def _add_json(tar: tarfile.TarFile, name: str, content: object) -> None:
    encoded = json.dumps(content).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(encoded), 0o600
    tar.addfile(info, io.BytesIO(encoded))


def _is_kept(member: tarfile.TarInfo) -> bool:
    return member.isreg() or member.isdir() or member.issym() or member.islnk()


def _fail(error: OSError) -> None:
    raise error


def _paths(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_fail):
        folders.sort()
        yield Path(place)
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in sorted(files + links))


def write(folder: Path, header: Header, out: BinaryIO, progress: Progress) -> None:
    """Write the archive of a folder that holds a folder for each volume. Sockets and pipes are left out."""
    sums = {}
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    with (
        compressor.stream_writer(out, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add_json(tar, _FIRST, asdict(header))
        for path in _paths(folder):
            info = tar.gettarinfo(path, f"{_BODY}/{path.relative_to(folder)}".removesuffix("/."))
            if info is None or not _is_kept(info):
                continue
            info.uname = info.gname = ""
            if info.isreg():
                with path.open("rb") as file:
                    hashing = _Hashing(file, progress)
                    tar.addfile(info, hashing)
                sums[info.name] = hashing.hexdigest()
            else:
                tar.addfile(info)
        _add_json(tar, _LAST, sums)


def _header(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> Header:
    first = next(members, None)
    content = tar.extractfile(first) if first and first.name == _FIRST else None
    if not content:
        raise Problem("it is none of PodServe's")
    told = json.load(content)
    if not isinstance(told["settings"]["domain"], str):
        raise Problem("it is none of PodServe's")
    if told["format"] > FORMAT:
        raise Problem(f"a newer PodServe made it (format {told['format']}; this one reads {FORMAT}): update this one")
    return Header(**told)


class _Inside:
    """Judges each member before it is unpacked: it must lie in a volume's folder, and behind no link.

    A link may lead anywhere: it is put back as it was, and nothing is unpacked through it.
    """

    def __init__(self) -> None:
        self._links: set[PurePosixPath] = set()

    def _is_inside(self, path: PurePosixPath) -> bool:
        behind_a_link = any(place in self._links for place in (path, *path.parents))
        return path.parts[:1] == (_BODY,) and ".." not in path.parts and not behind_a_link

    def require(self, member: tarfile.TarInfo) -> None:
        path = PurePosixPath(member.name)
        good = _is_kept(member) and self._is_inside(path)
        if member.islnk():
            good = good and self._is_inside(PurePosixPath(member.linkname))
        if member.issym():
            good = good and len(path.parts) > 2  # noqa: PLR2004  # volumes/CONTENT is a folder
            self._links.add(path)
        if not good:
            raise Problem(f"it holds {member.name!r}, which leads out of it")


@contextmanager
def _opened(file: Path, progress: Progress) -> Iterator[tuple[tarfile.TarFile, _Whole]]:
    """Yield an archive to be read from its beginning. Raises Problem for all that is wrong with it, but a full disk."""
    try:
        with file.open("rb") as compressed:
            whole = _Whole(compressed, progress)
            with tarfile.open(fileobj=whole, mode="r|", bufsize=_CHUNK) as tar:
                yield tar, whole
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # where it is unpacked
            raise
        raise Problem(f"{file} cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, zstandard.ZstdError, ValueError, LookupError, TypeError) as error:
        raise Problem(f"{file} is no whole archive of PodServe's ({error}). Nothing was changed") from error
    except Problem as problem:
        raise Problem(f"{file} is no good archive: {problem.text}. Nothing was changed") from problem


def verify(file: Path, progress: Progress) -> tuple[Header, int]:
    """Read a whole archive; return what it is of, and the bytes of its files. Raises Problem when it is not whole."""
    with _opened(file, progress) as (tar, whole):
        members = iter(tar)
        header, seen, told, size, inside = _header(tar, members), {}, None, 0, _Inside()
        for member in members:
            if told is not None:
                raise Problem("it goes on after its checksums")
            content = tar.extractfile(member) if member.isreg() else None
            if member.name == _LAST and content:
                told = json.load(content)
                continue
            inside.require(member)
            if content:
                seen[member.name] = hashlib.file_digest(cast("io.BufferedReader", content), "sha256").hexdigest()
                size += member.size
        whole.finish()
        if told is None:
            raise Problem("its checksums are missing")
        if seen != told:
            differing = sorted(name for name in seen.keys() | told.keys() if seen.get(name) != told.get(name))
            raise Problem(f"{differing[0]} is not what was put in")
    return header, size


def extract(file: Path, folder: Path, progress: Progress) -> None:
    """Unpack an archive, which was verified, into a folder that gets a folder for each volume."""
    with _opened(file, progress) as (tar, _):
        members, inside = iter(tar), _Inside()
        _header(tar, members)
        # Owners and modes are kept as they are: what they may be was judged, and where they lie.
        tar.extraction_filter = staticmethod(lambda member, _: member)
        for member in members:
            if member.name == _LAST:
                continue
            inside.require(member)
            member.name = member.name.removeprefix(f"{_BODY}/") if member.name != _BODY else "."
            if member.islnk():
                member.linkname = member.linkname.removeprefix(f"{_BODY}/")
            tar.extract(member, folder, numeric_owner=True)
    os.sync()
