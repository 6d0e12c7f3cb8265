"""Renames accounts: mailbox, home, aliases, limit, passwords and mark move, and no mail is lost meanwhile.

The file `renamed` on the accounts volume says what is renamed, so an interrupted call can be repeated. Its lines are
`OLD NEW moving`, and later `OLD NEW TIME` (seconds since the epoch). From this file, `mailboxes` in the mail container
makes Dovecot defer mail and logins of OLD and NEW while they move. Mail that waits for OLD in Postfix's queue is
delivered to NEW afterwards.
"""

import re
import time
from collections.abc import Mapping

from podserve import accounts, addresses, domains, homes, quotas, running, state, volumes
from podserve.aliases import LOCK, Aliases
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.locks import Locks
from podserve.pod import Pod
from podserve.token_uses import rename_uses
from podserve.tokens import AppPasswords
from podserve.values import domain_name
from podserve.waiting import NotYet, wait_until

FILE, MOVING = "renamed", "moving"
_LINE = re.compile(r"(\S+) (\S+) (moving|[0-9]{1,12})")
_KEPT = 7 * 24 * 3600
"""Seconds for which mail for an old name may wait in Postfix's queue: 5 days (maximal_queue_lifetime), and more."""
VMAIL = 5000
"""The user and group of the mailboxes (docker/base/Containerfile)."""
_PATIENCE = 15.0
_TEMPORARY = 75
"""What `doveadm user` exits with while a name is deferred: EX_TEMPFAIL of sysexits.h."""


class Renames:
    """The renames on the accounts volume."""

    def __init__(self, folder: Folder) -> None:
        """Take the folder of the accounts volume."""
        self._folder = folder

    def all(self) -> dict[str, tuple[str, str]]:
        """Return the new name of each account, and MOVING or the time."""
        text = (self._folder.read(FILE, accounts.LARGEST) or b"").decode(errors="replace")
        return {line[1]: (line[2], line[3]) for line in filter(None, map(_LINE.fullmatch, text.splitlines()))}

    def put(self, names: Mapping[str, str], mark: str) -> None:
        """Add these. An earlier name leads to the newest one, and a name that is in use again leads nowhere."""
        with self._folder.locked(LOCK):
            there = self.all()
            for old, (new, said) in list(there.items()):
                there[old] = names.get(new, new), said
                if old in names.values() or (said != MOVING and int(said) < time.time() - _KEPT):
                    del there[old]
            there |= {old: (new, mark) for old, new in names.items()}
            with self._folder.replacing(FILE, 0o600) as file:
                file.writelines(f"{old} {new} {said}\n".encode() for old, (new, said) in sorted(there.items()))


def rename_account(pod: Pod, old: str, new: str, *, keep: bool) -> dict[str, str]:
    """Rename an account; with `keep`, its old address becomes an alias. Return the old and the new address.

    Raises Problem if that is not possible; then nothing has changed. The caller holds the pod's lock.
    """
    folder, ours = volumes.folder(pod.volumes["accounts"].name), pod.settings.domains
    begun = old.lower() in Renames(folder).all()
    before = old.lower() if begun else accounts.Accounts(folder).named(old, *ours)
    if before == pod.settings.postmaster_address:
        raise Problem(f"{before} gets the mail to postmaster@ and abuse@. Set postmaster to another account "
                      "(invoke.yaml), then: invoke up")  # fmt: skip
    return _rename(pod, {before: addresses.address(new, *ours)}, {}, keep=keep)


def rename_domain(pod: Pod, old: str, new: str, *, keep: bool) -> dict[str, str]:
    """Rename all accounts and aliases of a domain, as `rename_account` does; return their old and new addresses."""
    old, new = _domain(old), _domain(new)
    if old == pod.settings.domain:
        raise Problem(
            f"{old} is the setting domain, whose postmaster stays there. Set domain to {new} and add {old} to "
            "mail_domains (invoke.yaml), then: invoke up. Then run the same command again"
        )
    if new not in pod.settings.domains:
        raise Problem(f"{new} is no domain of this pod: expected one of {', '.join(pod.settings.domains)}")
    folder = volumes.folder(pod.volumes["accounts"].name)
    aliases = Aliases(folder).all()
    begun = [account for account, (_, mark) in Renames(folder).all().items() if mark == MOVING]

    def to_new(address: str) -> str:
        return f"{address.partition('@')[0]}@{new}"

    people = [one for one in (*accounts.Accounts(folder).hashes(), *begun) if domains.domain_of(one) == old]
    # What an earlier call has kept leads to the new name already.
    left = [one for one, targets in aliases.items()
            if domains.domain_of(one) == old and targets not in ((to_new(one),), aliases.get(to_new(one)))]  # fmt: skip
    if not people and not left:
        raise Problem(f"there is no account and no alias of {old}. To list them: invoke users.list, "
                      "invoke aliases.list")  # fmt: skip
    return _rename(pod, {one: to_new(one) for one in people}, {one: to_new(one) for one in left}, keep=keep)


def _domain(text: str) -> str:
    try:
        return domain_name()(text.lower())
    except ValueError as error:
        raise Problem(f"{text!r} is no domain: expected two domains such as example.org") from error


def _rename(pod: Pod, names: Mapping[str, str], aliases: Mapping[str, str], *, keep: bool) -> dict[str, str]:
    renaming = Renaming(pod, names, aliases, keep=keep)
    renaming.require()
    renaming.run()
    return {**names, **aliases}


