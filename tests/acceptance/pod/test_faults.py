"""A short version of `nox -s faults`: each kind of process is killed once, while mail is delivered."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from podserve.waiting import NotYet, wait_until
from tests.testbed.concurrency import together
from tests.testbed.git import Git, make
from tests.testbed.outcome import Outcome
from tests.testbed.pod import PodUnderTest
from tests.testbed.recovery import (
    CONTAINER,
    FIRSTS,
    KINDS,
    WORST,
    Scene,
    kill,
    kill_in_a_row,
    kill_kind,
    seconds_until,
)
from tests.testbed.server import Account, token
from tests.testbed.storm import send


@pytest.fixture(scope="module")
def scene(test_pod: PodUnderTest) -> Scene:
    """The pod, with an account and a repository."""
    return Scene.of(test_pod)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_no_mail_is_lost_and_all_is_back_whichever_process_is_killed(
    test_pod: PodUnderTest, scene: Scene, bob: Account
) -> None:
    over, rows = threading.Event(), list[Outcome]()

    def names() -> Iterator[str]:
        while not over.wait(0.1):  # so often that some messages are always in delivery, and the pod is not busy
            yield token()

    def kill_each() -> None:
        try:
            for kind in KINDS:
                rows.append(kill_kind(scene, kind, 1, random.Random(kind.name)))  # noqa: S311  # the same each time
        finally:
            over.set()

    together([kill_each, lambda: rows.append(send(test_pod, [bob], [names(), names()], nullcontext()))])
    *kinds, sent = rows
    assert len(kinds) == len(KINDS)
    assert not [row for row in kinds if float(row.figures["worst s"]) > WORST]
    assert not [row for row in kinds if row.figures["failed"]]
    assert not sent.fault, sent


@pytest.mark.alone
def test_dovecot_is_back_though_a_process_of_the_killed_one_still_listens(scene: Scene) -> None:
    mail = scene.containers["mail"]

    def delivering() -> list[int]:
        """Return the ids of the lmtp processes."""
        found = [number for number, name in mail.processes().items() if name == "dovecot/lmtp"]
        if not found:
            raise NotYet("no process of lmtp")
        return found

    with scene.clients("mail"):  # one of these clients is connected to lmtp
        listening = wait_until(delivering, CONTAINER, "lmtp to serve a client")
        for process in listening:
            os.kill(process, signal.SIGSTOP)
        try:
            kill(mail, "dovecot", random.Random(0))  # noqa: S311  # there is only one such process
            assert seconds_until(scene.letter) < CONTAINER
        finally:
            for process in listening:
                os.kill(process, signal.SIGCONT)


@pytest.mark.alone
@pytest.mark.parametrize(("service", "program", "exchange"), FIRSTS, ids=["apache", "mail", "dns"])
def test_a_killed_container_is_back_within_three_seconds(
    scene: Scene, service: str, program: str, exchange: Callable[[Scene], None]
) -> None:
    row = kill_in_a_row(scene, service, program, exchange, 2)
    assert not row.fault, row


def test_a_lock_of_a_push_that_was_killed_with_its_container_stops_no_other(
    test_pod: PodUnderTest, alice: Account, scene: Scene, tmp_path: Path
) -> None:
    repository = make(test_pod, tmp_path / "work")
    lock = repository.folder / "refs/heads/main.lock"
    lock.touch()
    git = Git(test_pod.server, alice)
    commit = git.commit(repository.work, "Say more", {"more.txt": b"more"})
    push = ("-C", str(repository.work), "push", git.url(repository.name), "main")
    assert "main.lock" in git.run(*push, check=False).stderr

    scene.containers["apache"].kill()

    def pushed() -> None:
        if not git.run(*push, check=False).ok:
            raise NotYet("the push fails")

    wait_until(pushed, 5, "a push to succeed")
    assert repository.tip() == commit
    assert not lock.exists()
