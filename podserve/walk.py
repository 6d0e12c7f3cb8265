"""A walk through a folder and all folders below it, however deep, without following links."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from podserve.descriptors import open_folder
from podserve.errors import Problem

LONGEST = 4 * 4096
"""Bytes of a path below a volume: four times Linux's PATH_MAX. Moving a folder into another makes paths that are longer
than any program in a container can name."""


class Opened(Protocol):
    """An object that keeps a folder open: a podserve.folder.Folder."""

    descriptor: int


@dataclass(frozen=True)
class Place:
    """A folder on a walk: its path from the first folder (parts), its descriptor, and its entries by kind.

    The descriptor is valid until the next step. Taking a name out of `folders` keeps the walk out of that folder.
    """

    parts: tuple[str, ...]
    descriptor: int
    folders: list[str]
    files: list[str]
    links: list[str]

    def path(self, name: str = "") -> str:
        """Return the path of an entry, or of the folder itself, from the first folder."""
        return "/".join([*self.parts, *([name] if name else [])])


class Descent:
    """A position among the folders below a first one. It holds one descriptor at any depth, within any host's limit.

    A step up opens `..`, and fails if that is not the folder that the step down left.
    """

    descriptor = -1

    def __init__(self, folder: Opened) -> None:
        """Begin in a folder, by a descriptor of its own."""
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
        self._become(open_folder(name, self.descriptor))
        self._above.append(above)
        self.parts.append(name)

    def up(self) -> None:
        """Go back to the folder above."""
        self._become(open_folder("..", self.descriptor))
        if self._identity() != self._above.pop():
            raise Problem(f"{'/'.join(self.parts)} was moved meanwhile. Run the same command again")
        self.parts.pop()

    def to(self, parts: Sequence[str]) -> int:
        """Go to the folder with this path from the first, and return its descriptor, valid until the next step."""
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
        """Return the entries of the current folder."""
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


def walk(folder: Opened) -> Iterator[Place]:
    """Yield a folder and all folders below it, each before those in it. Links are not followed."""
    way = Descent(folder)
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
