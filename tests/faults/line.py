"""The line is down: no forwarder answers. What is known and what is local goes on; mail for outside waits."""

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
from tests.acceptance import git
from tests.acceptance.mail import arrived, queued, wait_until_left
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import PATIENCE, letter, token
from tests.faults.outcome import Outcome, Scale

SECTION = "line"
CACHED, FAILED = 0.1, 3.0
"""Seconds in which a name that is known is answered, and one that is not fails."""
PROBES = 6
"""Rounds of health checks: one more than the failures after which a container is restarted (kube/podserve.yaml)."""
RETRY = 150.0
"""Seconds in which what waits is tried again: after 5 s at first, then each time after as long as it has waited."""
NAMES = 50


def _ask(own: OwnPod, name: str) -> tuple[str, float]:
    begin = time.monotonic()
    answer = dns.query.udp(dns.message.make_query(name, "A"), own.server.host, timeout=PATIENCE)
    return dns.rcode.to_text(answer.rcode()), time.monotonic() - begin


@contextmanager
def elsewhere(own: OwnPod) -> Iterator[str]:
    """Yield the address of another mail server on the pod's network, which takes everything (Postfix's smtp-sink)."""
    name = f"{own.name}-elsewhere"
    podman("run", "--detach", "--name", name, "--network", own.name, "--entrypoint", "smtp-sink",
           "localhost/podserve-mail:latest", "-c", "-u", "postfix", "0.0.0.0:25", "100")  # fmt: skip
    try:
        yield own.address_of(name)
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def _timed(act: Callable[[], object], most: float, what: str) -> tuple[float, str]:
    """Return the seconds that something took, and what is wrong with that."""
    begin = time.monotonic()
    try:
        act()
    except Exception as error:  # noqa: BLE001  # each client has errors of its own
        return time.monotonic() - begin, f"{what}: {type(error).__name__}: {error}"
    seconds = time.monotonic() - begin
    return seconds, f"{what} took {seconds:.1f} s: expected {most:.1f}" if seconds > most else ""


def _local(own: OwnPod, repository: git.Repository) -> Iterator[Outcome]:
    """Use what needs no line."""

    def mail() -> None:
        with own.server.submission(own.postmaster) as client:
            client.send_message(letter(own.postmaster.address, own.postmaster.address, word := token()))
        arrived(own.server, own.postmaster, word)

    def web() -> None:
        with own.server.http(own.postmaster) as client:
            client.put(f"/webdav/{token()}.txt", content="x").raise_for_status()
            client.get("/").raise_for_status()

    def clone() -> None:
        with tempfile.TemporaryDirectory() as folder:
            there = git.Git(own.server, own.postmaster)
            there.run("clone", "--quiet", there.url(repository.name), f"{folder}/clone")

    for act, most in ((mail, 5.0), (web, 2.0), (clone, 5.0)):
        seconds, fault = _timed(act, most, f"{act.__name__} without a line")
        yield Outcome(SECTION, f"local {act.__name__}", {"s": seconds}, fault)


def _names(own: OwnPod, scale: Scale) -> Iterator[Outcome]:
    count = scale.count(NAMES)
    known = [_ask(own, "google.com") for _ in range(count)]
    worst = max(seconds for _, seconds in known)
    fault = "" if worst < CACHED and {said for said, _ in known} == {"NOERROR"} else f"expected answers in {CACHED} s"
    yield Outcome(SECTION, "a cached name", {"asked": count, "worst s": worst}, fault)
    new = [_ask(own, f"{token()}.google.com") for _ in range(scale.count(5))]
    worst = max(seconds for _, seconds in new)
    fault = "" if worst < FAILED and {said for said, _ in new} == {"SERVFAIL"} else f"expected SERVFAIL in {FAILED} s"
    yield Outcome(SECTION, "a new name", {"asked": len(new), "worst s": worst}, fault)


def run(own: OwnPod, scale: Scale) -> Iterator[Outcome]:
    """Take the line away, use everything, and give it back."""
    containers = own.manifests.containers.values()
    before = {one.name: one.restarts for one in status.containers(containers)}
    with elsewhere(own) as address, ExitStack() as line, tempfile.TemporaryDirectory() as folder:
        domain = f"{token()}.acme.example.com"
        own.name_addresses({domain: address})
        repository = git.make(own, Path(folder) / "work")
        _ask(own, "google.com")
        for upstream in own.upstreams:
            line.enter_context(upstream.stopped())
        yield from _names(own, scale)
        yield from _local(own, repository)
        with own.server.submission(own.postmaster) as client:
            client.send_message(letter(own.postmaster.address, f"somebody@{domain}", token()))

        def deferred() -> None:
            waits = [line for line in own.exec("mail", "postqueue", "-j").stdout.splitlines() if domain in line]
            if not waits or '"queue_name": "deferred"' not in waits[0]:
                raise NotYet(f"not deferred: {waits}")

        wait_until(deferred, 60, "mail for outside to be deferred")
        probed = [one for _ in range(PROBES) for one in status.containers(containers)]
        waiting = len(queued(own, domain))
        line.close()
        begin, since = time.monotonic(), time.time()
        try:
            wait_until_left(own, domain, RETRY, "mail for outside to leave by itself")
            own.wait_for_log("mail", f"to=<somebody@{domain}>", since, timeout=5)
            fault = "" if waiting == 1 else f"{waiting} messages waited: expected 1"
        except Exception as error:  # noqa: BLE001  # the row says it
            fault = str(error)
        yield Outcome(SECTION, "mail for outside", {"waited": waiting, "left after s": time.monotonic() - begin}, fault)
    after = {one.name: one.restarts for one in status.containers(containers)}
    sick = sorted({one.name for one in probed if not one.healthy})
    fault = f"failed health checks: {', '.join(sick)}" if sick else "" if after == before else f"{before} → {after}"
    yield Outcome(SECTION, "containers", {"probes": len(probed), "restarts": sum(after.values())}, fault)
