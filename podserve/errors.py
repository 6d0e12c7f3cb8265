"""What a person did that cannot be done, said without a traceback."""

import sys
from types import TracebackType

import yaml
from invoke.exceptions import AmbiguousEnvVar, Exit, UncastableEnvVar, UnknownFileType


class Problem(Exit):  # type: ignore[misc]  # invoke is untyped here
    """Ends a task with exit code 1 and this message: what failed, what was expected, what to type next."""

    def __init__(self, message: str) -> None:
        """Keep the message for Invoke, which prints it to standard error."""
        super().__init__(f"podserve: {message}", code=1)


def _explanation(error: BaseException) -> str | None:
    """Return what to print for an error of Invoke's configuration, or None for any other."""
    match error:
        case yaml.MarkedYAMLError():
            mark = error.problem_mark
            where = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
            return f"{where} is no valid YAML: {error.problem}. Mend that line, or compare with the invoke.yaml of the project"
        case yaml.YAMLError():
            return f"a configuration file is no valid YAML: {error}"
        case UnknownFileType() | AmbiguousEnvVar() | UncastableEnvVar():
            return str(error)
        case FileNotFoundError() if error.filename:
            return f"{error.filename} does not exist"
        case _:
            return None


def explain_configuration_errors() -> None:
    """Print errors that Invoke meets while it reads its configuration as one line; leave all others as they are."""

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        explanation = _explanation(error)
        if explanation is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"podserve: {explanation}", file=sys.stderr)

    sys.excepthook = hook
