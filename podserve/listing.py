"""What the tasks that list something, and `certs.show`, print with --json: one JSON object each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from podserve.certificates.keypair import Certificate
from podserve.endpoints import Answer
from podserve.history import Change
from podserve.locks import Lock
from podserve.people import Person
from podserve.repositories import Repository
from podserve.token_uses import Usage


def accounts_as_json(there: Iterable[Person], domain: str) -> str:
    """Return the accounts, each with the fields of Person. `domain` is the one that the pod serves."""
    return json.dumps({"domain": domain, "accounts": [asdict(person) for person in there]}, indent=2)


def aliases_as_json(there: Mapping[str, Sequence[str]], domains: Sequence[str]) -> str:
    """Return the aliases, each with `address`, `targets` and `in_use` (only if it is of one of these domains)."""
    found = [
        {"address": alias, "targets": targets, "in_use": alias.partition("@")[2] in domains}
        for alias, targets in there.items()
    ]
    return json.dumps({"domain": domains[0], "aliases": found}, indent=2)


def app_passwords_as_json(there: Iterable[Usage], account: str) -> str:
    """Return the app passwords of an account, each with the fields of Usage."""
    return json.dumps({"account": account, "app_passwords": [asdict(usage) for usage in there]}, indent=2)


def changes_as_json(there: Iterable[Change]) -> str:
    """Return the changes of accounts and aliases, each with the fields of Change."""
    return json.dumps({"changes": [asdict(change) for change in there]}, indent=2)


def repositories_as_json(there: Iterable[Repository]) -> str:
    """Return the repositories, each with the fields of Repository."""
    return json.dumps({"repositories": [asdict(repository) for repository in there]}, indent=2)


def locks_as_json(there: Iterable[Lock]) -> str:
    """Return the locks, each with the fields of Lock."""
    return json.dumps({"locks": [asdict(lock) for lock in there]}, indent=2)


def certificates_as_json(there: Sequence[Certificate], answers: Iterable[Answer]) -> str:
    """Return the fields of the first certificate and its `days_left`, the same of all, and what each port serves.

    All are `certificates`. `ports` say whether each serves one of them.
    """
    known = {one.fingerprint for one in there}
    ports = [
        {"port": answer.port, "serves_it": answer.fingerprint in known, "error": answer.error} for answer in answers
    ]
    every = [{**asdict(one), "days_left": one.days_left} for one in there]
    return json.dumps({**every[0], "certificates": every, "ports": ports}, indent=2, default=str)
