"""PodServe's checks: `nox` runs them all, what follows `--` goes to pytest."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import nox

nox.needs_version = ">=2024.4.15"
# ./bootstrap has made the one environment, from the lock file: sessions run in it.
nox.options.default_venv_backend = "none"
nox.options.error_on_external_run = False
nox.options.sessions = ["lint", "types", "unit", "acceptance"]

PYTHON = ["tasks.py", "noxfile.py", "podserve", "tests", "bench"]
REMOVAL = 60.0
"""Seconds that a run which is interrupted may take to remove its containers, where nox would kill it after 0.5 s."""
ARTEFACTS = Path("artefacts")
SHELL = ["bootstrap", ".ci/run", "docker/build.sh", "docker/engine.sh", "tests/hosts/boot"]


def _scripts() -> list[str]:
    """Return the shell scripts in the images: the files of docker/*/rootfs that a shell interprets."""
    files = (path for path in Path("docker").glob("*/rootfs/**/*") if path.is_file() and not path.is_symlink())
    shells = b"#!/bin/sh", b"#!/bin/busybox sh", b"#!/bin/bash"
    return sorted(str(path) for path in files if path.read_bytes().startswith(shells))


def _chosen(session: nox.Session, folder: str, part: str = "") -> list[str]:
    """Return pytest's arguments: a JUnit file, what follows `--`, and the folder unless tests are named there."""
    named = any(Path(word.partition("::")[0]).exists() and word.startswith("tests/") for word in session.posargs)
    return [f"--junitxml={ARTEFACTS}/{session.name}{part}.xml", *session.posargs, *([] if named else [folder])]


def _run(session: nox.Session, *words: str, said: IO[str] | None = None) -> None:
    """Run a program, and leave it time to clean up when it is interrupted; what it says may go to a file."""
    session.run(*words, external=True, stdout=said, interrupt_timeout=REMOVAL, terminate_timeout=REMOVAL)


def _module(session: nox.Session, *words: str) -> None:
    """Run a Python module so."""
    _run(session, sys.executable, "-m", *words)


@nox.session
def lint(session: nox.Session) -> None:
    """Style of everything that is written: Python, shell, YAML, Containerfiles, Kubernetes objects."""
    session.run("ruff", "check", *PYTHON)
    session.run("ruff", "format", "--check", *PYTHON)
    session.run("shellcheck", *SHELL, *_scripts())
    session.run("yamllint", "--strict", ".")
    images = ("base", "apache", "mail", "dns", "certificates")
    session.run("hadolint", *(f"docker/{image}/Containerfile" for image in images),
                "tests/testbed/directory/Containerfile")  # fmt: skip
    for file in ("volumes", "config", "podserve"):
        session.run("kubernetes-validate", "--strict", f"kube/{file}.yaml")


@nox.session
def types(session: nox.Session) -> None:
    """Types of tasks, sessions, tests and what they share, by mypy --strict."""
    session.run("mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """What can be judged without a container: settings, documents, the accounts file, certificates, tasks."""
    session.run("pytest", *_chosen(session, "tests/unit"))


@nox.session
def acceptance(session: nox.Session) -> None:
    """A pod of its own and real clients of every protocol; `-- --target HOST --user NAME …` for a server that runs."""
    if any(word.startswith("--target") for word in session.posargs):
        _module(session, "pytest", *_chosen(session, "tests/acceptance"))
        return
    if os.geteuid() != 0:
        session.error("a network namespace of its own needs root; a server that runs can be tried by anybody: --target")
    session.run("invoke", "build")
    _module(session, "tests.testbed.pebble")
    # A network namespace of its own: every port is free there whatever this host serves, and no way leads out of it.
    # Whoever ends nox ends it too.
    enter = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec setpriv --pdeathsig TERM "$@"', "sh"]
    pytest = [*enter, sys.executable, "-m", "pytest"]
    if session.posargs:
        _run(session, *pytest, *_chosen(session, "tests/acceptance"))
        return

    def run(half: int, said: IO[str] | None = None) -> None:
        """Run every other module."""
        _run(session, *pytest, *_chosen(session, "tests/acceptance", f"-{half}"), f"--half={half}", said=said)

    # Much of it is waiting: two runs, each with a pod of its own, take little longer than one of them.
    ARTEFACTS.mkdir(exist_ok=True)
    with (ARTEFACTS / "acceptance-2.log").open("w+") as said:
        try:
            with ThreadPoolExecutor(1) as pool:
                second = pool.submit(run, 2, said)
                run(1)
        finally:
            said.seek(0)
            print(said.read())
    second.result()


@nox.session(default=False)
def hosts(session: nox.Session) -> None:
    """Both commands, a service and a reboot on pristine hosts: `-- [A] [B] [C] [--short] [--without STEP]`."""
    session.run("invoke", "build")
    _module(session, "tests.hosts", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kills, full disks, no line, load, bad manners: what is lost; `-- [SECTION…] [--count PERCENT] [--seed N]`."""
    session.run("invoke", "build")
    _module(session, "tests.faults", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Figures, each beside its alternative; what follows `--` names sections, `-- --record` keeps a run in docs/."""
    session.run("invoke", "build")
    _module(session, "bench", *session.posargs)
