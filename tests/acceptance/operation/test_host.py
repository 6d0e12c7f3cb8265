"""The doctor's findings on the host, and tasks that are interrupted, run at the same time, or lack disk space."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import pytest

from podserve import doctor, host, running
from podserve.commands import podman, run
from podserve.pod import STATE
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest

ELSEWHERE = "127.0.0.246"


class Chosen(TypedDict):
    """The settings of a second pod."""

    INVOKE_POD: str
    INVOKE_BIND: str


@pytest.fixture
def other(test_pod: PodUnderTest) -> Iterator[Chosen]:
    """The settings of a second pod. The pod and its volumes are removed afterwards."""
    chosen = Chosen(INVOKE_POD=f"{test_pod.name}-second", INVOKE_BIND=ELSEWHERE)
    yield chosen
    podman("pod", "rm", "--force", "--time", "0", chosen["INVOKE_POD"], check=False)
    test_pod.invoke("down", "--volumes", "--yes", check=False, **chosen)


def findings(test_pod: PodUnderTest, **chosen: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return the doctor's exit code and its findings, by check."""
    ended = test_pod.invoke("doctor", "--json", check=False, **chosen)
    told = json.loads(ended.stdout)
    assert told["ok"] == (ended.code == 0)
    named: dict[str, list[dict[str, str]]] = {}
    for finding in told["findings"]:
        named.setdefault(finding["check"], []).append(finding)
    return ended.code, named


def test_the_doctor_finds_no_problem_where_a_pod_runs(test_pod: PodUnderTest) -> None:
    code, found = findings(test_pod)
    assert code == 0
    assert {"podman", "source addresses", "disk", "ports", "runtime", "cgroups", "memory", "clock", "health checks",
            "name", "dns records"} == set(found)  # fmt: skip
    assert all(finding["fix"] for named in found.values() for finding in named if finding["state"] != "ok")


def test_the_doctor_names_the_pod_that_holds_the_ports(test_pod: PodUnderTest) -> None:
    code, found = findings(test_pod, INVOKE_POD=f"{test_pod.name}-second")
    assert code == 1
    said = [finding["said"] for finding in found["ports"]]
    assert len(said) == len(test_pod.pod.ports)
    assert f"port 53/UDP is taken on {test_pod.server.host} by the pod {test_pod.name}" in said


def test_the_doctor_names_the_process_that_holds_a_port(test_pod: PodUnderTest, other: Chosen) -> None:
    with socket.create_server((ELSEWHERE, 587)):
        code, found = findings(test_pod, **other)
        shown = test_pod.invoke("doctor", check=False, **other)
    assert code == shown.code == 1
    ((said, fix),) = [(finding["said"], finding["fix"]) for finding in found["ports"]]
    assert said.startswith(f"port 587/TCP is taken on {ELSEWHERE} by ")
    assert said.endswith(f"(process {os.getpid()})")
    assert f"problem ports: {said}\n  to solve it: {fix}\n" in shown.stdout
    assert findings(test_pod, **other)[0] == 0


@pytest.mark.alone
def test_what_up_looks_at_first_takes_less_than_three_tenths_of_a_second(test_pod: PodUnderTest) -> None:
    def seconds(act: Callable[[], object]) -> float:
        def once() -> float:
            begin = time.monotonic()
            act()
            return time.monotonic() - begin

        return min(once() for _ in range(5))

    # On a slow machine Podman alone may take longer: 0.35 s were measured for `podman info`.
    podmans_own = seconds(host.podman_info) + seconds(lambda: running.inspected(test_pod.pod))
    assert seconds(lambda: doctor.require(test_pod.pod)) < max(0.3, podmans_own + 0.1)


