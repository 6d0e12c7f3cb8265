"""Certificate changes: each new certificate is soon on every port, and clients are served meanwhile."""

import contextlib
import hashlib
import itertools
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import pytest
from imapclient.exceptions import IMAPClientError

from podserve import endpoints
from podserve.certificates import authority, store
from podserve.certificates.clients import unverified_context
from podserve.certificates.keypair import KeyPair, Secret, archive, new_key
from podserve.choices import KeyType
from podserve.commands import ROOT, run
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.certificates import only
from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, letter, token

TAKE_PAIR = ROOT / "docker/certificates/rootfs/usr/local/bin/take-pair"
"""The program with which `store.take` writes the volume."""
SWAPS = 50
SIZE = 200 * 2**20
"""Bytes of the download."""
SOON = 5.0
"""Seconds until a new certificate must be on every port, and the time limit of each exchange meanwhile.

A new connection to port 443 may wait up to one second for the old workers to exit, because Apache checks for that once
a second. On ports 25 and 587 it may wait one or two seconds, while Postfix replaces its TLS manager.
"""
PAUSE = 0.05
"""Seconds from a successful exchange on a port to the next one."""
MOMENT = 0.1
"""Seconds for which a port may refuse connections."""


@dataclass
class Visitor:
    """A client that connects to one port repeatedly, and records the last certificate, failures and times.

    It comes in turn as a client that gets the ECDSA certificate, and as one that gets the RSA certificate.
    """

    port: str
    shown: str = ""
    visits: int = 0
    refused: list[str] = field(default_factory=list)
    longest: float = 0.0
    """The longest time (s) from the start of a first failed exchange to the start of the next successful one."""
    waited: float = 0.0
    """The longest time (s) that an exchange took."""

    def come(self, test_pod: PodUnderTest, end: threading.Event) -> None:
        """Connect repeatedly until `end` is set."""
        contexts, since = itertools.cycle(clients(test_pod).values()), None
        while not end.is_set():
            begin = time.monotonic()
            answer = endpoints.attempt(test_pod.pod, next(contexts), self.port)
            self.visits += 1
            self.waited = max(self.waited, answer.seconds)
            if answer.ok:
                self.shown = answer.fingerprint
                self.longest = max(self.longest, begin - since if since else 0)
                since = None
            else:
                self.refused.append(f"{time.strftime('%H:%M:%S')}: {answer.error}")
                since = since or begin
                continue
            end.wait(PAUSE)


def clients(test_pod: PodUnderTest) -> dict[str, ssl.SSLContext]:
    """Return the context of a client that gets the certificate of each algorithm: one that knows both gets ECDSA."""
    domain = test_pod.settings.domain
    return {"ec": unverified_context(domain), "rsa": only("rsa", unverified_context(domain))}


@cache
def rsa_key() -> Secret:
    """Return the same RSA key each time: a new one, or one that is read from a file, takes a moment."""
    return new_key(KeyType.RSA2048)


def new_pairs(test_pod: PodUnderTest) -> list[KeyPair]:
    """Return a new key pair of the pod's authority, and a new certificate for the RSA key."""
    folder, names = Folder.at(test_pod.folder("authority")), test_pod.settings.certified_names
    return [authority.issue_for(folder, names, key) for key in (KeyType.EC256, rsa_key())]


def digests(pairs: Sequence[KeyPair]) -> dict[str, str]:
    """Return the fingerprint of each certificate, by its algorithm."""
    return {pair.key.algorithm: pair.certificate.fingerprint for pair in pairs}


def swap(test_pod: PodUnderTest) -> dict[str, str]:
    """Put two new key pairs on the volume and return their digests, without waiting until they are served."""
    pairs = new_pairs(test_pod)
    store.take(test_pod.pod, pairs)
    return digests(pairs)


def swap_at_once(test_pod: PodUnderTest) -> dict[str, str]:
    """Do the same as `swap`, but run take-pair on this host: the start of its container takes as long as a reload."""
    pairs = new_pairs(test_pod)
    run([str(TAKE_PAIR), str(test_pod.folder("certificates")), pairs[0].certificate.serial],
        stdin=archive(pairs).decode("ascii"))  # fmt: skip
    return digests(pairs)


