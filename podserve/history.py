"""Who changed the data of which account or alias, and when: a file of lines on the accounts volume, for root alone.

A line is `TIME WHO TASK WHAT`, such as `2026-11-27T23:40:01Z alice users.quota bob@example.org 2G`. The door adds lines
in the same form for what people change themselves. The file is in backups, and stays when containers are replaced. No
password is an argument of a task, so none is in it.
"""

import getpass
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from podserve.folder import Folder

_FOLDER, _FILE, _LOCK = "log", "changes", ".lock"
"""A folder of its own, because the services look at the accounts again after each file that is replaced beside them."""
_LARGEST = 2**20
"""Bytes that are kept: some 12,000 changes. The oldest ones are dropped."""


@dataclass(frozen=True)
class Change:
    """A change: when (UTC, RFC 3339), by whom (a user of this host, or an account), by which task, and of what."""

    time: str
    who: str
    task: str
    what: str

    def __str__(self) -> str:
        """Return the line."""
        return " ".join(asdict(self).values())


def operator() -> str:
    """Return the user who has logged in on this host, also below sudo or su; without a login, this process's user."""
    try:
        return os.environ.get("SUDO_USER") or os.getlogin()
    except OSError:
        return getpass.getuser()


class History:
    """The changes of a pod's accounts and aliases."""

    def __init__(self, accounts: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._accounts = accounts

    def add(self, task: str, changed: Iterable[str]) -> None:
        """Add a line for each text in `changed`: an address, and what it has now. The operator has done it."""
        now, by = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "_".join(operator().split())
        lines = "".join(f"{Change(now, by, task, ' '.join(what.split()))}\n" for what in changed)
        folder = self._accounts.ensure(_FOLDER, 0o700, 0)
        with folder.locked(_LOCK):
            content = (folder.read(_FILE, _LARGEST) or b"") + lines.encode(errors="replace")
            if len(content) > _LARGEST:
                content = content[-_LARGEST:].partition(b"\n")[2]
            with folder.replacing(_FILE, 0o600) as file:
                file.write(content)

    def changes(self, of: str = "") -> list[Change]:
        """Return all changes, or those `of` an address, the oldest first."""
        there = self._accounts.has_folder(_FOLDER)
        content = self._accounts.enter(_FOLDER).read(_FILE, _LARGEST) if there else b""
        parts = (line.split(" ", 3) for line in (content or b"").decode(errors="replace").splitlines())
        found = (Change(*part) for part in parts if len(part) == len(Change.__annotations__))
        return [change for change in found if not of or of in change.what.replace(",", " ").split()]
