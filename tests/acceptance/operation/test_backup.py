"""Backup and restore: clients see the same data after a restore, and a bad archive is refused without any change."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from podserve import volumes
from podserve.commands import Result, podman, run
from podserve.waiting import NotYet, wait_until
from tests.testbed import crafted
from tests.testbed.crafted import Member, plain
from tests.testbed.envelopes import answer
from tests.testbed.git import Git, make
from tests.testbed.household import Size, arriving, mailbox, settle
from tests.testbed.mail import STRANGER, arrived
from tests.testbed.pod import PodUnderTest, play_test_pod, volumes_of
from tests.testbed.server import Account, letter, token
from tests.testbed.tokens import LOGIN_PORTS, accepting

PROPERTY = '<note xmlns="https://example.com/">{}</note>'
PROPPATCH = f'<propertyupdate xmlns="DAV:"><set><prop>{PROPERTY.format("A description")}</prop></set></propertyupdate>'
PROPFIND = f'<propfind xmlns="DAV:"><prop>{PROPERTY.format("")}</prop></propfind>'


@pytest.fixture(scope="module")
def home() -> Iterator[PodUnderTest]:
    """A pod for this module only, because its tests delete and replace the volumes."""
    with play_test_pod("-home") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for archives."""
    return tmp_path


def signed_sender(home: PodUnderTest, *, alias_of: Account) -> str:
    """Add an alias that leads to an account and elsewhere; return the sender that forwarded mail of STRANGER has."""
    home.invoke("aliases.add", token(), f"{alias_of.address},someone@example.com")

    def signed() -> str:
        found = home.exec("mail", "postmap", "-q", STRANGER, "tcp:127.0.0.1:10001", check=False).stdout.strip()
        if not found.startswith("SRS0="):
            raise NotYet(f"{found!r}")
        return found

    return wait_until(signed, 5, "the daemon that signs senders")


def test_all_comes_back_as_clients_knew_it(home: PodUnderTest, folder: Path) -> None:
    household, bob = settle(home, folder, Size(1, messages=4, files=3, repositories=1)), home.new_account()
    limited = home.new_account()
    home.invoke("users.quota", limited.address, "2G")
    home.invoke("users.disable", limited.address)
    before, listed = household.seen(home), limits(home)
    assert before["queue"]
    assert listed == {limited.address: (True, 2 * 2**30)}
    authority = (home.folder("certificates") / "current" / "ca.crt").read_text()
    described = f"/webdav/{household.files[0]}"
    with home.server.http(household.accounts[0]) as client:
        assert client.request("PROPPATCH", described, content=PROPPATCH).status_code == 207

    phone = replace(bob, password=home.invoke("users.token", bob.address, "phone").stdout.splitlines()[0])

    alias, returned = f"{token()}@{home.server.domain}", signed_sender(home, alias_of=bob)
    home.invoke("aliases.add", alias, bob.address)
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
    assert not volumes_of(home.name)
    restored = home.invoke("restore", str(file))
    assert "is up" in restored.stdout

    assert household.seen(home) == before
    assert limits(home) == listed
    assert accepting(home, phone) == set(LOGIN_PORTS)
    home.invoke("users.enable", limited.address)
    with home.server.http(limited) as client:
        assert client.get("/webdav/").status_code == 200
    with home.server.http(household.accounts[0]) as client:
        found = client.request("PROPFIND", described, headers={"Depth": "0"}, content=PROPFIND).text
        assert ">A description<" in found
    # Clients trust certificates that the same authority issues later.
    home.invoke("certs.issue")
    (folder / "ca.crt").write_text(authority)
    with replace(home.server, authority=str(folder / "ca.crt")).imap(bob):
        pass
    assert arrived(home.server, bob, subject)
    with home.server.smtp() as client:
        client.send_message(letter(STRANGER, alias, subject := token()))
    assert arrived(home.server, bob, subject)
    # A bounce of mail that an alias had forwarded before the backup.
    with home.server.smtp() as client:
        assert answer(client, "", returned) == 250
    kept = [message for _, _, message in mailbox(home.server, bob)["INBOX"][1].values()]
    assert all(any(one.encode() in message for message in kept) for one in acknowledged)


