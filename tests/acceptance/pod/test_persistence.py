"""Mail, files, repositories, accounts, certificates and the queue are kept when the pod is removed and made again."""

import shutil

from podserve import answering, endpoints
from podserve.commands import podman, run
from podserve.homes import WWW_DATA
from tests.testbed.mail import arrived, queued
from tests.testbed.pod import PodUnderTest, volumes_of
from tests.testbed.server import Account, letter, token


def fingerprints(test_pod: PodUnderTest) -> dict[str, str]:
    """Return the fingerprint of the certificate that each TLS port serves, by the port's name."""
    answers = answering.tls_answers(test_pod.pod)
    assert all(answer.ok for answer in answers), answers
    assert {answer.port for answer in answers} == set(endpoints.tls_ports(test_pod.pod))
    return {answer.port: answer.fingerprint for answer in answers}


def put_into_a_folder_of_an_earlier_version(test_pod: PodUnderTest, account: Account) -> str:
    """Put a message into a folder that is on disk as versions wrote it whose separator was the dot; return its name."""
    name = "Old/v1/~tilde"
    with test_pod.server.imap(account) as client:
        client.create_folder(name)
        client.subscribe_folder(name)
        client.append(name, letter(account.address, account.address, token()).as_bytes())
    maildir = test_pod.folder("mail") / test_pod.server.domain / account.local_part / "Maildir"
    (maildir / ".Old.v1.\x7f7etilde").rename(maildir / ".Old.v1.~tilde")
    subscriptions = maildir / "subscriptions"
    subscriptions.write_text(subscriptions.read_text().replace("\x7f7e", "~"))
    return name


def test_everything_is_there_after_down_and_up(test_pod: PodUnderTest, new_account: Account) -> None:
    word = token()
    repository = test_pod.folder("web") / "git" / f"{word}.git"
    run(["git", "init", "--quiet", "--bare", str(repository)])
    (repository / "description").write_text(word)
    with test_pod.server.http(new_account) as client:
        assert client.put(f"/webdav/{word}.txt", content=word).status_code == 201
    with test_pod.server.submission(new_account) as client:
        client.send_message(letter(new_account.address, new_account.address, word))
        client.send_message(letter(new_account.address, f"{word}@example.com", word))
    before = arrived(test_pod.server, new_account, word)
    waiting = queued(test_pod, f"{word}@example.com")
    served = fingerprints(test_pod)
    cut_off = test_pod.folder("web") / "dav" / ".davfs.tmpabcdef"
    cut_off.write_text("what a killed Apache leaves of an upload")
    shutil.chown(cut_off, WWW_DATA, WWW_DATA)

    folder = put_into_a_folder_of_an_earlier_version(test_pod, new_account)

    down = test_pod.invoke("down")
    assert test_pod.name in down.stdout
    assert not podman("pod", "exists", test_pod.name, check=False).ok
    test_pod.invoke("up")

    assert arrived(test_pod.server, new_account, word) == before
    assert waiting == queued(test_pod, f"{word}@example.com")
    test_pod.exec("mail", "postsuper", "-d", waiting[0])
    with test_pod.server.http(new_account) as client:
        assert client.get(f"/webdav/{word}.txt").text == word
        assert not cut_off.exists()
        assert word in client.get("/git/").text
    assert fingerprints(test_pod) == served
    with test_pod.server.imap(new_account) as mailbox:
        assert mailbox.select_folder(folder)[b"EXISTS"] == 1
        assert folder in [name for _, _, name in mailbox.list_sub_folders()]
        mailbox.unsubscribe_folder(folder)
        assert folder not in [name for _, _, name in mailbox.list_sub_folders()]


def test_down_twice_says_that_there_is_nothing_to_remove(test_pod: PodUnderTest) -> None:
    other = f"{test_pod.name}-other"
    assert "nothing to remove" in test_pod.invoke("down", INVOKE_POD=other).stdout
    assert test_pod.invoke("status").ok


def test_no_volume_of_the_pod_is_made_twice_or_left_over(test_pod: PodUnderTest) -> None:
    wanted = {volume.name for volume in test_pod.pod.volumes.values()} | set(test_pod.pod.manifests.scratch)
    assert volumes_of(test_pod.name) <= wanted
