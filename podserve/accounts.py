"""The accounts file: `name@domain:$2y$…`, read by Dovecot and Apache as it is."""

import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import ascii_letters, digits

import bcrypt

from podserve import files
from podserve.errors import Problem
from podserve.settings import LOCAL_PART

GROUP = 5002
"""The group `accounts` of docker/base/Containerfile, whose members may read the hashes."""
ROUNDS = 10
"""bcrypt's cost: the least that OWASP's Password Storage Cheat Sheet allows, some 50 ms a login."""
LONGEST = 72
"""Bytes of a password: bcrypt passes over all that come after."""
SHORTEST = 8
"""Characters of a password: NIST SP 800-63B, section 5.1.1.1."""


def address(name: str, domain: str) -> str:
    """Return the account NAME means: `alice` and `Alice@DOMAIN` are alice@DOMAIN. Raises Problem for any other form."""
    local, _, given = name.lower().partition("@")
    if given not in {"", domain} or not LOCAL_PART.match(local):
        raise Problem(
            f"{name!r} is no account of {domain}: expected a name such as alice or alice@{domain}, of letters, digits, "
            "dots, hyphens and underscores (a + begins a tag, which every account has for free)"
        )
    return f"{local}@{domain}"


def random_password() -> str:
    """Return a password of 119 random bits: 20 letters and digits, so that no program takes it for an option."""
    return "".join(secrets.choice(ascii_letters + digits) for _ in range(20))


def _hash(password: str) -> str:
    encoded = password.encode(errors="surrogateescape")
    if len(password) < SHORTEST or len(encoded) > LONGEST or re.search(r"[\x00-\x1f\x7f]", password):
        raise Problem(
            f"this password cannot be used: expected at least {SHORTEST} characters, at most {LONGEST} bytes, and no "
            "control characters"
        )
    # $2y$ and $2b$ name the same algorithm; $2y$ is the name that Apache knows.
    return bcrypt.hashpw(encoded, bcrypt.gensalt(ROUNDS)).decode().replace("$2b$", "$2y$", 1)


class Accounts:
    """The accounts on a volume. Writers wait for each other; readers see the file before a change or after it."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that is mounted at /data/state/accounts."""
        self._folder = folder
        self._file = folder / "passwd"

    def hashes(self) -> dict[str, str]:
        """Return each account's hash, by address."""
        if not self._file.exists():
            return {}
        pairs = [line.partition(":") for line in self._file.read_text().splitlines() if line and line[0] != "#"]
        return {name: hashed for name, _, hashed in pairs}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            hashes = self.hashes()
            yield hashes
            with files.replacing(self._file) as file:
                os.fchmod(file.fileno(), 0o640)
                os.fchown(file.fileno(), -1, GROUP)
                file.writelines(f"{name}:{hashed}\n" for name, hashed in sorted(hashes.items()))
                file.flush()
                if self._file.exists():
                    # Dovecot knows a change by its whole second and size, which a new password leaves as it is.
                    # https://github.com/dovecot/core/blob/2.4.1/src/auth/db-passwd-file.c
                    changed = max(time.time(), self._file.stat().st_mtime + 1)
                    os.utime(file.fileno(), (changed, changed))

    def add(self, account: str, password: str) -> None:
        """Add an account. Raises Problem when it exists, or when the password cannot be used."""
        hashed = _hash(password)
        with self._changing() as hashes:
            if account in hashes:
                raise Problem(f"{account} exists already. A new password: invoke users.passwd {account}")
            hashes[account] = hashed

    def set_password(self, account: str, password: str) -> None:
        """Give an account another password. Raises Problem when it does not exist, or for a password of no use."""
        hashed = _hash(password)
        with self._changing() as hashes:
            self._expect(account, hashes)
            hashes[account] = hashed

    def remove(self, account: str) -> None:
        """Remove an account; its mailbox stays on the mail volume. Raises Problem when it does not exist."""
        with self._changing() as hashes:
            self._expect(account, hashes)
            del hashes[account]

    @staticmethod
    def _expect(account: str, hashes: dict[str, str]) -> None:
        if account not in hashes:
            raise Problem(f"there is no account {account}. Those there are: invoke users.list")
