"""Measure the outage of a service after a kill of a process or of its container, and watch the other ports."""

import base64
import os
import queue
import random
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import dns.message
import dns.rcode
import httpx

from podserve import endpoints, exchanges
from podserve.certificates.clients import unverified_context
from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.concurrency import meanwhile
from tests.testbed.outcome import Outcome
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Account, letter, token
from tests.testbed.victims import WHOLE, Container

T = TypeVar("T")
MEDIAN, WORST, CONTAINER = 1.0, 2.0, 3.0
"""Limits in seconds: a supervised daemon in the median and at worst; a container, or its process 1, at worst."""
STUCK = 30.0
"""Seconds after which a service counts as stuck."""
PACE, HANGS = 0.03, 0.4
"""Seconds between two attempts, and seconds after which the next attempt starts although one hangs."""
REST = 0.2
"""Seconds between two rounds over the other ports."""
FAILURES = (*exchanges.FAILURES, httpx.HTTPError, Problem)
MAIL = {"imap", "imaps", "pop3s", "sieve", "smtp", "submission", "submissions"}
POSTFIX, DOVECOT = {"smtp", "submission", "submissions"}, MAIL - {"smtp"}
WEB, DNS = {"http", "https"}, {"dns-udp", "dns-tcp"}
"""The ports that may fail during the outage of a daemon. All others must keep working."""


@dataclass(frozen=True)
class Kind:
    """A kind of process: its service and programs, the ports that may fail, and an exchange that shows recovery."""

    service: str
    programs: tuple[str, ...]
    ports: Collection[str]
    exchange: Callable[["Scene"], None]

    @property
    def name(self) -> str:
        """The name in the table."""
        return f"{self.service}: {', then '.join(self.programs)}"


@dataclass(frozen=True)
class Scene:
    """The pod, an account, a repository, and the containers."""

    test_pod: PodUnderTest
    account: Account
    repository: str
    containers: dict[str, Container]

    @classmethod
    def of(cls, test_pod: PodUnderTest) -> "Scene":
        """Create the account and the repository on a pod."""
        repository = token()
        test_pod.add_repository(repository)
        containers = {service: Container.of(test_pod, service) for service in test_pod.pod.containers}
        return cls(test_pod, test_pod.new_account(), repository, containers)

    def page(self) -> None:
        """Get a page of the site."""
        self._get("/", "</html>")

    def gitweb(self) -> None:
        """Get GitWeb's list."""
        self._get("/git/", self.repository)

    def refs(self) -> None:
        """Send the first request of `git fetch`."""
        self._get(f"/git/{self.repository}.git/info/refs?service=git-upload-pack", "# service=git-upload-pack")

    def _get(self, path: str, wanted: str) -> None:
        with self.test_pod.server.http(self.account) as client:
            text = client.get(path).text
        if wanted not in text:
            raise NotYet(text[:200])

    def letter(self) -> None:
        """Send a message with a login on port 587, and find it over IMAP."""
        name, address = token(), self.account.address
        with self.test_pod.server.submission(self.account) as client:
            client.send_message(letter(address, address, name))
        with self.test_pod.server.imap(self.account) as mailbox:
            mailbox.select_folder("INBOX")

            def check() -> None:
                mailbox.noop()
                found = mailbox.search(["SUBJECT", name])
                if not found:
                    raise NotYet("the letter is not there")
                mailbox.delete_messages(found)
                mailbox.expunge()

            wait_until(check, WORST, "the letter to arrive")

    def resolve(self) -> None:
        """Resolve a name."""
        query = dns.message.make_query(exchanges.QUESTION, "A")
        answer = exchanges.udp(query, self.test_pod.server.host, port=53, timeout=1)
        if answer.rcode() != dns.rcode.NOERROR:
            raise NotYet(dns.rcode.to_text(answer.rcode()))

    def _delivery(self) -> socket.socket:
        """Connect to Dovecot's lmtp, which exists only during a delivery."""
        running = self.containers["mail"].processes().items()
        firsts = [number for number, name in running if name.endswith("process 1")]
        delivery = socket.socket(socket.AF_UNIX)
        delivery.connect(f"/proc/{firsts[0] if firsts else 0}/root/run/dovecot/lmtp")
        return delivery

    def _open(self, service: str, sessions: ExitStack) -> None:
        """Open sessions of a service, which keep its on-demand processes alive."""
        server, account, domain = self.test_pod.server, self.account, self.test_pod.server.domain
        if service == "mail":
            reader, idle = (sessions.enter_context(server.imap(account)) for _ in range(2))
            for client in (reader, idle):
                sessions.callback(client.shutdown)
                client.select_folder("INBOX")
            idle.idle()
            sessions.enter_context(server.pop3(account))
            sessions.enter_context(server.smtp())
            sender = sessions.enter_context(server.submission(account))
            sender.mail(account.address)
            sender.rcpt(account.address)
            sessions.enter_context(self._delivery())
        if service == "apache":
            connection = sessions.enter_context(socket.create_connection((server.host, 443), timeout=PATIENCE))
            browser = sessions.enter_context(server.context().wrap_socket(connection, server_hostname=domain))
            login = base64.b64encode(f"{account.address}:{account.password}".encode()).decode()
            browser.sendall(
                f"POST /git/{self.repository}.git/git-upload-pack HTTP/1.1\r\nHost: {domain}\r\n"
                f"Authorization: Basic {login}\r\nContent-Type: application/x-git-upload-pack-request\r\n"
                "Content-Length: 100\r\n\r\n0032".encode()
            )

    @contextmanager
    def clients(self, service: str) -> Iterator[None]:
        """Hold sessions of a service open during the body."""

        def opened() -> ExitStack:
            """Open all sessions; if one fails, open all again: it may have met an old process that is about to end."""
            try:
                with ExitStack() as sessions:
                    self._open(service, sessions)
                    return sessions.pop_all()
            except FAILURES as error:
                raise NotYet(str(error)) from error

        sessions = wait_until(opened, CONTAINER, f"sessions with {service}")
        try:
            yield
        finally:
            with suppress(*FAILURES):  # a killed server ends no session cleanly
                sessions.close()


