"""Fixtures of the unit tests."""

from pathlib import Path

import pytest

from tests.unit.helpers import FakePodman


@pytest.fixture
def fake_podman(tmp_path: Path) -> FakePodman:
    """A Podman that only writes down what it was asked."""
    folder = tmp_path / "podman"
    folder.mkdir()
    return FakePodman(folder)
