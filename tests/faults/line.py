"""An outage of the uplink: no forwarder answers. Cached names and local services work; other mail is queued."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rcode

from podserve import status
from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed import git
from tests.testbed.mail import arrived, queued, wait_until_left
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, letter, token

SECTION = "line"
CACHED, FAILED = 0.1, 3.0
"""Seconds within which a cached name must be answered again, and within which it is answered first or a name fails."""
PROBES = 6
"""Rounds of health checks: one more than the failures that restart a container (kube/podserve.yaml)."""
RETRY = 150.0
"""Seconds within which queued mail is retried: after 5 s, then each time after as long as it has waited so far."""
NAMES = 50


def _ask(test_pod: PodUnderTest, name: str) -> tuple[str, float]:
    begin = time.monotonic()
    answer = dns.query.udp(dns.message.make_query(name, "A"), test_pod.server.host, timeout=PATIENCE)
    return dns.rcode.to_text(answer.rcode()), time.monotonic() - begin


@contextmanager
def elsewhere(test_pod: PodUnderTest) -> Iterator[str]:
    """Yield the address of a mail server on the pod's network that accepts every message (Postfix's smtp-sink)."""
    name = f"{test_pod.name}-elsewhere"
    podman("run", "--detach", "--name", name, "--network", test_pod.name, "--entrypoint", "smtp-sink",
           "localhost/podserve-mail:latest", "-c", "-u", "postfix", "0.0.0.0:25", "100")  # fmt: skip
    try:
        yield test_pod.address_of(name)
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def _timed(act: Callable[[], object], most: float, what: str) -> tuple[float, str]:
    """Call `act`; return its seconds, and an error: its exception, or that it took more than `most` seconds."""
    begin = time.monotonic()
    try:
        act()
    except Exception as error:  # noqa: BLE001  # each client has errors of its own
        return time.monotonic() - begin, f"{what}: {type(error).__name__}: {error}"
    seconds = time.monotonic() - begin
    return seconds, f"{what} took {seconds:.1f} s: expected {most:.1f}" if seconds > most else ""


def _local(test_pod: PodUnderTest, repository: git.Repository) -> Iterator[Outcome]:
    """Use the services that need no uplink."""

    def mail() -> None:
        with test_pod.server.submission(test_pod.postmaster) as client:
            client.send_message(letter(test_pod.postmaster.address, test_pod.postmaster.address, word := token()))
        arrived(test_pod.server, test_pod.postmaster, word)

    def web() -> None:
        with test_pod.server.http(test_pod.postmaster) as client:
            client.put(f"/webdav/{token()}.txt", content="x").raise_for_status()
            client.get("/").raise_for_status()

    def clone() -> None:
        with tempfile.TemporaryDirectory() as folder:
            there = git.Git(test_pod.server, test_pod.postmaster)
            there.run("clone", "--quiet", there.url(repository.name), f"{folder}/clone")

    for act, most in ((mail, 5.0), (web, 2.0), (clone, 5.0)):
        seconds, fault = _timed(act, most, f"{act.__name__} without a line")
        yield Outcome(SECTION, f"local {act.__name__}", {"s": seconds}, fault)


def _names(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    count = scale.count(NAMES)
    first, seconds = _ask(test_pod, "google.com")
    fault = "" if seconds < FAILED and first == "NOERROR" else f"expected an answer in {FAILED} s"
    yield Outcome(SECTION, "a cached name, first", {"asked": 1, "worst s": seconds}, fault)
    known = [_ask(test_pod, "google.com") for _ in range(count)]
    worst = max(seconds for _, seconds in known)
    fault = "" if worst < CACHED and {said for said, _ in known} == {"NOERROR"} else f"expected answers in {CACHED} s"
    yield Outcome(SECTION, "a cached name, again", {"asked": count, "worst s": worst}, fault)
    new = [_ask(test_pod, f"{token()}.google.com") for _ in range(scale.count(5))]
    worst = max(seconds for _, seconds in new)
    fault = "" if worst < FAILED and {said for said, _ in new} == {"SERVFAIL"} else f"expected SERVFAIL in {FAILED} s"
    yield Outcome(SECTION, "a new name", {"asked": len(new), "worst s": worst}, fault)


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Stop the forwarders, use every service, and start the forwarders again."""
    containers = test_pod.pod.containers.values()
    before = {one.name: one.restarts for one in status.containers(containers)}
    with elsewhere(test_pod) as address, ExitStack() as line, tempfile.TemporaryDirectory() as folder:
        domain = f"{token()}.acme.example.com"
        test_pod.name_addresses({domain: address})
        repository = git.make(test_pod, Path(folder) / "work")
        _ask(test_pod, "google.com")
        for upstream in test_pod.upstreams:
            line.enter_context(upstream.stopped())
        yield from _names(test_pod, scale)
        yield from _local(test_pod, repository)
        with test_pod.server.submission(test_pod.postmaster) as client:
            client.send_message(letter(test_pod.postmaster.address, f"somebody@{domain}", token()))

        def deferred() -> None:
            waits = [line for line in test_pod.exec("mail", "postqueue", "-j").stdout.splitlines() if domain in line]
            if not waits or '"queue_name": "deferred"' not in waits[0]:
                raise NotYet(f"not deferred: {waits}")

        wait_until(deferred, 60, "mail for outside to be deferred")
        probed = [one for _ in range(PROBES) for one in status.containers(containers)]
        waiting = len(queued(test_pod, domain))
        line.close()
        begin, since = time.monotonic(), time.time()
        try:
            wait_until_left(test_pod, domain, RETRY, "mail for outside to leave by itself")
            test_pod.wait_for_log("mail", f"to=<somebody@{domain}>", since, timeout=5)
            fault = "" if waiting == 1 else f"{waiting} messages waited: expected 1"
        except Exception as error:  # noqa: BLE001  # the row of the table shows it
            fault = str(error)
        yield Outcome(SECTION, "mail for outside", {"waited": waiting, "left after s": time.monotonic() - begin}, fault)
    after = {one.name: one.restarts for one in status.containers(containers)}
    sick = sorted({one.name for one in probed if not one.healthy})
    fault = f"failed health checks: {', '.join(sick)}" if sick else "" if after == before else f"{before} → {after}"
    yield Outcome(SECTION, "containers", {"probes": len(probed), "restarts": sum(after.values())}, fault)
