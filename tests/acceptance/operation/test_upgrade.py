"""`upgrade` keeps the previous images, and `upgrade --back` exchanges them with the current ones."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podserve import images
from podserve.commands import ROOT, Result, podman, run
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token

OLD, NEW = "localhost/podserve-base:latest", "localhost/podserve-dns:latest"
"""Two existing images, in the roles of one image before and after an upgrade."""


def identifier(name: str) -> str:
    """Return an image's id."""
    return images.identifiers([name])[0]


@pytest.fixture
def name(test_pod: PodUnderTest) -> Iterator[str]:
    """The name of an image for one test; at first it is the image OLD."""
    made = f"localhost/{test_pod.name}-{token()}"
    podman("tag", OLD, f"{made}:latest")
    yield f"{made}:latest"
    podman("untag", NEW, f"{made}:latest", f"{made}:previous", check=False)
    podman("rmi", f"{made}:latest", f"{made}:previous", check=False)


def test_an_upgrade_keeps_the_image_before_and_the_way_back_exchanges_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = name.replace("latest", "previous")
    monkeypatch.setattr(images, "build", lambda **_: podman("tag", NEW, name))
    images.build_keeping_previous({name: "no-such-container"}, print)
    assert (identifier(name), identifier(previous)) == (identifier(NEW), identifier(OLD))
    images.exchange({name: identifier(previous)})
    assert (identifier(name), identifier(previous)) == (identifier(OLD), identifier(NEW))


def test_an_upgrade_keeps_what_runs_though_another_was_built_since(
    test_pod: PodUnderTest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = podman("container", "inspect", "--format", "{{.Image}}", test_pod.container("mail")).stdout.strip()
    monkeypatch.setattr(images, "build", lambda **_: podman("tag", NEW, name))
    images.build_keeping_previous({name: test_pod.container("mail")}, print)
    assert identifier(name.replace("latest", "previous")) == running


def test_an_upgrade_that_changes_nothing_keeps_what_was_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "build", lambda **_: None)
    images.build_keeping_previous({name: "no-such-container"}, print)
    assert images.exist([name])
    assert not images.exist([name.replace("latest", "previous")])


def test_an_upgrade_to_the_same_leaves_the_pod_as_it_is(test_pod: PodUnderTest) -> None:
    assert "nothing was changed" in test_pod.invoke("upgrade").stdout


@pytest.fixture
def checkout(test_pod: PodUnderTest, tmp_path: Path) -> Iterator[Path]:
    """A copy of this checkout and its state, with another DNS image and documents that fit only this image."""
    left_out = shutil.ignore_patterns(".git", ".venv", "artefacts", "__pycache__", ".*_cache")
    made = shutil.copytree(ROOT, tmp_path / "checkout", symlinks=True, ignore=left_out)
    containerfile = made / "docker/dns/Containerfile"
    changed = "RUN touch /etc/upgraded && cp /usr/local/bin/entrypoint /usr/local/bin/begin\n"
    containerfile.write_text(f"FROM localhost/podserve-dns:latest\n{changed}")
    documents = made / "kube/podserve.yaml"
    start = "command: [prlimit, --nproc=500, {}]"
    assert start.format("entrypoint") in documents.read_text()
    documents.write_text(documents.read_text().replace(start.format("entrypoint"), start.format("begin")))
    before = images.identifiers(test_pod.pod.images)
    yield made
    for image, identity in zip(test_pod.pod.images, before, strict=True):
        if identifier(image) != identity:
            podman("rmi", "--force", identifier(image), check=False)
        podman("tag", identity, image)
        podman("rmi", image.replace("latest", "previous"), check=False)


def invoke(test_pod: PodUnderTest, checkout: Path, *words: str, check: bool = True) -> Result:
    """Run an Invoke task of another checkout on the pod."""
    argv = ["env", "--chdir", str(checkout), sys.executable, "-m", "invoke", *words]
    return run(argv, env=test_pod.environment, timeout=300, check=check)


@pytest.mark.alone
def test_an_upgrade_replaces_the_containers_over_the_same_volumes_and_one_goes_back(
    test_pod: PodUnderTest, checkout: Path, alice: Account
) -> None:
    def upgraded() -> bool:
        return test_pod.exec("dns", "test", "-e", "/etc/upgraded", check=False).ok

    name, content = f"/webdav/{token()}", token().encode()
    with test_pod.server.http(alice) as client:
        client.put(name, content=content).raise_for_status()
    back = ("upgrade", "--back")
    for words, after in ((["upgrade"], True), (back, False), (back, True), (back, False)):
        assert upgraded() != after
        invoke(test_pod, checkout, *words)
        assert upgraded() == after
        with test_pod.server.http(alice) as client:
            assert client.get(name).content == content
        with test_pod.server.imap(alice) as mailbox:
            assert mailbox.folder_exists("INBOX")
    assert "nothing was changed" in test_pod.invoke("up").stdout


@pytest.mark.alone
def test_the_way_back_from_an_upgrade_that_failed_leaves_the_pod_as_it_is(
    test_pod: PodUnderTest, checkout: Path
) -> None:
    documents = checkout / "kube/podserve.yaml"
    documents.write_text(documents.read_text().replace("--nproc=500, begin]", "--nproc=500, no-such-program]"))
    failed = invoke(test_pod, checkout, "upgrade", check=False)
    assert not failed.ok
    assert "the pod that ran before is played again" in failed.stdout + failed.stderr
    assert "nothing was changed" in invoke(test_pod, checkout, "upgrade", "--back").stdout
    assert "nothing was changed" in test_pod.invoke("up").stdout
