"""The images before an upgrade are kept, and exchanged with today's when one goes back."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from podserve import images
from podserve.commands import podman
from podserve.errors import Problem
from tests.acceptance.own_pod import OwnPod
from tests.acceptance.server import token

OLD, NEW = "localhost/podserve-base:latest", "localhost/podserve-dns:latest"
"""Two images that there are, to stand for the same one before and after an upgrade."""


def identifier(name: str) -> str:
    """Return an image's id."""
    return images.identifiers([name])[0]


@pytest.fixture
def name(own: OwnPod) -> Iterator[str]:
    """The name of an image of the test's own, which is the old one."""
    made = f"localhost/{own.name}-{token()}"
    podman("tag", OLD, f"{made}:latest")
    yield f"{made}:latest"
    podman("untag", NEW, f"{made}:latest", f"{made}:previous", check=False)
    podman("rmi", f"{made}:latest", f"{made}:previous", check=False)


def test_an_upgrade_keeps_the_image_before_and_the_way_back_exchanges_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = name.replace("latest", "previous")
    monkeypatch.setattr(images, "build", lambda **_: podman("tag", NEW, name))
    images.renew({name: "no-such-container"}, Console())
    assert (identifier(name), identifier(previous)) == (identifier(NEW), identifier(OLD))
    images.exchange([name])
    assert (identifier(name), identifier(previous)) == (identifier(OLD), identifier(NEW))


def test_an_upgrade_keeps_what_runs_though_another_was_built_since(
    own: OwnPod, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = podman("container", "inspect", "--format", "{{.Image}}", own.container("mail")).stdout.strip()
    monkeypatch.setattr(images, "build", lambda **_: podman("tag", NEW, name))
    images.renew({name: own.container("mail")}, Console())
    assert identifier(name.replace("latest", "previous")) == running


def test_an_upgrade_that_changes_nothing_keeps_what_was_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "build", lambda **_: None)
    images.renew({name: "no-such-container"}, Console())
    with pytest.raises(Problem, match="nothing to go back to"):
        images.exchange([name])


def test_an_upgrade_to_the_same_leaves_the_pod_as_it_is(own: OwnPod) -> None:
    assert "nothing was changed" in own.invoke("upgrade").stdout
