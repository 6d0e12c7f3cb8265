"""App passwords of the accounts of a test, and logins on every port."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from podserve.exchanges import FAILURES
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

LOGIN_PORTS = "imap", "imaps", "pop3s", "submission", "submissions", "sieve", "https"
"""The ports that take a login, by name."""
_REFUSED = re.compile(r"AUTHENTICATIONFAILED|\[AUTH\]|\(535, |Authentication failed|HTTP 401")


def _accepts(test_pod: PodUnderTest, account: Account, port: str) -> bool:
    try:
        # imaplib leaves a socket open if the server ends a session, as it may here.
        if port in {"imap", "imaps"}:
            with test_pod.server.imap(account, implicit_tls=port == "imaps") as client:
                client.select_folder("INBOX", readonly=True)
        else:
            test_pod.server.exchange(test_pod.pod.ports[port], account)
    except FAILURES as error:
        if not _REFUSED.search(str(error)):
            raise NotYet(f"{port}: {error}") from error
        return False
    return True


def accepting(test_pod: PodUnderTest, account: Account) -> set[str]:
    """Return the names of the ports that accept a login. All others must say that it is wrong."""
    with ThreadPoolExecutor(len(LOGIN_PORTS)) as pool:
        accepted = pool.map(partial(_accepts, test_pod, account), LOGIN_PORTS)
        return {port for port, is_accepted in zip(LOGIN_PORTS, accepted, strict=True) if is_accepted}


def seconds_until_refused(test_pod: PodUnderTest, account: Account) -> float:
    """Wait until every port refuses a login. Return when the last one did (s from now).

    Dovecot answers 2 s later, and that time does not count.
    """
    begun = time.monotonic()

    def refused(port: str) -> float:
        def check() -> float:
            asked = time.monotonic()
            if _accepts(test_pod, account, port):
                raise NotYet(f"{port} accepts it")
            return asked - begun

        return wait_until(check, 6, "a refusal")

    with ThreadPoolExecutor(len(LOGIN_PORTS)) as pool:
        return max(pool.map(refused, LOGIN_PORTS))


def with_app_password(test_pod: PodUnderTest, account: Account, label: str = "phone") -> Account:
    """Make an app password by the task, wait until it is in use, and return the account with it as its password."""
    printed = test_pod.invoke("users.token", account.address, label).stdout.splitlines()
    made = replace(account, password=printed[0])
    wait_until_accepted(test_pod, made)
    return made


def wait_until_accepted(test_pod: PodUnderTest, account: Account) -> None:
    """Wait until every port takes a login: 2 s and the time of a refusal at most."""

    def accepted() -> None:
        if missing := set(LOGIN_PORTS) - accepting(test_pod, account):
            raise NotYet(f"refused by {missing}")

    wait_until(accepted, 6, f"logins of {account.address}")
