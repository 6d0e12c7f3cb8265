"""What is known of each account: whether it can log in, and how full its mailbox is."""

from dataclasses import dataclass

from podserve import quotas, volumes
from podserve.accounts import Accounts, disabled
from podserve.history import History
from podserve.pod import Pod


@dataclass(frozen=True)
class Person:
    """An account of the pod. `quota` and `used` are bytes, or None without a limit.

    While the mail service is down, `used` is None for all accounts.
    """

    address: str
    can_log_in: bool
    disabled: bool
    quota: int | None
    used: int | None


def everyone(pod: Pod, only: str = "") -> list[Person]:
    """Return the accounts of the pod, or `only` one. Raises Problem if there is no accounts volume yet."""
    folder = volumes.folder(pod.volumes["accounts"].name)
    ours = tuple(f"@{domain}" for domain in pod.settings.domains)
    hashes = {name: hashed for name, hashed in Accounts(folder).hashes().items() if only in {"", name}}
    limits = quotas.Quotas(folder).limits((name for name in hashes if name.endswith(ours)), pod.settings.quota)
    used = quotas.used(pod, only) if limits or only else {}
    return [
        Person(
            address,
            address.endswith(ours) and not disabled(hashed),
            disabled(hashed),
            quotas.limit_in_bytes(limits[address]) if address in limits else None,
            used.get(address),
        )
        for address, hashed in hashes.items()
    ]


def with_postmaster(pod: Pod) -> tuple[Accounts, str]:
    """Return the accounts, and the password of the postmaster's if it is new; it is added if it is missing."""
    folder = volumes.folder(pod.volumes["accounts"].name)
    password = Accounts(folder).ensure(pod.settings.postmaster_address)
    if password:
        History(folder).add("up", [pod.settings.postmaster_address])
    return Accounts(folder), password


def line(person: Person, *domains: str) -> str:
    """Return what `users.list` shows of an account of a pod that serves these domains."""
    said = ["is disabled"] if person.disabled else []
    if person.address.partition("@")[2] not in domains:
        said.append(f"cannot log in: this pod serves {' '.join(domains)}")
    if person.quota and person.used is not None:
        said.append(f"uses {person.used * 100 // person.quota} % of {readable_size(person.quota)}")
    elif person.quota:
        said.append(f"has a quota of {readable_size(person.quota)}")
    return " ".join([person.address, ", ".join(said)]).rstrip()


def readable_size(limit: int) -> str:
    """Return a limit in bytes as it is written, such as `2G`."""
    exponent = max(number for number in (2, 3, 4) if limit % 1024**number == 0)
    return f"{limit // 1024**exponent}{' KMGT'[exponent]}"
