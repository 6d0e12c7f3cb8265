"""Checks each member of an archive before it is read, and unpacks it without following links.

An archive may come from anywhere, so every name, kind, owner and mode is checked here. Python's own extraction filter
(tarfile.data_filter) is not used: Debian 12's Python lacks it, it resolves whole paths on the host, which may be longer
than the host can resolve, and it drops owners.
"""

import os
import tarfile
from collections.abc import Iterator

from podserve import accounts
from podserve.backup.layout import BODY, CONTENTS, LATEST, MEMBERS, refused_link
from podserve.descriptors import closing, is_name, new_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.walk import LONGEST, Descent

ACCOUNTS = f"{BODY}/accounts/{accounts.FILE}"
"""The member whose content is checked, too: tasks create folders with the names in it."""
_NAME_MAX = 255
"""Bytes of a name in Linux (limits.h)."""


class MemberJudge:
    """Checks each member before it is read: it must be in a folder of a volume, once, and of a kind allowed there."""

    def __init__(self) -> None:
        """Begin with no member seen."""
        # Hashes of names: an archive may hold many long names.
        self._folders, self._files, self._links = set[int](), set[int](), set[int]()

    def _require_place(self, name: str) -> list[str]:
        """Return the parts of a name. The name is checked, and used later, exactly as it is written."""
        parts = name.split("/")
        if parts[0] != BODY or not all(is_name(part) for part in parts):
            raise Problem(f"it holds {name[:200]!r}, which is not below volumes/")
        encoded = os.fsencode(name)
        if len(encoded) > LONGEST + len(f"{BODY}/certificates/") or max(map(len, encoded.split(b"/"))) > _NAME_MAX:
            raise Problem(f"it holds {name[:200]!r}…, whose path is too long")
        if len(parts) > 1 and parts[1] not in CONTENTS:
            raise Problem(f"it holds {name[:200]!r}: expected one of the volumes {', '.join(CONTENTS)}")
        if any(hash(name) in seen for seen in (self._folders, self._files, self._links)):
            raise Problem(f"it holds {name[:200]!r} twice")
        if len(parts) > 1 and hash("/".join(parts[:-1])) not in self._folders:
            raise Problem(f"it holds {name[:200]!r}: expected its folder before it")
        return parts

    def require(self, member: tarfile.TarInfo) -> list[str]:
        """Return the parts of a member's name, and correct its owner. Raises Problem for one that is not allowed."""
        parts = self._require_place(member.name)
        name = member.name[:200]
        if len(self._files) + len(self._folders) + len(self._links) >= MEMBERS:
            raise Problem(f"it holds more than {MEMBERS} files and folders")
        if not -LATEST < member.mtime < LATEST:
            raise Problem(f"it holds {name!r}, whose time is out of range")
        if member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse() and len(parts) > 2:  # noqa: PLR2004
            allowed = 0o777
            self._files.add(hash(member.name))
        elif member.isdir() and member.name != ACCOUNTS:
            # Postfix's own folders may have the setgid and sticky bits.
            allowed = 0o3777
            self._folders.add(hash(member.name))
        elif member.issym():
            if why := refused_link(name, parts, member):
                raise Problem(f"it holds what is not allowed: {why}")
            allowed = 0o7777
            self._links.add(hash(member.name))
        elif member.islnk():
            # Version 0.1.0 wrote hard links for second names of files; later versions write none.
            target, may_link = member.linkname.split("/"), CONTENTS[parts[1]].links if len(parts) > 1 else False
            if not may_link or target[:2] != parts[:2] or hash(member.linkname) not in self._files:
                raise Problem(
                    f"it holds {name!r}, a hard link to {member.linkname[:200]!r}: expected an earlier file there"
                )
            allowed = 0o7777
            self._files.add(hash(member.name))
        else:
            raise Problem(f"it holds {name!r}, which is not a file, folder or link")
        if member.mode & ~allowed or member.size < 0:
            raise Problem(f"it holds {name!r} with the mode {member.mode:o}: expected no bits other than {allowed:o}")
        content = CONTENTS[parts[1]] if len(parts) > 1 else None
        member.uid = member.uid if content and member.uid in content.users else 0
        member.gid = member.gid if content and member.gid in content.groups else 0
        return parts


class Discarder:
    """Reads the members of an archive, and keeps nothing."""

    def folder(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Get a folder."""

    def file(self, parts: list[str], member: tarfile.TarInfo, chunks: Iterator[bytes]) -> None:  # noqa: ARG002
        """Get a file, and read its content."""
        for _ in chunks:
            pass

    def link(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Get a symbolic link."""

    def second_name(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Get a hard link."""


class Unpacker(Discarder):
    """Writes the members into an empty folder: by descriptors, only as new files, through no link."""

    def __init__(self, folder: Folder) -> None:
        """Begin in the empty folder."""
        self._way, self._other = Descent(folder), Descent(folder)

    def _become(self, descriptor: int, member: tarfile.TarInfo) -> None:
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode)
        os.utime(descriptor, (member.mtime, member.mtime))

    def folder(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Make a folder."""
        if len(parts) > 1:
            os.mkdir(parts[-1], 0o700, dir_fd=self._way.to(parts[1:-1]))
            self._become(self._way.to(parts[1:]), member)

    def file(self, parts: list[str], member: tarfile.TarInfo, chunks: Iterator[bytes]) -> None:
        """Write a file."""
        with closing(new_file(parts[-1], self._way.to(parts[1:-1]))) as descriptor:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(descriptor, left) :]
            self._become(descriptor, member)

    def link(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Make a symbolic link."""
        here = self._way.to(parts[1:-1])
        os.symlink(member.linkname, parts[-1], dir_fd=here)
        os.chown(parts[-1], member.uid, member.gid, dir_fd=here, follow_symlinks=False)

    def second_name(self, parts: list[str], member: tarfile.TarInfo) -> None:
        """Make a hard link."""
        here, target = self._way.to(parts[1:-1]), member.linkname.split("/")
        there = self._other.to(target[1:-1])
        os.link(target[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
