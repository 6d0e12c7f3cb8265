"""App passwords: random passwords of an account beside its own, each for one device or program.

They are in the file `tokens` beside the accounts file: lines `name@domain/label:SHA256:MADE`. SHA256 is the hash of the
password in hexadecimal, and MADE the time when it was made, in seconds since the epoch with three decimals. Nobody
guesses 140 random bits, so the hash need not be slow. `name@domain/label` is what logs call a login with it.

Dovecot reads a file that docker/mail's `mailboxes` makes from this one, Apache's logins.lua reads this one.
"""

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from podserve.aliases import LOCK
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.shared_file import replacing_for_services

FILE = "tokens"
"""The name of the file on the accounts volume."""
MOST = 50
"""App passwords of an account at most."""
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 letters and digits, of which no two look alike: 5 bits each."""
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z", re.IGNORECASE | re.ASCII)
_LINE = re.compile(
    r"(?P<account>[^/:\s]+)/(?P<label>[a-z0-9][a-z0-9._-]{0,31}):(?P<hash>[0-9a-f]{64}):(?P<made>[0-9]+\.[0-9]{3})"
)
_LARGEST = 2**24
"""Bytes of the file at most: some 100,000 app passwords."""


@dataclass(frozen=True)
class AppPassword:
    """What is kept of an app password: its hash, and when it was made (s since the epoch)."""

    hashed: str
    made: float


def _label(text: str) -> str:
    """Return a label in lower case. Raises Problem for other forms."""
    if not _LABEL.match(text):
        raise Problem(
            f"{text!r} cannot be a label: expected a word such as phone or laptop-2, of at most 32 letters, digits, "
            "dots, hyphens and underscores"
        )
    return text.lower()


def _parse(content: bytes, where: str) -> dict[tuple[str, str], AppPassword]:
    found = {}
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), 1):
        if not line or line[0] == "#":
            continue
        if not (parts := _LINE.fullmatch(line)):
            raise Problem(
                f"line {number} of {where} is {line[:60]!r}, which is not an app password: expected "
                "NAME@DOMAIN/LABEL:HASH:TIME. Remove that line, then run the same command again"
            )
        found[parts["account"], parts["label"]] = AppPassword(parts["hash"], float(parts["made"]))
    return found


class AppPasswords:
    """The app passwords on the accounts volume. Writers wait for each other; readers see the old file or the new one.

    Labels are taken in lower case.
    """

    def __init__(self, folder: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._folder = folder

    def _all(self) -> dict[tuple[str, str], AppPassword]:
        return _parse(self._folder.read(FILE, _LARGEST) or b"", f"{self._folder}/{FILE}")

    def listed(self, account: str) -> dict[str, AppPassword]:
        """Return the app passwords of an account, by label. Raises Problem for a line without a valid one."""
        return {label: one for (owner, label), one in sorted(self._all().items()) if owner == account}

    def make(self, account: str, label: str, accounts: Callable[[], Collection[str]]) -> str:
        """Make an app password and return it: only its hash is kept. `accounts` returns the addresses of all accounts.

        Raises Problem for a label that cannot be used or is used already, and if there is no such account.
        """
        label, password = _label(label), "-".join("".join(map(secrets.choice, [_ALPHABET] * 7)) for _ in range(4))
        with self._folder.locked(LOCK):
            there = self._all()
            if account not in accounts():
                raise Problem(f"there is no account {account}. To list the accounts: invoke users.list")
            if (account, label) in there:
                raise Problem(f"{account} has an app password {label} already. Choose another label, or revoke that "
                              f"one: invoke users.revoke {account} {label}")  # fmt: skip
            if sum(owner == account for owner, _ in there) >= MOST:
                raise Problem(f"{account} has {MOST} app passwords already. To list: invoke users.tokens {account}. "
                              f"To revoke one: invoke users.revoke {account} LABEL")  # fmt: skip
            there[account, label] = AppPassword(sha256(password.encode("ascii")).hexdigest(), time.time())
            self._write(there)
        return password

    def revoke(self, account: str, label: str) -> None:
        """Remove an app password. Raises Problem if there is none of this label."""
        with self._folder.locked(LOCK):
            there = self._all()
            if there.pop((account, _label(label)), None) is None:
                raise Problem(f"{account} has no app password {label}. To list them: invoke users.tokens {account}")
            self._write(there)

    def drop(self, account: str) -> None:
        """Remove all app passwords of an account. The caller holds the lock."""
        there = self._all()
        kept = {key: one for key, one in there.items() if key[0] != account}
        if len(kept) < len(there):
            self._write(kept)

    def rename(self, names: Mapping[str, str]) -> None:
        """Give the app passwords of accounts to their new names. A repeated call changes nothing more."""
        with self._folder.locked(LOCK):
            there = self._all()
            if any(account in names for account, _ in there):
                self._write({(names.get(account, account), label): one for (account, label), one in there.items()})

    def _write(self, there: Mapping[tuple[str, str], AppPassword]) -> None:
        # Replaced even by an empty file: the services see that.
        with replacing_for_services(self._folder, FILE) as file:
            file.writelines(
                f"{account}/{label}:{one.hashed}:{one.made:.3f}\n".encode("ascii")
                for (account, label), one in sorted(there.items())
            )
