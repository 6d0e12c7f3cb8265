"""Memory and processor time of the pod, idle and after a load."""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import load
from bench.figures import Figure, Goal
from bench.running import ROUNDS, in_turn
from bench.sides import Side, pod_of
from podserve.commands import podman
from tests.testbed import git
from tests.testbed.memory import pss, wait_until_idle
from tests.testbed.pod import PodUnderTest
from tests.testbed.vantage import first_process

SECTION = "memory"
_WINDOW = 3.0
"""Seconds between two probes (periodSeconds of kube/podserve.yaml)."""
_QUIET = 1.0
"""Seconds measured without probes, in which the pod does almost nothing."""


def _usage(container: str) -> float:
    """Return the processor time that a container has used, in seconds, from its control group."""
    groups = dict(
        line.split(":", 2)[1:] for line in Path(f"/proc/{first_process(container)}/cgroup").read_text().splitlines()
    )
    if "" in groups and (two := Path("/sys/fs/cgroup" + groups[""], "cpu.stat")).exists():
        words = two.read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6
    controllers, path = next((names, path) for names, path in groups.items() if "cpuacct" in names.split(","))
    return int(Path(f"/sys/fs/cgroup/{controllers}{path}/cpuacct.usage").read_text()) / 1e9


def _all_pss(test_pod: PodUnderTest) -> dict[str, float]:
    return {service: pss(test_pod, service) for service in test_pod.pod.containers}


def _memory(test_pod: PodUnderTest, when: str, goal: Goal | None) -> Iterator[Figure]:
    taken = [_all_pss(test_pod) for _ in range(ROUNDS)]
    yield Figure(SECTION, f"PSS {when}", "MB", [sum(services.values()) for services in taken], goal=goal)
    for service in test_pod.pod.containers:
        yield Figure(SECTION, f"PSS {when}: {service}", "MB", [services[service] for services in taken])


def _idle_processor(test_pod: PodUnderTest) -> Iterator[Figure]:
    """Measure the share of one core that the containers and Podman use with probes, and with `true` for each."""
    containers = list(test_pod.pod.containers.values())

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(map(_usage, containers)) + children.ru_utime + children.ru_stime

    def probe(container: str) -> None:
        podman("healthcheck", "run", container)

    def run_true(container: str) -> None:
        podman("exec", container, "true")

    def leave(container: str) -> None:
        """Do nothing."""

    def window(length: float, act: Callable[[str], None]) -> float:
        ask = used()  # reading the usage starts processes, too; its cost is subtracted
        asked = used()
        begin = time.monotonic()
        for container in containers:
            act(container)
        # This is the length of the measurement: it waits for nothing.
        time.sleep(max(0.0, begin + length - time.monotonic()))
        return max(0.0, used() - asked - (asked - ask)) / length * 100

    with_probes, with_true, without = in_turn(
        lambda: window(_WINDOW, probe), lambda: window(_WINDOW, run_true), lambda: window(_QUIET, leave)
    )
    yield Figure(SECTION, "idle processor with probes every 3 s, Podman's part included", "% of a core", with_probes,
                 "podman exec of true", with_true, Goal("ratio", 1.3))  # fmt: skip
    yield Figure(SECTION, "idle processor without probes", "% of a core", without)


def _busy(side: Side, test_pod: PodUnderTest) -> None:
    """Put a load on every service."""
    load.resolve(side, load.cached_names())
    load.request(side, "/podserve/icon.svg", 2000, "--h1")
    with tempfile.TemporaryDirectory() as folder:
        repository = git.make(test_pod, Path(folder) / "work", public=True)
    load.request(side, f"/git/{repository.name}", 24, "--h1")
    load.deliver(side, test_pod.postmaster.address)
    load.log_in(side, test_pod.postmaster, workers=4, duration=1)


def measure(test_pod: PodUnderTest) -> Iterator[Figure]:
    """Measure the pod, which has just been played, before and after a load."""
    wait_until_idle(test_pod)
    yield from _memory(test_pod, "idle", Goal("median", 180))
    yield from _idle_processor(test_pod)
    side = pod_of(test_pod)
    _busy(side, test_pod)
    yield from _memory(test_pod, "after load", None)
