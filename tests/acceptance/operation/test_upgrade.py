"""`upgrade` keeps the previous images, and `upgrade --back` exchanges them with the current ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from podserve import images
from podserve.commands import podman
from tests.testbed.checkout import Checkout, copy_of_checkout
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
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A copy of this checkout and its state, with another DNS image and documents that fit only this image."""
    with copy_of_checkout(tmp_path / "checkout") as made:
        changed = "RUN touch /etc/upgraded && cp /usr/local/bin/entrypoint /usr/local/bin/begin\n"
        (made.folder / "docker/dns/Containerfile").write_text(f"FROM localhost/podserve-dns:latest\n{changed}")
        made.edit("kube/podserve.yaml", "command: [prlimit, --nproc=500, entrypoint]",
                  "command: [prlimit, --nproc=500, begin]")  # fmt: skip
        yield made


def test_an_upgrade_replaces_the_containers_over_the_same_volumes_and_one_goes_back(
    test_pod: PodUnderTest, checkout: Checkout, alice: Account
) -> None:
    def upgraded() -> bool:
        return test_pod.exec("dns", "test", "-e", "/etc/upgraded", check=False).ok

    name, content = f"/webdav/{token()}", token().encode()
    with test_pod.server.http(alice) as client:
        client.put(name, content=content).raise_for_status()
    back = ("upgrade", "--back")
    for words, after in ((["upgrade"], True), (back, False), (back, True), (back, False)):
        assert upgraded() != after
        checkout.invoke(test_pod.environment, *words)
        assert upgraded() == after
        with test_pod.server.http(alice) as client:
            assert client.get(name).content == content
        with test_pod.server.imap(alice) as mailbox:
            assert mailbox.folder_exists("INBOX")
    assert "nothing was changed" in test_pod.invoke("up").stdout


def test_the_way_back_from_an_upgrade_that_failed_leaves_the_pod_as_it_is(
    test_pod: PodUnderTest, checkout: Checkout
) -> None:
    checkout.edit("kube/podserve.yaml", "--nproc=500, begin]", "--nproc=500, no-such-program]")
    failed = checkout.invoke(test_pod.environment, "upgrade", check=False)
    assert not failed.ok
    assert "the pod that ran before is played again" in failed.stdout + failed.stderr
    assert "nothing was changed" in checkout.invoke(test_pod.environment, "upgrade", "--back").stdout
    assert "nothing was changed" in test_pod.invoke("up").stdout
