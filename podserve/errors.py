"""Errors that a user can fix, and interruptions: each ends a task with its text, without a traceback."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def printable(text: str) -> str:
    """Return a text with unprintable characters as escapes, because they could control a terminal.

    A volume, an archive or another program may have written the text. Line ends and tabs stay.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


class Problem(Exception):  # noqa: N818  # not a fault of the program
    """An error that a user can fix. `text` says what failed, what was expected, what to type next."""

    def __init__(self, text: str) -> None:
        """Keep the text, printable."""
        self.text = printable(text)
        super().__init__(self.text)


class Interrupted(Exception):  # noqa: N818  # as KeyboardInterrupt
    """A signal interrupted the task. Not a Problem: handlers that recover from one must not swallow this."""

    def __init__(self) -> None:
        """Say that the task can be run again."""
        super().__init__("interrupted. Run the same command again to continue")


INTERRUPTIONS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""The signals of Ctrl-C, of `kill`, and of a terminal that is closed."""


def explain_interruptions() -> None:
    """Raise Interrupted for INTERRUPTIONS from now on: by default SIGTERM and SIGHUP end Python without cleaning up.

    A signal that was blocked when this process began is delivered now.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell ignores SIGINT for its background jobs
            signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore INTERRUPTIONS for a while, in this process and in the programs that it starts."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
