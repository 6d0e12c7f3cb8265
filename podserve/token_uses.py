"""When each password was last used: files `name@domain:label:PROTOCOL` in `.logins` on the volumes of mail and web.

The label is that of an app password, or empty. The service that accepts the password writes the file, at the time of
the use. Postfix and Apache do so for app passwords only, Apache at the first use of a day.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from podserve import volumes
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.tokens import AppPasswords

FOLDER = ".logins"
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


def last_uses(pod: Pod, account: str) -> Iterator[tuple[str, str, float]]:
    """Yield the last uses of an account's passwords: the label, the protocol, and the time (s since the epoch)."""
    for folder in _folders(pod):
        for name in folder.names():
            owner, _, rest = name.partition(":")
            label, colon, protocol = rest.partition(":")
            if owner == account and colon and (status := folder.look(name)):
                yield label, protocol, status.st_mtime


def _folders(pod: Pod) -> Iterator[Folder]:
    for content in ("mail", "web"):
        volume = volumes.folder(pod.volumes[content].name)
        if volume.has_folder(FOLDER):
            yield volume.enter(FOLDER)


def usages(pod: Pod, account: str) -> list[Usage]:
    """Return the app passwords of an account. Raises Problem if there is no accounts volume yet."""
    there = AppPasswords(volumes.folder(pod.volumes["accounts"].name)).listed(account)
    last = dict[str, tuple[float, str]]()
    for label, protocol, used in last_uses(pod, account) if there else ():
        last[label] = max(last.get(label, (0.0, "")), (used, protocol))
    found = []
    for label, one in there.items():
        used, protocol = last.get(label, (0.0, ""))
        # An earlier app password had the same label.
        known = used >= one.made
        found.append(Usage(label, _time(one.made), _time(used) if known else None, protocol if known else None))
    return found


def rename_uses(pod: Pod, names: Mapping[str, str]) -> None:
    """Give what is known of the uses of accounts' passwords to their new names."""
    for folder in _folders(pod):
        for name in folder.names():
            owner, _, rest = name.partition(":")
            if owner in names:
                folder.move(name, folder, f"{names[owner]}:{rest}")


def _time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).isoformat()


def usage_line(usage: Usage) -> str:
    """Return what `users.tokens` shows of an app password."""
    used = f"last used {usage.last_used[:10]} ({usage.protocol})" if usage.last_used else "never used"
    return f"{usage.label}: made {usage.made[:10]}, {used}"
