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
    homes.ensure_homes(Folder.at(tmp_path), ["alice@example.org", "bob@example.org"], "example.org")
    made = [tmp_path / "home", tmp_path / "home" / "alice", tmp_path / "home" / "bob"]
    assert sorted((tmp_path / "home").iterdir()) == made[1:]
    assert owners == dict.fromkeys(made, (homes.WWW_DATA, homes.WWW_DATA))
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o755, 0o750, 0o750]


def test_a_home_that_is_there_is_left_as_it_is(tmp_path: Path, owners: dict[Path, tuple[int, int]]) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    home.chmod(0o700)
    (home / "file").write_text("hers")
    homes.ensure_homes(Folder.at(tmp_path), ["alice@example.org"], "example.org")
    assert (home / "file").read_text() == "hers"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert owners == {}


def test_without_accounts_there_are_no_homes(tmp_path: Path, owners: dict[Path, tuple[int, int]]) -> None:
    homes.ensure_homes(Folder.at(tmp_path), [], "example.org")
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
        homes.ensure_homes(Folder.at(tmp_path / "web"), ["alice@example.org"], "example.org")
    assert owners == {}
    assert list((tmp_path / "host").iterdir()) == []


def test_accounts_of_the_same_name_at_two_domains_have_two_homes(
    tmp_path: Path, owners: dict[Path, tuple[int, int]]
) -> None:
    homes.ensure_homes(Folder.at(tmp_path), ["alice@example.org", "alice@example.net"], "example.org")
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["alice", "alice@example.net"]
    assert len(owners) == 3


@pytest.fixture
def volumes_of_two(tmp_path: Path, owners: dict[Path, tuple[int, int]]) -> tuple[Folder, Folder, Path]:
    """The accounts volume, the web volume and its homes: of alice at example.org and at example.net, each with a file.

    The domain of the pod is example.org.
    """
    (tmp_path / "accounts").mkdir()
    (tmp_path / "web").mkdir()
    accounts, web = Folder.at(tmp_path / "accounts"), Folder.at(tmp_path / "web")
    homes.ensure_homes(web, both := ["alice@example.org", "alice@example.net"], "example.org")
    homes.follow_domain(accounts, web, "example.org")
    for account in both:
        (tmp_path / "web" / "home" / homes.home_of(account, "example.org") / account).touch()
    assert len(owners) == 4
    return accounts, web, tmp_path / "web" / "home"


def owned(there: Path, domain: str) -> None:
    """Check that each home holds the file of its account, while this is the domain of the pod."""
    found = {path.name: [file.name for file in path.iterdir()] for path in there.iterdir()}
    assert found == {homes.home_of(name, domain): [name] for name in ("alice@example.org", "alice@example.net")}


@pytest.mark.parametrize("domains", [["example.org"], ["example.net"], ["example.net", "example.org"], ["a.b"]])
def test_each_home_stays_its_accounts_when_the_domain_changes(
    volumes_of_two: tuple[Folder, Folder, Path], domains: list[str]
) -> None:
    accounts, web, there = volumes_of_two
    for domain in domains:
        homes.follow_domain(accounts, web, domain)
        owned(there, domain)


def test_an_interrupted_change_of_the_domain_is_completed_by_the_next_call(
    volumes_of_two: tuple[Folder, Folder, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, web, there = volumes_of_two
    rename, left = os.rename, list[None]()

    def cut_off(source: str, target: str, **folders: int) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        rename(source, target, src_dir_fd=folders["src_dir_fd"], dst_dir_fd=folders["dst_dir_fd"])

    monkeypatch.setattr(os, "rename", cut_off)
    for _ in range(3):  # the home of example.org, the mark, the home of example.net
        with pytest.raises(KeyboardInterrupt):
            homes.follow_domain(accounts, web, "example.net")
        left.append(None)
    homes.follow_domain(accounts, web, "example.net")
    owned(there, "example.net")


def test_a_home_does_not_take_the_place_of_another(volumes_of_two: tuple[Folder, Folder, Path]) -> None:
    accounts, web, there = volumes_of_two
    (there / "alice@example.org").mkdir()
    (there / "alice@example.org" / "file").touch()
    with pytest.raises(Problem, match=r"home/alice cannot become .*/alice@example.org \(Directory not empty\)"):
        homes.follow_domain(accounts, web, "example.net")
