"""What is kept: mail, files, repositories, accounts and the queue outlive the pod; the volumes outlive all of it."""

import shutil

from podserve import endpoints, pod, volumes
from podserve.commands import podman, run
from podserve.homes import WWW_DATA
from tests.acceptance.mail import arrived, queued
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import Account, letter, token


def fingerprints(own: OwnPod) -> dict[str, str]:
    """Return which certificate each port shows."""
    answers = pod.tls_answers(own.manifests)
    assert all(answer.ok for answer in answers), answers
    assert {answer.port for answer in answers} == set(endpoints.TLS)
    return {answer.port: answer.fingerprint for answer in answers}


def test_everything_is_there_after_down_and_up(own: OwnPod, new_account: Account) -> None:
    word = token()
    repository = own.folder("web") / "git" / f"{word}.git"
    run(["git", "init", "--quiet", "--bare", str(repository)])
    (repository / "description").write_text(word)
    with own.server.http(new_account) as client:
        assert client.put(f"/webdav/{word}.txt", content=word).status_code == 201
    with own.server.submission(new_account) as client:
        client.send_message(letter(new_account.address, new_account.address, word))
        client.send_message(letter(new_account.address, f"{word}@example.com", word))
    before = arrived(own.server, new_account, word)
    waiting = queued(own, f"{word}@example.com")
    served = fingerprints(own)
    cut_off = own.folder("web") / "dav" / ".davfs.tmpabcdef"
    cut_off.write_text("what a killed Apache leaves of an upload")
    shutil.chown(cut_off, WWW_DATA, WWW_DATA)

    down = own.invoke("down")
    assert own.name in down.stdout
    assert not podman("pod", "exists", own.name, check=False).ok
    own.invoke("up")

    assert arrived(own.server, new_account, word) == before
    assert waiting == queued(own, f"{word}@example.com")
    own.exec("mail", "postsuper", "-d", waiting[0])
    with own.server.http(new_account) as client:
        assert client.get(f"/webdav/{word}.txt").text == word
        assert not cut_off.exists()
        assert word in client.get("/git/").text
    assert fingerprints(own) == served


def test_down_twice_says_that_there_is_nothing_to_remove(own: OwnPod) -> None:
    other = f"{own.name}-other"
    assert "nothing to remove" in own.invoke("down", INVOKE_POD=other).stdout
    assert own.invoke("status").ok


def test_no_volume_of_the_pod_is_made_twice_or_left_over(own: OwnPod) -> None:
    wanted = {volume.name for volume in own.manifests.volumes.values()} | set(own.manifests.scratch)
    assert {name for name in volumes.existing() if name.startswith(own.name)} <= wanted