def interrupted(
    test_pod: PodUnderTest, begun: Callable[[], bool], after: float, *task: str, **chosen: str
) -> tuple[int, str]:
    """Run a task, and send it SIGINT `after` seconds from when it has `begun`. Return its exit code and stderr."""
    argv = [sys.executable, "-m", "invoke", *task]

    def started() -> None:
        if not begun():
            raise NotYet("it has not begun")

    with subprocess.Popen(
        argv, env=test_pod.environment | chosen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(started, 30, f"{' '.join(task)} to begin")
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        return process.returncode, said


def at_work(name: str) -> bool:
    """Return whether a task holds the lock of the pod with this name."""
    with (STATE / f"{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def runs(words: str) -> bool:
    """Return whether a process runs whose command line contains these words."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if words in file.read_text(errors="replace").replace("\0", " "):
                return True
    return False


INTERRUPTED = "podserve: interrupted. Run the same command again to continue\n"


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 2.0])
def test_an_up_that_is_interrupted_says_so_and_the_next_one_gets_there(
    test_pod: PodUnderTest, other: Chosen, after: float
) -> None:
    code, said = interrupted(test_pod, lambda: at_work(other["INVOKE_POD"]), after, "up", **other)
    assert (code, said) == (1, INTERRUPTED)
    left = podman("pod", "inspect", "--format", "{{.State}}", other["INVOKE_POD"], check=False)
    assert not left.ok or left.stdout.strip() == "Running", "it was interrupted after the pod had answered"
    assert test_pod.invoke("up", **other).stdout.count("answers") == 11


def test_a_down_that_is_interrupted_says_so_and_the_next_one_gets_there(test_pod: PodUnderTest, other: Chosen) -> None:
    test_pod.invoke("up", **other)
    assert interrupted(test_pod, lambda: at_work(other["INVOKE_POD"]), 0.1, "down", **other) == (1, INTERRUPTED)
    assert test_pod.invoke("down", **other).ok
    assert not podman("pod", "exists", other["INVOKE_POD"], check=False).ok
    assert not podman("network", "exists", other["INVOKE_POD"], check=False).ok


def test_a_build_that_is_interrupted_says_so_leaves_nothing_running_and_can_be_run_again(
    test_pod: PodUnderTest,
) -> None:
    tag = "podman build --no-cache --tag localhost/podserve-dns"
    assert interrupted(test_pod, lambda: runs(tag), 0.5, "build", "--image", "dns", "--no-cache") == (1, INTERRUPTED)
    assert not runs(tag)
    assert test_pod.invoke("build").ok


def test_of_two_builds_at_the_same_moment_one_waits_and_says_so(test_pod: PodUnderTest) -> None:
    argv = [sys.executable, "-m", "invoke", "build"]
    with (STATE / "build.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(argv, env=test_pod.environment, stdout=subprocess.PIPE, text=True) as build:
            assert build.stdout
            assert build.stdout.readline() == "images: another build holds the lock: waiting for it to end\n"
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert build.stdout.read() == "images: up to date\n"
    assert build.returncode == 0


def test_of_two_first_ups_at_the_same_moment_one_shows_the_services_and_the_password_and_one_waits_and_says_so(
    test_pod: PodUnderTest, other: Chosen
) -> None:
    with ThreadPoolExecutor(2) as pool:
        ups = list(pool.map(lambda _: test_pod.invoke("up", **other), range(2)))
    assert (
        sum(f"another task holds the lock of {other['INVOKE_POD']}: waiting for it to end" in up.stderr for up in ups)
        == 1
    )
    first, second = sorted(ups, key=lambda up: "nothing was changed" in up.stdout)
    assert "nothing was changed" in second.stdout
    assert first.stdout.count("answers") == 11
    shown = re.search(r"Log in as\s+(\S+) with\s+the\s+password\s+(\S+)", first.stdout)
    assert shown, first
    assert shown[1] == test_pod.postmaster.address
    assert "with the password" not in " ".join(second.stdout.split())
    assert shown[2] not in second.stdout


def test_an_up_without_room_makes_nothing(test_pod: PodUnderTest, other: Chosen, tmp_path: Path) -> None:
    run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)])
    try:
        storage = tmp_path / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
        refused = test_pod.invoke("up", check=False, CONTAINERS_STORAGE_CONF=str(storage), **other)
        made = list((tmp_path / "graph").glob("volumes/*"))
    finally:
        run(["umount", "-R", str(tmp_path)])
    assert refused.code == 1
    assert re.search(r"0\.1 GiB free for .*: expected 1\.0\. To solve it: podman system prune", refused.stderr)
    assert made == []
