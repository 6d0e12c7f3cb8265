"""The interface to Invoke: its configuration file, and the text that a user reads when a task fails.

No other module of podserve imports Invoke. Messages and logged commands need nothing here: Python prints a warning of
the `logging` module to standard error as it is, and `invoke --debug` prints every record.
"""

import errno
import sys
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from invoke import Config
from invoke.exceptions import AmbiguousEnvVar, UncastableEnvVar, UnknownFileType
from invoke.util import yaml  # Invoke's own copy of PyYAML, which raises these errors

from podserve.errors import Interrupted, Problem


def require_configuration_file(config: Config) -> None:
    """Raise Problem if the file given with -f does not exist: Invoke would silently use other settings."""
    given = config._runtime_path  # noqa: SLF001  # Invoke has no public name for it
    if given and not Path(given).expanduser().exists():
        raise Problem(f"{given} does not exist: expected a file of settings, such as invoke.yaml")


def _explanation(error: BaseException, traceback: TracebackType | None) -> str | None:
    """Return what to print for an error that a user can fix, or None for any other error."""
    match error:
        case Problem() | Interrupted() | UnknownFileType() | AmbiguousEnvVar() | UncastableEnvVar():
            return str(error)
        case yaml.MarkedYAMLError():
            mark = error.problem_mark
            where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
            return f"{where} is not valid YAML: {error.problem}. Correct that line; see invoke.yaml of the project"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"{error}. Make room (df -h, podman system prune), then run the same command again"
        case EOFError():
            return "there was no answer: nothing was changed. Run the same command again, and answer the question"
        case _ if any(frame.f_globals.get("__name__") == "invoke.config" for frame, _ in walk_tb(traceback)):
            first = str(error).partition("\n")[0]
            return f"the configuration (invoke.yaml, -f FILE) is not a list of settings (domain: example.org): {first}"
        case _:
            return None


def explain_errors() -> None:
    """Let Python print errors that a user can fix as a text, without a traceback, and exit with 1.

    Such errors come from tasks, and from Invoke before the first task. All other errors keep their traceback.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        explanation = _explanation(error, traceback)
        if explanation is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"podserve: {explanation}", file=sys.stderr)

    sys.excepthook = hook