def limits(home: PodUnderTest) -> dict[str, tuple[bool, int | None]]:
    """Return of each account that is disabled or has a quota whether it is disabled, and its quota in bytes."""
    there = json.loads(home.invoke("users.list", "--json").stdout)["accounts"]
    found = {account["address"]: (account["disabled"], account["quota"]) for account in there}
    return {address: limited for address, limited in found.items() if limited != (False, None)}


def refused(home: PodUnderTest, *argv: str) -> Result:
    """Check that a task fails without a traceback and leaves a healthy pod, and return its result."""
    result = home.invoke(*argv, check=False)
    assert not result.ok
    assert "Traceback" not in result.stderr
    # After a failed backup, status reports this failure; it must report nothing else.
    problems = json.loads(home.invoke("status", "--json", check=False).stdout)["problems"]
    assert [problem for problem in problems if not problem.startswith("the last backup failed")] == []
    return result


def test_a_pod_that_keeps_something_is_not_replaced_unasked(home: PodUnderTest, folder: Path) -> None:
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


def test_a_damaged_archive_is_refused_before_anything_is_touched(home: PodUnderTest, folder: Path) -> None:
    account = home.new_account()
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "Nothing was changed" in refused(home, "restore", str(file), "--yes").stderr
    assert "Nothing was changed" in refused(home, "backup", "--verify", str(file)).stderr
    with home.server.imap(account):
        pass


def test_an_archive_with_a_fault_in_its_last_kilobyte_is_refused(home: PodUnderTest, folder: Path) -> None:
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    whole = file.read_bytes()
    for place in (1, 2, 4, 5, 16, 100, 500, 1000):
        flipped = bytes([whole[-place] ^ 0x10])
        for damaged in (whole[:-place] + flipped + whole[len(whole) - place + 1 :], whole[:-place]):
            file.write_bytes(damaged)
            verified = home.invoke("backup", "--verify", str(file), check=False)
            assert verified.code == 1, (place, len(whole) - len(damaged))
            assert "Traceback" not in verified.stderr
    assert "Nothing was changed" in refused(home, "restore", str(file), "--yes").stderr


def test_a_push_under_way_is_backed_up_wholly_or_not_at_all(home: PodUnderTest, folder: Path) -> None:
    account = home.new_account()
    repository, git = make(home, folder / "work"), Git(home.server, account)
    pushed, ends = list[str](), threading.Event()

    def push() -> None:
        while not ends.is_set():
            commit = git.commit(repository.work, token(), {token(): os.urandom(200_000)})
            git.run("-C", str(repository.work), "push", "--quiet", git.url(repository.name), "main")
            pushed.append(commit)

    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push)
        wait_until(partial(_expect_one, pushed), 20, "the first push")
        acknowledged = list(pushed)
        home.invoke("backup", "--to", str(folder / "backup"))
        ends.set()
        pushing.result()
    home.invoke("restore", str(folder / "backup"), "--yes")
    git.run("clone", "--quiet", git.url(repository.name), str(folder / "clone"))
    git.run("-C", str(folder / "clone"), "fsck", "--strict")
    kept = git.run("-C", str(folder / "clone"), "log", "--format=%H").stdout.split()
    assert set(acknowledged) <= set(kept)


def _expect_one(found: list[str]) -> None:
    if not found:
        raise NotYet("none yet")


def test_a_backup_of_another_domain_is_refused(home: PodUnderTest, folder: Path) -> None:
    file = folder / "backup"
    home.invoke("backup", "--to", str(file))
    other = home.invoke("restore", str(file), "--yes", check=False, INVOKE_DOMAIN="example.org")
    assert "set domain" in other.stderr


def test_a_backup_replaces_no_file_and_leaves_none_that_is_not_whole(home: PodUnderTest, folder: Path) -> None:
    file = folder / "backup"
    file.write_text("precious")
    assert "exists already" in refused(home, "backup", "--to", str(file)).stderr
    assert file.read_text() == "precious"
    assert "No such file" in refused(home, "backup", "--to", str(folder / "none" / "backup")).stderr
    assert [path.name for path in folder.iterdir()] == ["backup"]


