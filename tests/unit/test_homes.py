"""Homes: a folder for each account, created once, owned by the service."""

import os
import stat
from pathlib import Path

import pytest

from podserve import homes
from podserve.errors import Problem
from podserve.folder import Folder


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[Path, tuple[int, int]]:
    """The owner and group that were set for each path."""
    given: dict[Path, tuple[int, int]] = {}

    def fchown(descriptor: int, user: int, group: int) -> None:
        given[Path(f"/proc/self/fd/{descriptor}").readlink()] = user, group

    monkeypatch.setattr(os, "fchown", fchown)
    return given


def test_each_account_has_a_home_by_its_name_that_is_the_services_own(
    tmp_path: Path, owners: dict[Path, tuple[int, int]]
) -> None:
    homes.ensure_homes(Folder.at(tmp_path), ["alice@example.org", "bob@example.org"])
    made = [tmp_path / "home", tmp_path / "home" / "alice", tmp_path / "home" / "bob"]
    assert sorted((tmp_path / "home").iterdir()) == made[1:]
    assert owners == dict.fromkeys(made, (homes.WWW_DATA, homes.WWW_DATA))
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o755, 0o750, 0o750]


def test_a_home_that_is_there_is_left_as_it_is(tmp_path: Path, owners: dict[Path, tuple[int, int]]) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    home.chmod(0o700)
    (home / "file").write_text("hers")
    homes.ensure_homes(Folder.at(tmp_path), ["alice@example.org"])
    assert (home / "file").read_text() == "hers"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert owners == {}


def test_without_accounts_there_are_no_homes(tmp_path: Path, owners: dict[Path, tuple[int, int]]) -> None:
    homes.ensure_homes(Folder.at(tmp_path), [])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]
    assert list(owners) == [tmp_path / "home"]
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("target", ["{}/host", "/no/such/folder"], ids=["a folder of the host", "nothing"])
def test_a_link_in_the_place_of_a_home_is_told_and_not_followed(
    tmp_path: Path, owners: dict[Path, tuple[int, int]], target: str
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "web" / "home").mkdir(parents=True)
    (tmp_path / "web" / "home" / "alice").symlink_to(target.format(tmp_path))
    with pytest.raises(Problem, match=r"home/alice is not a folder, but a file or a link"):
        homes.ensure_homes(Folder.at(tmp_path / "web"), ["alice@example.org"])
    assert owners == {}
    assert list((tmp_path / "host").iterdir()) == []
