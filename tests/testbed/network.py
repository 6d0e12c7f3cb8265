"""Network namespaces."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podserve.commands import run

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>; os.setns came with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


def enter(network: Path) -> None:
    """Move this thread, and the processes that it starts, into a network namespace. Raises OSError."""
    with network.open() as namespace:
        if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {network}")


def leave_the_network() -> None:
    """Move this process into a new network namespace that has only loopback. Raises OSError."""
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    run(["ip", "link", "set", "lo", "up"])


@contextmanager
def own_network() -> Iterator[None]:
    """Run the body in a new network namespace that has only loopback, where every port is free."""
    with _network_of_before():
        leave_the_network()
        yield


@contextmanager
def inside(network: Path) -> Iterator[None]:
    """Run the body in a network namespace. A socket that the body makes stays there."""
    with _network_of_before():
        enter(network)
        yield


@contextmanager
def _network_of_before() -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as before:
        try:
            yield
        finally:
            enter(Path(f"/proc/self/fd/{before.fileno()}"))
