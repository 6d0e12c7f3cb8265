"""PodServe's checks: `nox` runs the default sessions. Arguments after `--` go to the session's program."""

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
# All sessions run in the environment that ./bootstrap has made from the two lock files.
nox.options.default_venv_backend = "none"
nox.options.error_on_external_run = False
nox.options.sessions = ["lint", "types", "unit", "acceptance"]
# A session tests the checkout with its own settings. The caller's variables must not change them.
for variable in [name for name in os.environ if name.startswith("INVOKE_")]:
    del os.environ[variable]
# Without bytecode each `invoke` that a test starts compiles podserve, and each worker of pytest all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYTHON = ["tasks.py", "noxfile.py", "podserve", "tests", "bench", "docker"]
REMOVAL = 60.0
"""Seconds that an interrupted run may take to remove its containers. By default nox kills it after 0.5 s."""
ARTEFACTS = Path("artefacts")
PEERS = sorted(Path("bench/peers").glob("*/Containerfile"))
SHELL = ["bootstrap", ".ci/run", "docker/build.sh", "docker/engine.sh", "tests/hosts/boot"]


def _scripts() -> list[str]:
    """Return the shell scripts in the images: the files of docker/*/rootfs that a shell interprets."""
    files = (path for path in Path("docker").glob("*/rootfs/**/*") if path.is_file() and not path.is_symlink())
    shells = b"#!/bin/sh", b"#!/bin/busybox sh", b"#!/bin/bash"
    return sorted(str(path) for path in files if path.read_bytes().startswith(shells))


def _chosen(session: nox.Session, folder: str) -> list[str]:
    """Return pytest's arguments: a JUnit file, the arguments after `--`, and `folder` unless these name tests."""
    named = any(Path(word.partition("::")[0]).exists() and word.startswith("tests/") for word in session.posargs)
    return [f"--junitxml={ARTEFACTS}/{session.name}.xml", *session.posargs, *([] if named else [folder])]


def _module(session: nox.Session, *words: str) -> None:
    """Run a Python module. It gets SIGTERM when nox ends, and REMOVAL seconds to clean up after an interruption."""
    session.run("setpriv", "--pdeathsig", "TERM", sys.executable, "-m", *words, external=True,
                interrupt_timeout=REMOVAL, terminate_timeout=REMOVAL)  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of Python, shell, YAML, Containerfiles and Kubernetes objects, and which module imports which."""
    session.run("ruff", "check", *PYTHON)
    session.run("ruff", "format", "--check", *PYTHON)
    session.run("lint-imports", "--no-cache", "--no-logo")
    session.run("shellcheck", *SHELL, *_scripts(), *map(str, sorted(Path("bench/peers").glob("*/start"))))
    session.run("yamllint", "--strict", ".")
    images = ("base", "apache", "mail", "dns", "certificates")
    session.run("hadolint", *(f"docker/{image}/Containerfile" for image in images),
                "tests/testbed/directory/Containerfile", *map(str, PEERS))  # fmt: skip
    for file in ("volumes", "config", "podserve", "dns-over-tls", "account-page"):
        session.run("kubernetes-validate", "--strict", f"kube/{file}.yaml")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all Python code with mypy --strict."""
    session.run("mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Test what needs no container: settings, documents, the accounts file, certificates, tasks."""
    if os.geteuid() != 0:
        session.error("these tests need root, for a network namespace of their own and for files of other users")
    session.run("pytest", "--numprocesses=auto", *_chosen(session, "tests/unit"))


@nox.session
def acceptance(session: nox.Session) -> None:
    """Test a pod on each core, with real clients; `-- --target HOST --user NAME …` tests a running server."""
    pytest = ["pytest", "--durations=25", "--dist=load", *_chosen(session, "tests/acceptance")]
    if any(word.startswith("--target") for word in session.posargs):
        _module(session, *pytest)
        return
    if os.geteuid() != 0:
        session.error("a network namespace of its own needs root; a server that runs can be tried by anybody: --target")
    session.run("invoke", "build")
    _module(session, "tests.testbed.pebble")
    _module(session, *pytest[:1], "--numprocesses=auto", *pytest[1:])


@nox.session(default=False)
def hosts(session: nox.Session) -> None:
    """Test both commands, the service and a reboot on pristine hosts; `-- [A] [B] [C] [--short] [--without STEP]`."""
    session.run("invoke", "build")
    _module(session, "tests.hosts", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Break a test pod on purpose, and count the losses; `-- [SECTION…] [--count PERCENT] [--seed N]`."""
    session.run("invoke", "build")
    _module(session, "tests.faults", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the figures of docs/figures.md; `-- SECTION…` selects sections, `-- --record` writes the run there."""
    session.run("invoke", "build")
    _module(session, "bench", *session.posargs)
