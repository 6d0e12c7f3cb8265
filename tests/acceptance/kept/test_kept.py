"""Backups of older versions: each archive of kept/ is restored, and clients see the same data as before."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podserve.commands import Result, podman
from podserve.waiting import NotYet, wait_until
from tests.acceptance.kept import clients
from tests.testbed.mail import arrived
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server, letter, token

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.zst"))
SINK = "/tmp/sink"  # noqa: S108  # in a container
"""The file to which the other mail server writes messages."""


@dataclass(frozen=True)
class Restored:
    """A pod with an archive's content, the output of `restore`, and the JSON file that make.py wrote."""

    pod: PodUnderTest
    restoring: Result
    told: clients.Seen

    @property
    def accounts(self) -> list[Account]:
        """The accounts of the archive, with their passwords."""
        return [Account(address, password) for address, password in self.told["accounts"].items()]


def test_there_is_an_archive() -> None:
    assert ARCHIVES
    assert all(archive.stat().st_size <= 200_000 for archive in ARCHIVES)


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.zst"))
def restored(request: pytest.FixtureRequest) -> Iterator[Restored]:
    """A pod for this module only, restored from each archive in turn."""
    archive: Path = request.param
    told = json.loads(archive.with_name(archive.name.replace(".tar.zst", ".json")).read_text())
    with play_test_pod("-kept", domain=told["domain"]) as pod:
        yield Restored(pod, pod.invoke("restore", str(archive), "--yes"), told)


def known(now: clients.Seen, before: clients.Seen) -> clients.Seen:
    """Return `now` without the names that are not in `before`, at every depth: later data is not compared."""
    return {name: known(now.get(name, {}), was) if isinstance(was, dict) else now.get(name)
            for name, was in before.items()}  # fmt: skip


def test_everybody_logs_in_and_finds_every_folder_message_flag_and_uid(restored: Restored) -> None:
    for account in restored.accounts:
        before = restored.told["seen"]["folders"][account.address]
        assert known(clients.folders(restored.pod.server, account), before) == before


def test_a_client_of_pop3_knows_each_message_by_the_same_id(restored: Restored) -> None:
    for account in restored.accounts:
        before = restored.told["seen"]["maildrops"][account.address]
        assert known(clients.maildrop(restored.pod.server, account), before) == before


def test_new_mail_is_delivered_beside_the_old(restored: Restored) -> None:
    sender, account = restored.accounts[:2]
    with restored.pod.server.submission(sender) as client:
        client.send_message(letter(sender.address, account.address, subject := token()))
    assert arrived(restored.pod.server, account, subject)


def unlocked(files: clients.Seen) -> clients.Seen:
    """Return the files without a lock. Another test changes the locked ones."""
    return {path: file for path, file in files.items() if not file["locks"]}


def test_every_file_has_its_content_its_date_and_its_properties(restored: Restored) -> None:
    before, account = unlocked(restored.told["seen"]["files"]), restored.accounts[0]
    now = [clients.files(restored.pod.server, account, top) for top in ("/webdav/", "/webdav/site/")]
    assert known(now[0] | now[1], before) == before


def test_every_home_has_its_files_and_is_its_owners_alone(restored: Restored) -> None:
    for account in restored.accounts:
        home, before = f"/webdav/home/{account.local_part}/", restored.told["seen"]["homes"][account.address]
        now = clients.files(restored.pod.server, account, home)
        assert known(now, unlocked(before)) == unlocked(before)
        for other in restored.accounts:
            with restored.pod.server.http(other) as client:
                assert client.get(f"{home}file%20%c3%bc.txt").status_code == (200 if other == account else 403)


def test_the_site_is_as_it_was_and_a_page_of_an_earlier_version_is_named(restored: Restored) -> None:
    with restored.pod.server.http() as stranger:
        assert stranger.get("/").text == restored.told["seen"]["page"]
    printed = " ".join((restored.restoring.stdout + restored.restoring.stderr).split())
    assert "site/index.shtml is no longer shown" in printed


def test_a_locked_file_is_changed_only_with_its_token(restored: Restored) -> None:
    passwords, before = restored.told["accounts"], restored.told["seen"]
    files = {path: file for group in (before["files"], *before["homes"].values()) for path, file in group.items()}
    for lock in restored.told["locks"]:
        with restored.pod.server.http(Account(lock["account"], passwords[lock["account"]])) as client:
            assert client.get(lock["path"]).text == files[lock["path"]]["content"]
            assert client.put(lock["path"], content=b"without").status_code == 423
            assert client.put(lock["path"], content=b"with", headers={"If": f"({lock['token']})"}).status_code == 204
            assert client.get(lock["path"]).content == b"with"


def test_repositories_are_cloned_and_the_private_one_is_refused_to_strangers(restored: Restored) -> None:
    for name, before in restored.told["seen"]["repositories"].items():
        assert clients.repository(restored.pod.server, restored.accounts[0], name) == before
        assert before["public"] is (name == "open.git")


def test_gitweb_describes_the_public_repository_to_strangers(restored: Restored) -> None:
    descriptions = restored.told["repositories"]
    for account, names in ((None, ["open.git"]), (restored.accounts[0], ["open.git", "closed.git"])):
        with restored.pod.server.http(account) as client:
            page = client.get("/git/").text
        assert [name for name, text in descriptions.items() if name in page and text in page] == sorted(names)


@pytest.fixture
def elsewhere(restored: Restored) -> Iterator[str]:
    """Another mail server, for the domain of the waiting message: a container that writes what it accepts to SINK."""
    pod, name = restored.pod, f"{restored.pod.name}-elsewhere"
    podman("run", "--detach", "--name", name, "--network", pod.name, "--entrypoint", "smtp-sink",
           "localhost/podserve-mail:latest", "-c", "-u", "postfix", "-D", SINK, "0.0.0.0:25", "10")  # fmt: skip
    try:
        _, _, domain = restored.told["letter"]["recipient"].partition("@")
        pod.name_addresses({domain: pod.address_of(name)})
        yield name
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def test_the_letter_that_waited_is_there_and_is_sent_when_it_is_released(restored: Restored, elsewhere: str) -> None:
    assert clients.queue(restored.pod) == restored.told["seen"]["queue"]
    restored.pod.exec("mail", "postsuper", "-H", "ALL")
    restored.pod.exec("mail", "postqueue", "-f")

    def taken() -> None:
        took = podman("exec", elsewhere, "cat", SINK, check=False).stdout
        if f"Subject: {restored.told['letter']['subject']}" not in took:
            raise NotYet(took)

    wait_until(taken, 30, "the letter that waited to be sent")


def test_the_imported_certificate_is_served_on_every_port_and_then_one_of_the_same_authority(
    restored: Restored, tmp_path: Path
) -> None:
    told, account = restored.told["certificates"], restored.accounts[0]

    def served(authority: str) -> set[str]:
        """Return the fingerprints that all ports serve. The clients verify by one of the two authorities."""
        file = tmp_path / authority
        file.write_text(told[authority])
        server = Server(restored.pod.server.host, restored.told["domain"], str(file))
        return set(clients.certificates(server, account).values())

    assert served("imported") == {told["fingerprint"]}
    restored.pod.invoke("certs.issue")
    (issued,) = served("authority")
    assert issued != told["fingerprint"]
