"""Fixtures of the unit tests."""

from pathlib import Path

import pytest

from podserve import volumes
from tests.unit.helpers import FakePodman


@pytest.fixture(autouse=True)
def _ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Podman said of a volume to another test is forgotten."""
    monkeypatch.setattr(volumes, "_found", {})


@pytest.fixture
def fake_podman(tmp_path: Path) -> FakePodman:
    """A Podman that only writes down what it was asked."""
    folder = tmp_path / "podman"
    folder.mkdir()
    return FakePodman(folder)
