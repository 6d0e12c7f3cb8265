"""The one module that runs other programs: argv lists, never a shell.

Each command is logged at level DEBUG: argv, exit code, seconds and, if it failed, standard error. Standard input and
the environment are not logged: secrets are passed there.
"""

import contextlib
import functools
import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podserve.errors import Problem, printable

_logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
GRACE = 5
"""Seconds that a command may take to end after its task is interrupted, and again after SIGTERM."""
SHOWN = 30
"""Lines of output that an error shows: some commands print one line for each of a hundred thousand files."""


@dataclass(frozen=True)
class Result:
    """A command that has ended: its argv, its exit code and its output."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the exit code was 0."""
        return self.code == 0

    def __str__(self) -> str:
        """Return the command, the last SHOWN lines of its output, and its exit code, as a terminal shows them."""
        said = f"{self.stdout}{self.stderr}".splitlines(keepends=True)
        return f"$ {' '.join(self.argv)}\n{''.join(said[-SHOWN:])}[exit {self.code}]"


@functools.cache
def environment() -> Mapping[str, str]:
    """Return the environment for Podman: this process's, with the containers.conf that docker/engine.sh found.

    Raises Problem if Podman cannot run a container on this host.
    """
    found = run([str(ROOT / "docker/engine.sh")], env=os.environ, check=False)
    if not found.ok:
        raise Problem(found.stderr.strip())
    if found.stderr:
        _logger.warning("%s", printable(found.stderr.strip()))
    conf = found.stdout.strip()
    return {**os.environ, **({"CONTAINERS_CONF": conf} if conf else {})}


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    check: bool = True,
    timeout: float = 600,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run a command to its end and return its output.

    Its standard input is `stdin`. Raises Problem if the program is missing, if it takes longer than `timeout` seconds
    or, with `check`, if its exit code is not 0.
    """
    pipe, begun = subprocess.PIPE, time.monotonic()
    try:
        # In a session of its own the command does not get Ctrl-C: the task lets it finish its step.
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, errors="replace", start_new_session=True
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                raise
            except BaseException:
                # Podman, killed while it plays a pod, can leave firewall rules that forward ports to nothing.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                _end(process)
                raise
    except FileNotFoundError as error:
        raise Problem(f"{argv[0]} is not installed: run ./bootstrap {argv[0]} --version, which installs it") from error
    except subprocess.TimeoutExpired as error:
        _logger.debug("%s: no answer within %.0f s", shlex.join(argv), timeout)
        hint = ". To see what else uses Podman: ps -C podman -o pid,etime,args" if argv[0] == "podman" else ""
        raise Problem(f"no answer within {timeout:.0f} s from: {' '.join(argv)}{hint}") from error
    result = Result(tuple(argv), process.returncode, stdout, stderr)
    _log(argv, result.code, begun, stderr)
    if check and not result.ok:
        raise Problem(f"this command failed:\n{result}")
    return result


def _log(argv: Sequence[str], code: int, begun: float, stderr: str = "") -> None:
    said = "".join(f"\n  {line}" for line in stderr.splitlines()[-SHOWN:]) if code else ""
    seconds = time.monotonic() - begun
    _logger.debug("%s: exit code %d after %.2f s%s", shlex.join(argv), code, seconds, printable(said), stacklevel=2)


def _end(process: subprocess.Popen[str]) -> None:
    """Send SIGTERM, on which Podman finishes its step, and SIGKILL after GRACE seconds."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def podman(*argv: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Result:
    """Run Podman with the settings that work on this host; otherwise like `run`."""
    return run(["podman", *argv], stdin=stdin, check=check, timeout=timeout, env=environment())


def lines(argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str = "") -> Generator[str, None, None]:
    """Run a command and yield each line of its output and its standard error, as it comes.

    With `stdin`, its standard input is this text, and stays open until the end. Raises Problem after the last line if
    the exit code is not 0. Closing the generator earlier ends the command, and all processes that it has started.
    """
    # In a session of its own one signal ends all processes: those that a shell starts in the background ignore Ctrl-C.
    pipe, begun = subprocess.PIPE, time.monotonic()
    with subprocess.Popen(
        argv,
        stdin=pipe if stdin else subprocess.DEVNULL,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    ) as process:
        try:
            if process.stdin:
                process.stdin.write(stdin)
                process.stdin.flush()
            if process.stdout:
                yield from (line.rstrip("\n") for line in process.stdout)
        except BaseException:  # the generator is closed, too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
    _log(argv, process.returncode, begun)
    if process.returncode:
        raise Problem(f"{' '.join(argv)} ended with exit code {process.returncode}; its last lines say why")


def become(*argv: str) -> None:
    """Replace this process by another program: its output, signals and exit code become the task's own."""
    _logger.debug("exec %s", shlex.join(argv))
    os.execvpe(argv[0], argv, environment())
