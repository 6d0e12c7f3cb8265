"""Reads the archive of a backup: verifies it, or unpacks it.

A truncated or changed archive is detected. Verifying and unpacking run the same code on each member, and memory for a
member is bounded.
"""

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from podserve import accounts
from podserve.backup.layout import FIRST, FORMAT, LAST, Checksums, Extent, Header, Progress
from podserve.backup.members import ACCOUNTS, Discarder, MemberJudge, Unpacker
from podserve.descriptors import CHUNK
from podserve.errors import Problem
from podserve.folder import Folder

_BUFFER = 2**16
"""Bytes that tarfile asks for at once."""
_PIECE = 2**12
"""Compressed bytes that are read at once: at zstd's best ratio, one byte for 32 kB, they decompress to 128 MB."""
_HEADERS = 2**18
"""Bytes of headers that a member may have, with its path; tarfile holds them all in memory."""
_HEADER = 2**16
"""Bytes that podserve.json may have: it holds a pod's settings."""


class _Whole(io.RawIOBase):
    """The decompressed content of an archive. Raises Problem for a truncated archive and for data after its end."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress, self._left, self._at = file, progress, b"", 0
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._allowed = _HEADERS

    def readable(self) -> bool:
        return True

    def allow(self, size: int) -> None:
        """Bound what is read until the next call: that many bytes, and a few headers."""
        self._allowed = size + _HEADERS

    def read(self, size: int = -1) -> bytes:
        while (size < 0 or len(self._left) - self._at < size) and (chunk := self._file.read(_PIECE)):
            if self._frame.eof:
                raise Problem("it has data after its end")
            self._progress(len(chunk))
            self._left, self._at = self._left[self._at :] + self._frame.decompress(chunk), 0
            if self._frame.unused_data:
                raise Problem("it has data after its end")
        begin = self._at
        self._at = len(self._left) if size < 0 else min(begin + size, len(self._left))
        self._allowed -= self._at - begin
        if self._allowed < 0:
            raise Problem(f"the header of a member has more than {_HEADERS} bytes")
        return self._left[begin : self._at]

    def finish(self) -> None:
        """Read to the end. Raises Problem if the end is missing."""
        self.allow(_HEADERS)
        while self.read(_BUFFER):
            pass
        if not self._frame.eof:
            raise Problem("it is truncated")


def _header(tar: tarfile.TarFile) -> Header:
    first = tar.next()
    content = tar.extractfile(first) if first and first.name == FIRST and first.size <= _HEADER else None
    if not content:
        raise Problem("it is not a backup of PodServe")
    stored = json.load(content)
    if stored["format"] > FORMAT:
        raise Problem(f"a newer PodServe made it (format {stored['format']}; this one reads {FORMAT}): update this one")
    texts = [stored["made"], stored["settings"]["domain"], *stored["settings"].values()]
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise Problem("it is not a backup of PodServe")
    return Header(**stored)


@contextmanager
def _opened(file: Path, progress: Progress) -> Iterator[tuple[tarfile.TarFile, _Whole]]:
    """Yield an open archive. Raises Problem for every fault of the archive; a full disk stays an OSError."""
    try:
        with file.open("rb") as compressed:
            whole = _Whole(compressed, progress)
            with tarfile.open(fileobj=whole, mode="r|", bufsize=_BUFFER) as tar:
                yield tar, whole
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # of the disk that it is unpacked to
            raise
        raise Problem(f"{file} cannot be read: {error.strerror or error}") from error
    except (tarfile.TarError, zstandard.ZstdError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise Problem(f"{file} is not a complete backup of PodServe ({error}). Nothing was changed") from error
    except Problem as problem:
        raise Problem(f"{file} cannot be restored: {problem.text}. Nothing was changed") from problem


def _chunks(content: IO[bytes], whole: _Whole, checksum: "hashlib._Hash", kept: list[bytes] | None) -> Iterator[bytes]:
    """Yield the content of a file, and update the checksum; append the content to `kept`, if given."""
    while True:
        whole.allow(CHUNK)
        chunk = content.read(CHUNK)
        if not chunk:
            return
        checksum.update(chunk)
        if kept is not None:
            kept.append(chunk)
        yield chunk


def _read(file: Path, progress: Progress, taker: Discarder) -> tuple[Header, Extent]:
    """Read a whole archive, pass each checked member to `taker`, and compare all content with the checksums."""
    with _opened(file, progress) as (tar, whole):
        header, judge, extent = _header(tar), MemberJudge(), Extent()
        sums, expected, length = Checksums(), hashlib.sha256(), 0
        whole.allow(0)
        while (member := tar.next()) is not None and member.name != LAST:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would remember each member
            if tar.pax_headers:
                raise Problem("it has a global header, and PodServe writes none")
            parts = judge.require(member)
            content = tar.extractfile(member) if member.isreg() else None
            if member.isdir():
                taker.folder(parts, member)
            elif member.issym():
                taker.link(parts, member)
            elif content is None:
                taker.second_name(parts, member)
            else:
                kept = list[bytes]() if member.name == ACCOUNTS else None
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
            raise Problem("it has data after its checksums")
        whole.finish()
    return header, extent


def _require_sums(tar: tarfile.TarFile, whole: _Whole, member: tarfile.TarInfo, expected: bytes, length: int) -> None:
    """Raise Problem if manifest.json differs from the checksums of what was read. Another length is not read."""
    content = tar.extractfile(member) if member.isreg() and not member.issparse() and member.size == length else None
    there = hashlib.sha256()
    if content:
        for _ in _chunks(content, whole, there, None):
            pass
    if not content or there.digest() != expected:
        raise Problem("its content does not match its checksums")


def verify_archive(file: Path, progress: Progress) -> tuple[Header, Extent]:
    """Read a whole archive; return its header and extent. Raises Problem if `extract_archive` would refuse it."""
    return _read(file, progress, Discarder())


def extract_archive(file: Path, folder: Folder, progress: Progress) -> tuple[Header, Extent]:
    """Unpack an archive into an empty folder, which gets a folder for each volume; return its header and extent.

    Raises Problem as `verify_archive` does.
    """
    seen = _read(file, progress, Unpacker(folder))
    os.sync()
    return seen
