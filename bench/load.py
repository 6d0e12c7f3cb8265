"""The loads, bounded and from this machine: what a client does, and what comes of it."""

import re
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.sides import Side
from podserve import commands
from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.server import Account
from tests.testbed.vantage import first_process

DURATION = 1
"""Seconds that a load lasts which is bounded by time."""
PATIENCE = 60
"""Seconds that it may take at the most."""
CLIENTS = 8
"""Connections at once of a web load."""
SENDERS, MESSAGES, LETTER = 10, 200, 10_000
"""Of a mail load: sessions at once, messages, and bytes of each."""


def _run(*argv: str) -> str:
    """Run a load to its end, and return what it printed. Raises Problem when it takes too long: a client that hangs."""
    return commands.run(argv, timeout=PATIENCE).stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise Problem(f"this was to hold {pattern!r}:\n{text}")
    return float(found[1])


def cached_names() -> list[str]:
    """Return names that are in the cache once they were asked for."""
    return ["google.com", "www.google.com", "mail.google.com", "ns.google.com"]


def new_names(count: int) -> list[str]:
    """Return names that nobody has asked for yet, which the tests' forwarders know."""
    once = uuid.uuid4().hex[:12]
    return [f"{once}-{number}.once.example.com" for number in range(count)]


def resolve(side: Side, names: Iterable[str], *, once: bool = False) -> float:
    """Return how many queries a second named answers: the names over and over, or each `once`."""
    with tempfile.NamedTemporaryFile("w", prefix="names-") as file:
        file.writelines(f"{name} A\n" for name in names)
        file.flush()
        limit = ["-n", "1"] if once else ["-l", str(DURATION)]
        said = _run("dnsperf", "-s", side.server.host, "-d", file.name, "-c", "4", "-t", "5", *limit)
    # It is UDP: some are lost where more come than are answered.
    if _number(r"Queries lost:\s+\d+ \(([\d.]+)%", said) > 1 or "NOERROR" not in said:
        raise Problem(f"queries to {side.name} were lost:\n{said}")
    return _number(r"Queries per second:\s+([\d.]+)", said)


def request(side: Side, path: str, requests: int, *options: str, size: int = 0) -> float:
    """Return h2load's requests a second for a path, or MB a second where its `size` (bytes) is given.

    So many requests, and no duration: h2load 1.52 does not end when the time of a load by HTTP/1.1 is over.
    """
    said = _run("h2load", f"--requests={requests}", f"--clients={min(CLIENTS, requests)}", *options,
                f"--connect-to={side.server.host}:443", f"https://{side.server.domain}{path}")  # fmt: skip
    if not re.search(rf" {requests} succeeded, 0 failed, 0 errored", said):
        raise Problem(f"requests to {side.name} for {path} failed:\n{said}")
    return _number(r", ([\d.]+) req/s", said) * (size / 1e6 or 1)


def connect(side: Side, path: str) -> float:
    """Return how many requests a second are answered on connections of their own, one after another."""
    begin = time.perf_counter()
    said = _run(
        "openssl", "s_time", "-connect", f"{side.server.host}:443", "-new", "-time", str(DURATION), "-www", path
    )
    # It says whole seconds.
    return _number(r"(\d+) connections in \d+ real", said) / (time.perf_counter() - begin)


def deliver(side: Side, recipient: str, messages: int = MESSAGES) -> float:
    """Return how many messages a second come from port 25 into a mailbox."""
    new = side.mailbox(recipient) / "new"
    before = len(list(new.glob("*"))) if new.exists() else 0
    process = first_process(side.containers["mail"])
    begin = time.perf_counter()
    # Postfix's own program, which the mail image has.
    _run("nsenter", f"--mount=/proc/{process}/ns/mnt", "smtp-source", "-s", str(SENDERS), "-m", str(messages),
         "-l", str(LETTER), "-M", "client.example.com", "-f", "sender@example.com", "-t", recipient,
         f"{side.server.host}:25")  # fmt: skip

    def there() -> None:
        found = len(list(new.glob("*"))) - before
        if found < messages:
            raise NotYet(f"{found} of {messages} are there")

    wait_until(there, 20, f"{messages} messages in {new}")
    return messages / (time.perf_counter() - begin)


def log_in(side: Side, account: Account, *, workers: int, duration: float) -> float:
    """Return how many IMAPS logins a second are answered, by so many clients at once."""
    end = time.perf_counter() + duration
    lock, done = threading.Lock(), 0

    def worker(_: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            with side.server.imap(account):
                pass
            with lock:
                done += 1

    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(worker, range(workers)))
    return done / (time.perf_counter() - begin)


def file_of(folder: Path, size: int) -> Path:
    """Make a file of so many bytes that nothing makes smaller, and return it."""
    with Path("/dev/urandom").open("rb") as noise, (folder / f"{size}.bin").open("wb") as file:
        left = size
        while left:
            left -= file.write(noise.read(min(left, 1 << 20)))
    return folder / f"{size}.bin"
