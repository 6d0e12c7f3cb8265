"""What the filter of mail costs: a pod with it beside a pod without it."""

import re
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench import load
from bench.figures import Figure, Goal, at_least
from bench.play import answered
from bench.running import ROUNDS, in_turn, seconds
from bench.sides import pod_of
from podserve.accounts import ROUNDS as COST
from podserve.commands import podman
from podserve.lifecycle import STOP_TIMEOUT
from tests.testbed.memory import pss, wait_until_idle
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import letter, token

SECTION = "filter"
_LETTERS = 50


def _memory(mode: str) -> list[float]:
    """Return the PSS of a pod, five times, after the processes that `up` itself has connected to have ended."""
    with play_test_pod(f"-{mode}", cost=COST, filter=mode) as pod:
        wait_until_idle(pod)
        return [sum(pss(pod, service) for service in pod.pod.containers) for _ in range(ROUNDS)]


def _started(pod: PodUnderTest) -> float:
    """Remove a pod and run `up`; return the seconds of `up` until its last endpoint answers."""
    podman("pod", "rm", "--force", "--time", str(STOP_TIMEOUT), pod.name)

    def start() -> None:
        pod.invoke("up")
        with ThreadPoolExecutor(len(pod.pod.ports)) as pool:
            list(pool.map(partial(answered, pod), pod.pod.ports))

    return seconds(start)


def _judged(pod: PodUnderTest) -> float:
    """Send letters one by one; return the median of the seconds for which the filter says that it took."""
    recipient, identities = pod.new_account().address, set[str]()
    with pod.server.smtp() as client:
        for _ in range(_LETTERS):
            message = letter("sender@example.com", recipient, token(), "A few words of a letter.\n" * 40)
            identities.add(str(message["Message-ID"]).strip("<>"))
            client.send_message(message, "sender@example.com")
    log = podman("logs", pod.container("mail"))
    found = re.findall(r"write_log: id: <([^>]*)>.*, time: ([0-9.]+)ms", log.stdout + log.stderr)
    return statistics.median(float(taken) / 1000 for identity, taken in found if identity in identities)


def measure() -> Iterator[Figure]:
    """Measure each pod alone, then both beside each other."""
    on, off = map(_memory, ("on", "off"))
    yield Figure(SECTION, "PSS of the pod, idle", "MB", on, "filter off", off, Goal("median", 180))
    yield Figure(SECTION, "PSS of the pod, idle, filter off", "MB", off, goal=Goal("median", 82))
    with play_test_pod("-on", cost=COST) as filtered, play_test_pod("-off", cost=COST, filter="off") as plain:
        pods = filtered, plain
        judged = in_turn(partial(_judged, filtered))[0]
        yield Figure(SECTION, "a letter judged, median", "s", judged, goal=Goal("median", 0.2))
        accounts = [pod.new_account().address for pod in pods]
        taken, beside = in_turn(
            *(partial(load.deliver, pod_of(pod), account) for pod, account in zip(pods, accounts, strict=True))
        )
        yield Figure(SECTION, "messages a second, SMTP to mailbox", "/s", taken, "filter off", beside, at_least(0.5))
        taken, beside = in_turn(*(partial(_started, pod) for pod in pods))
        name = "invoke up until the last endpoint answers"
        yield Figure(SECTION, name, "s", taken, "filter off", beside, Goal("ratio", 1.15))