def test_a_backup_that_failed_is_told_by_status_until_one_succeeds(home: PodUnderTest, folder: Path) -> None:
    home.invoke("backup", "--to", str(folder / "before"))
    assert home.invoke("status").ok
    refused(home, "backup", "--to", str(folder / "none" / "backup"))
    told = home.invoke("status", "--json", check=False)
    (problem,) = json.loads(told.stdout)["problems"]
    assert told.code == 1
    assert "No such file" in problem
    assert problem.endswith("): invoke backup")
    home.invoke("backup", "--to", str(folder / "after"))
    assert home.invoke("status").ok


def evil(home: PodUnderTest, victim: Path) -> dict[str, list[Member]]:
    """Return, by technique, archive members that try to write to the folder `victim` of the host."""
    climbs = f"../../../..{victim}/x@{home.server.domain}:$2y$10$abc\n".encode()
    link = crafted.link
    return {
        "two slashes": [plain(f"volumes/{victim}/x", b"evil", mode=0o4755)],
        "a link by another spelling": [link("./volumes/web/l", str(victim)), plain("volumes/web/l/x", b"evil")],
        "a link": [link("volumes/web/l", str(victim)), plain("volumes/web/l/x", b"evil")],
        "a hard link": [crafted.hard("volumes/web/h", f"volumes/{victim}/host")],
        "a link that is written through": [link("volumes/accounts/passwd.new", str(victim / "host"))],
        "an account that climbs": [plain("volumes/accounts/passwd", climbs)],
    }


@pytest.mark.parametrize(
    "how",
    ["two slashes", "a link by another spelling", "a link", "a hard link", "a link that is written through",
     "an account that climbs"],
)  # fmt: skip
def test_a_crafted_archive_is_refused_and_nothing_of_the_host_or_the_pod_is_changed(
    home: PodUnderTest, folder: Path, how: str
) -> None:
    account, victim = home.new_account(), folder / "victim"
    victim.mkdir()
    (victim / "host").write_text("precious")
    before = (victim / "host").stat()
    file = crafted.crafted(folder / "evil", *evil(home, victim)[how], domain=home.server.domain)
    for task in (("backup", "--verify", str(file)), ("restore", str(file), "--yes")):
        assert "Nothing was changed" in refused(home, *task).stderr
    assert [path.name for path in victim.iterdir()] == ["host"]
    assert (victim / "host").read_text() == "precious"
    after = (victim / "host").stat()
    assert (after.st_mode, after.st_uid, after.st_nlink) == (before.st_mode, before.st_uid, before.st_nlink)
    with home.server.imap(account):
        pass


def nested(home: PodUnderTest, account: Account, depth: int) -> str:
    """Make `depth` nested folders with names of 191 bytes over WebDAV, and return the path of the deepest."""
    path = f"/webdav/home/{account.local_part}"
    with home.server.http(account) as client:
        for _ in range(depth):
            path += f"/{token()}{'d' * 174}"
            client.request("MKCOL", f"{path}/").raise_for_status()
    return path


def test_what_an_account_nests_deeper_than_the_host_takes_is_backed_up_and_comes_back(
    home: PodUnderTest, folder: Path
) -> None:
    """The paths are shorter than PATH_MAX in the container, and longer on the host, below the volume's own path."""
    account, content = home.new_account(), token()
    file = f"{nested(home, account, 21)}/file"
    with home.server.http(account) as client:
        client.put(file, content=content).raise_for_status()
    git, branch = make(home, folder / "work"), "/".join([*["b" * 200] * 19, "b" * 180])
    Git(home.server, account).run("-C", str(git.work), "push", "--quiet", Git(home.server, account).url(git.name),
                                  f"HEAD:refs/heads/{branch}")  # fmt: skip
    home.invoke("backup", "--to", str(folder / "backup"))
    home.invoke("backup", "--verify", str(folder / "backup"))
    home.invoke("restore", str(folder / "backup"), "--yes")
    with home.server.http(account) as client:
        assert client.get(file).text == content
    assert branch in Git(home.server, account).run("ls-remote", Git(home.server, account).url(git.name)).stdout
    assert home.invoke("status").ok


