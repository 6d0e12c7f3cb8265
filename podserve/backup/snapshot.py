"""What the volumes held in one moment, while the pod goes on: hard links, and copies of what is written in place."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podserve import pod, volumes
from podserve.commands import podman, run
from podserve.errors import Problem, uninterrupted
from podserve.manifests import Manifests
from podserve.waiting import NotYet, wait_until

FREEZING = 60
"""Seconds within which a pod must stand still: two of runc's attempts, which take up to 31 s."""
_UNABLE = "unable to freeze"
"""What runc says when it gives up."""
_REPLACED = {"dav", "home", "site"}
"""Folders of the web volume whose files mod_dav never changes: it writes another, and renames it."""


@contextmanager
def scratch(manifests: Manifests, purpose: str) -> Iterator[Path]:
    """Yield the folder of an empty volume, removed afterwards: on the file system that the pod's volumes are on."""
    name = f"{manifests.settings.pod}-{purpose}"
    volumes.remove([name])
    podman("volume", "create", name)
    folder = volumes.folder(name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            volumes.remove([name])
        except Problem as problem:  # what was done with it is done, and the next one begins by removing it
            print(f"volume {name} is left over: {problem.text}", file=sys.stderr)


def freeze(name: str) -> None:
    """Let no process of a pod run on, with another try where runc gives up. Raises Problem after FREEZING s.

    A control group of version 1 is not reliably frozen while new processes appear in it, and runc gives up at last:
    https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/cgroups/fs/freezer.go
    """

    def attempt() -> None:
        try:
            podman("pod", "pause", name)
        except Problem as problem:
            if _UNABLE not in problem.text:
                raise
            podman("pod", "unpause", name, check=False)  # what was paused would be a fault of the next try
            raise NotYet(problem.text) from problem

    wait_until(attempt, FREEZING, f"{name} to stand still")


@contextmanager
def _still(manifests: Manifests) -> Iterator[None]:
    """Let no process of the pod run meanwhile: clients wait, and nothing is half-written by two programs."""
    name = manifests.settings.pod
    if not pod.exists(manifests.settings):
        yield
        return
    try:
        freeze(name)
        yield
    finally:
        with uninterrupted():
            podman("pod", "unpause", name)


def _are_written_in_place(content: str, folder: Path) -> bool:
    """Return whether the files of a volume's folder may change. Maildir's, WebDAV's own and git's objects never do."""
    match content, folder.parts:
        case "mail", _:
            return folder.name not in {"cur", "new"}
        case "web", [first, *rest] if first in _REPLACED:
            return ".DAV" in rest
        case "web", ["git", *rest]:
            return "objects" not in rest
        case _:
            return True


def _part(file: Path) -> None:
    """Give a hard link content of its own."""
    there = file.stat()
    # A new file of a name that no other has: any that is here already may be a link to one of the pod's.
    descriptor, apart = tempfile.mkstemp(dir=file.parent, prefix=".")
    os.close(descriptor)
    shutil.copy2(file, apart)
    os.chown(apart, there.st_uid, there.st_gid)
    Path(apart).rename(file)


def link(content: str, volume: Path, folder: Path) -> None:
    """Put what a volume holds into a new folder: links to what never changes, and copies of the rest."""
    same_disk = volume.stat().st_dev == folder.parent.stat().st_dev
    run(["cp", "--archive", *(["--link"] if same_disk else []), f"{volume}/.", str(folder)], timeout=3600)
    for place, _, names in os.walk(folder) if same_disk else ():
        # The pod stands still meanwhile: most files are told by their folder alone.
        if not _are_written_in_place(content, Path(place).relative_to(folder)):
            continue
        for file in (Path(place, name) for name in names):
            if file.is_file() and not file.is_symlink():
                _part(file)


@contextmanager
def taken(manifests: Manifests) -> Iterator[Path]:
    """Yield a folder with a folder for each volume (web, mail, …), as all were in the same moment."""
    there = {content: volumes.folder(volume.name) for content, volume in manifests.volumes.items()}
    with scratch(manifests, "backup") as folder:
        with _still(manifests):
            for content, place in there.items():
                link(content, place, folder / content)
        yield folder
