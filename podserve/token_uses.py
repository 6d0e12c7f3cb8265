"""When each app password was used: files `name@domain:label:PROTOCOL` in `.tokens` on the volumes of mail and web.

The service that accepts the password writes the file, at the time of the use. Apache does so at its first use of a day.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from podserve import volumes
from podserve.pod import Pod
from podserve.tokens import AppPasswords

FOLDER = ".tokens"
"""The name of the folder on each volume. Only its service and root can enter it."""


@dataclass(frozen=True)
class Usage:
    """An app password: its label, when it was made, and its last use: when, and by which protocol (web for Apache).

    Times are ISO 8601, UTC. The last use is None if there was none.
    """

    label: str
    made: str
    last_used: str | None
    protocol: str | None


def usages(pod: Pod, account: str) -> list[Usage]:
    """Return the app passwords of an account. Raises Problem if there is no accounts volume yet."""
    there = AppPasswords(volumes.folder(pod.volumes["accounts"].name)).listed(account)
    last = dict[str, tuple[float, str]]()
    for content in ("mail", "web") if there else ():
        volume = volumes.folder(pod.volumes[content].name)
        folder = volume.enter(FOLDER) if volume.has_folder(FOLDER) else None
        for name in folder.names() if folder else ():
            owner, _, label = name.rpartition(":")[0].partition(":")
            if folder and owner == account and label in there and (status := folder.look(name)):
                last[label] = max(last.get(label, (0.0, "")), (status.st_mtime, name.rpartition(":")[2]))
    found = []
    for label, one in there.items():
        used, protocol = last.get(label, (0.0, ""))
        # An earlier app password had the same label.
        known = used >= one.made
        found.append(Usage(label, _time(one.made), _time(used) if known else None, protocol if known else None))
    return found


def rename_uses(pod: Pod, names: Mapping[str, str]) -> None:
    """Give what is known of the uses of accounts' app passwords to their new names."""
    for content in ("mail", "web"):
        volume = volumes.folder(pod.volumes[content].name)
        folder = volume.enter(FOLDER) if volume.has_folder(FOLDER) else None
        for name in folder.names() if folder else ():
            owner, _, rest = name.partition(":")
            if folder and owner in names:
                folder.move(name, folder, f"{names[owner]}:{rest}")


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).isoformat()


def usage_line(usage: Usage) -> str:
    """Return what `users.tokens` shows of an app password."""
    used = f"last used {usage.last_used[:10]} ({usage.protocol})" if usage.last_used else "never used"
    return f"{usage.label}: made {usage.made[:10]}, {used}"
