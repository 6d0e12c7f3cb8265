"""Many concurrent clients: each is served or cleanly refused, within a limit of memory."""

import imaplib
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

from podserve.waiting import NotYet, wait_until
from tests.testbed.memory import pss
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE

SECTION = "load"
CLIENTS = 200
PORTS = "https", "imaps", "smtp", "dns-udp", "dns-tcp"
PEAK = 700.0
"""MB (PSS of all containers) that the pod may use with CLIENTS clients (stated in docs/operation.md)."""
AFTER = 60.0
"""MB that the pod may keep in addition to its memory before the load."""
CALM = 30.0
"""Seconds within which unused processes must exit."""
REFUSALS = {"HTTP 429", "HTTP 503"}


def _refused(error: Exception) -> bool:
    """Return whether the server refused cleanly: by a code of its protocol, or by refusing the connection."""
    if isinstance(error, NotYet):
        return str(error) in REFUSALS
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code // 100 == 4
    return isinstance(error, ConnectionRefusedError) or (isinstance(error, imaplib.IMAP4.error) and "BYE" in str(error))


def _memory(test_pod: PodUnderTest) -> float:
    return sum(pss(test_pod, service) for service in test_pod.pod.containers)


class Peak:
    """A context that records the peak memory of the containers."""

    def __init__(self, test_pod: PodUnderTest) -> None:
        """Record the present memory."""
        self.test_pod, self.before, self._over = test_pod, _memory(test_pod), threading.Event()
        self.most = self.before

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            self.most = max(self.most, _memory(self.test_pod))

    def __enter__(self) -> Self:
        """Start the thread that measures memory."""
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._over.set()
        self._thread.join()

    def left(self) -> float:
        """Return the MB more than before. Wait up to CALM seconds until they are at most AFTER."""

        def check() -> float:
            more = _memory(self.test_pod) - self.before
            if more > AFTER:
                raise NotYet(f"{more:.0f} MB more than before")
            return more

        try:
            return wait_until(check, CALM, "memory to come back")
        except Exception:  # noqa: BLE001  # the figure shows it
            return _memory(self.test_pod) - self.before


def _at_once(exchange: Callable[[], None], many: int) -> tuple[Counter[str], str, float]:
    """Start `many` clients at once; return the counts of their results, one error, and the seconds of the slowest."""
    begin, errors = threading.Barrier(many), []

    def client(_: int) -> tuple[str, float]:
        begin.wait()
        began = time.monotonic()
        try:
            exchange()
        except Exception as error:  # noqa: BLE001  # each client has errors of its own
            if _refused(error):
                return "refused", time.monotonic() - began
            errors.append(f"{type(error).__name__}: {error}")
            return "failed", time.monotonic() - began
        return "served", time.monotonic() - began

    with ThreadPoolExecutor(many) as pool:
        ended = list(pool.map(client, range(many)))
    return Counter(what for what, _ in ended), next(iter(errors), ""), max(seconds for _, seconds in ended)


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Put the load on one port after another."""
    many = scale.count(CLIENTS)
    for port in PORTS:
        exchange = partial(test_pod.exchange, port)
        with Peak(test_pod) as peak:
            became, error, slowest = _at_once(exchange, many)
        left, fault = peak.left(), ""
        if became["failed"]:
            fault = f"{became['failed']} neither served nor refused within {PATIENCE:.0f} s: {error}"
        elif not became["served"]:
            fault = "nobody was served"
        elif peak.most > PEAK or left > AFTER:
            fault = f"expected at most {PEAK:.0f} MB, and {AFTER:.0f} more than before afterwards"
        yield Outcome(
            SECTION, f"{port}: {many} at once",
            {"served": became["served"], "refused": became["refused"], "failed": became["failed"],
             "slowest s": slowest, "before MB": peak.before, "peak MB": peak.most, "left MB": left}, fault,
        )  # fmt: skip
