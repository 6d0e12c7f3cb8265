"""The file with the password for the relay host: what it may hold, and who may read it."""

from pathlib import Path

import pytest

from podserve import relay, volumes
from podserve.errors import Problem
from podserve.folder import Folder
from tests.unit.helpers import pod_with


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mail volume."""
    made = tmp_path / "mail"
    made.mkdir()
    monkeypatch.setattr(volumes, "folder", lambda _: Folder.at(made))
    return made


def provide(file: Path | None) -> None:
    """Give the mail service the password in a file."""
    given = {"relay_host": "smtp.example.net", "relay_user": "you", "relay_password_file": str(file)} if file else {}
    relay.provide_password(pod_with(**given), runs=False)


def test_the_first_line_is_the_password_and_without_the_setting_it_is_removed(volume: Path, tmp_path: Path) -> None:
    provide(None)
    assert not list(volume.iterdir())
    file, there = tmp_path / "password", volume / ".relay" / "password"
    file.touch(0o600)
    for text, password in (("a b:c#\n", "a b:c#"), ("hunter2\r\nnot this\n", "hunter2"), ("x", "x")):
        file.write_text(text)
        provide(file)
        assert there.read_text() == password
    assert (there.stat().st_mode & 0o777, there.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    provide(None)
    assert not there.read_text()


@pytest.mark.parametrize("text", ["", "\nhunter2", " hunter2", "hunter2 ", "hünter2", "hunter2" * 200])
def test_what_is_no_password_is_refused_without_showing_it(volume: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(
        Problem, match=r"the first line of relay_password_file, .*, is no password: expected"
    ) as refused:
        provide(file)
    assert "unter2" not in refused.value.text
    assert not list(volume.iterdir())


def test_a_file_that_others_can_read_is_refused(volume: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    file.chmod(0o640)
    with pytest.raises(Problem, match=f"relay_password_file, {file}, holds secrets, .*: chmod 0600 {file}"):
        provide(file)
    assert not list(volume.iterdir())
