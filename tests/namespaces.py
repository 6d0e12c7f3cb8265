"""Network namespaces of the tests' own, in which nothing of the host's network exists."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000  # linux/sched.h. Python has os.unshare and os.setns from 3.12 on; Debian 12 has 3.11.
SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP = 0x1  # linux/if.h

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_network() -> Iterator[None]:
    """Run the block, its threads and the programs it starts in a new network namespace.

    Only loopback exists there: every port is free, and no packet leaves. Raises OSError where the caller may not make
    a network namespace: that needs root, or root of a user namespace.
    """
    with Path("/proc/thread-self/ns/net").open() as before:
        _check(_libc.unshare(CLONE_NEWNET))
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(
                    any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP)
                )  # struct ifreq: netdevice(7)
            yield
        finally:
            _check(_libc.setns(before.fileno(), CLONE_NEWNET))


def _check(returned: int) -> None:
    if returned:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
