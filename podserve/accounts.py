"""The accounts file: lines `name@domain:$2y$…`, which Dovecot and Apache read directly."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from string import ascii_letters, digits

import bcrypt

from podserve.addresses import address, in_ascii
from podserve.aliases import LOCK, Aliases
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.shared_file import replacing_for_services
from podserve.tokens import AppPasswords
from podserve.values import LOCAL_PART, is_domain

FILE = "passwd"
"""The name of the accounts file on its volume."""
ROUNDS = 10
"""The cost of bcrypt: the minimum of OWASP's Password Storage Cheat Sheet, some 50 ms for a login."""
LONGEST = 72
"""Bytes of a password at most: bcrypt ignores all further bytes."""
SHORTEST = 8
"""Characters of a password at least: NIST SP 800-63B, section 5.1.1.1."""
_HASH = re.compile(r"[!-9;-~]+\Z")
"""A hash without a colon. Dovecot would read a further field as an instruction, such as where to proxy a login."""
DISABLED = "!"
"""What follows the hash of a disabled account: Dovecot and Apache still compute bcrypt, and no password fits.

Before the hash, as in shadow(5), Dovecot would take it for a fault of the server and ask clients to try again.
"""
LARGEST = 2**24
"""Bytes of the accounts file at most: some 100,000 accounts."""


def random_password() -> str:
    """Return a password of 119 random bits: 20 letters and digits, which no program reads as an option."""
    return "".join(secrets.choice(ascii_letters + digits) for _ in range(20))


def hashed_password(password: str) -> str:
    """Return a new hash of a password. Raises Problem if no account may have this password."""
    encoded = password.encode(errors="surrogateescape")
    if len(password) < SHORTEST or len(encoded) > LONGEST or re.search(r"[\x00-\x1f\x7f]", password):
        raise Problem(f"this password cannot be used: expected at least {SHORTEST} characters, at most {LONGEST} "
                      "bytes, and no control characters")  # fmt: skip
    # $2y$ and $2b$ are the same. Apache knows $2y$.
    return bcrypt.hashpw(encoded, bcrypt.gensalt(ROUNDS)).decode().replace("$2b$", "$2y$", 1)


def disabled(hashed: str) -> bool:
    """Return whether the hash in the accounts file is that of a disabled account."""
    return hashed.endswith(DISABLED)


def parse(content: bytes, where: str) -> dict[str, str]:
    """Return the hashes in an accounts file, by address. Raises Problem for a line without a valid account.

    Folders get these names, so they are checked also in a file that was written by hand or comes from an archive.
    """
    found = {}
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), 1):
        if not line or line[0] == "#":
            continue
        name, _, hashed = line.partition(":")
        local, _, domain = name.partition("@")
        if not LOCAL_PART.match(local) or not is_domain(domain):
            raise Problem(
                f"line {number} of {where} begins with {name[:100]!r}, which is not an account: expected "
                "NAME@DOMAIN:HASH, with a NAME of lower-case letters, digits, dots, hyphens and underscores. "
                "Remove that line, then run the same command again"
            )
        if not _HASH.match(hashed):
            raise Problem(f"line {number} of {where} has no hash after {name}: expected $2y$… and no further field. "
                          f"Remove that line, then set a new password: invoke users.add {name}")  # fmt: skip
        found[name] = hashed
    return found


class Accounts:
    """The accounts on a volume. Writers wait for each other; readers see the old file or the new one."""

    def __init__(self, folder: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._folder = folder

    def hashes(self) -> dict[str, str]:
        """Return the hashes, by address. Raises Problem for a line without a valid account."""
        return parse(self._folder.read(FILE, LARGEST) or b"", f"{self._folder}/{FILE}")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        with self._folder.locked(LOCK):
            hashes = self.hashes()
            yield hashes
            before = self._folder.look(FILE)
            with replacing_for_services(self._folder, FILE) as file:
                file.writelines(f"{name}:{hashed}\n".encode() for name, hashed in sorted(hashes.items()))
                file.flush()
                if before:
                    # Dovecot detects a change by whole seconds and size. A new password does not change the size.
                    # https://github.com/dovecot/core/blob/2.4.1/src/auth/db-passwd-file.c
                    changed = max(time.time(), before.st_mtime + 1)
                    os.utime(file.fileno(), (changed, changed))

    def add(self, account: str, password: str) -> None:
        """Add an account. Raises Problem if it exists or is an alias, or if the password cannot be used."""
        hashed = hashed_password(password)
        with self._changing() as hashes:
            if account in Aliases(self._folder).all():
                raise Problem(f"{account} cannot be an account: it is an alias. Choose another name, or remove the "
                              f"alias: invoke aliases.remove {account}")  # fmt: skip
            if account in hashes:
                raise Problem(f"{account} exists already. To change its password: invoke users.passwd {account}")
            hashes[account] = hashed

    def add_all(self, hashed: Mapping[str, str], check: Callable[[Mapping[str, str]], None]) -> None:
        """Add accounts with these hashes. Under the lock, `check` first gets those there are; it may raise Problem."""
        with self._changing() as hashes:
            check(hashes)
            hashes.update(hashed)

    def named(self, name: str, domain: str, *others: str) -> str:
        """Return the address of an account, which may be the whole address of an existing account of another domain.

        Raises Problem as `address` does.
        """
        written = in_ascii(name)
        return written if written in self.hashes() else address(name, domain, *others)

    def ensure(self, account: str) -> str:
        """Add an account with a random password, and return it; return an empty text if the account exists already."""
        if account in self.hashes():
            return ""
        password = random_password()
        self.add(account, password)
        return password

    def set_password(self, account: str, password: str) -> None:
        """Set the password of an account. A disabled account stays disabled.

        Raises Problem if there is no such account, or for an unusable password.
        """
        hashed = hashed_password(password)
        with self._changing() as hashes:
            self._expect(account, hashes)
            hashes[account] = hashed + DISABLED * disabled(hashes[account])

    def disable(self, account: str) -> None:
        """Refuse all logins of an account; mail to it is still delivered. Raises Problem if there is no such account.

        `enable` restores its password.
        """
        with self._changing() as hashes:
            self._expect(account, hashes)
            hashes[account] = hashes[account].removesuffix(DISABLED) + DISABLED

    def enable(self, account: str) -> None:
        """Accept logins of an account again. Raises Problem if there is no such account."""
        with self._changing() as hashes:
            self._expect(account, hashes)
            hashes[account] = hashes[account].removesuffix(DISABLED)

    def remove(self, account: str) -> list[str]:
        """Remove an account and its app passwords, and its address from the targets of aliases, which are returned.

        Its mailbox stays on the mail volume.

        Raises Problem if there is no such account, or if it is the only target of an alias.
        """
        with self._changing() as hashes:
            self._expect(account, hashes)
            del hashes[account]
            changed = Aliases(self._folder).drop_target(account)
            AppPasswords(self._folder).drop(account)
            return changed

    def rename(self, names: Mapping[str, str]) -> None:
        """Give accounts new names, with their passwords. Those that have them already are left out."""
        with self._changing() as hashes:
            hashes |= {new: hashes.pop(old) for old, new in names.items() if old in hashes}

    def expect(self, account: str) -> None:
        """Raise Problem if there is no such account."""
        self._expect(account, self.hashes())

    @staticmethod
    def _expect(account: str, hashes: dict[str, str]) -> None:
        if account not in hashes:
            raise Problem(f"there is no account {account}. To list the accounts: invoke users.list")
