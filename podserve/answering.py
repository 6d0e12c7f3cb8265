"""Waits until each endpoint of the pod answers, and shows the certificate of the volume."""

from collections.abc import Iterable

from podserve import endpoints, running
from podserve.certificates import store
from podserve.certificates.clients import unverified_context
from podserve.certificates.keypair import Certificate
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until

START_TIMEOUT = 60
"""Seconds that the last endpoint may take to answer."""
SWAP_TIMEOUT = 10
"""Seconds until every port must serve a new certificate: twice the longest time that this takes."""


def others_certificate(answers: Iterable[endpoints.Answer], certificates: Iterable[Certificate]) -> list[str]:
    """Return the ports that show a certificate other than these, which are the volume's; none if there are none."""
    known = {certificate.fingerprint for certificate in certificates}
    return [answer.port for answer in answers if known and answer.fingerprint and answer.fingerprint not in known]


def _restarts(pod: Pod) -> dict[str, str]:
    """Return how often Podman has restarted each container of the pod, by Podman's name for it."""
    names = pod.containers.values()
    found = podman("container", "inspect", "--format", "{{.RestartCount}}", *names, check=False)
    return dict(zip(names, found.stdout.split(), strict=False))


def _last_lines(container: str) -> str:
    log = podman("logs", "--tail", "15", container, check=False)
    return f"the last lines of {container}:\n{log.stdout}{log.stderr}".rstrip()


def wait_until_answering(pod: Pod) -> None:
    """Return as soon as every endpoint has answered, and shown the certificate of the volume.

    Raises Problem after START_TIMEOUT s, or if a container exits, with the last lines of each container at fault.
    """
    context = unverified_context(pod.settings.domain)
    certificates = store.current(store.certificates_folder(pod))
    waiting = list(pod.ports)
    before, at_fault = dict[str, str](), set[str]()

    def check() -> None:
        answers = endpoints.attempt_all(pod, context, waiting)
        other = others_certificate(answers, certificates)
        waiting[:] = [answer.port for answer in answers if not answer.ok or answer.port in other]
        if waiting:
            wrong = {answer.port: answer.error or "a certificate other than the volume's" for answer in answers}
            raise NotYet("; ".join(f"{port}: {wrong[port]}" for port in waiting))

    def stopped() -> str | None:
        now = _restarts(pod)
        before.update({name: count for name, count in now.items() if name not in before})
        exited = [name for name, count in now.items() if count != before[name]]
        at_fault.update(exited)
        return ", ".join(f"container {name} has exited" for name in exited) or None

    try:
        wait_until(check, START_TIMEOUT, f"{pod.name} to answer on every port", stopped=stopped)
    except Problem as problem:
        at_fault.update(pod.containers[pod.ports[port].container] for port in waiting)
        raise Problem("\n".join([str(problem), *map(_last_lines, sorted(at_fault))])) from problem


def wait_until_served(pod: Pod) -> None:
    """Return when each port that speaks TLS shows the certificate of the volume; at once if there is no pod.

    Raises Problem after SWAP_TIMEOUT s.
    """
    certificates = store.current(store.certificates_folder(pod))

    def check() -> None:
        answers = tls_answers(pod)
        wrong = [answer.port for answer in answers if not answer.ok] + others_certificate(answers, certificates)
        if wrong:
            raise NotYet(f"not served on {', '.join(wrong)}")

    wait_until(check, SWAP_TIMEOUT, "every port to serve the new certificate (to force this: invoke restart)")


def tls_answers(pod: Pod) -> list[endpoints.Answer]:
    """Return how each port that speaks TLS answers; an empty list if there is no pod."""
    if not running.exists(pod):
        return []
    return endpoints.attempt_all(pod, unverified_context(pod.settings.domain), endpoints.tls_ports(pod))
