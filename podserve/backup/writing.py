"""Writes the archive of a backup."""

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, BinaryIO

import zstandard

from podserve.backup.layout import BODY, FIRST, LAST, LATEST, MEMBERS, Checksums, Header, Progress, refused_link
from podserve.descriptors import extents, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.walk import Place

_HOLES = 2**30
"""Bytes of holes that a file may have: the archive holds them as zeros, so a sparse file could fill any disk."""


class _Hashing(io.RawIOBase):
    """A file that is read once, and hashed while it is read."""

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
        """Bytes of holes; 0 for a file that is too small for them to matter."""
        size = os.fstat(self._file.fileno()).st_size
        if size <= _HOLES:
            return 0
        held = sum(end - begin for begin, end in extents(self._file.fileno()))
        self._file.seek(0)
        return size - held

    def hexdigest(self) -> str:
        return self._sum.hexdigest()


def _add_json(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    tar.addfile(info, content)


def _described(name: str, there: os.stat_result) -> tarfile.TarInfo:
    """Return the member for a file, folder or link: tarfile's own gettarinfo() makes second names hard links."""
    info = tarfile.TarInfo(name)
    info.uid, info.gid = there.st_uid, there.st_gid
    info.mtime = max(1 - LATEST, min(there.st_mtime, LATEST - 1))  # a service may have set any time
    info.mode = stat.S_IMODE(there.st_mode)
    if stat.S_ISDIR(there.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, info.mode & ~stat.S_ISUID
    elif stat.S_ISLNK(there.st_mode):
        info.type = tarfile.SYMTYPE
    else:
        # No program on a volume runs setuid, and no archive may hold one.
        info.size, info.mode = there.st_size, info.mode & 0o777
    return info


def _entries(place: Place, prefix: str, progress: Progress) -> Iterator[tuple[tarfile.TarInfo, _Hashing | None]]:
    """Yield the members for a folder, and for the files and links in it, with the content of files."""
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
    """Return why a member is left out, and what to do; an empty text if it is written."""
    if info.issym() and (why := refused_link(info.name, parts, info)):
        return f"{why}: remove it, or let it lead into its own volume"
    if content and content.holes > _HOLES:
        return f"{info.name!r} has {content.holes} bytes of holes, too many for a backup: remove it"
    return ""


def write_archive(folder: Folder, header: Header, out: BinaryIO, progress: Progress) -> list[str]:
    """Write the archive of a folder that holds a folder for each volume; return a line for each entry left out.

    These are links that `verify_archive` refuses, and files with more than _HOLES bytes of holes. Sockets and pipes are
    left out without a line, since services make them anew. Raises Problem for more than MEMBERS entries.
    """
    sums, left_out, compressor = Checksums(), list[str](), zstandard.ZstdCompressor(write_checksum=True)
    first, members, length = json.dumps(asdict(header)).encode(), 0, 0
    with (
        tempfile.TemporaryFile() as kept,
        compressor.stream_writer(out, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        # Compressed: its paths repeat, and an account can make many long ones.
        manifest = zstandard.ZstdCompressor().stream_writer(kept, closefd=False)
        _add_json(tar, FIRST, len(first), io.BytesIO(first))
        for place in folder.walk():
            place.folders.sort()
            parts = [BODY, *place.parts]
            for info, content in _entries(place, "/".join(parts), progress):
                if why := _unwritten(info, [*parts, ""], content):
                    left_out.append(why)
                    continue
                tar.addfile(info, content)
                tar.members = []  # type: ignore[attr-defined]  # tarfile would remember each member
                members += 1
                if members > MEMBERS:
                    raise Problem(
                        f"the volumes hold more than {MEMBERS} files and folders, too many for an archive: remove some"
                    )
                if content:
                    piece = sums.piece(info.name, content.hexdigest())
                    manifest.write(piece)
                    length += len(piece)
        manifest.write(sums.end)
        manifest.flush(zstandard.FLUSH_FRAME)
        kept.seek(0)
        with zstandard.ZstdDecompressor().stream_reader(kept, closefd=False) as plain:
            _add_json(tar, LAST, length + len(sums.end), plain)
    return left_out
