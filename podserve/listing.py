"""What `users.list`, `repos.list`, `locks.list` and `certs.show` print with --json: one JSON object each."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from podserve.certificates.keypair import Certificate
from podserve.endpoints import Answer
from podserve.locks import Lock
from podserve.repositories import Repository


def accounts_as_json(there: Iterable[str], domain: str) -> str:
    """Return the accounts, each with `address` and `can_log_in` (not if it is of another domain than `domain`)."""
    found = [{"address": address, "can_log_in": address.endswith(f"@{domain}")} for address in there]
    return json.dumps({"domain": domain, "accounts": found}, indent=2)


def repositories_as_json(there: Iterable[Repository]) -> str:
    """Return the repositories, each with the fields of Repository."""
    return json.dumps({"repositories": [asdict(repository) for repository in there]}, indent=2)


def locks_as_json(there: Iterable[Lock]) -> str:
    """Return the locks, each with the fields of Lock."""
    return json.dumps({"locks": [asdict(lock) for lock in there]}, indent=2)


def certificate_as_json(there: Certificate, answers: Iterable[Answer]) -> str:
    """Return the fields of the certificate, `days_left`, and for each port what it serves (`ports`)."""
    ports = [
        {"port": answer.port, "serves_it": answer.fingerprint == there.fingerprint, "error": answer.error}
        for answer in answers
    ]
    return json.dumps({**asdict(there), "days_left": there.days_left, "ports": ports}, indent=2, default=str)
