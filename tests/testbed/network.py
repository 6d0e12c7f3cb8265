"""Network namespaces."""

import ctypes
from pathlib import Path

from podserve.commands import run

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>; os.setns came with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


def enter(network: Path) -> None:
    """Move this thread, and what it starts, into a network namespace."""
    with network.open() as namespace:
        if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {network}")


def leave_the_network() -> None:
    """Move this process into a network namespace of its own, in which there is loopback alone."""
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    run(["ip", "link", "set", "lo", "up"])
