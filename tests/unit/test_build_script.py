"""docker/build.sh: what it is asked, and which images it builds then."""

import re

import pytest

from podserve.commands import ROOT, Result
from tests.unit.helpers import FakePodman


def build(podman: FakePodman, *argv: str) -> Result:
    """Run docker/build.sh."""
    return podman.run(str(ROOT / "docker" / "build.sh"), *argv)


def built(podman: FakePodman) -> list[str]:
    """Return the images that Podman was asked to build."""
    return [
        name for call in podman.calls for name in re.findall(r"^build .*--tag localhost/podserve-(\w+):latest", call)
    ]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--frobnicate",), "build.sh: unknown argument '--frobnicate'; see the head of docker/build.sh"),
        (("dns",), "build.sh: unknown argument 'dns'; see the head of docker/build.sh"),
        (("--image", "web"), "build.sh: no image 'web': expected base, apache, mail, dns or certificates"),
        (
            ("--image", "dns", "--image", "../dns"),
            "build.sh: no image '../dns': expected base, apache, mail, dns or certificates",
        ),
        (("--base", "alpine"), "build.sh: --base is 'alpine': expected registry or mmdebstrap"),
        (("--image",), "--image needs a name"),
        (("--base",), "--base needs registry or mmdebstrap"),
        (("--base", ""), "--base needs registry or mmdebstrap"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_asked_is_told_with_2_and_nothing_is_built(
    fake_podman: FakePodman, argv: tuple[str, ...], told: str
) -> None:
    ended = build(fake_podman, *argv)
    assert (ended.code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.rstrip().endswith(told)
    assert fake_podman.calls == []


@pytest.mark.parametrize(
    ("argv", "images"),
    [
        ((), ["apache", "base", "certificates", "dns", "mail"]),
        (("--image", "dns"), ["base", "dns"]),
        (("--image", "dns", "--image", "mail"), ["base", "dns", "mail"]),
        (("--image", "base"), ["base"]),
    ],
)
def test_the_images_that_are_asked_for_are_built_on_base(
    fake_podman: FakePodman, argv: tuple[str, ...], images: list[str]
) -> None:
    assert build(fake_podman, *argv).ok
    assert sorted(built(fake_podman)) == images
    assert built(fake_podman)[0] == "base"
