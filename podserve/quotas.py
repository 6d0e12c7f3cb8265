"""The limits of mailboxes: a file of lines `name@domain:2G` beside the accounts file, and the setting `quota`."""

import re
from collections.abc import Iterable, Mapping

from podserve import accounts
from podserve.aliases import LOCK
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.shared_file import replacing_for_services
from podserve.values import QUOTA, matching

FILE = "quotas"
"""The name of the file on the accounts volume."""
DEFAULT, NONE = "default", "none"
"""What `users.quota` takes besides a size: the limit of the setting `quota`, and no limit."""
_LINE = re.compile(r"([^:]+):(.+)")


class Quotas:
    """The limits of single accounts, as texts such as `2G` or `none`. All others have that of the setting."""

    def __init__(self, folder: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._folder = folder

    def own(self) -> dict[str, str]:
        """Return the limits, by address. Lines without one are left out, as the mail service does."""
        text = (self._folder.read(FILE, accounts.LARGEST) or b"").decode(errors="replace")
        lines = filter(None, map(_LINE.fullmatch, text.splitlines()))
        return {line[1]: line[2] for line in lines if QUOTA.match(line[2])}

    def limits(self, there: Iterable[str], default: str) -> dict[str, str]:
        """Return the limits of those of these accounts that have one. `default` is that of the setting."""
        own = self.own()
        found = {account: own.get(account, default) for account in there}
        return {account: limit for account, limit in found.items() if limit != NONE}

    def set(self, account: str, limit: str) -> None:
        """Set the limit of an account. Raises Problem for a text that is none."""
        expect_size(limit)
        with self._folder.locked(LOCK):
            self.set_all({account: limit})

    def set_all(self, wanted: Mapping[str, str]) -> None:
        """Set the limits of several accounts, by address. The caller holds the lock."""
        before = self.own()
        limits = {name: text for name, text in {**before, **wanted}.items() if text != DEFAULT}
        if limits == before:
            return
        # Replaced even by an empty file: the mail service sees that.
        with replacing_for_services(self._folder, FILE) as file:
            file.writelines(f"{name}:{text}\n".encode() for name, text in sorted(limits.items()))

    def rename(self, names: Mapping[str, str]) -> None:
        """Give the limits of accounts to their new names. A repeated call changes nothing more."""
        with self._folder.locked(LOCK):
            own = self.own()
            there = {old: new for old, new in names.items() if old in own}
            self.set_all({new: own[old] for old, new in there.items()} | dict.fromkeys(there, DEFAULT))


def expect_size(limit: str) -> None:
    """Raise Problem for a text that is no limit."""
    if limit != DEFAULT:
        try:
            matching(QUOTA)(limit)
        except ValueError as error:
            raise Problem(
                f"{limit!r} cannot be a quota: expected a size such as 500M, 2G or 1T, or {NONE}, or {DEFAULT}"
            ) from error


def limit_in_bytes(limit: str) -> int:
    """Return the bytes of a limit such as `2G`, as Dovecot counts them."""
    return int(limit[:-1]) << 10 * " KMGT".index(limit[-1])


def used(pod: Pod, only: str = "") -> dict[str, int]:
    """Return the bytes in the mailboxes of accounts that have a limit, or of `only` one, by address.

    There are none while the mail service is down. https://doc.dovecot.org/2.4.1/core/man/doveadm-quota.1.html
    """
    whose = ("-u", only) if only else ("-A",)
    ask = "doveadm", "-o", "mail_plugins/quota=yes", "-f", "tab", "quota", "get", *whose
    asked = podman("exec", pod.containers["mail"], *ask, check=False)
    # Username (only with -A), Quota name, Type, Value (KiB), Limit, %
    rows = [[*filter(None, [only]), *line.split("\t")] for line in asked.stdout.splitlines()]
    return {row[0]: int(row[3]) * 1024 for row in rows if row[2:3] == ["STORAGE"]}
