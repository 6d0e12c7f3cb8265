"""Files and folders by name in an open folder (a descriptor). Nothing here follows a link.

Services write to volumes, and so do archives; an attacker may control a service. A path is resolved on each use, so an
attacker could replace a part of it between a check and the action. These functions take the descriptor of a folder and
the name of an entry, refuse a link there, and act on descriptors (openat(2), O_NOFOLLOW, renameat(2)).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from podserve.errors import Problem

CHUNK = 2**20
"""Bytes that are read or copied at once."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: opening a pipe must not wait for a writer. O_NOCTTY: a terminal must not become the task's own.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def is_name(name: str) -> bool:
    """Return whether a text is the name of an entry of a folder, and cannot lead out of that folder."""
    return name not in {"", ".", ".."} and not {"/", "\0"} & set(name)


def open_folder(name: str, folder: int) -> int:
    """Return the descriptor of a folder in a folder. Raises NotADirectoryError for a link or a file."""
    return os.open(name, _DIRECTORY, dir_fd=folder)


def open_file(name: str, folder: int) -> int:
    """Return the descriptor of a regular file in a folder. Raises Problem for anything else of that name."""
    try:
        opened = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Problem(f"{name} is not a regular file ({error.strerror}), and is not read") from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise Problem(f"{name} is not a regular file, and is not read")
    return opened


def new_file(name: str, folder: int) -> int:
    """Return the descriptor of a new file with mode 0600. Raises FileExistsError if it exists, as a link too."""
    return os.open(name, _NEW, 0o600, dir_fd=folder)


@contextmanager
def written_whole(name: str, folder: int, *, unfinished: str, mode: int) -> Iterator[BinaryIO]:
    """Yield a file to write into, which gets its name once all of its content is on the disk.

    Until then its name is `unfinished`. It replaces an existing file of that name. If writing fails, even by a
    power cut or a full disk, the existing file stays. Raises FileExistsError if `unfinished` exists.
    """
    opened = new_file(unfinished, folder)
    try:
        with os.fdopen(opened, "wb") as file:
            os.fchmod(opened, mode)
            yield file
            file.flush()
            os.fsync(opened)
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        raise
    os.fsync(folder)


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Yield a descriptor, and close it afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def extents(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield the first byte and the end of each extent of data. Between them are holes: no space, read as zeros."""
    at, size = 0, os.fstat(descriptor).st_size
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more data
                raise
            return
        at = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, at


def copy_file(name: str, source: int, target: int) -> None:
    """Copy a regular file from a folder to another, with its holes, owner, mode and times."""
    with closing(open_file(name, source)) as reads, closing(new_file(name, target)) as writes:
        there = os.fstat(reads)
        for begin, end in extents(reads):
            at = os.lseek(writes, begin, os.SEEK_SET)
            while at < end and (sent := os.sendfile(writes, reads, at, min(CHUNK, end - at))):
                at += sent
        os.ftruncate(writes, there.st_size)
        become_like(writes, there)


def become_like(descriptor: int, there: os.stat_result) -> None:
    """Give a file or folder the owner, mode and times that `there` has."""
    os.fchown(descriptor, there.st_uid, there.st_gid)  # before chmod: chown clears setuid and setgid
    os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
    os.utime(descriptor, ns=(there.st_atime_ns, there.st_mtime_ns))
