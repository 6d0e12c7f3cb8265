"""Well-behaved clients, which the pod must serve during a fault."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import dns.message
import dns.query

from podserve import endpoints
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Account, Server

BETWEEN = 0.2
"""Seconds between two exchanges."""


def _get(server: Server, account: Account, path: str, port: int = 443) -> None:
    with server.http(account if port == 443 else None, port=port) as client:
        client.get(path).raise_for_status() if port == 443 else client.get(path)


def _greet(server: Server) -> None:
    with server.smtp() as client:
        client.noop()


def _submit(server: Server, account: Account) -> None:
    with server.submission(account) as client:
        client.noop()


def _look(server: Server, account: Account, *, implicit_tls: bool) -> None:
    with server.imap(account, implicit_tls=implicit_tls) as client:
        client.select_folder("INBOX", readonly=True)


def _pop(server: Server, account: Account) -> None:
    with server.pop3(account) as client:
        client.stat()


def _resolve(server: Server, ask: Callable[..., object]) -> None:
    ask(dns.message.make_query(endpoints.QUESTION, "A"), server.host, timeout=PATIENCE)


def exchanges(server: Server, account: Account) -> dict[str, Callable[[], None]]:
    """Return a complete exchange for each port name of kube/podserve.yaml, with a login where there is one."""
    return {
        "http": lambda: _get(server, account, "/", 80),
        "https": lambda: _get(server, account, "/webdav/"),
        "smtp": lambda: _greet(server),
        "submission": lambda: _submit(server, account),
        "imap": lambda: _look(server, account, implicit_tls=False),
        "imaps": lambda: _look(server, account, implicit_tls=True),
        "pop3s": lambda: _pop(server, account),
        "dns-udp": lambda: _resolve(server, dns.query.udp),
        "dns-tcp": lambda: _resolve(server, dns.query.tcp),
    }


class Others:
    """A context in which one client of each port repeats its exchange."""

    def __init__(self, test_pod: PodUnderTest) -> None:
        """Start with empty records."""
        self.exchanges = exchanges(test_pod.server, test_pod.postmaster)
        self.worst = dict.fromkeys(self.exchanges, 0.0)
        """Seconds of the slowest exchange, by port."""
        self.error: dict[str, str] = {}
        """The last error, by port, if there was one."""
        self._over = threading.Event()

    def _try(self, port: str) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            try:
                self.exchanges[port]()
            except Exception as error:  # noqa: BLE001  # each client has errors of its own
                self.error[port] = f"{type(error).__name__}: {error}"
            self.worst[port] = max(self.worst[port], time.monotonic() - begin)
            self._over.wait(BETWEEN)

    def __enter__(self) -> Self:
        """Start the clients."""
        self._pool = ThreadPoolExecutor(len(self.exchanges))
        self._tried = [self._pool.submit(self._try, port) for port in self.exchanges]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clients, and wait for their last exchange."""
        self._over.set()
        self._pool.shutdown()
