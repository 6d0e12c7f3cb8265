"""The loads: limited, from this machine. Each function runs one and returns its throughput."""

import os
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
"""Seconds of a load that is limited by time."""
PATIENCE = 60
"""Seconds after which a load has failed."""
CLIENTS = 8
"""Concurrent connections of a web load."""
SENDERS, MESSAGES, LETTER = 10, 200, 10_000
"""Of a mail load: concurrent sessions, messages, and bytes of a message."""


def _run(*argv: str) -> str:
    """Run a load, and return its output. Raises Problem after PATIENCE: the client hangs."""
    return commands.run(argv, timeout=PATIENCE).stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise Problem(f"the output of the load has no number: expected {pattern!r} in\n{text}")
    return float(found[1])


def cached_names() -> list[str]:
    """Return names that named keeps in its cache after the first query."""
    return ["google.com", "www.google.com", "mail.google.com", "ns.google.com"]


def new_names(count: int) -> list[str]:
    """Return names that no query has used yet and that the test forwarders resolve."""
    once = uuid.uuid4().hex[:12]
    return [f"{once}-{number}.once.example.com" for number in range(count)]


def resolve(side: Side, names: Iterable[str], *, once: bool = False) -> float:
    """Return the queries a second that named answers: repeated queries for the names, or one for each (`once`)."""
    with tempfile.NamedTemporaryFile("w", prefix="names-") as file:
        file.writelines(f"{name} A\n" for name in names)
        file.flush()
        limit = ["-n", "1"] if once else ["-l", str(DURATION)]
        said = _run("dnsperf", "-s", side.server.host, "-d", file.name, "-c", "4", "-t", "5", *limit)
    # UDP loses queries when more arrive than named answers.
    if _number(r"Queries lost:\s+\d+ \(([\d.]+)%", said) > 1 or "NOERROR" not in said:
        raise Problem(f"queries to {side.name} were lost:\n{said}")
    return _number(r"Queries per second:\s+([\d.]+)", said)


def request(side: Side, path: str, requests: int, *options: str, size: int = 0) -> float:
    """Return h2load's requests a second for a path, or MB a second if `size` (bytes) is given.

    The load is limited by a number, not by time: h2load 1.52 does not end a timed load over HTTP/1.1.
    """
    said = _run("h2load", f"--requests={requests}", f"--clients={min(CLIENTS, requests)}", *options,
                f"--connect-to={side.server.host}:443", f"https://{side.server.domain}{path}")  # fmt: skip
    if not re.search(rf" {requests} succeeded, 0 failed, 0 errored", said):
        raise Problem(f"requests to {side.name} for {path} failed:\n{said}")
    return _number(r", ([\d.]+) req/s", said) * (size / 1e6 or 1)


def connect(side: Side, path: str) -> float:
    """Return the requests a second, one after another, each on a new connection."""
    begin = time.perf_counter()
    said = _run(
        "openssl", "s_time", "-connect", f"{side.server.host}:443", "-new", "-time", str(DURATION), "-www", path
    )
    # openssl reports whole seconds.
    return _number(r"(\d+) connections in \d+ real", said) / (time.perf_counter() - begin)


def deliver(side: Side, recipient: str, messages: int = MESSAGES) -> float:
    """Return the messages a second from port 25 into a mailbox."""
    before = side.delivered(recipient)
    process = first_process(side.containers["mail"])
    begin = time.perf_counter()
    # smtp-source is part of Postfix, in the mail image.
    _run("nsenter", f"--mount=/proc/{process}/ns/mnt", "smtp-source", "-s", str(SENDERS), "-m", str(messages),
         "-l", str(LETTER), "-M", "client.example.com", "-f", "sender@example.com", "-t", recipient,
         f"{side.server.host}:25")  # fmt: skip

    def there() -> None:
        found = side.delivered(recipient) - before
        if found < messages:
            raise NotYet(f"{found} of {messages} are there")

    wait_until(there, PATIENCE, f"{messages} messages of {recipient} at {side.name}")
    return messages / (time.perf_counter() - begin)


def curl(side: Side, account: Account | None, path: str, *argv: str) -> None:
    """Run curl, with a login if an account is given. Standard input carries it, so no process list shows it."""
    commands.run(
        ["curl", "--silent", "--show-error", "--fail", "--config", "-", "--cacert", str(side.server.authority),
         "--connect-to", f"::{side.server.host}:443", *argv, f"https://{side.server.domain}{path}"],
        stdin=f'user = "{account.address}:{account.password}"\n' if account else "", timeout=PATIENCE,
    )  # fmt: skip


def rclone(side: Side, account: Account | None, *argv: str, timeout: float = PATIENCE, check: bool = True) -> None:
    """Run rclone, with a login if an account is given. In `argv`, `dav:` is the server's shared folder.

    `timeout` is in seconds. Raises Problem after it, and if rclone fails (only with `check`).
    """
    settings = {"TYPE": "webdav", "VENDOR": "other", "URL": f"https://{side.server.domain}/webdav/"}
    if account:
        hidden = commands.run(["rclone", "obscure", "-"], stdin=account.password).stdout.strip()
        settings |= {"USER": account.address, "PASS": hidden}
    env = {**os.environ, **{f"RCLONE_CONFIG_DAV_{name}": value for name, value in settings.items()},
           "RCLONE_CONFIG": os.devnull, "RCLONE_CA_CERT": str(side.server.authority)}  # fmt: skip
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write(f"{side.server.host} {side.server.domain}\n")
        hosts.flush()
        # rclone resolves the name by a hosts file of its own.
        shell = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec rclone "$@"', hosts.name]
        commands.run([*shell, *argv], env=env, timeout=timeout, check=check)


def log_in(side: Side, account: Account, *, workers: int, duration: float) -> float:
    """Return the IMAPS logins a second of `workers` concurrent clients, during `duration` seconds."""
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
    """Write a file of `size` random bytes, which do not compress, and return its path."""
    with Path("/dev/urandom").open("rb") as noise, (folder / f"{size}.bin").open("wb") as file:
        left = size
        while left:
            left -= file.write(noise.read(min(left, 1 << 20)))
    return folder / f"{size}.bin"
