"""Memory of the pod under test."""

from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest, processes_of
from tests.testbed.victims import Container

MB = 1e6
_IDLE = 150
"""Seconds until Postfix and Dovecot have ended processes that serve nobody: max_idle of postconf(5) is 100 s."""


def pss(test_pod: PodUnderTest, service: str) -> float:
    """Return the proportional set size (PSS) of a service's container, in MB."""
    return pss_of(test_pod.container(service))


def pss_of(container: str) -> float:
    """Return the proportional set size (PSS) of a container, in MB."""
    total = 0
    for process in processes_of(container):
        try:
            rollup = (process / "smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / MB


def wait_until_idle(test_pod: PodUnderTest) -> None:
    """Return when no process is left that served a mail client."""

    def served() -> None:
        names = set(Container.of(test_pod, "mail").processes().values())
        if left := names & {"smtpd", "dovecot/imap-login", "dovecot/pop3-login"}:
            raise NotYet(f"{', '.join(sorted(left))} still run")

    wait_until(served, _IDLE, "the processes of mail clients to end")
