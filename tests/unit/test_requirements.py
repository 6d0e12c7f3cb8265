"""The two lock files: what a server needs, and what nox adds."""

import ast
import re
import sys
from pathlib import Path

from podserve.commands import ROOT

PACKAGES = {"yaml": "pyyaml", "dns": "dnspython"}
"""Modules whose packages have another name, with these names."""


def locked(name: str) -> dict[str, str]:
    """Return the packages of a lock file with their versions."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def asked_for(name: str) -> set[str]:
    """Return the packages that a requirements file names, without their dependencies."""
    return set(re.findall(r"^([a-z][\w-]*)", (ROOT / name).read_text(), re.MULTILINE))


def imported(file: Path) -> set[str]:
    """Return the top-level modules that a file imports."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_a_server_gets_what_the_tasks_import_and_nothing_else() -> None:
    files = [ROOT / "tasks.py", *(ROOT / "podserve").rglob("*.py")]
    modules = set[str]().union(*map(imported, files)) - sys.stdlib_module_names - {"podserve"}
    assert {PACKAGES.get(module, module) for module in modules} == asked_for("requirements.in")


def test_nox_asks_for_nothing_that_a_server_has() -> None:
    assert asked_for("requirements-dev.in") & asked_for("requirements.in") == set()
    assert asked_for("requirements-dev.in") & set(locked("requirements.txt")) == set()


def test_what_is_in_both_lock_files_is_the_same_version() -> None:
    server, nox = locked("requirements.txt"), locked("requirements-dev.txt")
    assert {name: nox[name] for name in nox if name in server} == {name: server[name] for name in nox if name in server}


def test_each_lock_file_holds_what_is_asked_for() -> None:
    for name in ("requirements", "requirements-dev"):
        assert asked_for(f"{name}.in") <= set(locked(f"{name}.txt"))
