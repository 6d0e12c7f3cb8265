"""Shared by the unit tests: settings by name, and a fake Podman that records its calls."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from invoke import Program
from invoke.main import program

from podserve import commands
from podserve.commands import ROOT, Result, run
from podserve.configuration import load
from podserve.errors import INTERRUPTIONS
from podserve.manifests import KUBE, defaults
from podserve.pod import Pod
from podserve.settings import Settings

PODMAN = """\
#!/bin/sh
echo "$*" >> "$FAKE/calls"
case "$*" in
'volume ls --filter name='*) echo "podserve-accounts $FAKE"; echo "podserve-simple-web $FAKE"
    echo "podserve-simple-mail $FAKE" ;;
'pod inspect'*) exit 125 ;;
info*) cat "$FAKE/info" ;;
esac
"""


DEFAULTS = {f"INVOKE_{name.upper()}": value for name, value in defaults().items()}
"""The default settings as variables. They override the invoke.yaml of this checkout."""
Document = dict[str, Any]


def documents(file: str) -> list[Document]:
    """Return the documents of a file of kube/."""
    return list(yaml.safe_load_all((KUBE / file).read_text()))


def chosen(**given: object) -> Settings:
    """Return these settings, and the defaults of all others."""
    return load(given, defaults(), {})


def pod_with(state: Path | None = None, /, **given: object) -> Pod:
    """Return a pod with these settings, the defaults of all others, and `state` as its state folder."""
    return Pod.of(chosen(**given), state)


@dataclass(frozen=True)
class FakePodman:
    """A folder with a fake program `podman`. It reports three volumes, whose path is this folder."""

    folder: Path
    told: Document = field(
        default_factory=lambda: {
            "version": {"Version": "5.4.2"},
            "host": {
                "networkBackend": "netavark",
                "ociRuntime": {"name": "crun"},
                "cgroupVersion": "v2",
                "cgroupControllers": ["memory", "pids"],
            },
            "store": {"graphRoot": "/"},
        }
    )
    """The answer to `podman info`."""

    def __post_init__(self) -> None:
        """Write the program."""
        program = self.folder / "podman"
        program.write_text(PODMAN)
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The arguments of each call."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def environment(self, **test_pod: str) -> dict[str, str]:
        """Return an environment in which `podman` is this program, with the additional variables `test_pod`.

        It sets an empty CONTAINERS_CONF, so docker/engine.sh does not look for settings.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
        (self.folder / "info").write_text(json.dumps(self.told))
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        return {**inherited, "PATH": path, "FAKE": str(self.folder), "CONTAINERS_CONF": os.devnull, **test_pod}

    def run(self, *argv: str) -> Result:
        """Run a command in this environment, with the default settings."""
        return run(argv, check=False, timeout=30, env=self.environment(**DEFAULTS))

    def invoke(self, *argv: str) -> Result:
        """Run an Invoke task as a user does, in a process of its own."""
        return self.run(sys.executable, "-m", "invoke", "--search-root", str(ROOT), *argv)

    def invoke_on_terminal(self, *argv: str, answers: Sequence[tuple[str, str]]) -> Result:
        """Run an Invoke task on a terminal. The `stdout` of the result is everything that the terminal shows.

        `answers` are pairs, in order: the end of a question, and the answer to it.
        """
        words, shown = (sys.executable, "-m", "invoke", "--search-root", str(ROOT), *argv), b""
        master, terminal = os.openpty()
        waiting = list(answers)
        with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                              env=self.environment(**DEFAULTS)) as process:  # fmt: skip
            os.close(terminal)
            with os.fdopen(master, "r+b", buffering=0) as screen, contextlib.suppress(OSError):  # EIO at the end
                while select.select([screen], [], [], 30)[0]:
                    shown += screen.read(1024)
                    if waiting and shown.endswith(waiting[0][0].encode()):
                        screen.write(waiting.pop(0)[1].encode())
                process.kill()
        return Result(words, process.returncode, shown.decode().replace("\r\n", "\n"), "")

    def invoke_here(self, *argv: str, stdin: str = "", **test_pod: str) -> Result:
        """Run an Invoke task in this process, which is faster, with the additional variables `test_pod`."""
        return self.invoke_below("--search-root", str(ROOT), *argv, stdin=stdin, **test_pod)

    def invoke_below(self, *argv: str, stdin: str = "", **test_pod: str) -> Result:
        """Do the same, but search tasks.py from the current folder upwards, as `invoke` does."""
        words, code = ("invoke", *argv), 0
        out, err = io.StringIO(), io.StringIO()
        environment = self.environment(**{**DEFAULTS, **test_pod})
        commands.environment.cache_clear()
        handlers = {number: signal.getsignal(number) for number in INTERRUPTIONS}
        hook, sys.excepthook = sys.excepthook, sys.__excepthook__
        try:
            with (
                patch.dict(os.environ, environment, clear=True),
                patch.object(sys, "stdin", io.StringIO(stdin)),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                program.__class__ = Program  # As in a new process: tasks.py replaces it, and the hook.
                program.run(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:  # noqa: BLE001  # shows an error as the interpreter does at exit
            with redirect_stderr(err):
                sys.excepthook(type(error), error, error.__traceback__)
            code = 1
        finally:
            commands.environment.cache_clear()
            sys.excepthook = hook
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Result(words, code, out.getvalue(), err.getvalue())
