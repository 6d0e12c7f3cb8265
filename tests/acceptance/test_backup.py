"""Backup and restore: all that a pod keeps comes back as clients knew it, and what is no good is refused untouched."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podserve import volumes
from podserve.commands import Result, run
from tests.acceptance.household import Size, arriving, mailbox, settle
from tests.acceptance.mail import STRANGER, arrived
from tests.acceptance.own_pod import OwnPod, own_pod
from tests.acceptance.server import letter, token


@pytest.fixture(scope="module")
def home() -> Iterator[OwnPod]:
    """A pod of these tests' own, which may lose all that it keeps."""
    with own_pod("-home") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives are put."""
    return tmp_path


def test_all_comes_back_as_clients_knew_it(home: OwnPod, folder: Path) -> None:
    household, bob = settle(home, folder, Size(1, messages=4, files=3, repositories=1)), home.new_account()
    before = household.seen(home)

    file = folder / "backup"
    with arriving(home.server, bob) as subjects:
        subject = token()
        with home.server.smtp() as client:
            client.send_message(letter(STRANGER, bob.address, subject))
        arrived(home.server, bob, subject)
        acknowledged = list(subjects)
        home.invoke("backup", "--to", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert home.server.domain in home.invoke("backup", "--verify", str(file)).stdout

    home.invoke("down", "--volumes", "--yes")
    assert not [name for name in volumes.existing() if name.startswith(home.name)]
    restored = home.invoke("restore", str(file))
    assert "is up" in restored.stdout

    assert household.seen(home) == before
    assert arrived(home.server, bob, subject)
    kept = [message for _, _, message in mailbox(home.server, bob)["INBOX"][1].values()]
    assert all(any(one.encode() in message for message in kept) for one in acknowledged)


def refused(home: OwnPod, *argv: str) -> Result:
    """Return how a task refuses, in a line without a traceback, with nothing changed."""
    result = home.invoke(*argv, check=False)
    assert not result.ok
    assert "Traceback" not in result.stderr
    assert json.loads(home.invoke("status", "--json").stdout)["pod"] == home.name
    return result


def test_a_pod_that_keeps_something_is_not_replaced_unasked(home: OwnPod, folder: Path) -> None:
    account = home.new_account()
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    later = home.new_account()
    assert "--yes" in refused(home, "restore", str(file)).stderr
    with home.server.imap(later):
        pass
    home.invoke("restore", str(file), "--yes")
    with home.server.imap(account):
        pass
    assert later.address not in home.invoke("users.list").stdout


def test_a_damaged_archive_is_refused_before_anything_is_touched(home: OwnPod, folder: Path) -> None:
    account = home.new_account()
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "Nothing was changed" in refused(home, "restore", str(file), "--yes").stderr
    assert "Nothing was changed" in refused(home, "backup", "--verify", str(file)).stderr
    with home.server.imap(account):
        pass


def test_a_backup_of_another_domain_is_refused(home: OwnPod, folder: Path) -> None:
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    other = home.invoke("restore", str(file), "--yes", check=False, INVOKE_DOMAIN="example.org")
    assert "set domain" in other.stderr


def test_a_backup_replaces_no_file_and_leaves_none_that_is_not_whole(home: OwnPod, folder: Path) -> None:
    file = folder / "backup"
    file.write_text("precious")
    assert "exists already" in refused(home, "backup", "--to", str(file)).stderr
    assert file.read_text() == "precious"
    assert "No such file" in refused(home, "backup", "--to", str(folder / "none" / "backup")).stderr
    assert [path.name for path in folder.iterdir()] == ["backup"]


def test_a_backup_goes_into_a_pipe(home: OwnPod, folder: Path) -> None:
    file = folder / "piped"
    piped = ["sh", "-c", '"$@" | cat > "$0"', str(file), sys.executable, "-m", "invoke", "backup", "--to", "-"]
    run(piped, env=home.environment, timeout=120)
    assert "is whole" in home.invoke("backup", "--verify", str(file)).stdout


def test_nothing_of_a_backup_is_left_beside_the_volumes(home: OwnPod) -> None:
    assert not {f"{home.name}-backup", f"{home.name}-restore"} & volumes.existing()
