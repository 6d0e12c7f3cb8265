"""A folder on a volume, held by its descriptor. What is done below it follows no link.

Services put files on volumes, and so do archives; a service may have been broken into. A path is looked up each time
that it is used, so what it leads to may be replaced between a check and an action. This module opens each part of a
path by the descriptor of the folder before, refuses a link there, and acts on descriptors (openat(2), O_NOFOLLOW,
renameat(2)).
`podserve.volumes` gives out nothing else.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from podserve.commands import run
from podserve.errors import Problem

CHUNK = 2**20
"""Bytes that are read or copied in one go."""
LONGEST = 4 * 4096
"""Bytes of a path below a volume: four times Linux's PATH_MAX, since a folder that is moved into another makes paths
that are longer than any program in a container can name."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe must not keep its reader waiting, and a terminal must not become the task's own.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def is_name(name: str) -> bool:
    """Return whether this names an entry of a folder, and cannot lead out of it."""
    return name not in {"", ".", ".."} and not {"/", "\0"} & set(name)


def open_file(name: str, folder: int) -> int:
    """Return the descriptor of a regular file in a folder (a descriptor). Raises Problem for anything else there."""
    try:
        opened = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Problem(f"{name} is not read, since it is no regular file ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise Problem(f"{name} is not read, since it is no regular file")
    return opened


def new_file(name: str, folder: int) -> int:
    """Return the descriptor of a file that is made, for its owner alone. Raises FileExistsError where anything is."""
    return os.open(name, _NEW, 0o600, dir_fd=folder)


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Yield a descriptor, which is closed afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def extents(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield where data of a file begins and ends. What is between are holes, which take no space and read as zeros."""
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


def copy(name: str, source: int, target: int) -> None:
    """Copy a regular file from a folder to another (descriptors), with its holes, owner, mode and times."""
    with closing(open_file(name, source)) as reads, closing(new_file(name, target)) as writes:
        there = os.fstat(reads)
        for begin, end in extents(reads):
            at = os.lseek(writes, begin, os.SEEK_SET)
            while at < end and (sent := os.sendfile(writes, reads, at, min(CHUNK, end - at))):
                at += sent
        os.ftruncate(writes, there.st_size)
        become_like(writes, there)


def become_like(descriptor: int, there: os.stat_result) -> None:
    """Give a file or folder the owner, mode and times of another."""
    os.fchown(descriptor, there.st_uid, there.st_gid)  # first: it takes special bits of the mode away
    os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
    os.utime(descriptor, ns=(there.st_atime_ns, there.st_mtime_ns))


@dataclass(frozen=True)
class Place:
    """A folder on a walk: its path from the first (parts), its descriptor, what is in it by kind.

    The descriptor is good until the next step. A name that is taken out of `folders` is not walked into.
    """

    parts: tuple[str, ...]
    descriptor: int
    folders: list[str]
    files: list[str]
    links: list[str]

    def path(self, name: str = "") -> str:
        """Return the path of an entry, or of the folder, from the first."""
        return "/".join([*self.parts, *([name] if name else [])])


class Folder:
    """A folder, held by its descriptor. Names that it takes are those of its own entries, never paths."""

    descriptor = -1

    def __init__(self, descriptor: int, path: str) -> None:
        """Take a descriptor, which is closed with this object, and the path that errors name."""
        self.descriptor, self._path = descriptor, path

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """Return the folder with a path that nobody but this host's administrator, or this user, can change."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY), str(path))

    def __del__(self) -> None:
        """Close the descriptor."""
        with suppress(OSError):
            os.close(self.descriptor)

    def __str__(self) -> str:
        """Return the path, for messages."""
        return self._path

    def _require_name(self, name: str) -> str:
        if not is_name(name):
            raise Problem(f"{name!r} is no name of a file in {self}")
        return name

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return sorted(os.listdir(self.descriptor))  # noqa: PTH208  # by its descriptor

    def look(self, name: str = "") -> os.stat_result | None:
        """Return what the file system tells of an entry itself, or of this folder; None where there is no such one."""
        if not name:
            return os.fstat(self.descriptor)
        try:
            return os.stat(self._require_name(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has_folder(self, name: str) -> bool:
        """Return whether an entry is a folder, and no link to one."""
        there = self.look(name)
        return there is not None and stat.S_ISDIR(there.st_mode)

    def enter(self, *names: str) -> "Folder":
        """Return a folder in this one. Raises Problem where there is none, or a link or a file is there."""
        here = self
        for name in names:
            path = f"{here}/{name}"
            try:
                here = Folder(os.open(self._require_name(name), _DIRECTORY, dir_fd=here.descriptor), path)
            except NotADirectoryError as error:
                raise Problem(f"{path} is no folder, but a file or a link. Remove it, then try again") from error
            except FileNotFoundError as error:
                raise Problem(f"{path} is not there, or was removed meanwhile") from error
        return here

    def target(self, name: str) -> str:
        """Return the name of the entry that a link in this folder leads to; an empty text where there is no such link.

        Raises Problem for a link that leads anywhere else.
        """
        there = self.look(name)
        if there is None or not stat.S_ISLNK(there.st_mode):
            return ""
        target = os.readlink(name, dir_fd=self.descriptor)
        if not is_name(target):
            raise Problem(f"{self}/{name} leads to {target!r}: expected a link to a folder beside it")
        return target

    def read(self, name: str, limit: int) -> bytes | None:
        """Return what a regular file holds; None where there is none. Raises Problem past `limit` bytes."""
        try:
            opened = open_file(self._require_name(name), self.descriptor)
        except FileNotFoundError:
            return None
        except Problem as problem:
            raise Problem(f"{self}/{problem.text}") from problem
        with os.fdopen(opened, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Problem(f"{self}/{name} has more than {limit} bytes, which it never has by itself: it is not read")
        return content

    @contextmanager
    def replacing(self, name: str, mode: int) -> Iterator[BinaryIO]:
        """Yield a file to write into, which takes the place of this one when all of it is on the disk.

        The one before stays where that fails: also by a power cut, or on a full disk.
        """
        new = f"{self._require_name(name)}.new"
        self.remove(new)  # of one that was killed
        try:
            with os.fdopen(new_file(new, self.descriptor), "wb") as opened:
                os.fchmod(opened.fileno(), mode)
                yield opened
                opened.flush()
                os.fsync(opened.fileno())
            os.rename(new, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            self.remove(new)
            raise
        os.fsync(self.descriptor)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Let others who take this lock, a file in this folder, wait meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            opened = os.open(self._require_name(name), flags, 0o600, dir_fd=self.descriptor)
        except OSError as error:
            raise Problem(f"{self}/{name} cannot be locked ({error.strerror}): remove it, then try again") from error
        with closing(opened) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ensure(self, name: str, mode: int, owner: int) -> "Folder":
        """Return a folder in this one, made with that mode, user and group where there is none.

        What is there already is left as it is. Raises Problem where it is no folder.
        """
        try:
            os.mkdir(self._require_name(name), 0o700, dir_fd=self.descriptor)
        except FileExistsError:
            return self.enter(name)
        made = self.enter(name)
        # Whoever may write here may have put a folder of theirs in its place meanwhile: that one is left as it is.
        there = os.fstat(made.descriptor)
        if (there.st_uid, stat.S_IMODE(there.st_mode)) == (os.geteuid(), 0o700):
            os.fchown(made.descriptor, owner, owner)
            os.fchmod(made.descriptor, mode)
        return made

    def remove(self, name: str) -> None:
        """Remove a file or a link, where there is one. Raises Problem for a folder."""
        try:
            os.unlink(self._require_name(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            raise Problem(f"{self}/{name} is a folder, in the place of a file: remove it, then try again") from error

    def _find(self, *tests: str) -> None:
        # By a path that leads to this descriptor, whatever has been put at its path. find(1) knows trees of any depth.
        run(["find", f"/proc/{os.getpid()}/fd/{self.descriptor}/.", "-mindepth", "1", *tests], timeout=3600)

    def clear(self) -> None:
        """Remove all that is in it."""
        self._find("-delete")

    def used(self) -> int:
        """Return the bytes that all of it takes on the disk."""
        told = run(["du", "-s", "-B1", f"/proc/{os.getpid()}/fd/{self.descriptor}/."], check=False).stdout.split()
        return int(told[0]) if told else 0

    def free(self) -> int:
        """Return the bytes that are free where it lies."""
        return shutil.disk_usage(self.descriptor).free

    def walk(self) -> Iterator[Place]:
        """Yield this folder and all below it, each before those in it, however deep. Links are not followed."""
        way = Descent(self)
        place = way.look()
        yield place
        waiting = [iter(place.folders)]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                if waiting:
                    way.up()
                continue
            way.down(name)
            place = way.look()
            yield place
            waiting.append(iter(place.folders))


class Descent:
    """A way among the folders below one. It holds one descriptor at any depth, which no limit of the host's bounds.

    The way up is `..`, and ends in an error where that is another folder than the one that it came from.
    """

    descriptor = -1

    def __init__(self, folder: Folder) -> None:
        """Begin in a folder."""
        self.descriptor = os.dup(folder.descriptor)
        self.parts: list[str] = []
        self._above: list[tuple[int, int]] = []

    def __del__(self) -> None:
        """Close the descriptor."""
        with suppress(OSError):
            os.close(self.descriptor)

    def _identity(self) -> tuple[int, int]:
        there = os.fstat(self.descriptor)
        return there.st_dev, there.st_ino

    def _become(self, descriptor: int) -> None:
        os.close(self.descriptor)
        self.descriptor = descriptor

    def down(self, name: str) -> None:
        """Go into a folder."""
        above = self._identity()
        self._become(os.open(name, _DIRECTORY, dir_fd=self.descriptor))
        self._above.append(above)
        self.parts.append(name)

    def up(self) -> None:
        """Go back to the folder above."""
        self._become(os.open("..", _DIRECTORY, dir_fd=self.descriptor))
        if self._identity() != self._above.pop():
            raise Problem(f"{'/'.join(self.parts)} was moved meanwhile. Run the same command again")
        self.parts.pop()

    def to(self, parts: Sequence[str]) -> int:
        """Go to the folder with this path from the first, and return its descriptor, good until the next step."""
        same = 0
        for here, there in zip(self.parts, parts, strict=False):
            if here != there:
                break
            same += 1
        while len(self.parts) > same:
            self.up()
        for part in parts[same:]:
            self.down(part)
        return self.descriptor

    def look(self) -> Place:
        """Return what is in the folder where this is."""
        place = Place(tuple(self.parts), self.descriptor, [], [], [])
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                if entry.is_symlink():
                    place.links.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    place.folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    place.files.append(entry.name)
        return place
