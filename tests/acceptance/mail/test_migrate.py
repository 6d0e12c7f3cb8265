"""users.migrate: what arrives of a mailbox on another server, what a second run copies, and what is refused."""

import datetime as dt
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from imapclient import IMAPClient

from podserve.commands import ROOT, lines
from podserve.errors import Problem
from podserve.waiting import NotYet, wait_until
from tests.testbed.old_host import OldHost, old_host
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token

FLAGS = ((), (b"\\Seen",), (b"\\Flagged", b"$Label"), (b"\\Answered", b"\\Seen"), (b"\\Draft",))
THERE_AND_HERE = {
    "INBOX": "INBOX",
    "INBOX.Sent": "Sent",
    "INBOX.Grüße": "Grüße",
    "INBOX.Grüße.日本 & Co": "Grüße/日本 & Co",
    "INBOX.empty": "empty",
}
COUNT = 2500
"""Messages that are copied in several batches."""
BEGIN = dt.datetime(2019, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
Content = dict[str, list[tuple[tuple[bytes, ...], dt.datetime, bytes]]]


@pytest.fixture(scope="module")
def old(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldHost]:
    """The server that people come from."""
    with old_host(test_pod, tmp_path_factory.mktemp("old")) as made:
        yield made


def put(client: IMAPClient, folder: str, number: int = 0) -> None:
    """Put a message into a folder, with flags and date by its number."""
    message = letter("someone@example.com", "old@example.com", token(), "Grüße.\n").as_bytes()
    client.append(folder, message, FLAGS[number % len(FLAGS)], BEGIN + dt.timedelta(days=number))


def fill(server: Server, user: Account) -> None:
    """Put messages with all flags into all folders but the last one."""
    with server.imap(user) as client:
        for folder in THERE_AND_HERE:
            if not client.folder_exists(folder):
                client.create_folder(folder)
        for folder in list(THERE_AND_HERE)[:-1]:
            for number in range(len(FLAGS)):
                put(client, folder, number)


def content(server: Server, user: Account) -> Content:
    """Return the messages of each folder: flags, date, text."""
    found: Content = {}
    with server.imap(user) as client:
        for flags, _, name in client.list_folders():
            if b"\\Noselect" in flags or b"\\NonExistent" in flags:
                continue
            client.select_folder(name, readonly=True)
            uids = client.search()
            there = client.fetch(uids, ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"]).values() if uids else []
            found[name] = sorted(
                (tuple(sorted(set(one[b"FLAGS"]) - {b"\\Recent"})), one[b"INTERNALDATE"], one[b"BODY[]"])
                for one in there
            )
    return found


def words(old: OldHost, user: Account, account: Account) -> tuple[str, ...]:
    """Return the task's words."""
    return ("users.migrate", account.address, "--from", old.origin, "--user", user.address, "--password-stdin",
            "--ca", str(old.authority))  # fmt: skip


def migrate(test_pod: PodUnderTest, old: OldHost, user: Account, account: Account) -> list[str]:
    """Run the task, and return its lines."""
    return test_pod.invoke(*words(old, user, account), stdin=f"{old.password}\n").stdout.splitlines()


def test_all_folders_arrive_with_flags_and_dates_and_nothing_changes_there(
    test_pod: PodUnderTest, old: OldHost, new_account: Account
) -> None:
    user = old.new_user()
    fill(old.server, user)
    before = content(old.server, user)
    assert set(before) == set(THERE_AND_HERE)
    said = migrate(test_pod, old, user, new_account)
    assert "Grüße/日本 & Co: 5 of 5" in said
    here = content(test_pod.server, new_account)
    assert {there: here[name] for there, name in THERE_AND_HERE.items()} == before
    assert {name for name, messages in here.items() if messages} == set(list(THERE_AND_HERE.values())[:-1])
    assert content(old.server, user) == before
    with test_pod.server.imap(new_account) as client:
        assert set(THERE_AND_HERE.values()) <= {name for _, _, name in client.list_sub_folders()}
    log = test_pod.invoke("users.log", "--name", new_account.address).stdout
    assert f" users.migrate {new_account.address} {user.address} at {old.server.domain}\n" in log


def test_a_second_run_copies_only_what_is_new_and_brings_nothing_back(
    test_pod: PodUnderTest, old: OldHost, new_account: Account
) -> None:
    user, server = old.new_user(), test_pod.server
    fill(old.server, user)
    migrate(test_pod, old, user, new_account)
    with server.imap(new_account) as client:
        put(client, "INBOX", 7)
        client.select_folder("INBOX")
        first, second, third, *_ = client.search()
        client.move([first], "Sent")
        client.delete_messages([second])
        client.expunge([second])
        client.add_flags([third], [b"$Mine"])
    before = content(server, new_account)
    said = migrate(test_pod, old, user, new_account)
    assert all(line.endswith(": nothing new") for line in said), said
    assert content(server, new_account) == before
    with old.server.imap(user) as client:
        put(client, "INBOX", 9)
        put(client, "INBOX.empty", 8)
    said = migrate(test_pod, old, user, new_account)
    assert {"INBOX: 1 of 1", "empty: 1 of 1", "Sent: nothing new"} <= set(said)
    after = content(server, new_account)
    new = [(name, message) for name, messages in after.items() for message in messages if message not in before[name]]
    dates = {name: message[1].date() for name, message in new}
    assert dates == {"INBOX": BEGIN.date() + dt.timedelta(days=9), "empty": BEGIN.date() + dt.timedelta(days=8)}
    assert sum(map(len, after.values())) == sum(map(len, before.values())) + 2


def begun(test_pod: PodUnderTest, old: OldHost, user: Account, account: Account) -> Generator[str, None, None]:
    """Begin to copy COUNT new messages by the task, in a process of its own; return its lines after the first batch."""
    old.put(user, COUNT)
    argv = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words(old, user, account)]
    coming = lines(argv, env=test_pod.environment, stdin=f"{old.password}\n")
    assert next(line for line in coming if line.startswith("INBOX: ")) == f"INBOX: 1000 of {COUNT}"
    return coming


def end_the_task(coming: Iterator[str], test_pod: PodUnderTest) -> None:
    """End the task as Ctrl-C does."""
    del test_pod
    coming.close()  # type: ignore[attr-defined]  # a generator


def kill_the_copy(coming: Iterator[str], test_pod: PodUnderTest) -> None:
    """Kill what copies, in the container."""
    test_pod.exec("mail", "pkill", "-KILL", "-U", "vmail", "-x", "doveadm|migrate")
    with pytest.raises(Problem, match="ended with exit code"):
        list(coming)


@pytest.mark.parametrize("end", [end_the_task, kill_the_copy])
def test_a_copy_that_is_killed_half_way_is_completed_by_the_next_one_and_tells_nobody_the_password(
    test_pod: PodUnderTest, old: OldHost, new_account: Account, end: Callable[[Iterator[str], PodUnderTest], None]
) -> None:
    user = old.new_user()
    coming = begun(test_pod, old, user, new_account)
    secret = old.password.encode()
    telling = [file for file in Path("/proc").glob("[0-9]*/cmdline") if secret in content_of(file)]
    assert telling == []
    end(coming, test_pod)

    def ended() -> None:
        if test_pod.exec("mail", "pgrep", "-U", "vmail", "-x", "doveadm|migrate", check=False).ok:
            raise NotYet("it goes on")

    wait_until(ended, 20, "the copy in the container to end with its task")
    with test_pod.server.imap(new_account) as client:
        assert 1000 <= client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"] < COUNT
    assert migrate(test_pod, old, user, new_account)[-1].startswith("INBOX: ")
    here, there = content(test_pod.server, new_account), content(old.server, user)
    assert here["INBOX"] == there["INBOX"]
    places = "/tmp", "/run", f"/var/mail/vhosts/{test_pod.settings.domain}"  # noqa: S108  # in the container
    found = test_pod.exec("mail", "grep", "-rlF", "--devices=skip", "--", old.password, *places, check=False)
    assert found.stdout == ""
    assert old.password not in test_pod.logs()


def content_of(file: Path) -> bytes:
    """Return the content of a file that may be gone."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("changed", "password", "told"),
    [
        ({}, "wrong", "AUTHENTICATIONFAILED"),
        ({"--ca": ""}, "", "Received invalid SSL certificate"),
        ({"--from": "imaps://{address}"}, "", "is no mail server to copy from: expected imaps://HOST"),
        ({"--from": "imaps://mail.{domain}"}, "", "Received invalid SSL certificate"),
        ({"--from": "imap://{name}"}, "", "is no mail server to copy from: expected imaps://HOST"),
        ({"--from": "imaps://nowhere.sethlakowske.com"}, "", "dns_lookup(nowhere.sethlakowske.com) failed"),
        ({"--user": ""}, "", "--user is missing"),
        ({"--ca": "/dev/null"}, "", "/dev/null has no certificate"),
        ({"": "nobody"}, "", "there is no account nobody@"),
    ],
)
def test_a_wrong_server_password_certificate_or_account_is_refused_and_changes_nothing(  # noqa: PLR0913,PLR0917
    test_pod: PodUnderTest, old: OldHost, new_account: Account, changed: dict[str, str], password: str, told: str
) -> None:
    user = old.new_user()
    fill(old.server, user)
    options = {"": new_account.address, "--from": old.origin, "--user": user.address, "--ca": str(old.authority)}
    names = {"address": old.server.host, "domain": test_pod.settings.domain, "name": old.server.domain}
    options |= {option: value.format(**names) for option, value in changed.items()}
    given = [word for option, value in options.items() if value for word in (option, value) if word]
    log = test_pod.invoke("users.log").stdout
    refused = test_pod.invoke(
        "users.migrate", *given, "--password-stdin", stdin=f"{password or old.password}\n", check=False
    )
    assert refused.code == 1
    assert told in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert old.password not in refused.stdout + refused.stderr
    assert test_pod.invoke("users.log").stdout == log
    assert not any(content(test_pod.server, new_account).values())


def test_an_old_host_whose_certificate_is_for_another_name_is_refused(
    test_pod: PodUnderTest, old: OldHost, new_account: Account
) -> None:
    other, user = f"{token()}.sethlakowske.com", old.new_user()
    test_pod.name_addresses({old.server.domain: old.server.host, other: old.server.host})
    given = [word.replace(old.server.domain, other) for word in words(old, user, new_account)]
    refused = test_pod.invoke(*given, stdin=f"{old.password}\n", check=False)
    assert refused.code == 1
    assert f"SSL certificate doesn't match expected host name {other}" in refused.stdout + refused.stderr


def test_a_server_that_goes_away_is_told_and_the_next_run_completes_the_copy(
    test_pod: PodUnderTest, old: OldHost, new_account: Account
) -> None:
    user = old.new_user()
    coming = begun(test_pod, old, user, new_account)
    with old.gone(), pytest.raises(Problem, match="ended with exit code 1"):
        list(coming)
    assert f"INBOX: {COUNT} of {COUNT}" not in migrate(test_pod, old, user, new_account)
    assert content(test_pod.server, new_account)["INBOX"] == content(old.server, user)["INBOX"]
