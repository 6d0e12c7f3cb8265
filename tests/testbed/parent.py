"""The process that started this one."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when the thread that started it ends. Raises OSError."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl")
