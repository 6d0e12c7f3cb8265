"""A folder on a volume, held by its descriptor (see podserve.descriptors); `podserve.volumes` returns no paths."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from podserve.commands import run
from podserve.descriptors import closing, is_name, open_file, open_folder, written_whole
from podserve.errors import Problem
from podserve.walk import Place, walk

_LARGEST_PUT = 2**20
"""Bytes of the largest file that `put` compares with a new one."""


class Folder:
    """A folder, held by its descriptor. Its methods take names of its own entries, never paths."""

    descriptor = -1

    def __init__(self, descriptor: int, path: str) -> None:
        """Take a descriptor, which this object closes at its end, and the path that errors name."""
        self.descriptor, self._path = descriptor, path

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """Return the folder at a path that only this host's administrator, or this user, can change."""
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
            raise Problem(f"{name!r} cannot be the name of a file in {self}")
        return name

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return sorted(os.listdir(self.descriptor))  # noqa: PTH208  # by its descriptor

    def look(self, name: str = "") -> os.stat_result | None:
        """Return the status of an entry (of a link itself), or of this folder; None if there is no such entry."""
        if not name:
            return os.fstat(self.descriptor)
        try:
            return os.stat(self._require_name(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has_folder(self, name: str) -> bool:
        """Return whether an entry is a folder; a link to one is not."""
        there = self.look(name)
        return there is not None and stat.S_ISDIR(there.st_mode)

    def enter(self, *names: str) -> "Folder":
        """Return a folder in this one, name by name. Raises Problem if one is missing, or is a link or a file."""
        here = self
        for name in names:
            path = f"{here}/{name}"
            try:
                here = Folder(open_folder(self._require_name(name), here.descriptor), path)
            except NotADirectoryError as error:
                raise Problem(
                    f"{path} is not a folder, but a file or a link. Remove it, then run the same command again"
                ) from error
            except FileNotFoundError as error:
                raise Problem(f"{path} does not exist: expected a folder") from error
        return here

    def target(self, name: str) -> str:
        """Return the name of the entry that a link in this folder leads to; an empty text if there is no such link.

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
        """Return the content of a regular file; None if there is none. Raises Problem for more than `limit` bytes."""
        try:
            opened = open_file(self._require_name(name), self.descriptor)
        except FileNotFoundError:
            return None
        except Problem as problem:
            raise Problem(f"{self}/{problem.text}") from problem
        with os.fdopen(opened, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Problem(
                f"{self}/{name} has more than {limit} bytes, and is not read. Restore it from a backup, or remove it"
            )
        return content

    @contextmanager
    def replacing(self, name: str, mode: int) -> Iterator[BinaryIO]:
        """Yield a file to write into, which replaces this one once all of it is on the disk (see `written_whole`)."""
        new = f"{self._require_name(name)}.new"
        self.remove(new)  # a killed task may have left it
        with written_whole(name, self.descriptor, unfinished=new, mode=mode) as file:
            yield file

    def put(self, name: str, content: bytes, mode: int, group: int) -> bool:
        """Give a file of root and a group this content, or remove it if that is empty; return whether this changed it.

        Raises Problem for a present file that is larger than any that `put` writes.
        """
        if (self.read(name, _LARGEST_PUT) or b"") == content:
            return False
        if not content:
            self.remove(name)
            return True
        with self.replacing(name, mode) as file:
            os.fchown(file.fileno(), 0, group)
            file.write(content)
        return True

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock on a file in this folder; wait for another holder first."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            opened = os.open(self._require_name(name), flags, 0o600, dir_fd=self.descriptor)
        except OSError as error:
            raise Problem(
                f"{self}/{name} cannot be locked ({error.strerror}): remove it, then run the same command again"
            ) from error
        with closing(opened) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ensure(self, name: str, mode: int, owner: int) -> "Folder":
        """Return a folder in this one; a missing one is made, with that mode and `owner` as its user and group.

        An existing folder is left as it is. Raises Problem if the entry is no folder.
        """
        try:
            os.mkdir(self._require_name(name), 0o700, dir_fd=self.descriptor)
        except FileExistsError:
            return self.enter(name)
        made = self.enter(name)
        # A service that may write here could have replaced it by a folder of its own, which is left as it is.
        there = os.fstat(made.descriptor)
        if (there.st_uid, stat.S_IMODE(there.st_mode)) == (os.geteuid(), 0o700):
            os.fchown(made.descriptor, owner, owner)
            os.fchmod(made.descriptor, mode)
        return made

    def remove(self, name: str) -> None:
        """Remove a file or a link, if there is one. Raises Problem for a folder."""
        try:
            os.unlink(self._require_name(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            raise Problem(
                f"{self}/{name} is a folder: expected a file. Remove it, then run the same command again"
            ) from error

    def move(self, name: str, folder: "Folder", new: str) -> None:
        """Move an entry to a folder on the same volume, under a new name. A file or an empty folder is replaced.

        Raises Problem if the entry is not there, or if the new name belongs to a folder that is not empty.
        """
        try:
            names = self._require_name(name), self._require_name(new)
            os.rename(*names, src_dir_fd=self.descriptor, dst_dir_fd=folder.descriptor)
        except OSError as error:
            raise Problem(f"{self}/{name} cannot become {folder}/{new} ({error.strerror}). Move what is there away, "
                          "then run the same command again") from error  # fmt: skip

    def _find(self, *tests: str) -> None:
        # This path leads to the descriptor, whatever is at the folder's own path. find(1) handles trees of any depth.
        run(["find", f"/proc/{os.getpid()}/fd/{self.descriptor}/.", "-mindepth", "1", *tests], timeout=3600)

    def clear(self) -> None:
        """Remove all entries, with all below them."""
        self._find("-delete")

    def used(self) -> int:
        """Return the bytes that the folder and all below it take on the disk."""
        printed = run(["du", "-s", "-B1", f"/proc/{os.getpid()}/fd/{self.descriptor}/."], check=False).stdout.split()
        return int(printed[0]) if printed else 0

    def free(self) -> int:
        """Return the free bytes of the file system that the folder is on."""
        return shutil.disk_usage(self.descriptor).free

    def walk(self) -> Iterator[Place]:
        """Yield this folder and all folders below it, each before those in it. Links are not followed."""
        return walk(self)
