"""The images: built by docker/build.sh, kept as `:previous`, and exchanged with the kept ones."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from podserve.commands import ROOT, lines, podman
from podserve.errors import Problem, uninterrupted

UP_TO_DATE = "images: up to date"
"""What docker/build.sh prints when no image is out of date."""
Show = Callable[[str], object]
"""Shows a line of docker/build.sh, as it comes."""


def build(names: Sequence[str] = (), base: str = "", *, no_cache: bool = False, show: Show) -> bool:
    """Build the images whose files have changed, and return whether there were any.

    `names` limits the build to these images; `base` (registry or mmdebstrap) is the source of the Debian root. Raises
    Problem if a build failed; the lines shown before say why.
    """
    argv = [str(ROOT / "docker/build.sh"), *(word for name in names for word in ("--image", name))]
    argv += ["--base", base] if base else []
    argv += ["--no-cache"] if no_cache else []
    line = ""
    try:
        with contextlib.closing(lines(argv)) as coming:
            for line in coming:
                show(line)
    except Problem as error:
        raise Problem(
            "the images could not be built: see the lines above. Correct the cause, then run the same command again"
        ) from error
    return line != UP_TO_DATE


def build_keeping_previous(names: Mapping[str, str], show: Show) -> None:
    """Build what is out of date; if that changes any of these images, keep the earlier ones as `:previous`.

    `names` maps the name of each image to the name of its container. The image of a running container counts as the
    earlier one, whatever was built since it started.
    """
    running = {name: podman("container", "inspect", "--format", "{{.Image}}", container, check=False)
               for name, container in names.items()}  # fmt: skip
    before = _present(list(names)) | {name: found.stdout.strip() for name, found in running.items() if found.ok}
    build(show=show)
    if before and before != _present(list(names)):
        for name, identifier in before.items():
            podman("tag", identifier, _previous(name))


def exchange(identifiers: Mapping[str, str]) -> None:
    """Give each of these names to the image with that id, and `:previous` to the image that had the name."""
    now = _present(list(identifiers))
    with uninterrupted():  # otherwise the names could mean images of two versions
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
    """Return the ids of those of these images that exist."""
    found = {name: podman("image", "inspect", "--format", "{{.Id}}", name, check=False) for name in names}
    return {name: shown.stdout.strip() for name, shown in found.items() if shown.ok}


def identifiers(images: Sequence[str]) -> list[str]:
    """Return the ids of images, in the same order. Raises Problem if one does not exist."""
    return podman("image", "inspect", "--format", "{{.Id}}", *images).stdout.split()
