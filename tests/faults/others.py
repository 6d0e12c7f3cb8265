"""Clients with manners, who are served meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tests.testbed.pod import PodUnderTest

BETWEEN = 0.2
"""Seconds between two exchanges."""


class Others:
    """One client of each port, over and over while this is entered."""

    def __init__(self, test_pod: PodUnderTest) -> None:
        """Begin with nothing seen."""
        self._test_pod = test_pod
        self.worst = dict.fromkeys(test_pod.pod.ports, 0.0)
        """Seconds that the slowest exchange took, by port."""
        self.error: dict[str, str] = {}
        """What went wrong, by port, where something did."""
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
        """Let them begin."""
        self._pool = ThreadPoolExecutor(len(self.worst))
        self._tried = [self._pool.submit(self._try, port) for port in self.worst]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End when each has ended its exchange."""
        self._over.set()
        self._pool.shutdown()
