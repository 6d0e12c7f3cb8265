"""Building the images: the output of docker/build.sh is shown as progress, and its last lines if it fails."""

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from podserve import images, report
from podserve.commands import Result
from podserve.errors import Problem

Builder = Path


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """A fake docker/build.sh that prints its arguments."""
    monkeypatch.setattr(images, "ROOT", tmp_path)
    program = tmp_path / "docker" / "build.sh"
    program.parent.mkdir()
    says(program, 'echo "images: $*"')
    return program


def says(builder: Builder, script: str) -> None:
    """Make the builder run these lines of shell."""
    builder.write_text(f"#!/bin/sh\n{script}\n")
    builder.chmod(0o755)


def a_pipe() -> Console:
    """Return a console that is not a terminal."""
    return Console(file=io.StringIO(), width=40)


def a_terminal() -> Console:
    """Return a console that is a terminal, without colours."""
    return Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)


def build(console: Console, **asked: object) -> bool:
    """Build as a task does, with progress on this console. Return whether any image was built."""
    with report.building(console) as show:
        return images.build(**asked, show=show)  # type: ignore[arg-type]


def shown(console: Console) -> str:
    """Return everything that was written to a console."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def last_frame(console: Console) -> list[str]:
    """Return the progress bars as shown last, without the bars: for each image its name and its step."""
    frame = shown(console).replace("\x1b[?25h", "").rpartition("\x1b[2K")[2]
    return [" ".join(word for word in line.split() if "━" not in word) for line in frame.splitlines() if line.strip()]


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ""),
        ({"names": ["dns", "mail"]}, "--image dns --image mail"),
        ({"base": "registry"}, "--base registry"),
        ({"no_cache": True}, "--no-cache"),
        ({"names": ["base"], "base": "mmdebstrap", "no_cache": True}, "--image base --base mmdebstrap --no-cache"),
    ],
)
def test_what_is_asked_for_is_passed_on(asked: dict[str, object], words: str) -> None:
    console = a_pipe()
    build(console, **asked)
    assert shown(console).strip() == f"images: {words}".strip()


def test_nothing_to_do_is_told(builder: Builder) -> None:
    says(builder, "echo 'images: up to date'")
    assert not build(a_pipe())


def test_something_done_is_told(builder: Builder) -> None:
    says(builder, "echo 'dns: STEP 1/1: FROM scratch'")
    assert build(a_pipe())


def test_without_a_terminal_every_line_is_shown_as_it_is(builder: Builder) -> None:
    line = "dns: [bold]STEP[/] 1/7: RUN a line that is longer than this console is wide, and not cut"
    says(builder, f"echo '{line}'; echo 'dns: done' >&2")
    console = a_pipe()
    build(console)
    assert shown(console) == f"{line}\ndns: done\n"


@pytest.mark.parametrize(
    ("line", "bar"),
    [
        ("dns: STEP 3/7: RUN apt-get update", "dns RUN apt-get update"),
        ("dns: STEP 3/7: COPY rootfs/ /", "dns COPY rootfs/ /"),
        ("dns: Get:1 http://deb.debian.org trixie InRelease", "dns Get:1 http://deb.debian.org trixie InRelease"),
        ("dns: Successfully tagged localhost/podserve-dns:latest", "dns done"),
        ("dns: sha256:0123", "dns sha256:0123"),
        ("debian: sha256:0123", "debian done"),
        ("debian: asking the registry", "debian asking the registry"),
    ],
)
def test_on_a_terminal_a_line_becomes_what_its_image_does(builder: Builder, line: str, bar: str) -> None:
    says(builder, f"echo '{line}'")
    console = a_terminal()
    build(console)
    (said,) = last_frame(console)
    assert " ".join(word for word in said.split() if word not in {"0:00:00", *"⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"}) == bar


def test_on_a_terminal_each_image_has_a_bar_of_its_own(builder: Builder) -> None:
    says(builder, 'for i in apache mail dns apache mail; do echo "$i: STEP 1/2: FROM base"; done')
    console = a_terminal()
    build(console)
    assert [line.split()[1] for line in last_frame(console)] == ["apache", "mail", "dns"]


def test_on_a_terminal_nothing_to_do_shows_nothing(builder: Builder) -> None:
    says(builder, "echo 'images: up to date'")
    console = a_terminal()
    assert not build(console)
    assert "up to date" not in shown(console)


def test_a_build_that_fails_on_a_terminal_is_told_with_its_last_lines(builder: Builder) -> None:
    says(builder, "seq -f 'dns: line %g' 100; echo 'dns: the build failed' >&2; exit 1")
    console = a_terminal()
    with pytest.raises(Problem, match="could not be built: see the lines above"):
        build(console)
    told = shown(console).rpartition("\x1b[?25h")[2]  # after the progress bars, which end with this escape
    assert told.startswith("dns: line 72\n")
    assert told.endswith("dns: line 100\ndns: the build failed\n")


def test_a_build_that_fails_elsewhere_has_shown_its_lines(builder: Builder) -> None:
    says(builder, "echo 'dns: the build failed'; exit 1")
    console = a_pipe()
    with pytest.raises(Problem, match="could not be built: see the lines above"):
        build(console)
    assert shown(console) == "dns: the build failed\n"


def test_images_are_exchanged_all_or_none_also_when_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"a:latest": "a2", "a:previous": "a1", "b:latest": "b2", "b:previous": "b1"}

    def podman(verb: str, *words: str, **_: object) -> Result:
        if verb == "tag":
            os.kill(os.getpid(), signal.SIGINT)
            there[words[1]] = words[0]
        return Result((verb, *words), 0, there[words[-1]], "")

    monkeypatch.setattr(images, "podman", podman)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores SIGINT for background jobs
    images.exchange({"a:latest": "a1", "b:latest": "b1"})
    assert there == {"a:latest": "a1", "a:previous": "a2", "b:latest": "b1", "b:previous": "b2"}
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
