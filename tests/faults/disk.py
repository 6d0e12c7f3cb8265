"""A full volume: nothing accepted is lost, stored data stays readable, and service resumes with space again."""

import os
import re
import smtplib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from podserve.accounts import ROUNDS
from podserve.commands import podman
from podserve.configuration import load
from podserve.manifests import defaults
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from tests.faults.line import RETRY
from tests.testbed.mail import STRANGER, arrived, queued, wait_until_left
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import letter, token

SECTION = "disk"
PURPOSE = "-full"
SIZE = 160
"""MiB of each small volume. Postfix needs free space of 1.5 times the largest message; this is twice that."""
SENT = 20
LARGE = ("x" * 70 + "\n") * 30_000
"""The text of a message that is larger than the few bytes that may become free on a full disk."""
OLD = "what was there before, all of it\n" * 1000


@contextmanager
def _small_pod() -> Iterator[PodUnderTest]:
    """Yield a pod whose mail and web volumes have SIZE MiB each, in memory."""
    own = Pod.of(load({"pod": f"podserve-test-{os.getpid()}{PURPOSE}"}, defaults(), {}))
    small = [own.volumes[content].name for content in ("mail", "web")]
    for name in small:
        # The size is in blocks of 4 KiB, because Podman 4.3.1 reads the option `size` as a quota.
        options = "type=tmpfs", "device=tmpfs", f"o=nr_blocks={SIZE * 256},mode=0755"
        podman("volume", "create", *(f"--opt={option}" for option in options), name)
    try:
        with play_test_pod(PURPOSE, cost=ROUNDS) as test_pod:
            yield test_pod
    finally:
        for name in small:
            podman("volume", "rm", "--force", name, check=False)


@contextmanager
def _full(test_pod: PodUnderTest, service: str, folder: str) -> Iterator[None]:
    """Fill a folder of a container to its last byte until the context ends."""
    filler = f"{folder}/filler"
    test_pod.exec(service, "sh", "-c", f"cat /dev/zero > {filler}", check=False)
    try:
        yield
    finally:
        test_pod.exec(service, "rm", "-f", filler)


def _codes(test_pod: PodUnderTest, count: int) -> list[int]:
    """Send messages to port 25, and return the reply code of each."""
    codes = []
    for _ in range(count):
        with test_pod.server.smtp() as client:
            try:
                client.send_message(letter(STRANGER, test_pod.postmaster.address, token()))
                codes.append(250)
            except smtplib.SMTPSenderRefused as error:
                codes.append(error.smtp_code)
            except smtplib.SMTPRecipientsRefused as error:
                codes.append(next(iter(error.recipients.values()))[0])
            except smtplib.SMTPResponseException as error:
                codes.append(error.smtp_code)
    return codes


def _told(test_pod: PodUnderTest, volume: str) -> bool:
    """Return whether `status` reports 0 MiB free on a volume, and exits with 1."""
    said = test_pod.invoke("status", check=False)
    nothing_left = rf"\b0 MiB are free for [^:]*{re.escape(test_pod.pod.volumes[volume].name)}"
    return said.code == 1 and re.search(nothing_left, " ".join(said.stdout.split())) is not None


def _delivery_put_off(test_pod: PodUnderTest, subject: str) -> None:
    """Put a message into the queue and defer its delivery."""
    test_pod.exec("mail", "sh", "-c", "postconf -e defer_transports=lmtp && postfix reload")
    with test_pod.server.smtp() as client:
        client.send_message(letter(STRANGER, test_pod.postmaster.address, subject, LARGE))

    def deferred() -> None:
        if '"queue_name": "deferred"' not in test_pod.exec("mail", "postqueue", "-j").stdout:
            raise NotYet("it is not deferred")

    wait_until(deferred, 20, "a letter to be in the queue")
    test_pod.exec("mail", "sh", "-c", "postconf -X defer_transports && postfix reload")


def _delivered(test_pod: PodUnderTest, subject: str) -> tuple[float, str]:
    """Wait until the queue is empty and the message is in the mailbox; return the seconds, and the error if any."""
    begin = time.monotonic()
    try:
        wait_until_left(test_pod, test_pod.postmaster.address, RETRY, "what was in the queue to be delivered by itself")
        arrived(test_pod.server, test_pod.postmaster, subject)
    except Exception as error:  # noqa: BLE001  # the row of the table shows it
        return time.monotonic() - begin, str(error)
    return time.monotonic() - begin, ""


def _first(*faults: tuple[bool, str]) -> str:
    """Return the text of the first fault that is present, or an empty text."""
    return next((text for there, text in faults if there), "")


def _mail(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    word, waiting = token(), token()
    with test_pod.server.smtp() as client:
        client.send_message(letter(STRANGER, test_pod.postmaster.address, word))
    before = arrived(test_pod.server, test_pod.postmaster, word)
    _delivery_put_off(test_pod, waiting)
    with _full(test_pod, "mail", "/var/mail/vhosts"):
        told = _told(test_pod, "mail")
        codes = _codes(test_pod, scale.count(SENT))
        test_pod.exec("mail", "postqueue", "-f")
        same = arrived(test_pod.server, test_pod.postmaster, word) == before
        with test_pod.server.pop3(test_pod.postmaster) as mailbox:
            same = same and mailbox.stat()[0] >= 1
        kept = len(queued(test_pod, test_pod.postmaster.address))
    again = _codes(test_pod, 1)
    seconds, late = _delivered(test_pod, waiting)
    refused = sum(code // 100 == 4 for code in codes)
    fault = _first(
        (refused < len(codes), f"answered {sorted(set(codes))}: expected 4xx"),
        (not same, "what was there cannot be read"),
        (kept != 1, f"{kept} letters in the queue: expected 1"),
        (again != [250], f"with space again answered {again[0]}"),
        (not told, "invoke status does not tell"),
        (bool(late), late),
    )
    figures = {"sent": len(codes), "refused with 4xx": refused, "queued one after s": seconds}
    yield Outcome(SECTION, "mail volume full", figures, fault)


def _web(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    path = f"/webdav/{token()}.txt"
    with test_pod.server.http(test_pod.postmaster) as client:
        client.put(path, content=OLD).raise_for_status()
        with _full(test_pod, "apache", "/data/web"):
            told = _told(test_pod, "web")
            statuses = [client.put(path, content=b"x" * 2**20).status_code for _ in range(scale.count(SENT))]
            kept = client.get(path).text == OLD
            site = client.get("/").status_code
        again = client.put(path, content="new").status_code
    fault = _first(
        (set(statuses) != {507}, f"answered {sorted(set(statuses))}: expected 507"),
        (not kept, "the old file is not whole"),
        ((site, again) != (200, 204), f"the site {site}, with space again {again}: expected 200, 204"),
        (not told, "invoke status does not tell"),
    )
    figures: dict[str, str | float] = {"sent": len(statuses), "refused with 507": statuses.count(507)}
    yield Outcome(SECTION, "web volume full", figures, fault)


def run(_own: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Fill the volumes of a second pod."""
    with _small_pod() as test_pod:
        yield from _mail(test_pod, scale)
        yield from _web(test_pod, scale)
