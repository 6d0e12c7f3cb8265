"""The one module that runs other programs: argv lists, never a shell."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podserve.errors import Problem

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
GRACE = 5
"""Seconds that a command has to end when its task is interrupted, and again when it is told to end."""
SHOWN = 30
"""Lines of what a command printed that an error shows: some print one for each of a hundred thousand files."""


@dataclass(frozen=True)
class Result:
    """A command that ended: its argv, its exit code and what it printed."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the exit code was 0."""
        return self.code == 0

    def __str__(self) -> str:
        """Return the command, its exit code and what it printed, the last SHOWN lines, as one would have seen it."""
        said = f"{self.stdout}{self.stderr}".splitlines(keepends=True)
        return f"$ {' '.join(self.argv)}\n{''.join(said[-SHOWN:])}[exit {self.code}]"


@functools.cache
def environment() -> Mapping[str, str]:
    """Return the environment for Podman: this process's, with the containers.conf that docker/engine.sh found.

    Raises Problem where Podman cannot run a container.
    """
    found = run([str(ROOT / "docker/engine.sh")], env=os.environ, check=False)
    if not found.ok:
        raise Problem(found.stderr.strip())
    if found.stderr:
        print(found.stderr.strip(), file=sys.stderr)  # standard output may be a backup's
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
    """Run a command to its end and return what it printed.

    Its standard input is `stdin`. Raises Problem when it is missing, takes longer than `timeout` seconds or, with
    `check`, ends with another code than 0.
    """
    pipe = subprocess.PIPE
    try:
        # A session of its own, so that Ctrl-C is for the task, which lets the command end what it is at.
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, errors="replace", start_new_session=True
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                raise
            except BaseException:
                # Podman that is told to end while it plays a pod can leave rules behind that lead the ports to nowhere.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                _end(process)
                raise
    except FileNotFoundError as error:
        raise Problem(f"{argv[0]} is not installed: run ./bootstrap {argv[0]} --version, which installs it") from error
    except subprocess.TimeoutExpired as error:
        hint = ". What else uses Podman? ps -C podman -o pid,etime,args" if argv[0] == "podman" else ""
        raise Problem(f"no answer within {timeout:.0f} s from: {' '.join(argv)}{hint}") from error
    result = Result(tuple(argv), process.returncode, stdout, stderr)
    if check and not result.ok:
        raise Problem(f"this command failed:\n{result}")
    return result


def _end(process: subprocess.Popen[str]) -> None:
    """Let a process end what it is at (Podman does, when it is told to end), but not for longer than GRACE seconds."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def podman(*argv: str, stdin: str = "", check: bool = True, timeout: float = 120) -> Result:
    """Run Podman with the settings that work on this host; otherwise like `run`."""
    return run(["podman", *argv], stdin=stdin, check=check, timeout=timeout, env=environment())


def lines(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Generator[str, None, None]:
    """Run a command and yield each line it prints, standard error included, as it comes.

    Raises Problem after the last line when it ended with another code than 0. Where lines are left, and the generator
    is closed, the command is ended with all that it has started.
    """
    # A session of its own, so that one signal ends all of it: what a shell runs in the background passes over Ctrl-C.
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        argv,
        stdin=null,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    ) as process:
        try:
            if process.stdout:
                yield from (line.rstrip("\n") for line in process.stdout)
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
    if process.returncode:
        raise Problem(f"{' '.join(argv)} ended with exit code {process.returncode}; its last lines say why")


def become(*argv: str) -> None:
    """Replace this process by another program, so that its output, signals and exit code are the task's own."""
    os.execvpe(argv[0], argv, environment())
