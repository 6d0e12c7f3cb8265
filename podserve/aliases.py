"""The aliases file: lines `name@domain target target…`, from which the mail service makes Postfix's tables of aliases.

A target is the address of an account or of another alias, or one of another domain, to which mail is forwarded. The
alias `@domain` is the catch-all: it gets the mail to all addresses of the domain that are neither accounts nor aliases.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from podserve.errors import Problem
from podserve.folder import Folder

FILE = "aliases"
"""The name of the aliases file, beside the accounts file. Only root reads it."""
LOCK = ".lock"
"""The lock of all files of accounts: no name may become both an account and an alias."""
_LARGEST = 2**24
"""Bytes of the aliases file at most: some 200,000 aliases."""


def _parse(content: bytes, where: str) -> dict[str, tuple[str, ...]]:
    found = dict[str, tuple[str, ...]]()
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), 1):
        alias, *targets = line.split() or ["#"]
        if alias[0] == "#":
            continue
        if not targets or not all("@" in address for address in (alias, *targets)):
            raise Problem(
                f"line {number} of {where} is {line[:100]!r}, which is not an alias: expected NAME@DOMAIN TARGET…, "
                "separated by spaces. Remove that line, then run the same command again"
            )
        found[alias] = tuple(targets)
    return found


def _way_back(there: dict[str, tuple[str, ...]], alias: str) -> list[str]:
    """Return the way from an alias over its targets to itself; an empty list if there is none."""
    came_from, waiting = dict[str, str](), [alias]
    while waiting:
        here = waiting.pop()
        for target in there.get(here, ()):
            if target == alias:
                way = [alias]
                while here != alias:
                    way.append(here)
                    here = came_from[here]
                return [alias, *reversed(way)]
            if target not in came_from:
                came_from[target] = here
                waiting.append(target)
    return []


def _drop(there: dict[str, tuple[str, ...]], gone: str) -> list[str]:
    """Remove a target from all aliases; return these. Raises Problem if an alias has no other target."""
    changed = [alias for alias, targets in there.items() if gone in targets]
    for alias in changed:
        there[alias] = tuple(target for target in there[alias] if target != gone)
        if not there[alias]:
            raise Problem(
                f"{gone} is the only target of the alias {alias}. Give this alias another target (invoke aliases.add "
                f"{alias} NAME), or remove it (invoke aliases.remove {alias}), then run the same command again"
            )
    return changed


def _extend(
    there: dict[str, tuple[str, ...]],
    alias: str,
    targets: Iterable[str],
    accounts: Collection[str],
    domains: Iterable[str],
) -> None:
    if alias in accounts:
        raise Problem(f"{alias} cannot be an alias: it is an account. Choose another name")
    for target in targets:
        own = target.partition("@")[2] in {alias.partition("@")[2], *domains}
        if own and target not in accounts and target not in {alias, *there}:
            raise Problem(
                f"{target} cannot be a target: there is no such account or alias. To list them: "
                "invoke users.list, invoke aliases.list"
            )
    there[alias] = tuple(dict.fromkeys((*there.get(alias, ()), *targets)))
    if way := _way_back(there, alias):
        raise Problem(f"these aliases would be a loop: {' -> '.join(way)}. Choose another target")


def leading_to(there: Mapping[str, Iterable[str]], account: str) -> list[str]:
    """Return the aliases whose mail an account gets, directly or by other aliases."""
    found, waiting = set[str](), [account]
    while waiting:
        here = waiting.pop()
        new = {alias for alias, targets in there.items() if here in targets} - found
        found |= new
        waiting += new
    return sorted(found)


class Aliases:
    """The aliases on the accounts volume. Writers wait for each other; readers see the old file or the new one."""

    def __init__(self, folder: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._folder = folder

    def all(self) -> dict[str, tuple[str, ...]]:
        """Return the targets of each alias. Raises Problem for a line without a valid alias."""
        return _parse(self._folder.read(FILE, _LARGEST) or b"", f"{self._folder}/{FILE}")

    def add(self, alias: str, targets: Iterable[str], accounts: Callable[[], Collection[str]], *domains: str) -> None:
        """Add targets to an alias, which is made if it is missing. `accounts` returns the addresses of all accounts.

        `domains` are those of the pod besides the alias' own. A target at one of them is an account or an alias.

        Raises Problem for an alias that is an account, for a target that does not exist, and for a loop.
        """
        with self._folder.locked(LOCK):
            self.add_all({alias: targets}, accounts(), *domains)

    def add_all(self, wanted: Mapping[str, Iterable[str]], accounts: Collection[str], *domains: str) -> None:
        """Add targets to each of these aliases, as `add` does. The caller holds the lock; `accounts` are addresses."""
        there = self.all()
        for alias, targets in wanted.items():
            _extend(there, alias, targets, accounts, domains)
        if wanted:
            self._write(there)

    def remove(self, alias: str, targets: Collection[str] = ()) -> bool:
        """Remove targets of an alias, or all; return whether the alias is gone, as it is without targets.

        Raises Problem if the alias or one of the targets does not exist, or if the alias is the only target of another.
        """
        with self._folder.locked(LOCK):
            there = self.all()
            if alias not in there:
                raise Problem(f"there is no alias {alias}. To list the aliases: invoke aliases.list")
            if unknown := [target for target in targets if target not in there[alias]]:
                raise Problem(f"{unknown[0]} is no target of {alias}. To list the aliases: invoke aliases.list")
            there[alias] = tuple(target for target in there[alias] if targets and target not in targets)
            if gone := not there[alias]:
                del there[alias]
                _drop(there, alias)
            self._write(there)
        return gone

    def drop_target(self, account: str) -> list[str]:
        """Remove an account from the targets of all aliases; return these. The caller holds the lock.

        Raises Problem, and changes nothing, if an alias has no other target.
        """
        there = self.all()
        if changed := _drop(there, account):
            self._write(there)
        return changed

    def rename(self, accounts: Mapping[str, str], aliases: Mapping[str, str], *, keep: bool) -> None:
        """Give accounts and aliases new names, also as targets. With `keep`, the old names become aliases.

        A repeated call changes nothing more.
        """
        with self._folder.locked(LOCK):
            new = {**accounts, **aliases}
            there = {
                aliases.get(alias, alias): tuple(dict.fromkeys(new.get(target, target) for target in targets))
                for alias, targets in self.all().items()
            }
            if keep:
                there |= {old: there[name] if name[0] == "@" else (name,) for old, name in new.items()}
            self._write(there)

    def _write(self, there: dict[str, tuple[str, ...]]) -> None:
        with self._folder.replacing(FILE, 0o600) as file:
            file.writelines(f"{alias} {' '.join(targets)}\n".encode() for alias, targets in sorted(there.items()))
