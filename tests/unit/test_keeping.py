"""Where a backup goes, and what is compared before one is put back."""

import contextlib
from pathlib import Path

import pytest

from podserve import pod, volumes
from podserve.backup import archive, keeping, snapshot
from podserve.errors import Problem
from podserve.manifests import Manifests
from tests.unit.helpers import chosen


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifests:
    """A pod whose snapshot is a folder with one file."""
    made = Manifests(chosen())
    (tmp_path / "kept" / "mail").mkdir(parents=True)
    (tmp_path / "kept" / "mail" / "letter").write_text("Dear sir,")
    monkeypatch.setattr(volumes, "existing", lambda: {volume.name for volume in made.volumes.values()})
    monkeypatch.setattr(snapshot, "taken", lambda _: contextlib.nullcontext(tmp_path / "kept"))
    monkeypatch.setattr(pod, "alone", lambda _: contextlib.nullcontext())
    return made


def ignore(_: int) -> None:
    """Take no notice of progress."""


def back_up(manifests: Manifests, file: Path) -> Path:
    """Make a backup; return its file."""
    keeping.backup(manifests, str(file), ignore, ignore)
    return file


def test_a_backup_is_its_owners_alone_and_nothing_else_is_left(manifests: Manifests, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    file = back_up(manifests, tmp_path / "backups" / "one")
    assert file.stat().st_mode & 0o777 == 0o600
    assert archive.verify(file, ignore)[0].settings["domain"] == manifests.settings.domain
    assert list(file.parent.iterdir()) == [file]


def test_what_lies_where_a_backup_is_written_first_is_told_and_left(manifests: Manifests, tmp_path: Path) -> None:
    part = tmp_path / "one.part"
    part.write_text("of another backup")
    with pytest.raises(Problem, match=r"one\.part is there already"):
        back_up(manifests, tmp_path / "one")
    assert part.read_text() == "of another backup"


def test_a_backup_is_not_written_through_a_link(manifests: Manifests, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for target in ("precious", "nowhere"):
        (tmp_path / "one.part").unlink(missing_ok=True)
        (tmp_path / "one.part").symlink_to(tmp_path / target)
        with pytest.raises(Problem, match=r"one\.part is there already"):
            back_up(manifests, tmp_path / "one")
        assert (tmp_path / "one.part").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