def log_in_again_and_again(test_pod: PodUnderTest, account: Account, end: threading.Event) -> tuple[int, list[str]]:
    """Log in over IMAP until `end` is set. Return the number of attempts, and the errors of those that failed."""
    logins, refused = 0, []
    while not end.is_set():
        logins += 1
        try:
            with test_pod.server.imap(account):
                pass
        except (IMAPClientError, OSError) as error:
            refused.append(repr(error))
    return logins, refused


@contextlib.contextmanager
def large_file(test_pod: PodUnderTest) -> Iterator[tuple[str, str]]:
    """Yield the name and the SHA-256 of a file of SIZE random bytes on the site."""
    file = test_pod.folder("web") / "site" / f"{token()}.bin"
    block = os.urandom(2**20)
    whole = hashlib.sha256()
    with file.open("wb") as stream:
        for _ in range(SIZE // len(block)):
            stream.write(block)
            whole.update(block)
        # Otherwise the first sync of a certificate could have to wait until this file is on disk.
        stream.flush()
        os.fsync(stream.fileno())
    try:
        yield file.name, whole.hexdigest()
    finally:
        file.unlink()


def download(test_pod: PodUnderTest, name: str, pieces: threading.Semaphore) -> tuple[int, str]:
    """Fetch a file of the site. After each MiB, wait for `pieces` to be released. Return the length and the SHA-256."""
    whole, length = hashlib.sha256(), 0
    with test_pod.server.http() as client, client.stream("GET", f"/{name}") as response:
        assert response.status_code == 200
        for piece in response.iter_bytes(2**20):
            whole.update(piece)
            length += len(piece)
            pieces.acquire()
    return length, whole.hexdigest()


@pytest.mark.timeout(300)
def test_fifty_certificates_in_a_row_drop_nobody(test_pod: PodUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "PATIENCE", SOON)
    account, end, pieces = test_pod.new_account(), threading.Event(), threading.Semaphore(0)
    visitors = [Visitor(port) for port in endpoints.tls_ports(test_pod.pod)]
    slowest = 0.0
    with (
        large_file(test_pod) as (name, digest),
        test_pod.server.imap(account) as waiting,
        test_pod.server.smtp() as sender,
        ThreadPoolExecutor(len(visitors) + 2) as pool,
    ):
        before = waiting.select_folder("INBOX")[b"EXISTS"]
        waiting.idle()
        first, second = token(), token()
        sender.send_message(letter(STRANGER, account.address, first))
        coming: list[Future[None]] = [pool.submit(visitor.come, test_pod, end) for visitor in visitors]
        logging_in = pool.submit(log_in_again_and_again, test_pod, account, end)
        downloading = pool.submit(download, test_pod, name, pieces)
        try:
            for _ in range(SWAPS):
                new = swap_at_once(test_pod)
                begin = time.monotonic()

                def everywhere(new: dict[str, str] = new) -> None:
                    behind = [visitor.port for visitor in visitors if visitor.shown not in new.values()]
                    if behind:
                        raise NotYet(f"not yet on {', '.join(behind)}")

                wait_until(everywhere, SOON, "one of the new certificates on every port")
                slowest = max(slowest, time.monotonic() - begin)
                pieces.release(SIZE // 2**20 // SWAPS - 1)
            wait_until_everywhere(test_pod, new)
            assert not downloading.done(), "the download was to last as long as the swaps"
        finally:
            end.set()
            pieces.release(SIZE // 2**20)
        for visit in coming:
            visit.result()
        sender.send_message(letter(STRANGER, account.address, second))
        assert downloading.result() == (SIZE, digest)

        def told() -> None:
            if (before + 2, b"EXISTS") not in waiting.idle_check(timeout=1):
                raise NotYet("not told of the second message")

        wait_until(told, 10, "word of mail that came after the last certificate")
        waiting.idle_done()
        logins, lost = logging_in.result()
    for subject in (first, second):
        assert arrived(test_pod.server, account, subject)
    for visitor in visitors:
        print(
            f"{visitor.port}: {visitor.visits} visits, answered within {visitor.waited:.2f} s, "
            f"for {visitor.longest:.3f} s refused: {visitor.refused}"
        )
    print(f"{logins} logins, refused: {lost}; the slowest certificate was on every port after {slowest:.2f} s")
    assert max(visitor.longest for visitor in visitors) <= MOMENT, visitors
    assert sum(len(visitor.refused) for visitor in visitors) <= SWAPS / 10, visitors
    assert len(lost) <= 1, lost
    assert not [line for line in test_pod.logs().splitlines() if "PRIVATE KEY" in line]


def watch(test_pod: PodUnderTest, service: str) -> dict[str, int]:
    """Return the process ids on this host of a container's on-change for certificates and of its inotifywait."""

    def check() -> dict[str, int]:
        loops = [process for process in test_pod.processes(service)
                 if (process / "comm").read_text().strip() == "on-change"
                 and "/data/state/certificates" in (process / "cmdline").read_text()]  # fmt: skip
        children = [(loop / "task" / loop.name / "children").read_text().split() for loop in loops]
        if len(children) != 1 or len(children[0]) != 1:
            raise NotYet(f"{len(loops)} watches")
        return {"on-change": int(loops[0].name), "inotifywait": int(children[0][0])}

    return wait_until(check, SOON, f"one watch in {service}")


def wait_until_everywhere(test_pod: PodUnderTest, last: dict[str, str], within: float = SOON) -> None:
    """Wait until every TLS port serves these certificates. Raises Problem after `within` seconds."""

    def served() -> None:
        for algorithm, context in clients(test_pod).items():
            answers = endpoints.attempt_all(test_pod.pod, context, endpoints.tls_ports(test_pod.pod))
            if wrong := [answer for answer in answers if answer.fingerprint != last[algorithm]]:
                raise NotYet(str(wrong))

    wait_until(served, within, "the last certificate on every port")


def test_many_certificates_at_once_end_with_the_last_one_served(test_pod: PodUnderTest) -> None:
    for _ in range(4):
        last = swap(test_pod)
    wait_until_everywhere(test_pod, last)


@pytest.mark.parametrize("service", ["apache", "mail"])
@pytest.mark.parametrize("name", ["on-change", "inotifywait"])
def test_a_watch_that_is_killed_is_back_and_misses_nothing(test_pod: PodUnderTest, service: str, name: str) -> None:
    before = watch(test_pod, service)
    os.kill(before[name], signal.SIGKILL)
    last = swap(test_pod)
    port = {"apache": "https", "mail": "imaps"}[service]

    def served() -> None:
        answer = endpoints.attempt(test_pod.pod, unverified_context(test_pod.settings.domain), port)
        if answer.fingerprint != last["ec"]:
            raise NotYet(answer.error or answer.fingerprint)

    wait_until(served, SOON, "the new certificate, by a watch that was just killed")
    assert not set(watch(test_pod, service).values()) & set(before.values())


def test_a_certificate_that_dovecot_could_not_be_told_of_is_served_a_moment_later(test_pod: PodUnderTest) -> None:
    """Dovecot is frozen when the certificate changes. The doveadm that asks it for its processes is killed."""

    def named(name: str) -> list[int]:
        return [int(p.name) for p in test_pod.processes("mail") if (p / "comm").read_text().strip() == name]

    def asking() -> int:
        if not (found := named("doveadm")):
            raise NotYet("nobody asks")
        return found[0]

    frozen = named("dovecot")
    for number in frozen:
        os.kill(number, signal.SIGSTOP)
    try:
        last = swap(test_pod)
        os.kill(wait_until(asking, SOON, "Dovecot to be asked for its processes"), signal.SIGKILL)
    finally:
        for number in frozen:
            os.kill(number, signal.SIGCONT)
    # s6 waits a second before it restarts a service that ended at once.
    wait_until_everywhere(test_pod, last, 2 * SOON)
