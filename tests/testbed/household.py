"""The data of a pod's accounts, as their clients see it, for a comparison before and after."""

import datetime as dt
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve import endpoints
from podserve.certificates.clients import unverified_context
from tests.testbed.concurrency import meanwhile
from tests.testbed.git import Git, Repository, make
from tests.testbed.mail import STRANGER, queued
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token

FOLDERS = ("INBOX", "Sent", "Archive", "Archive/2026", "v1.5", "Grüße & 日本")
FLAGS = ((), (b"\\Seen",), (b"\\Flagged", b"$Label"), (b"\\Answered", b"\\Deleted"))
Mailbox = dict[str, tuple[int, dict[int, tuple[tuple[bytes, ...], dt.datetime, bytes]]]]


def fill(server: Server, account: Account, each: int) -> None:
    """Put `each` messages with all kinds of flags into each folder. Expunge the deleted ones, which leaves UID gaps."""
    with server.imap(account) as client:
        for name in FOLDERS:
            if not client.folder_exists(name):
                client.create_folder(name)
            for number in range(each):
                message = letter(STRANGER, STRANGER, token(), "Grüße\n").as_bytes()
                client.append(name, message, FLAGS[number % len(FLAGS)])
            client.select_folder(name)
            client.expunge()


def mailbox(server: Server, account: Account) -> Mailbox:
    """Return the content of a mailbox: for each folder UIDVALIDITY and, by UID, flags, date and message."""
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
    """Send one message after another during the body; yield the list of subjects of those with a 250."""
    subjects: list[str] = []

    def send(over: threading.Event) -> None:
        with server.smtp() as client:
            while not over.is_set():
                subject = token()
                assert client.send_message(letter(STRANGER, account.address, subject)) == {}
                subjects.append(subject)

    with meanwhile(send):
        yield subjects
    assert subjects


@dataclass(frozen=True)
class Size:
    """The number of accounts, of messages in each of their folders, of files and of repositories."""

    accounts: int
    messages: int
    files: int
    repositories: int


@dataclass(frozen=True)
class Household:
    """Accounts, their files (paths under /webdav/) and repositories, and the recipient of a queued message."""

    accounts: tuple[Account, ...]
    files: tuple[str, ...]
    repositories: tuple[Repository, ...]
    elsewhere: str

    def _objects(self, test_pod: PodUnderTest, repository: Repository) -> str:
        """Clone a repository and check it; return the list of its objects and its branches."""
        git = Git(test_pod.server, self.accounts[0])
        with tempfile.TemporaryDirectory() as folder:
            git.run("clone", "--quiet", "--mirror", git.url(repository.name), folder)
            git.run("-C", folder, "fsck", "--strict")
            listed = git.run("-C", folder, "cat-file", "--batch-check", "--batch-all-objects").stdout
            return listed + git.run("-C", folder, "show-ref").stdout

    def seen(self, test_pod: PodUnderTest) -> Mapping[str, object]:
        """Return everything that clients see, by name, and Postfix's queue, which they do not see."""
        found: dict[str, object] = {a.address: mailbox(test_pod.server, a) for a in self.accounts}
        with test_pod.server.http(self.accounts[0]) as client:
            found |= {path: client.get(f"/webdav/{path}").raise_for_status().content for path in self.files}
        found |= {repository.name: self._objects(test_pod, repository) for repository in self.repositories}
        with test_pod.server.rules(self.accounts[0]) as client:
            found["rules"] = [client.listscripts(), client.getscript("rules")]
        https = endpoints.attempt(test_pod.pod, unverified_context(test_pod.server.domain), "https")
        found["certificate"] = https.fingerprint
        found["queue"] = [
            test_pod.exec("mail", "postcat", "-qb", one).stdout for one in queued(test_pod, self.elsewhere)
        ]
        return found


def settle(test_pod: PodUnderTest, folder: Path, size: Size) -> Household:
    """Fill a pod with new accounts and their data. `folder` is for the work trees of the repositories."""
    people = tuple(test_pod.new_account() for _ in range(size.accounts))
    for account in people:
        fill(test_pod.server, account, size.messages)
    first, word = people[0], token()
    places = (f"{word} ü %d.txt", f"home/{first.local_part}/{word} %d", f"site/{word}-%d.html")
    paths = tuple(places[number % len(places)] % number for number in range(size.files))
    with test_pod.server.http(first) as client:
        for number, path in enumerate(paths):
            client.put(f"/webdav/{path}", content=f"{word} {number}\n" * 1000).raise_for_status()
    made = tuple(
        make(test_pod, folder / f"work{number}", public=number % 2 == 0) for number in range(size.repositories)
    )
    with test_pod.server.rules(first) as client:
        assert client.putscript("rules", f"# {word}\nkeep;\n")
        assert client.setactive("rules")
    domain = f"{token()}.acme.example.com"
    elsewhere = f"somebody@{domain}"
    test_pod.name_addresses({domain: "192.0.2.25"})  # where nobody answers, so the message waits in the queue
    with test_pod.server.submission(first) as sender:
        sender.send_message(letter(first.address, elsewhere, word))
    return Household(people, paths, made, elsewhere)