def finish_renames(pod: Pod, before: Pod | None) -> None:
    """Rename what an interrupted call has left, and the postmaster's account if `domain` is another than `before`."""
    folder, account = volumes.folder(pod.volumes["accounts"].name), pod.settings.postmaster_address
    names = {old: new for old, (new, mark) in Renames(folder).all().items() if mark == MOVING}
    if before and before.settings.postmaster == pod.settings.postmaster:
        people, old = accounts.Accounts(folder).hashes(), before.settings.postmaster_address
        if old in people:
            names[old] = account
    both = accounts.Accounts(folder).hashes().keys()
    if names := {old: new for old, new in names.items() if not {old, new} <= both}:
        Renaming(pod, names, {}).run()


class Renaming:
    """The renaming of accounts, and perhaps of aliases, in one go."""

    def __init__(self, pod: Pod, names: Mapping[str, str], aliases: Mapping[str, str], *, keep: bool = False) -> None:
        """Take the new name of each account and of each alias. With `keep`, the old names become aliases."""
        self._pod, self._names, self._aliases, self._keep = pod, names, aliases, keep
        self._folder = volumes.folder(pod.volumes["accounts"].name)
        self._mail, self._web = (volumes.folder(pod.volumes[name].name) for name in ("mail", "web"))
        self._renames = Renames(self._folder)

    def require(self) -> None:
        """Raise Problem if one of them cannot be renamed. Nothing has changed then."""
        last = state.applied(self._pod)
        if last and set(last.settings.domains) != set(self._pod.settings.domains):
            raise Problem("the domains are others than at the last up: invoke up, then run the same command again")
        people, aliases, begun = (
            accounts.Accounts(self._folder).hashes(),
            Aliases(self._folder).all(),
            self._renames.all(),
        )
        for old, new in self._names.items():
            resumed = begun.get(old, ("", ""))[0] == new and (begun[old][1] == MOVING or old not in people)
            if old not in people and not (resumed and new in people):
                raise Problem(f"there is no account {old}. To list the accounts: invoke users.list")
            addresses.expect_own_mail(new, self._pod.settings.postmaster_address)
            if new in aliases:
                raise Problem(f"{new} is an alias: choose another name, or remove it (invoke aliases.remove {new})")
            if new in people and (not resumed or old in people):
                raise Problem(f"{new} is an account already: choose another name")
            if not resumed and (place := self._left_over(new)):
                raise Problem(
                    f"{place} belonged to a removed account {new}. Make that account again and give it another name: "
                    f"invoke users.add {new}, invoke users.rename {new} NAME"
                )
        for new in self._aliases.values():
            if new in aliases or new in people:
                raise Problem(f"{new} exists already: remove it, or the alias of that name at the other domain")

    def _left_over(self, name: str) -> str:
        """Return the place of a mailbox or home that a name has already; an empty text if it has none."""
        local, _, domain = name.partition("@")
        if self._mail.has_folder(domain) and self._mail.enter(domain).has_folder(local):
            return f"the mailbox {domain}/{local}"
        home = homes.home_of(name, self._pod.settings.domain)
        there = self._web.has_folder("home") and self._web.enter("home").has_folder(home)
        return f"the folder home/{home}" if there else ""

    def run(self) -> None:
        """Rename all. An interrupted call can be repeated. Raises Problem if the mail service does not take it."""
        if self._names:
            self._renames.put(self._names, MOVING)
        self._wait_until(_TEMPORARY, next(iter(self._names), ""))
        if self._serves and self._names:
            podman("exec", self._pod.containers["mail"], "mailboxes", *self._names, timeout=600)
        for old, new in self._names.items():
            self._move_mailbox(old, new)
            self._move_home(old, new)
        accounts.Accounts(self._folder).rename(self._names)
        Aliases(self._folder).rename(self._names, self._aliases, keep=self._keep)
        AppPasswords(self._folder).rename(self._names)
        rename_uses(self._pod, self._names)
        quotas.Quotas(self._folder).rename(self._names)
        if self._names:
            self._renames.put(self._names, str(int(time.time())))
        self._wait_until(0, next(iter(self._names.values()), ""))
        for old, new in self._names.items():  # what was delivered at the last moment
            self._move_mailbox(old, new)
        if self._serves:
            Locks(self._pod).prune()

    @property
    def _serves(self) -> bool:
        return running.inspected(self._pod).runs

    def _wait_until(self, code: int, account: str) -> None:
        """Wait until Dovecot has taken the file: `doveadm user` ends with this code for an account."""
        if not account or not self._serves:
            return

        def taken() -> None:
            asked = podman("exec", self._pod.containers["mail"], "doveadm", "user", account, check=False)
            if asked.code != code:
                raise NotYet(f"doveadm user {account}: {asked.code} {(asked.stderr or asked.stdout).strip()}")

        wait_until(taken, _PATIENCE, f"the mail service to take the new names ({account})")

    def _move_mailbox(self, old: str, new: str) -> None:
        (name, domain), (new_name, new_domain) = old.split("@"), new.split("@")
        if self._mail.has_folder(domain):
            _relocate(self._mail.enter(domain), name, self._mail.ensure(new_domain, 0o700, VMAIL), new_name, VMAIL)

    def _move_home(self, old: str, new: str) -> None:
        there = self._web.ensure("home", 0o755, homes.WWW_DATA)
        before, after = (homes.home_of(name, self._pod.settings.domain) for name in (old, new))
        _relocate(there, before, there, after, homes.WWW_DATA)


def _relocate(source: Folder, old: str, target: Folder, new: str, owner: int) -> None:
    """Move a folder, or into one that is there already what that lacks."""
    if not source.has_folder(old):
        return
    if not target.has_folder(new):
        source.move(old, target, new)
        return
    left, there = source.enter(old), target.enter(new)
    for place in left.walk():
        here = there
        for part in place.parts:
            here = here.ensure(part, 0o700, owner)
        for name in place.files:
            if not here.look(name):
                left.enter(*place.parts).move(name, here, name)
    left.clear()
