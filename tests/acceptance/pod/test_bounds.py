"""The limits of each container: memory, processes, and the size of its log."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from podserve import doctor, host
from podserve.commands import podman
from podserve.documents import in_bytes
from podserve.manifests import LOG_OPTION
from podserve.waiting import NotYet, wait_until
from tests.acceptance.pod.test_containers import PROBES, SERVICES
from tests.testbed.pod import PodUnderTest
from tests.testbed.vantage import first_process

MIB = 2**20
USERS = {"apache": "www-data", "mail": "vmail", "dns": "bind"}
"""The user that serves clients in each container."""
EATER = "my @eaten; push @eaten, 'x' x 2**22 while 1"
"""A Perl program that allocates memory until it is killed."""
FORKER = """
use Errno "EAGAIN"; use IO::Socket::INET; pipe(my $open, my $held); my $made = 0;
while (1) {
    my $child = fork();
    if (!defined $child) { print "$made ", $! == EAGAIN ? "EAGAIN" : $!, "\\n"; last }
    if (!$child) { close $held; <$open>; exit }
    $made++;
}
for my $port (80, 25) {
    my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $port, Timeout => 5) or die "$port: $!";
    print $client "HEAD / HTTP/1.0\\r\\n\\r\\n" if $port == 80;
    print scalar <$client>;
}
"""
"""A Perl program that forks until fork fails. It prints the count, the error, and what Apache and Postfix answer then.

Its children end with it.
"""


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


def declared(test_pod: PodUnderTest, service: str) -> dict[str, Any]:
    """Return the container of a service in the pod's document."""
    found: dict[str, Any] = next(c for c in test_pod.pod.manifests.pod["spec"]["containers"] if c["name"] == service)
    return found


