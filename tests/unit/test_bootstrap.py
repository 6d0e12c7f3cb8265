"""./bootstrap: when it makes the environment anew."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podserve.commands import ROOT, run

PYTHON = """\
#!/bin/sh
case "$*" in
--version) echo "Python $VERSION" ;;
'-m pip'*) sleep 0.2 ;;
'-m venv --clear .venv') rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that holds nothing but bootstrap and its requirements, beside a Python that only seems to install."""
    python = tmp_path / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    made = tmp_path / "checkout"
    made.mkdir()
    shutil.copy(ROOT / "bootstrap", made)
    (made / "requirements.txt").write_text("invoke==2.2.0\n")
    return made


def makes_an_environment(checkout: Path, version: str = "3.11.2") -> bool:
    """Run it, and return whether it made the environment anew."""
    env = {**os.environ, "PATH": f"{checkout.parent}{os.pathsep}{os.environ['PATH']}", "VERSION": version}
    ended = run([str(checkout / "bootstrap"), "echo", "run"], timeout=30, env=env)
    *said, last = ended.stdout.splitlines()
    assert last == "run"
    return said == ["bootstrap: making the virtual environment .venv"]


def test_the_environment_is_made_once(checkout: Path) -> None:
    assert makes_an_environment(checkout)
    assert not makes_an_environment(checkout)


def test_of_two_at_once_one_makes_the_environment_for_both(checkout: Path) -> None:
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
