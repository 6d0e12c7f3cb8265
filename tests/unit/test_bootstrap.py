"""./bootstrap: when it creates the virtual environment again, and what it installs there."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podserve.commands import ROOT, Result, run

PYTHON = """\
#!/bin/sh
case "$*" in
--version) echo "Python $VERSION" ;;
'-m pip'*) for word; do :; done; echo "$word" >> .venv/installed; sleep "$PIP_SECONDS" ;;
'-m venv --clear .venv') rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with only bootstrap and the requirements, beside a fake Python that records what it installs."""
    monkeypatch.setenv("PIP_SECONDS", "0")
    python = tmp_path / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    made = tmp_path / "checkout"
    made.mkdir()
    shutil.copy(ROOT / "bootstrap", made)
    (made / "requirements.txt").write_text("invoke==2.2.0\n")
    (made / "requirements-dev.txt").write_text("nox==2026.10.20\n")
    (made / ".git").mkdir()
    (made / ".git" / "config").touch()
    return made


ANEW = "bootstrap: making the virtual environment .venv"
ADDED = "bootstrap: adding what nox needs to .venv"


def bootstrapped(checkout: Path, command: str = "echo", version: str = "3.11.2") -> list[str]:
    """Run `./bootstrap COMMAND run`, and return the lines that ./bootstrap printed before the command ran."""
    env = {**os.environ, "PATH": f"{checkout.parent}{os.pathsep}{os.environ['PATH']}", "VERSION": version}
    *said, last = run([str(checkout / "bootstrap"), command, "run"], timeout=30, env=env).stdout.splitlines()
    assert last == "run"
    return said


def makes_an_environment(checkout: Path, version: str = "3.11.2") -> bool:
    """Run ./bootstrap, and return whether it created the environment."""
    return bootstrapped(checkout, version=version) == [ANEW]


def installed(checkout: Path) -> list[str]:
    """Return the lock files that were installed into the environment, in order."""
    return (checkout / ".venv" / "installed").read_text().split()


@pytest.fixture
def _nox(checkout: Path) -> None:
    """Put a fake `nox` into PATH that prints its arguments."""
    (checkout.parent / "nox").write_text('#!/bin/sh\necho "$@"\n')
    (checkout.parent / "nox").chmod(0o755)


def test_only_nox_gets_what_a_server_does_not_need(checkout: Path) -> None:
    assert bootstrapped(checkout, "echo") == [ANEW]
    assert installed(checkout) == ["requirements.txt"]


@pytest.mark.usefixtures("_nox")
def test_nox_gets_both_on_a_bare_machine(checkout: Path) -> None:
    assert bootstrapped(checkout, "nox") == [ANEW, ADDED]
    assert installed(checkout) == ["requirements.txt", "requirements-dev.txt"]
    assert bootstrapped(checkout, "nox") == []


@pytest.mark.usefixtures("_nox")
def test_nox_adds_to_the_environment_of_a_server_which_stays(checkout: Path) -> None:
    bootstrapped(checkout, "echo")
    assert bootstrapped(checkout, "nox") == [ADDED]
    assert bootstrapped(checkout, "echo") == []
    assert bootstrapped(checkout, "nox") == []
    assert installed(checkout) == ["requirements.txt", "requirements-dev.txt"]


@pytest.mark.usefixtures("_nox")
def test_other_requirements_of_nox_are_for_nox_alone_and_leave_nothing_of_the_others(checkout: Path) -> None:
    bootstrapped(checkout, "nox")
    (checkout / "requirements-dev.txt").write_text("nox==2026.10.21\n")
    assert bootstrapped(checkout, "echo") == []
    assert bootstrapped(checkout, "nox") == [ANEW, ADDED]
    assert installed(checkout) == ["requirements.txt", "requirements-dev.txt"]


@pytest.mark.usefixtures("_nox")
def test_an_installation_that_broke_off_is_begun_again(checkout: Path) -> None:
    bootstrapped(checkout, "nox")
    (checkout / ".venv" / "made-of-requirements-dev.txt").unlink()
    assert bootstrapped(checkout, "nox") == [ADDED]


def test_the_environment_is_made_once(checkout: Path) -> None:
    assert makes_an_environment(checkout)
    assert not makes_an_environment(checkout)


def test_of_two_at_once_one_makes_the_environment_for_both(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_SECONDS", "0.2")
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(makes_an_environment, [checkout] * 2)) == [False, True]


def test_other_requirements_have_an_environment_of_their_own(checkout: Path) -> None:
    makes_an_environment(checkout)
    (checkout / "requirements.txt").write_text("invoke==2.2.1\n")
    assert makes_an_environment(checkout)


def test_another_python_has_an_environment_of_its_own(checkout: Path) -> None:
    makes_an_environment(checkout)
    assert makes_an_environment(checkout, "3.13.5")


def test_a_checkout_that_was_moved_has_an_environment_of_its_own(checkout: Path) -> None:
    makes_an_environment(checkout)
    assert makes_an_environment(checkout.rename(checkout.with_name("moved")))


def as_root(checkout: Path, **test_pod: str) -> Result:
    """Run ./bootstrap as root, with the additional variables `test_pod`."""
    env = {**os.environ, "PATH": f"{checkout.parent}{os.pathsep}{os.environ['PATH']}", "VERSION": "3.11.2", **test_pod}
    return run([str(checkout / "bootstrap"), "echo", "run"], check=False, timeout=30, env=env)


NOBODY = 65534
OPEN = {
    "a file that all may write": ("requirements.txt", 0, 0, 0o666),
    "a folder that all may write": (".", 0, 0, 0o777),
    "a file that a group may write": ("requirements.txt", 0, 100, 0o664),
    "a file of another user": ("bootstrap", NOBODY, 0, 0o755),
    "a state of another user": (".podserve", NOBODY, 0, 0o755),
    "a folder of git's that all may write": (".git", 0, 0, 0o777),
    "a configuration of git's that another user has": (".git/config", NOBODY, 0, 0o644),
    "an environment of another user": (".venv", NOBODY, 0, 0o755),
}
"""Paths that others can change: path, owner, group, mode."""


@pytest.mark.parametrize("opened", OPEN)
def test_a_checkout_that_others_can_change_is_not_run(checkout: Path, opened: str) -> None:
    assert as_root(checkout).ok
    name, owner, group, mode = OPEN[opened]
    os.chown(checkout / name, owner, group)
    (checkout / name).chmod(mode)
    refused = as_root(checkout)
    assert (refused.code, refused.stdout) == (1, "")
    assert "users other than root and you can change" in refused.stderr
    assert f"chown -R 0: '{checkout}' && chmod -R go-w '{checkout}'" in refused.stderr


def test_a_checkout_of_the_one_who_typed_sudo_is_run(checkout: Path) -> None:
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(path.stat().st_mode | 0o020)
    assert not as_root(checkout).ok
    assert not as_root(checkout, SUDO_UID="1").ok
    # Group-writable files pass only for a group with the user's own name. The group of nobody is nogroup.
    assert not as_root(checkout, SUDO_UID=str(NOBODY)).ok
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o020)
    assert as_root(checkout, SUDO_UID=str(NOBODY)).ok


def test_no_checkout_of_that_name_elsewhere_is_meant(checkout: Path) -> None:
    elsewhere = checkout.parent / "elsewhere" / checkout.name
    elsewhere.mkdir(parents=True)
    script = 'cd "$1" && exec "$2/bootstrap" pwd -P'
    env = {**os.environ, "PATH": f"{checkout.parent}{os.pathsep}{os.environ['PATH']}", "VERSION": "3.11.2",
           "CDPATH": str(elsewhere.parent)}  # fmt: skip
    ended = run(["sh", "-c", script, "sh", str(checkout.parent), checkout.name], check=False, timeout=30, env=env)
    assert ended.stdout.splitlines()[-1:] == [str(checkout)], ended