def memory_bound(test_pod: PodUnderTest, service: str) -> int | None:
    """Return the memory limit (bytes) that a container must have: the document's, or half of the host's if less.

    None where Podman has no memory controller: there, a container with a limit would not start.
    """
    if not host.podman_info().bounds_memory:
        return None
    said = declared(test_pod, service)["resources"]["limits"]["memory"]
    return min(in_bytes(said), host.memory() // 2) // MIB * MIB


def memory_limit(test_pod: PodUnderTest, service: str) -> int | None:
    """Return the memory limit (bytes) that the kernel enforces for a container, with cgroup v1 or v2; None for none."""
    groups = dict(
        line.split(":", 2)[1:]
        for line in Path(f"/proc/{first_process(test_pod.container(service))}/cgroup").read_text().splitlines()
    )
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    if "memory" in groups and v1.exists():
        return int((v1 / groups["memory"].strip("/") / "memory.limit_in_bytes").read_text())
    limit = v2 / groups[""].strip("/") / "memory.max"  # the file is missing without the controller
    said = limit.read_text().strip() if limit.exists() else "max"
    return None if said == "max" else int(said)


def process_limits(process: Path) -> tuple[int, int]:
    """Return the soft and the hard limit of a process for the number of its user's processes."""
    line = next(line for line in (process / "limits").read_text().splitlines() if line.startswith("Max processes"))
    soft, hard = line.split()[2:4]
    return int(soft), int(hard)


@contextmanager
def no_more_than(test_pod: PodUnderTest, service: str, most: int) -> Iterator[None]:
    """Limit a container's memory to `most` bytes during the body, so that a test uses little of the host's memory."""
    bound = memory_limit(test_pod, service)
    assert bound
    podman("update", "--memory", str(min(bound, most)), test_pod.container(service))
    try:
        yield
    finally:
        podman("update", "--memory", str(bound), test_pod.container(service))


def started(test_pod: PodUnderTest) -> dict[str, str]:
    """Return the start time of each container, by service."""
    words = ["container", "inspect", "--format", "{{.State.StartedAt}}"]
    return {service: podman(*words, test_pod.container(service)).stdout.strip() for service in SERVICES}


def wait_until_well(test_pod: PodUnderTest, *services: str) -> None:
    """Wait until these services pass their probes."""

    def well() -> None:
        for service in services:
            if not test_pod.exec(service, "healthcheck", PROBES[service], check=False).ok:
                raise NotYet(f"the probe of {service} fails")

    wait_until(well, 30, "all services to answer")


def test_each_container_has_its_bounds_of_memory_and_processes(test_pod: PodUnderTest, service: str) -> None:
    assert memory_limit(test_pod, service) == memory_bound(test_pod, service)
    (word,) = [word for word in declared(test_pod, service)["command"] if word.startswith("--nproc=")]
    bound = int(word.removeprefix("--nproc="))
    for process in test_pod.processes(service):
        # Dovecot sets a lower limit for its login processes.
        assert max(process_limits(process)) <= bound, process


@pytest.mark.alone
def test_what_takes_more_memory_than_its_container_may_is_ended_and_the_others_go_on(
    test_pod: PodUnderTest, service: str
) -> None:
    if not host.podman_info().bounds_memory:
        # Nothing limits the memory then, and the operator must know.
        (found,) = [each for each in doctor.examine(test_pod.pod) if each.check == "cgroups"]
        assert found.state == "warning"
        return
    others = [other for other in SERVICES if other != service]
    before = started(test_pod)
    container = test_pod.container(service)
    with no_more_than(test_pod, service, 256 * MIB):
        ended = podman("exec", "--user", USERS[service], container, "perl", "-e", EATER, check=False)
        Path("oom").unlink(missing_ok=True)  # conmon 2.1.6 leaves this file in Podman's working directory
        assert ended.code != 0
        assert "Out of memory" not in ended.stderr  # Perl prints this if the host has no memory left
        wait_until_well(test_pod, *SERVICES)
    now = started(test_pod)
    assert {other: now[other] for other in others} == {other: before[other] for other in others}


@pytest.mark.alone
def test_who_forks_without_end_is_stopped_and_all_is_still_served(test_pod: PodUnderTest) -> None:
    soft, hard = process_limits(Path(f"/proc/{first_process(test_pod.container('apache'))}"))
    bomb = ["prlimit", f"--nproc={soft}:{hard}", "setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups"]
    said = test_pod.exec("apache", *bomb, "perl", "-e", FORKER)
    forks, web, mail = said.stdout.splitlines()
    made, why = forks.split()
    assert why == "EAGAIN"
    assert int(made) < soft
    assert web.startswith("HTTP/1.1 301")
    assert mail.startswith("220 ")
    wait_until_well(test_pod, *SERVICES)


def test_the_log_of_each_container_has_a_bound(test_pod: PodUnderTest, service: str) -> None:
    found = json.loads(podman("container", "inspect", test_pod.container(service)).stdout)[0]["HostConfig"]["LogConfig"]
    # The journal has a size limit of its own for all that it stores: journald.conf(5), SystemMaxUse.
    if podman("info", "--format", "{{.Host.LogDriver}}").stdout.strip() == "journald":
        assert found["Type"] == "journald"
        return
    assert found["Type"] == "k8s-file"
    assert found["Size"].lower() == LOG_OPTION.removeprefix("max-size=")


def test_a_log_that_reaches_its_bound_begins_anew_and_is_still_read(test_pod: PodUnderTest) -> None:
    name, bound, lines = f"{test_pod.name}-talker", 100_000, 20_000
    talk = f'for i in $(seq {lines}); do echo "line $i of so many, each of some sixty bytes in the file"; done'
    try:
        podman("run", "--detach", "--name", name, "--network", "none", "--log-driver", "k8s-file",
               "--log-opt", f"max-size={bound // 1000}kb", "localhost/podserve-base:latest",
               "sh", "-c", f"{talk}; sleep infinity")  # fmt: skip
        file = Path(podman("container", "inspect", "--format", "{{.HostConfig.LogConfig.Path}}", name).stdout.strip())
        sizes = [0]

        def all_said() -> None:
            sizes.append(file.stat().st_size)
            if f"line {lines} " not in podman("logs", "--tail", "1", name).stdout:
                raise NotYet("the last line is not there")

        wait_until(all_said, 20, "the last line in the log")
        assert max(sizes) <= bound
        assert len(re.findall("line", podman("logs", name).stdout)) < lines / 2
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)
