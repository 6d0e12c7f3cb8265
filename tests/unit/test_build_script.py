"""docker/build.sh: its arguments, and which images it builds."""

import re

import pytest

from podserve.commands import ROOT, Result
from tests.unit.helpers import FakePodman


def build(podman: FakePodman, *argv: str) -> Result:
    """Run docker/build.sh."""
    return podman.run(str(ROOT / "docker" / "build.sh"), *argv)


def failing(podman: FakePodman, *commands: str, bootstrapped: int = 0) -> FakePodman:
    """Make these Podman commands fail. Add an mmdebstrap that writes its last file and exits with `bootstrapped`."""
    program = podman.folder / "podman"
    refusals = "".join(f"{command}*) exit 125 ;;\n" for command in commands)
    program.write_text(program.read_text().replace("in\n", f"in\n{refusals}", 1))
    archive = podman.folder / "mmdebstrap"
    archive.write_text(f'#!/bin/sh\nfor file; do :; done\necho >"$file"\nexit {bootstrapped}\n')
    archive.chmod(0o755)
    return podman


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


def test_the_debian_root_comes_from_the_registry_where_one_answers(fake_podman: FakePodman) -> None:
    assert build(failing(fake_podman, "import")).ok
    assert "tag debian:trixie-slim localhost/podserve-debian:trixie" in fake_podman.calls


def test_where_no_registry_answers_an_older_image_of_that_name_is_not_taken_for_its_answer(
    fake_podman: FakePodman,
) -> None:
    assert build(failing(fake_podman, "pull")).ok
    assert not [call for call in fake_podman.calls if call.startswith("tag")]
    assert [call for call in fake_podman.calls if re.match("import .* localhost/podserve-debian:trixie", call)]


@pytest.mark.parametrize(("command", "bootstrapped"), [("pull", 1), ("import", 0)])
def test_half_a_debian_root_is_not_built_on(fake_podman: FakePodman, command: str, bootstrapped: int) -> None:
    ended = build(failing(fake_podman, command, bootstrapped=bootstrapped), "--base", "mmdebstrap")
    assert ended.code == 1
    assert "debian: no Debian 13 root" in ended.stderr
    assert built(fake_podman) == []
