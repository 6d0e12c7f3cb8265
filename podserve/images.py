"""The images: built by docker/build.sh, shown as it goes."""

import contextlib
import re
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from podserve.commands import ROOT, lines, podman
from podserve.errors import Problem, uninterrupted

_STEP = re.compile(r"STEP (\d+)/(\d+): (.*)")
UP_TO_DATE = "images: up to date"
"""What docker/build.sh prints when there was nothing to do."""


def build(names: Sequence[str] = (), base: str = "", *, no_cache: bool = False, console: Console | None = None) -> bool:
    """Build the images whose files have changed, and return whether there were any.

    `names` limits it to those; `base` (registry or mmdebstrap) says where the Debian root comes from. On a terminal the
    steps are shown as progress bars, elsewhere as lines. Raises Problem, with what the build said, when it failed.
    """
    argv = [str(ROOT / "docker/build.sh"), *(word for name in names for word in ("--image", name))]
    argv += ["--base", base] if base else []
    argv += ["--no-cache"] if no_cache else []
    console = console or Console()
    said: list[str] = []
    with _progress(console) as progress:
        bars: dict[str, TaskID] = {}
        try:
            with contextlib.closing(lines(argv)) as coming:
                for line in coming:
                    said.append(line)
                    if not console.is_terminal:
                        console.print(line, markup=False, highlight=False, soft_wrap=True)
                    elif line != UP_TO_DATE:
                        _show(progress, bars, line)
        except Problem as error:
            end = "\n".join(said[-30:]) if console.is_terminal else "see the lines above"
            raise Problem(f"the images could not be built: {end}\nMend that and run the same command again") from error
    return said[-1:] != [UP_TO_DATE]


def _progress(console: Console) -> Progress:
    image, step = TextColumn("{task.fields[image]:<7}"), TextColumn("{task.description}")
    columns = SpinnerColumn(), image, BarColumn(24), TimeElapsedColumn(), step
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _show(progress: Progress, bars: dict[str, TaskID], line: str) -> None:
    """Show a line of docker/build.sh: `IMAGE: what it does`."""
    image, _, text = line.partition(": ")
    if image not in bars:
        bars[image] = progress.add_task("", image=image, total=None)
    if step := _STEP.search(text):
        progress.update(bars[image], completed=int(step[1]) - 1, total=int(step[2]), description=step[3][:60])
    elif text.startswith("Successfully tagged") or (image == "debian" and text.startswith("sha256:")):
        progress.update(bars[image], completed=1, total=1, description="done")
    else:
        progress.update(bars[image], description=text[:60])


def build_keeping_previous(names: Mapping[str, str], console: Console) -> None:
    """Build what is out of date; where that changes any of these images, keep those before as `:previous`.

    `names` are containers' names by those of their images: what runs is what was before, whatever has been built since.
    """
    running = {name: podman("container", "inspect", "--format", "{{.Image}}", container, check=False)
               for name, container in names.items()}  # fmt: skip
    before = _present(list(names)) | {name: told.stdout.strip() for name, told in running.items() if told.ok}
    build(console=console)
    if before and before != _present(list(names)):
        for name, identifier in before.items():
            podman("tag", identifier, _previous(name))


def exchange(identifiers: Mapping[str, str]) -> None:
    """Give each of these names to the image with that id, and `:previous` to the image that had the name."""
    now = _present(list(identifiers))
    with uninterrupted():  # otherwise the names could lead to a mix of two versions
        for name, identifier in identifiers.items():
            podman("tag", identifier, name)
            if name in now:
                podman("tag", now[name], _previous(name))


def exist(images: Sequence[str]) -> bool:
    """Return whether all of these images, by name or id, exist."""
    return set(_present(images)) == set(images)


def _previous(name: str) -> str:
    return f"{name.rpartition(':')[0]}:previous"


def _present(names: Sequence[str]) -> dict[str, str]:
    """Return the id of each of these images that there is."""
    found = {name: podman("image", "inspect", "--format", "{{.Id}}", name, check=False) for name in names}
    return {name: told.stdout.strip() for name, told in found.items() if told.ok}


def identifiers(images: Sequence[str]) -> list[str]:
    """Return the images' ids, in the same order. Raises Problem when one does not exist."""
    return podman("image", "inspect", "--format", "{{.Id}}", *images).stdout.split()
