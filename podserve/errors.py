"""Errors that a person can put right, and interruptions: each ends a task with its text, without a traceback."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def printable(text: str) -> str:
    """Return a text with unprintable characters as escapes, so that no terminal obeys them and any can show them.

    A volume, an archive or another program may have written the text. Ends of lines and tabulators stay.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


class Problem(Exception):  # noqa: N818  # a task meets it, and a person solves it
    """Something that a person can put right. `text` says what failed, what was expected, what to type next."""

    def __init__(self, text: str) -> None:
        """Keep the text, printable."""
        self.text = printable(text)
        super().__init__(self.text)


class Interrupted(Exception):  # noqa: N818  # as KeyboardInterrupt
    """A signal told the task to end. Not a Problem: handlers that recover from one must not swallow this."""

    def __init__(self) -> None:
        """Say that the task can be run again."""
        super().__init__("interrupted. Run the same command again: it goes on from what is there")


INTERRUPTIONS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""The signals of Ctrl-C, of `kill`, and of a terminal that is closed."""


def explain_interruptions() -> None:
    """Raise Interrupted for INTERRUPTIONS from now on: by default Python would end without a word, and undo nothing.

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
