"""Backup and restore: all that a pod keeps comes back as clients knew it, and what is no good is refused untouched."""

import datetime as dt
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from imapclient import IMAPClient

from podserve import volumes
from podserve.commands import Result, run
from tests.acceptance.git import Git, make
from tests.acceptance.mail import STRANGER, arrived, queued
from tests.acceptance.own_pod import OwnPod, own_pod
from tests.acceptance.server import Account, Server, letter, token

FOLDERS = ("INBOX", "Sent", "Archive", "Archive.2026", "Grüße & 日本")
Mailbox = dict[str, tuple[int, dict[int, tuple[tuple[bytes, ...], dt.datetime, bytes]]]]


@pytest.fixture(scope="module")
def home() -> Iterator[OwnPod]:
    """A pod of these tests' own, which may lose all that it keeps."""
    with own_pod("-home") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives are put."""
    return tmp_path


def fill(client: IMAPClient) -> None:
    """Put messages, with flags of all kinds, into nested folders, and remove one: what UIDs tell."""
    for name in FOLDERS:
        if not client.folder_exists(name):
            client.create_folder(name)
        for flags in ((), (b"\\Seen",), (b"\\Flagged", b"$Label"), (b"\\Answered", b"\\Deleted")):
            client.append(name, letter(STRANGER, STRANGER, token(), "Grüße\n").as_bytes(), flags)
        client.select_folder(name)
        client.expunge()


def mailbox(server: Server, account: Account) -> Mailbox:
    """Return all that an account's mailbox holds: for each folder UIDVALIDITY and, by UID, flags, date and message."""
    found: Mailbox = {}
    with server.imap(account) as client:
        for _, _, name in client.list_folders():
            validity = client.select_folder(name, readonly=True)[b"UIDVALIDITY"]
            uids = client.search()
            messages = client.fetch(uids, ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"]) if uids else {}
            found[name] = (
                validity,
                {
                    uid: (tuple(sorted(set(m[b"FLAGS"]) - {b"\\Recent"})), m[b"INTERNALDATE"], m[b"BODY[]"])
                    for uid, m in messages.items()
                },
            )
    return found


@contextmanager
def arriving(server: Server, account: Account) -> Iterator[list[str]]:
    """Have mail arrive meanwhile, one message after the other; yield the subjects of those that got their 250."""
    subjects: list[str] = []
    done = threading.Event()

    def send() -> None:
        with server.smtp() as client:
            while not done.is_set():
                subject = token()
                assert client.send_message(letter(STRANGER, account.address, subject)) == {}
                subjects.append(subject)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield subjects
    finally:
        done.set()
        sender.join()
    assert subjects


def test_all_comes_back_as_clients_knew_it(home: OwnPod, folder: Path) -> None:
    alice, bob = home.new_account(), home.new_account()
    word, elsewhere = token(), f"{token()}@example.com"
    repository = make(home, folder / "work", public=True)
    with home.server.imap(alice) as client:
        fill(client)
    with home.server.http(alice) as client:
        for path in (f"/webdav/{word} ü.txt", f"/webdav/home/{alice.local_part}/{word}", f"/webdav/site/{word}.html"):
            assert client.put(path, content=word * 1000).status_code == 201
    with home.server.submission(alice) as client:
        client.send_message(letter(alice.address, elsewhere, word))
    before = mailbox(home.server, alice)
    waiting = home.exec("mail", "postcat", "-qb", queued(home, elsewhere)[0]).stdout
    certificate = (home.folder("certificates") / "current").readlink()

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

    assert mailbox(home.server, alice) == before
    assert arrived(home.server, bob, subject)
    kept = [message for _, _, message in mailbox(home.server, bob)["INBOX"][1].values()]
    assert all(any(one.encode() in message for message in kept) for one in acknowledged)
    with home.server.http(alice) as client:
        for path in (f"/webdav/{word} ü.txt", f"/webdav/home/{alice.local_part}/{word}", f"/{word}.html"):
            assert client.get(path).text == word * 1000
    Git(home.server).run("clone", "--quiet", Git(home.server).url(repository.name), str(folder / "clone"))
    assert repository.tip() == repository.commit
    assert (home.folder("certificates") / "current").readlink() == certificate
    assert home.exec("mail", "postcat", "-qb", queued(home, elsewhere)[0]).stdout == waiting


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
