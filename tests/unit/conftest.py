"""Fixtures of the unit tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podserve import accounts, volumes
from tests.testbed.network import own_network
from tests.unit.helpers import FakePodman

OF_THE_HOST = "INVOKE_", "CONTAINERS_", "_CONTAINERS_", "SUDO_"
"""The prefixes of the variables that change what a task or ./bootstrap does."""


@pytest.fixture(scope="session", autouse=True)
def _independent_of_the_host() -> Iterator[None]:
    """Run the tests without the host's network (a pod may hold its ports), variables and trusted roots."""
    with pytest.MonkeyPatch.context() as patch, own_network():
        for name in [name for name in os.environ if name.startswith(OF_THE_HOST)]:
            patch.delenv(name)
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.setenv("SSL_CERT_DIR", os.devnull)
        yield


@pytest.fixture(autouse=True)
def _ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the paths of volumes that Podman gave to another test."""
    monkeypatch.setattr(volumes, "_found", {})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with bcrypt's lowest cost, because the tests make many hashes."""
    monkeypatch.setattr(accounts, "ROUNDS", 4)


@pytest.fixture
def fake_podman(tmp_path: Path) -> FakePodman:
    """A fake Podman that records its calls."""
    folder = tmp_path / "podman"
    folder.mkdir()
    return FakePodman(folder)