KINDS = (
    Kind("apache", ("apache2",), WEB, Scene.page),
    Kind("apache", ("perl-fcgi",), WEB, Scene.gitweb),
    Kind("apache", ("perl-fcgi-pm",), WEB, Scene.gitweb),
    Kind("apache", ("git-http-backend",), WEB, Scene.refs),
    Kind("apache", ("s6-supervise httpd",), WEB, Scene.page),
    Kind("apache", ("s6-supervise gitweb",), WEB, Scene.gitweb),
    Kind("mail", ("master",), POSTFIX, Scene.letter),
    *(Kind("mail", (name,), POSTFIX, Scene.letter) for name in ("qmgr", "smtpd", "cleanup", "lmtp", "tlsmgr")),
    Kind("mail", ("s6-supervise postfix", "master"), POSTFIX, Scene.letter),
    Kind("mail", ("dovecot",), DOVECOT, Scene.letter),
    *(
        Kind("mail", (f"dovecot/{name}",), DOVECOT, Scene.letter)
        for name in ("auth", "imap-login", "imap", "imap-hibernate", "pop3-login", "lmtp", "anvil", "config", "log")
    ),
    Kind("mail", ("dovecot/stats",), DOVECOT, Scene.letter),
    Kind("mail", ("penalties",), DOVECOT, Scene.letter),
    Kind("mail", ("s6-supervise dovecot", "dovecot"), DOVECOT, Scene.letter),
)


FIRSTS = (
    ("apache", "s6-svscan, process 1", Scene.gitweb),
    ("mail", "s6-svscan, process 1", Scene.letter),
    ("dns", "named, process 1", Scene.resolve),
)


def seconds_until(works: Callable[[], None], enough: float = STUCK) -> float:
    """Repeat an exchange; return the seconds until it works, or `enough` if it does not work by then.

    After HANGS seconds the next attempt starts, even if one hangs: it may reach another process.
    """
    begin, ends = time.monotonic(), queue.SimpleQueue[float | None]()

    def attempt() -> None:
        try:
            works()
        except FAILURES:
            ends.put(None)
        else:
            ends.put(time.monotonic() - begin)

    while time.monotonic() - begin < enough:
        threading.Thread(target=attempt, daemon=True).start()
        with suppress(queue.Empty):
            if seconds := ends.get(timeout=HANGS):
                return seconds
            threading.Event().wait(PACE)
    return enough


