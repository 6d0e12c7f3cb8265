"""Growth: the same operations with more accounts, aliases, messages and repositories."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure, Goal
from bench.running import ROUNDS, seconds
from bench.sides import Side, pod_of
from podserve import aliases
from podserve.accounts import Accounts
from podserve.backup import snapshot
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.git import Git, give, serve
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, letter

SECTION = "growth"
ACCOUNTS = 10, 1_000, 5_000
ALIASES = 10, 5_000
MESSAGES = 100, 10_000, 100_000
REPOSITORIES = 10, 100, 500
FLAT = 1.5
"""The maximum ratio of a time to the time of the size before, for operations whose time must not grow."""
LINEAR = 1.2
"""The maximum ratio to linear growth, for all other operations. The margin is for noise."""


def _figures(
    name: str, unit: str, sizes: Sequence[int], taken: Sequence[Sequence[float]], *, flat: bool = False
) -> Iterator[Figure]:
    """Yield a figure for each size. The alternative of each but the first is the size before."""
    for number, (size, runs) in enumerate(zip(sizes, taken, strict=True)):
        title = f"{name} {size:,}"
        if number == 0:
            yield Figure(SECTION, title, unit, runs)
            continue
        before = sizes[number - 1]
        most = FLAT if flat else LINEAR * size / before
        yield Figure(SECTION, title, unit, runs, f"with {before:,}", taken[number - 1], Goal("ratio", most))


def _deliver_one(side: Side, account: Account) -> float:
    """Return the seconds from the connection to port 25 until the message is in the mailbox."""
    return 1 / load.deliver(side, account.address, 1)


def _log_in(side: Side, account: Account) -> float:
    def act() -> None:
        with side.server.imap(account):
            pass

    return seconds(act)


def _write_accounts(test_pod: PodUnderTest, account: Account, count: int) -> float:
    """Add accounts with the password of `account` until there are `count`; return the seconds until Postfix has all.

    Adding them one by one would compute a hash for each. So this writes the whole file, as podserve.accounts does.
    """
    folder = test_pod.folder("accounts")
    hashes = Accounts(Folder.at(folder)).hashes()
    domain = test_pod.server.domain
    made = {f"{uuid.uuid4().hex[:16]}@{domain}": hashes[account.address] for _ in range(count - len(hashes))}
    file, new = folder / "passwd", folder / "passwd.new"
    shutil.copy2(file, new)
    shutil.chown(new, *(file.stat().st_uid, file.stat().st_gid))
    new.write_text("".join(f"{name}:{hashed}\n" for name, hashed in sorted({**hashes, **made}.items())))
    last = max(made)

    def known() -> None:
        if not test_pod.exec("mail", "postmap", "-q", last, "lmdb:/run/postfix/mailboxes", check=False).ok:
            raise NotYet("Postfix does not know it")

    def change() -> None:
        new.rename(file)
        wait_until(known, 30, f"{last} to be in use")

    return seconds(change)


def _repeated(act: Callable[[], float]) -> list[float]:
    act()  # the first call reads what has changed
    return [act() for _ in range(ROUNDS)]


def accounts(test_pod: PodUnderTest, pod: Side, account: Account) -> Iterator[Figure]:
    """Log in and deliver with few and with many accounts. The times must not grow."""
    logins, deliveries = [], []
    for count in ACCOUNTS:
        _write_accounts(test_pod, account, count)
        logins.append(_repeated(lambda: _log_in(pod, account)))
        deliveries.append(_repeated(lambda: _deliver_one(pod, account)))
    yield from _figures("login, accounts", "s", ACCOUNTS, logins, flat=True)
    yield from _figures("delivery, accounts", "s", ACCOUNTS, deliveries, flat=True)


def _write_aliases(test_pod: PodUnderTest, account: Account, count: int) -> str:
    """Replace the aliases by `count`, which all lead to an account; return one when Postfix has all."""
    domain, folder = test_pod.server.domain, test_pod.folder("accounts")
    made = sorted(f"{uuid.uuid4().hex[:16]}@{domain}" for _ in range(count))
    with Folder.at(folder).replacing(aliases.FILE, 0o600) as file:
        file.writelines(f"{name} {account.address}\n".encode() for name in made)

    def known() -> str:
        if not test_pod.exec("mail", "postmap", "-q", made[-1], "lmdb:/run/postfix/aliases", check=False).ok:
            raise NotYet("Postfix does not know it")
        return made[-1]

    return wait_until(known, 30, f"{made[-1]} to be in use")


def many_aliases(test_pod: PodUnderTest, pod: Side, account: Account) -> Iterator[Figure]:
    """Log in, deliver, and send as an alias, with few and with many aliases. The times must not grow."""
    logins, deliveries, sent = [], [], []
    for count in ALIASES:
        alias = _write_aliases(test_pod, account, count)

        def send(sender: str) -> None:
            with pod.server.submission(account) as client:
                client.send_message(letter(sender, account.address, uuid.uuid4().hex))

        logins.append(_repeated(lambda: _log_in(pod, account)))
        deliveries.append(_repeated(lambda: _deliver_one(pod, account)))
        sent.append(_repeated(partial(seconds, partial(send, alias))))
    yield from _figures("login, aliases", "s", ALIASES, logins, flat=True)
    yield from _figures("delivery, aliases", "s", ALIASES, deliveries, flat=True)
    yield from _figures("message sent as an alias, aliases", "s", ALIASES, sent, flat=True)


def _fill(cur: Path, count: int) -> None:
    """Add messages to a Maildir until there are `count`. They are links to a few files, which is fast on any disk."""
    owner = cur.stat()
    template, text = cur.parent / "tmp" / uuid.uuid4().hex, "Subject: bench\nFrom: sender@example.com\n\nHello.\n"
    there = len(list(cur.iterdir()))
    for number in range(there, count):
        # ext4 allows at most 65,000 links to a file, and a backup doubles the number.
        if number == there or number % 25_000 == 0:
            template = template.with_name(uuid.uuid4().hex)
            template.write_text(text)
            os.chown(template, owner.st_uid, owner.st_gid)
        os.link(template, cur / f"1700000000.M{number}P1.bench,S={len(text)}:2,S")


def open_mailbox(side: Side, account: Account, messages: int) -> float:
    """Return the seconds that a logged-in client needs to open the mailbox and list the newest 50 messages."""
    with side.server.imap(account) as client:
        client.use_uid = False  # number messages by their position

        def act() -> None:
            count = int(client.select_folder("INBOX")[b"EXISTS"])
            found = client.fetch(list(range(count - 49, count + 1)), ["FLAGS", "ENVELOPE"])
            if count < messages or len(found) != 50:  # noqa: PLR2004  # as the docstring says
                raise Problem(f"{count} of {messages} messages were there, and {len(found)} of the newest 50 listed")

        return seconds(act)


def _open_anew(side: Side, account: Account, messages: int) -> float:
    """Do the same after removing Dovecot's index files."""
    for known in side.mailbox(account.address).glob("dovecot*"):
        known.unlink()
    return open_mailbox(side, account, messages)


