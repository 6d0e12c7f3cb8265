"""Times of `podman kube play` and `invoke up` until all endpoints answer, of a stop, and of idle tasks."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import yaml

from bench.figures import Figure, Goal
from bench.running import ROUNDS, in_turn, seconds
from podserve import endpoints, exchanges
from podserve.certificates.clients import unverified_context
from podserve.commands import ROOT, podman
from podserve.lifecycle import STOP_TIMEOUT
from podserve.pod import STATE
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest

SECTION = "play"
_PATIENCE = 60
"""Seconds until the last endpoint must answer, as for `up`."""
_PAUSE = 0.05
"""Seconds between two attempts at an endpoint."""


def answered(test_pod: PodUnderTest, port: str) -> None:
    """Wait until the exchange with an endpoint succeeds, with a login where the endpoint takes one.

    Raises Problem after a minute.
    """

    def check() -> None:
        try:
            test_pod.exchange(port)
        except exchanges.FAILURES as error:
            raise NotYet(str(error)) from error

    wait_until(check, _PATIENCE, f"{port} to answer")


def _without_service(test_pod: PodUnderTest, act: Callable[[], object]) -> float:
    """Call `act`; return the longest time between two answers of the same endpoint meanwhile, in seconds."""
    context, end = unverified_context(test_pod.server.domain), threading.Event()

    def visit(port: str) -> float:
        last, longest = time.monotonic(), 0.0
        while not end.is_set():
            if endpoints.attempt(test_pod.pod, context, port).ok:
                now = time.monotonic()
                last, longest = now, max(longest, now - last)
            end.wait(_PAUSE)
        return longest

    with ThreadPoolExecutor(len(test_pod.pod.ports)) as pool:
        visits = [pool.submit(visit, port) for port in test_pod.pod.ports]
        try:
            act()
        finally:
            end.set()
    return max(visit.result() for visit in visits)


def _remove(pod: str) -> None:
    podman("pod", "rm", "--force", "--time", str(STOP_TIMEOUT), pod)


def measure(test_pod: PodUnderTest) -> Iterator[Figure]:
    """Play and stop the pod and run its tasks, five times each. The pod runs before and after."""
    name, folder = test_pod.name, STATE / test_pod.name / "bench"
    config, document = test_pod.pod.manifests.write(folder)
    floor = yaml.safe_load((ROOT / "bench/floor.yaml").read_text())
    floor["metadata"]["name"] = sleeping = f"{name}-floor"
    for container in floor["spec"]["containers"]:
        container["ports"][0]["hostIP"] = test_pod.server.host

    def play() -> None:
        podman("kube", "play", "--network", name, "--configmap", str(config), str(document))
        with ThreadPoolExecutor(len(test_pod.pod.ports)) as pool:
            list(pool.map(partial(answered, test_pod), test_pod.pod.ports))

    def play_floor() -> None:
        podman("kube", "play", "--network", name, "-", stdin=yaml.safe_dump(floor))

    # One measure stops what another played, so their order is fixed: in_turn would change it.
    runs: dict[str, list[float]] = {}

    def take(what: str, act: Callable[[], object]) -> None:
        runs.setdefault(what, []).append(seconds(act))

    for number in range(ROUNDS):
        take("stop", partial(_remove, name))
        take("floor", play_floor)
        take("stop floor", partial(_remove, sleeping))
        take("play", play)
        _remove(name)
        take("up", partial(test_pod.invoke, "up"))
        # A changed setting replaces the containers, as `upgrade` does after its build.
        anew = partial(test_pod.invoke, "up", INVOKE_MESSAGE_SIZE_LIMIT=f"{50_000_000 + number}")
        runs.setdefault("replaced", []).append(_without_service(test_pod, anew))
    test_pod.invoke("up")
    yield Figure(SECTION, "kube play until the last endpoint answers", "s", runs["play"],
                 "three sleeping containers", runs["floor"], Goal("ratio", 2.5))  # fmt: skip
    yield Figure(SECTION, "invoke up until the same", "s", runs["up"], "kube play", runs["play"], Goal("beyond", 1))
    yield Figure(SECTION, "stop and removal", "s", runs["stop"], "three sleeping containers", runs["stop floor"],
                 Goal("beyond", 1))  # fmt: skip
    floor_replaced = [sum(pair) for pair in zip(runs["stop floor"], runs["floor"], strict=True)]
    yield Figure(SECTION, "outage while containers are replaced (upgrade)", "s", runs["replaced"],
                 "stop and play of three sleeping containers", floor_replaced, Goal("beyond", 3))  # fmt: skip
    tasks = {"up": 2.0, "build": 2.0, "status": 1.0}
    idle = in_turn(*(partial(seconds, partial(test_pod.invoke, task)) for task in tasks))
    for (task, limit), taken in zip(tasks.items(), idle, strict=True):
        name = f"invoke {task}" + ("" if task == "status" else " with nothing to do")
        yield Figure(SECTION, name, "s", taken, goal=Goal("median", limit))