def as_www_data(home: PodUnderTest, *argv: str) -> str:
    """Run a program in apache as an attacker who controls the web server, and return its output."""
    return podman("exec", "--user", "www-data", home.container("apache"), *argv).stdout


READING = 'my $file = pop; for (@ARGV) { chdir $_ or die } open my $opened, "<", $file or die; print <$opened>'
"""A Perl program that prints a file whose path is longer than PATH_MAX: it enters one folder after another."""


def test_what_an_account_moves_deeper_than_it_can_name_is_backed_up_and_comes_back(
    home: PodUnderTest, folder: Path
) -> None:
    """A move into a deep folder makes paths of almost twice PATH_MAX. mod_dav moves no folder that is deeper."""
    account, content = home.new_account(), token()
    inner, outer = (nested(home, account, 18) for _ in range(2))
    top = f"/webdav/home/{account.local_part}"
    first = inner.removeprefix(f"{top}/").partition("/")[0]
    with home.server.http(account) as client:
        client.put(f"{inner}/file", content=content).raise_for_status()
        destination = {"Destination": f"https://{home.server.domain}{outer}/{first}/"}
        client.request("MOVE", f"{top}/{first}/", headers=destination).raise_for_status()
    home.invoke("backup", "--to", str(folder / "backup"))
    home.invoke("restore", str(folder / "backup"), "--yes")
    names = [part for path in (outer, inner) for part in path.removeprefix(f"{top}/").split("/")]
    where = f"/data/web/home/{account.local_part}"
    assert as_www_data(home, "perl", "-e", READING, where, *names, "file") == content
    assert home.invoke("status").ok


def test_what_is_nested_without_an_end_stops_no_backup_and_is_told(home: PodUnderTest, folder: Path) -> None:
    name = token()
    nest = 'chdir "/data/web/dav"; for (1 .. 90) { mkdir $ARGV[0]; chdir $ARGV[0] or die }'
    as_www_data(home, "perl", "-e", nest, name + "d" * 200)
    done = home.invoke("backup", "--to", str(folder / "backup"))
    assert "is longer than a path may be in a backup" in " ".join(done.stderr.split())
    assert "is whole" in home.invoke("backup", "--verify", str(folder / "backup")).stdout
    told = home.invoke("status", check=False)
    assert told.code == 1
    assert "it was written without" in " ".join(told.stdout.split())
    as_www_data(home, "rm", "-r", f"/data/web/dav/{name}{'d' * 200}")
    home.invoke("backup", "--to", str(folder / "after"))
    assert home.invoke("status").ok


def test_a_link_that_leads_out_of_its_volume_is_left_out_of_a_backup_and_told(home: PodUnderTest, folder: Path) -> None:
    name = token()
    as_www_data(home, "ln", "-s", "/etc/shadow", f"/data/web/site/{name}")
    done = home.invoke("backup", "--to", str(folder / "backup"))
    assert name in "".join(done.stderr.split())
    as_www_data(home, "rm", f"/data/web/site/{name}")
    home.invoke("backup", "--to", str(folder / "after"))
    assert home.invoke("status").ok


def test_a_backup_goes_into_a_pipe(home: PodUnderTest, folder: Path) -> None:
    file = folder / "piped"
    piped = ["sh", "-c", '"$@" | cat > "$0"', str(file), sys.executable, "-m", "invoke", "backup", "--to", "-"]
    run(piped, env=home.environment, timeout=120)
    assert "is whole" in home.invoke("backup", "--verify", str(file)).stdout


def test_nothing_of_a_backup_is_left_beside_the_volumes(home: PodUnderTest) -> None:
    assert not volumes.existing([f"{home.name}-backup", f"{home.name}-restore"])