def _link(test_pod: PodUnderTest) -> float:
    """Return the seconds for which a backup pauses the pod while it links the mail."""
    with snapshot.scratch(test_pod.pod, "bench") as folder:
        return seconds(
            lambda: snapshot.hold("mail", Folder.at(test_pod.folder("mail")), folder.ensure("mail", 0o755, 0))
        )


def mailbox(test_pod: PodUnderTest, pod: Side, account: Account) -> Iterator[Figure]:
    """Open a mailbox, deliver to it and back it up, at each size."""
    _deliver_one(pod, account)  # creates the mailbox
    firsts, opens, deliveries, pauses = [], [], [], []
    for count in MESSAGES:
        _fill(pod.mailbox(account.address) / "cur", count)
        firsts.append(_repeated(partial(_open_anew, pod, account, count)))
        opens.append(_repeated(partial(open_mailbox, pod, account, count)))
        deliveries.append(_repeated(lambda: _deliver_one(pod, account)))
        pauses.append(_repeated(lambda: _link(test_pod)))
    yield from _figures("mailbox opened without its index, messages", "s", MESSAGES, firsts)
    yield from _figures("mailbox opened, messages", "s", MESSAGES, opens)
    yield from _figures("delivery to a mailbox, messages", "s", MESSAGES, deliveries)
    yield from _figures("pause for a backup, messages", "s", MESSAGES, pauses)


def repositories(pod: Side) -> Iterator[Figure]:
    """Request the list of all repositories and the page of one, at each number of repositories."""
    folder = pod.web / "git"
    for old in folder.glob("*.git"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "work"
        Git(pod.server).commit(work, "Say", {"file.txt": b"Hello.\n"})
        first = folder / "r0.git"
        serve(work, first, public=True)
    lists, summaries = [], []
    with pod.server.http() as client:

        def get(path: str) -> float:
            return seconds(lambda: client.get(path).raise_for_status())

        for count in REPOSITORIES:
            for number in range(len(list(folder.glob("*.git"))), count):
                made = folder / f"r{number}.git"
                shutil.copytree(first, made)
                give(made)
            lists.append(_repeated(partial(get, "/git/")))
            summaries.append(_repeated(partial(get, "/git/r0.git")))
    yield from _figures("GitWeb's list, repositories", "s", REPOSITORIES, lists)
    yield from _figures("GitWeb's summary, repositories", "s", REPOSITORIES, summaries, flat=True)


def measure(test_pod: PodUnderTest) -> Iterator[Figure]:
    """Yield the figures of repositories, a mailbox, aliases and accounts."""
    pod = pod_of(test_pod)
    yield from repositories(pod)
    yield from mailbox(test_pod, pod, test_pod.new_account())
    yield from many_aliases(test_pod, pod, test_pod.new_account())
    yield from accounts(test_pod, pod, test_pod.new_account())
