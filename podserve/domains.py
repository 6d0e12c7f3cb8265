"""What a change of the domains would do to the accounts and aliases that exist."""

from podserve import state, volumes
from podserve.accounts import Accounts
from podserve.aliases import Aliases
from podserve.errors import Problem
from podserve.pod import Pod

_SHOWN = 10


def domain_of(address: str) -> str:
    """Return the part of an address after the @."""
    return address.partition("@")[2]


def _some(addresses: list[str]) -> str:
    more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
    return ", ".join(addresses[:_SHOWN]) + more


def expect_nobody_left_behind(pod: Pod) -> None:
    """Raise Problem if the pod that was played last takes mail for somebody whose mail this one would refuse.

    The postmaster's account does not count, because `up` gives it the new domain (`finish_renames`).
    """
    before, name = state.applied(pod), pod.volumes["accounts"].name
    if not before or set(before.settings.domains) == set(pod.settings.domains) or not volumes.is_there(name):
        return
    folder, now = volumes.folder(name), pod.settings.domains
    accounts, aliases = Accounts(folder).hashes(), Aliases(folder).all()
    gone = [domain for domain in before.settings.domains if domain not in now]
    follows = before.settings.postmaster_address if pod.settings.postmaster == before.settings.postmaster else ""
    if left := [one for one in (*accounts, *aliases) if domain_of(one) in gone and one != follows]:
        raise Problem(
            f"mail to these accounts and aliases would be refused: {_some(left)}. Keep their domain "
            f'(mail_domains: "{" ".join([*pod.settings.mail_domains, *gone])}" in invoke.yaml), then invoke up. '
            "Or remove them first: invoke users.remove ADDRESS, invoke aliases.remove ADDRESS"
        )
    new = [domain for domain in now if domain not in before.settings.domains]
    targets = sorted({target for alias in aliases.values() for target in alias})
    if lost := [one for one in targets if domain_of(one) in new and one not in accounts and one not in aliases]:
        raise Problem(
            f"aliases lead to {_some(lost)}, and this pod would be the one that gets that mail: there is no such "
            "account or alias. Add it (invoke users.add ADDRESS), or remove it from the aliases (invoke aliases.list)"
        )


def elsewhere(pod: Pod) -> list[str]:
    """Return the accounts of domains that the pod served earlier. They cannot log in."""
    there = Accounts(volumes.folder(pod.volumes["accounts"].name)).hashes()
    return [account for account in there if domain_of(account) not in pod.settings.domains]


def not_served(pod: Pod) -> list[str]:
    """Return a warning for these accounts."""
    if not (others := elsewhere(pod)):
        return []
    said = f"these accounts cannot log in, because this pod serves {' '.join(pod.settings.domains)}: "
    said += f"{', '.join(others)}. Give them another domain (invoke users.rename --domain OLD NEW), add theirs to "
    return [f"{said}mail_domains, or remove them: invoke users.remove ADDRESS"]
