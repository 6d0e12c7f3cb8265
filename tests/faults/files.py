"""Files and pushes during kills: every upload and push that succeeded is stored, byte for byte."""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.concurrency import together
from tests.testbed.git import Git
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.victims import Container, Storm

PUTS, WRITERS = 300, 6
PUSHES, PUSHERS = 100, 4
LARGEST = 1_000_000
"""Bytes of the largest file."""
PATIENCE = 60
"""Seconds for which a client retries one file or one push."""


def content(name: str) -> bytes:
    """Return the bytes of the file or commit of that name: up to LARGEST bytes, different for each name."""
    seed = hashlib.sha256(name.encode()).digest()
    return seed * (1 + int.from_bytes(seed[:4]) % (LARGEST // len(seed)))


@dataclass
class Writer:
    """A client that uploads files by WebDAV and records which uploads succeeded.

    Every second upload replaces the same file. In the end this file must be a complete upload: the last that succeeded,
    or one that was tried after that.
    """

    server: Server
    account: Account
    names: Sequence[str]
    standing: str = field(default_factory=token)
    tries: int = 0
    answered: int = 0
    stored: list[str] = field(default_factory=list)
    may_stand: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Upload all files. Retry each until it succeeds, for at most PATIENCE seconds."""
        for number, name in enumerate(self.names):
            with suppress(Problem):
                wait_until(partial(self._put, name, replacing=number % 2 == 1), PATIENCE, f"{name} to be stored")

    def _put(self, name: str, *, replacing: bool) -> None:
        self.tries += 1
        if replacing:
            self.may_stand.append(name)
        try:
            with self.server.http(self.account) as client:
                status = client.put(
                    f"/webdav/{self.standing if replacing else name}", content=content(name)
                ).status_code
        except httpx.HTTPError as error:
            raise NotYet(str(error)) from error
        if status not in {httpx.codes.CREATED, httpx.codes.NO_CONTENT}:
            raise NotYet(f"HTTP {status}")
        self.answered += 1
        if replacing:
            self.may_stand = [name]
        else:
            self.stored.append(name)

    def lost(self) -> list[str]:
        """Return the names of uploads that succeeded and are missing or changed."""
        with self.server.http(self.account) as client:
            lost = [name for name in self.stored if client.get(f"/webdav/{name}").content != content(name)]
            if self.may_stand and client.get(f"/webdav/{self.standing}").content not in map(content, self.may_stand):
                lost.append(self.standing)
        return lost


@dataclass
class Pusher:
    """A client that pushes commits to a repository and records which pushes succeeded."""

    git: Git
    repository: str
    work: Path
    names: Sequence[str]
    tries: int = 0
    answered: int = 0
    pushed: list[str] = field(default_factory=list)

    def push(self) -> None:
        """Push all commits. Retry each until it succeeds, for at most PATIENCE seconds."""
        for name in self.names:
            commit = self.git.commit(self.work, name, {name: content(name)})
            with suppress(Problem):
                wait_until(self._push, PATIENCE, f"{name} to be pushed")
                self.pushed.append(commit)
                self.answered += 1

    def _push(self) -> None:
        self.tries += 1
        url = self.git.url(f"{self.repository}.git")
        done = self.git.run("-C", str(self.work), "push", "--quiet", url, "main", check=False)
        if not done.ok:
            raise NotYet(done.stderr)

    def lost(self, clone: Path) -> list[str]:
        """Return the pushed commits that a new clone lacks, and its damaged files, after git fsck."""
        self.git.run("clone", "--quiet", self.git.url(f"{self.repository}.git"), str(clone))
        self.git.run("-C", str(clone), "fsck", "--full", "--strict")
        there = self.git.run("-C", str(clone), "rev-list", "HEAD").stdout.split()
        damaged = [file.name for file in clone.iterdir() if file.is_file() and file.read_bytes() != content(file.name)]
        return [*sorted(set(self.pushed) - set(there)), *damaged]


def send(test_pod: PodUnderTest, puts: int, pushes: int, storm: Storm, folder: Path) -> Iterator[Outcome]:
    """Upload files and push commits during the storm; read them after it. `folder` is for work trees."""
    account = test_pod.new_account()
    names = [[token() for _ in range(count)] for count in (puts, pushes)]
    writers = [Writer(test_pod.server, account, names[0][number::WRITERS]) for number in range(WRITERS)]
    pushers = [
        Pusher(Git(test_pod.server, account), repository, folder / repository, names[1][number::PUSHERS])
        for number, repository in enumerate(token() for _ in range(PUSHERS))
    ]
    for pusher in pushers:
        test_pod.invoke("repos.add", pusher.repository)
    begin = time.monotonic()
    with storm.raging():
        together([*(writer.write for writer in writers), *(pusher.push for pusher in pushers)])
    seconds = time.monotonic() - begin

    def back() -> None:
        with test_pod.server.http(account) as client, suppress(httpx.HTTPError):
            client.get("/git/").raise_for_status()
            return
        raise NotYet("GitWeb does not answer")

    wait_until(back, PATIENCE, "the web to be back")
    for name, count, clients, lost in (
        ("WebDAV", puts, writers, [name for writer in writers for name in writer.lost()]),
        ("git push", pushes, pushers, [c for p in pushers for c in p.lost(folder / f"{p.repository}-clone")]),
    ):
        answered = sum(client.answered for client in clients)
        fault = f"lost: {', '.join(lost[:10])}" if lost else ""
        if answered < count:
            fault = fault or f"{count - answered} had no success within {PATIENCE} s"
        figures = {"sent": count, "tries": sum(client.tries for client in clients), "answered": answered,
                   "lost": len(lost), "s": seconds}  # fmt: skip
        yield Outcome("files", name, figures, fault)


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Upload PUTS files and push PUSHES commits during kills of Apache's processes and container."""
    storm = Storm(Container.of(test_pod, "apache"), scale.random("files"))
    with tempfile.TemporaryDirectory() as folder:
        yield from send(test_pod, scale.count(PUTS), scale.count(PUSHES), storm, Path(folder))
    yield storm.outcome("files")
