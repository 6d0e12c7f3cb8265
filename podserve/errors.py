"""What a person did that cannot be done, said without a traceback."""

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType

from invoke import Config
from invoke.exceptions import AmbiguousEnvVar, Exit, UncastableEnvVar, UnknownFileType
from invoke.util import yaml  # Invoke's own copy of PyYAML, whose errors these are


def printable(text: str) -> str:
    """Return a text with what is no character to be read as an escape: no terminal obeys it, and any can show it.

    A volume, an archive or another program may have written it. Ends of lines and tabulators stay.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


class Problem(Exit):
    """Ends a task with exit code 1 and this message: what failed, what was expected, what to type next."""

    def __init__(self, message: str) -> None:
        """Keep the message for Invoke, which prints it to standard error."""
        self.text = printable(message)
        super().__init__(f"podserve: {self.text}", code=1)


class Interrupted(Exit):
    """Ends a task that was told to end: by Ctrl-C, or by SIGTERM. No Problem: who heeds those goes on, this ends."""

    def __init__(self) -> None:
        """Say that it may be begun again."""
        super().__init__("podserve: interrupted. Run the same command again: it goes on from what is there", code=1)


INTERRUPTIONS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""Ctrl-C, `kill`, and a terminal that is closed."""


def explain_interruptions() -> None:
    """Raise Interrupted for INTERRUPTIONS from now on: Invoke itself would end without a word, and undo nothing.

    For one that this process was begun with, held, at once.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell's background job is given it
            signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let nobody interrupt what goes on, nor the programs that it runs."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_configuration_file(config: Config) -> None:
    """Raise Problem where the file given with -f does not exist: Invoke goes on without, and that is another pod."""
    given = config._runtime_path  # noqa: SLF001  # nothing public tells
    if given and not Path(given).expanduser().exists():
        raise Problem(f"{given} does not exist: expected a file of settings, such as invoke.yaml")


def _explanation(error: BaseException, traceback: TracebackType | None) -> str | None:
    """Return what to print for what a person did, or None for any other error."""
    match error:
        case yaml.MarkedYAMLError():
            mark = error.problem_mark
            where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
            return f"{where} is no valid YAML: {error.problem}. Mend that line; invoke.yaml of the project shows how"
        case UnknownFileType() | AmbiguousEnvVar() | UncastableEnvVar():
            return str(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"{error}. Make room (df -h, podman system prune), then run the same command again"
        case EOFError():
            return "there was no answer: nothing was changed. Run the same command again to be asked again"
        case _ if any(frame.f_globals.get("__name__") == "invoke.config" for frame, _ in walk_tb(traceback)):
            first = str(error).partition("\n")[0]
            return f"the configuration (invoke.yaml, -f FILE) is no list of settings like domain: example.org: {first}"
        case _:
            return None


def explain_errors() -> None:
    """Print a full disk, Ctrl-D, and what Invoke meets in its configuration, as one line; leave other errors."""

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        explanation = _explanation(error, traceback)
        if explanation is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"podserve: {explanation}", file=sys.stderr)

    sys.excepthook = hook
