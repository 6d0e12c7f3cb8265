"""The forms of addresses that tasks take: of accounts, of aliases, and of their targets."""

import contextlib

from podserve.errors import Problem
from podserve.values import EMAIL_ADDRESS, LOCAL_PART, domain_name, is_domain

ALIASES = "postmaster", "abuse"
"""The names whose mail the account `postmaster` of the settings gets: virtual_alias_maps in mail-settings."""


def in_ascii(name: str) -> str:
    """Return a name in lower case, with the A-label of its domain if it has one."""
    local, _, domain = name.lower().partition("@")
    with contextlib.suppress(ValueError):
        return f"{local}@{domain_name()(domain)}"
    return name.lower()


def address(name: str, domain: str, *others: str, kind: str = "an account") -> str:
    """Return the address of an account: `alice` and `Alice@DOMAIN` are alice@DOMAIN, whose domain may be a U-label.

    It may be at one of the `others`, too. Raises Problem for other forms. Its text names the `kind` of address that was
    expected.
    """
    local, _, given = in_ascii(name).partition("@")
    if given not in {"", domain, *others} or not LOCAL_PART.match(local):
        further = f" (or @{', @'.join(others)})" if others else ""
        raise Problem(
            f"{name!r} cannot be {kind} of {domain}: expected a name such as alice or alice@{domain}{further}, of "
            "letters, digits, dots, hyphens and underscores (no +: alice receives mail to every alice+TAG)"
        )
    return f"{local}@{given or domain}"


def expect_own_mail(account: str, postmaster: str) -> None:
    """Raise Problem if mail to this account's address goes to the postmaster's account instead."""
    if account.partition("@")[0] in ALIASES and account != postmaster:
        raise Problem(
            f"{account} cannot be an account: mail to this address goes to {postmaster}. Choose another name, or set "
            "postmaster to this one, then invoke up"
        )


def alias(name: str, domain: str, *others: str) -> str:
    """Return the address of an alias, as `address` does; `@` and `@DOMAIN` are the catch-all, @DOMAIN.

    Raises Problem for other forms, and for a name whose mail goes to the postmaster's account.
    """
    local, at, given = in_ascii(name).partition("@")
    if at and not local and given in {"", domain, *others}:
        return f"@{given or domain}"
    found = address(name, domain, *others, kind="an alias")
    if found.partition("@")[0] in ALIASES:
        raise Problem(f"{found} cannot be an alias: its mail goes to the account of the setting postmaster")
    return found


def target(name: str, domain: str, *others: str) -> str:
    """Return the address of an alias' target: of an account or alias, as `address` does, or at a foreign domain.

    Raises Problem for other forms.
    """
    local, at, elsewhere = in_ascii(name).partition("@")
    if elsewhere in {"", domain, *others} and local:
        return address(name, domain, *others, kind="a target")
    if not at or not EMAIL_ADDRESS.match(f"{local}@{elsewhere}") or not is_domain(elsewhere):
        raise Problem(f"{name!r} cannot be a target: expected an account or an alias, or an address elsewhere such as "
                      "bob@example.com")  # fmt: skip
    return f"{local}@{elsewhere}"
