"""What an older PodServe kept: each archive of kept/ is restored, and clients find all that they had."""

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
"""What the other mail server writes to."""


@dataclass(frozen=True)
class Restored:
    """A pod with an archive's content, what its maker said of that, and what clients saw when it had come up."""

    pod: PodUnderTest
    restoring: Result
    told: clients.Seen
    seen: clients.Seen

    @property
    def accounts(self) -> list[Account]:
        """Those with an account, and their passwords."""
        return [Account(address, password) for address, password in self.told["accounts"].items()]


def test_there_is_an_archive() -> None:
    assert ARCHIVES
    assert all(archive.stat().st_size <= 200_000 for archive in ARCHIVES)


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.zst"))
def restored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """A pod of these tests' own, restored from an archive."""
    archive: Path = request.param
    told = json.loads(archive.with_name(archive.name.replace(".tar.zst", ".json")).read_text())
    root = tmp_path_factory.mktemp("root") / "imported.crt"
    root.write_text(told["certificates"]["imported"])
    with play_test_pod("-kept", domain=told["domain"]) as pod:
        restoring = pod.invoke("restore", str(archive), "--yes")
        accounts = [Account(address, password) for address, password in told["accounts"].items()]
        server = Server(pod.server.host, told["domain"], str(root))
        yield Restored(pod, restoring, told, clients.seen(pod, server, accounts, list(told["repositories"])))


def of_old(now: clients.Seen, before: clients.Seen) -> clients.Seen:
    """Return of what is seen now that which was there before, by its name."""
    return {name: now.get(name) for name in before}


def test_everybody_logs_in_and_finds_every_folder_message_flag_and_uid(restored: Restored) -> None:
    for address, before in restored.told["seen"]["folders"].items():
        assert of_old(restored.seen["folders"][address], before) == before


def test_a_client_of_pop3_knows_each_message_by_the_same_id(restored: Restored) -> None:
    assert restored.seen["maildrops"] == restored.told["seen"]["maildrops"]


def test_new_mail_is_delivered_beside_the_old(restored: Restored) -> None:
    sender, account = restored.accounts[:2]
    with restored.pod.server.submission(sender) as client:
        client.send_message(letter(sender.address, account.address, subject := token()))
    assert arrived(restored.pod.server, account, subject)


def test_every_file_has_its_content_its_date_and_its_properties(restored: Restored) -> None:
    before = restored.told["seen"]["files"]
    assert of_old(restored.seen["files"], before) == before


def test_every_home_has_its_files_and_is_its_owners_alone(restored: Restored) -> None:
    for address, before in restored.told["seen"]["homes"].items():
        assert of_old(restored.seen["homes"][address], before) == before
    first, *others = restored.accounts
    with restored.pod.server.http(first) as client:
        for other in others:
            assert client.get(f"/webdav/home/{other.local_part}/file%20%c3%bc.txt").status_code == 403


def test_the_site_is_as_it_was_and_a_page_of_an_earlier_version_is_named(restored: Restored) -> None:
    assert restored.seen["page"] == restored.told["seen"]["page"]
    assert "site/index.shtml is not the site's page any more" in " ".join(
        (restored.restoring.stdout + restored.restoring.stderr).split()
    )


def test_a_locked_file_is_changed_only_with_its_token(restored: Restored) -> None:
    passwords = restored.told["accounts"]
    for lock in restored.told["locks"]:
        with restored.pod.server.http(Account(lock["account"], passwords[lock["account"]])) as client:
            assert client.put(lock["path"], content=b"without").status_code == 423
            assert client.put(lock["path"], content=b"with", headers={"If": f"({lock['token']})"}).status_code == 204
            assert client.get(lock["path"]).content == b"with"


def test_repositories_are_cloned_and_the_private_one_is_refused_to_strangers(restored: Restored) -> None:
    assert restored.seen["repositories"] == restored.told["seen"]["repositories"]
    assert {name: found["public"] for name, found in restored.seen["repositories"].items()} == {
        "open.git": True, "closed.git": False,
    }  # fmt: skip


def test_gitweb_describes_the_public_repository_to_strangers(restored: Restored) -> None:
    descriptions = restored.told["repositories"]
    for account, names in ((None, ["open.git"]), (restored.accounts[0], ["open.git", "closed.git"])):
        with restored.pod.server.http(account) as client:
            page = client.get("/git/").text
        assert [name for name, text in descriptions.items() if name in page and text in page] == sorted(names)


@pytest.fixture
def elsewhere(restored: Restored) -> Iterator[str]:
    """Another mail server, which the letter's domain leads to: a container that writes to SINK what it takes."""
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
    assert restored.seen["queue"] == restored.told["seen"]["queue"]
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
    certificates = restored.told["certificates"]
    assert set(restored.seen["certificates"].values()) == {certificates["fingerprint"]}
    assert len(restored.seen["certificates"]) == len(restored.told["seen"]["certificates"])
    (tmp_path / "ca.crt").write_text(certificates["authority"])
    restored.pod.invoke("certs.issue")
    server = Server(restored.pod.server.host, restored.told["domain"], str(tmp_path / "ca.crt"))
    issued = set(clients.certificates(server, restored.accounts[0]).values())
    assert len(issued) == 1
    assert certificates["fingerprint"] not in issued
