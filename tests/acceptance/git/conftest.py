"""Repositories for the tests of git and GitWeb."""

from pathlib import Path

import pytest

from tests.testbed.git import Repository, make
from tests.testbed.pod import PodUnderTest


@pytest.fixture
def private(test_pod: PodUnderTest, tmp_path: Path) -> Repository:
    """A private repository for one test."""
    return make(test_pod, tmp_path / "private")


@pytest.fixture
def public(test_pod: PodUnderTest, tmp_path: Path) -> Repository:
    """A public repository for one test."""
    return make(test_pod, tmp_path / "public", public=True)
