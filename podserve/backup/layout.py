"""The layout of an archive: a tar file, compressed with zstd, that begins with a header and ends with checksums.

    podserve.json               Header
    volumes/CONTENT/…           the files of each volume, with owners as numbers
    manifest.json               {path: SHA-256 in hexadecimal}, in the order of the files

The writer and the reader share what is here: names, limits, and what each volume may hold.
"""

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from podserve.descriptors import is_name
from podserve.shared_file import GROUP

FORMAT = 1
"""The format that is written, and the newest that is read."""
FIRST, LAST, BODY = "podserve.json", "manifest.json", "volumes"
MEMBERS = 10_000_000
"""Members that an archive may have: each takes some 100 bytes of memory while the archive is read."""
LATEST = 2**34
"""Seconds before or after 1970: no file system stores a time beyond."""
_BLOCK = 4096
"""Bytes of a block of most file systems: a file takes whole blocks."""
_TARGET_MAX = 4095
"""Bytes of what a link leads to, in Linux (limits.h)."""
Progress = Callable[[int], object]
"""Gets the number of bytes that were read since its last call."""


@dataclass(frozen=True)
class Content:
    """What a volume may hold: the users and groups that own files there (docker/base), and whether there are links.

    Any other owner, such as the person who copied a site to the volume on the host, is replaced by root.
    """

    users: frozenset[int]
    groups: frozenset[int]
    links: bool


_WWW_DATA, _VMAIL, _POSTFIX, _POSTDROP, _BIND, _RSPAMD, _MTA_STS = 33, 5000, 5001, 5003, 5004, 5005, 5006
_MAIL = frozenset({_VMAIL, _POSTFIX, _RSPAMD})
CONTENTS = {
    "web": Content(frozenset({_WWW_DATA}), frozenset({_WWW_DATA}), links=True),
    "mail": Content(_MAIL | {_MTA_STS}, _MAIL | {_POSTDROP}, links=True),
    "certificates": Content(frozenset(), frozenset(), links=True),
    "accounts": Content(frozenset(), frozenset({GROUP}), links=False),
    "authority": Content(frozenset(), frozenset(), links=False),
    "dkim": Content(frozenset(), frozenset({_RSPAMD}), links=False),
    "dns": Content(frozenset(), frozenset({_BIND}), links=False),
}


@dataclass(frozen=True)
class Header:
    """What an archive says of itself: its format, its time (ISO 8601, UTC), the settings of the pod."""

    format: int
    made: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Extent:
    """How much an archive holds: bytes of its files, bytes that they take on a disk, number of entries."""

    size: int = 0
    on_disk: int = 0
    members: int = 0

    def and_one(self, size: int) -> "Extent":
        """Return the extent with one more file of that size, or folder."""
        blocks = max(1, -(-size // _BLOCK)) * _BLOCK
        return Extent(self.size + size, self.on_disk + blocks, self.members + 1)


class Checksums:
    """manifest.json, piece by piece: it grows with the number of files, and is never held whole."""

    def __init__(self) -> None:
        """Begin with no file."""
        self._count = 0

    def piece(self, name: str, checksum: str) -> bytes:
        """Return what the next file adds to manifest.json."""
        before = ", " if self._count else "{"
        self._count += 1
        return f"{before}{json.dumps(name)}: {json.dumps(checksum)}".encode("ascii")

    @property
    def end(self) -> bytes:
        """What ends manifest.json."""
        return b"}" if self._count else b"{}"


def _target_is_inside(parts: list[str], target: str) -> bool:
    """Return whether a link, with this path in the archive, leads to its own volume.

    `..` may stand only at the beginning: there it is the folder above, since all parents of a member are folders.
    """
    names = target.split("/")
    ups = next((number for number, name in enumerate(names) if name != ".."), len(names))
    return ups <= len(parts) - 3 and (target == "." or all(is_name(name) for name in names[ups:]))


def refused_link(name: str, parts: list[str], there: tarfile.TarInfo) -> str:
    """Return why a link must not be in an archive; an empty text if it may."""
    if len(parts) < 3 or not CONTENTS[parts[1]].links:  # noqa: PLR2004  # volumes/CONTENT/NAME
        return f"{name!r} is a link, and no link may be there"
    if "\0" in there.linkname or len(os.fsencode(there.linkname)) > _TARGET_MAX:
        return f"{name!r} is a link to an invalid path"
    return (
        ""
        if _target_is_inside(parts, there.linkname)
        else f"{name!r} leads out of its volume, to {there.linkname[:100]!r}"
    )
