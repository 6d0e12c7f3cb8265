"""Well-behaved clients, which the pod must serve during a fault."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tests.testbed.pod import PodUnderTest

BETWEEN = 0.2
"""Seconds between two exchanges."""


class Others:
    """A context in which one client of each port repeats its exchange."""

    def __init__(self, test_pod: PodUnderTest) -> None:
        """Start with empty records."""
        self._test_pod = test_pod
        self.worst = dict.fromkeys(test_pod.pod.ports, 0.0)
        """Seconds of the slowest exchange, by port."""
        self.error: dict[str, str] = {}
        """The last error, by port, if there was one."""
        self._over = threading.Event()

    def _try(self, port: str) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            try:
                self._test_pod.exchange(port)
            except Exception as error:  # noqa: BLE001  # each client has errors of its own
                self.error[port] = f"{type(error).__name__}: {error}"
            self.worst[port] = max(self.worst[port], time.monotonic() - begin)
            self._over.wait(BETWEEN)

    def __enter__(self) -> Self:
        """Start the clients."""
        self._pool = ThreadPoolExecutor(len(self.worst))
        self._tried = [self._pool.submit(self._try, port) for port in self.worst]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clients, and wait for their last exchange."""
        self._over.set()
        self._pool.shutdown()
