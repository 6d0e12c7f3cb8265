"""The keys that sign mail: which pair signs and which is retired at each time, and what is refused as a key."""

import datetime as dt
from pathlib import Path

import pytest

from podserve import dkim
from podserve.dkim import SigningPair, retired, signing
from podserve.errors import Problem
from podserve.folder import Folder

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)


def pair(days: float) -> SigningPair:
    """Return a pair that was made some days ago."""
    return SigningPair(NOW - dt.timedelta(days=days), "rsa", "ed25519")


@pytest.mark.parametrize(
    ("made", "signs", "gone"),
    [
        ([0], 0, []),
        ([30], 0, []),
        ([30, 0.9], 0, []),
        ([30, 1], 1, []),
        ([30, 7.9], 1, []),
        ([30, 8], 1, [0]),
        ([30, 9, 0.5], 1, [0]),
        ([40, 30, 9], 2, [0, 1]),
    ],
)
def test_a_pair_signs_a_day_after_it_was_made_and_the_one_before_is_valid_for_a_week(
    made: list[float], signs: int, gone: list[int]
) -> None:
    found = [pair(days) for days in made]
    assert signing(found, NOW) == found[signs]
    assert retired(found, NOW) == [found[number] for number in gone]


def test_a_pair_is_published_at_its_selectors() -> None:
    assert pair(0).records == {
        "20261127120000": "v=DKIM1; k=rsa; p=rsa",
        "20261127120000-ed25519": "v=DKIM1; k=ed25519; p=ed25519",
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one pair."""
    monkeypatch.setattr("os.fchown", lambda *_: None)
    dkim._make(Folder.at(tmp_path), NOW)
    return tmp_path


def test_a_pair_that_was_made_is_found(folder: Path) -> None:
    [found] = dkim.pairs(Folder.at(folder))
    assert (found.made, len(found.rsa), len(found.ed25519)) == (NOW, 392, 44)


@pytest.mark.parametrize("name", ["20261127120000.key", "20261127120000-ed25519.key"])
@pytest.mark.parametrize("content", [b"", b"no key", b"AAAA", b"\0" * 90, "ä".encode()])
def test_a_key_that_is_none_is_refused_by_name(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(Problem, match=f"{name} is not a key that PodServe made"):
        dkim.pairs(Folder.at(folder))


def test_half_a_pair_is_refused_or_none(folder: Path) -> None:
    (folder / "20261127120000.key").unlink()
    with pytest.raises(Problem, match="is not a key"):
        dkim.pairs(Folder.at(folder))
    (folder / "20261127120000-ed25519.key").unlink()
    assert dkim.pairs(Folder.at(folder)) == []