@dataclass
class Others:
    """The answers of the other ports: the number of attempts, and the failures."""

    test_pod: PodUnderTest
    ports: Collection[str]
    tries: int = 0
    failures: list[str] = field(default_factory=list)

    def watched(self) -> AbstractContextManager[None]:
        """Return a context that tries the ports one after another during its body."""
        context = unverified_context(self.test_pod.server.domain)

        def watch(over: threading.Event) -> None:
            while not over.is_set():
                for port in self.ports:
                    answer = endpoints.attempt(self.test_pod.pod, context, port)
                    self.tries += 1
                    if not answer.ok:
                        self.failures.append(f"{port}: {answer.error}")
                over.wait(REST)

        return meanwhile(watch)


def kill(container: Container, program: str, chance: random.Random, patience: float = STUCK) -> None:
    """Kill one process of a program, or the whole container, within `patience` seconds, and wait until it is dead."""

    def struck() -> set[int]:
        running = container.processes()
        found = [number for number, name in sorted(running.items()) if program in {name, WHOLE}]
        if not found:
            raise NotYet(f"{container.name} runs {', '.join(sorted(set(running.values())))}")
        if program == WHOLE:
            container.kill()
            return set(found)
        victim = chance.choice(found)
        os.kill(victim, signal.SIGKILL)  # if it has just exited, the next attempt finds another
        return {victim}

    victims = wait_until(struck, patience, f"{program} to be there")

    def dead() -> None:
        if victims & set(container.processes()):
            raise NotYet("alive")

    wait_until(dead, STUCK, f"{program} of {container.name} to be dead")


def outcome(name: str, times: list[float], others: Others, median: float, worst: float) -> Outcome:
    """Return a row of the table, with the limits that were missed and the failures."""
    stuck = sum(seconds >= STUCK for seconds in times)
    figures = {"kills": len(times), "median s": statistics.median(times), "worst s": max(times), "stuck": stuck,
               "tries of others": others.tries, "failed": len(others.failures)}  # fmt: skip
    faults = [f"at worst {worst:g} s"] if max(times) > worst else []
    faults += [f"in the median {median:g} s"] if statistics.median(times) > median else []
    fault = f"expected {' and '.join(faults)}" if faults else ""
    return Outcome("recovery", name, figures, "; ".join(filter(None, [fault, *others.failures[:3]])))


def kill_kind(scene: Scene, kind: Kind, count: int, chance: random.Random) -> Outcome:
    """Kill processes of a kind during open sessions; measure each time until a complete exchange works again."""
    others = Others(scene.test_pod, [port for port in scene.test_pod.pod.ports if port not in kind.ports])
    times = []

    def struck() -> ExitStack:
        """Kill them. A service that still restarts after an earlier kill ends its sessions: try again with new ones."""
        try:
            with ExitStack() as stack:
                stack.enter_context(scene.clients(kind.service))
                seconds_until(partial(kind.exchange, scene))  # it starts the processes that run on demand
                stack.enter_context(others.watched())
                for program in kind.programs:
                    kill(scene.containers[kind.service], program, chance, WORST)
                return stack.pop_all()
        except Problem as error:
            raise NotYet(str(error)) from error

    for _ in range(count):
        with wait_until(struck, STUCK, f"{kind.name} to be killed"):
            times.append(seconds_until(partial(kind.exchange, scene)))
    return outcome(kind.name, times, others, MEDIAN, WORST)


def kill_in_a_row(scene: Scene, service: str, program: str, exchange: Callable[[Scene], None], count: int) -> Outcome:
    """Kill a container `count` times, alternately as a whole and by its process 1, each time as soon as it is back."""
    ports = scene.test_pod.pod.ports
    others = Others(scene.test_pod, [name for name, port in ports.items() if port.container != service])
    times = []
    with others.watched():
        for number in range(count):
            with scene.clients(service):
                victim = WHOLE if number % 2 else program
                kill(scene.containers[service], victim, random.Random(number))  # noqa: S311  # only one candidate
                times.append(seconds_until(partial(exchange, scene)))
    return outcome(f"{service}: container, {program}", times, others, CONTAINER, CONTAINER)
