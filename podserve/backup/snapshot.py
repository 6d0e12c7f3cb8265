"""A snapshot of the volumes at one moment: hard links, and copies of files that are written in place."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from podserve import running, volumes
from podserve.commands import podman
from podserve.descriptors import become_like, copy_file
from podserve.errors import Problem, uninterrupted
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from podserve.walk import LONGEST, Descent, Place

_logger = logging.getLogger(__name__)

FREEZING = 60
"""Seconds until a pod must be frozen: two of runc's attempts, of up to 31 s each."""
_UNABLE = "unable to freeze"
"""The message of runc when it gives up."""
_REPLACED = {"dav", "home", "site"}
"""Folders of the web volume with files that mod_dav never changes in place: it renames new files over them."""


@contextmanager
def scratch(pod: Pod, purpose: str) -> Iterator[Folder]:
    """Yield the folder of an empty volume on the file system of the pod's volumes. The volume is removed afterwards."""
    name = f"{pod.name}-{purpose}"
    volumes.remove_volumes([name])
    podman("volume", "create", name)
    folder = volumes.folder(name)
    folder.clear()  # Podman forgets a volume before it removes the files, which may have been interrupted
    try:
        yield folder
    finally:
        try:
            folder.clear()
            volumes.remove_volumes([name])
        except Problem as problem:  # its work is done, and the next backup or restore removes it
            _logger.warning("volume %s is left over: %s", name, problem.text)


def freeze(name: str) -> None:
    """Pause all processes of a pod, and try again if runc gives up. Raises Problem after FREEZING s.

    While new processes start, a control group of version 1 is not reliably frozen, and runc gives up:
    https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/cgroups/fs/freezer.go
    """

    def attempt() -> None:
        try:
            podman("pod", "pause", name)
        except Problem as problem:
            if _UNABLE not in problem.text:
                raise
            podman("pod", "unpause", name, check=False)  # the next try would fail on containers that are paused already
            raise NotYet(problem.text) from problem

    wait_until(attempt, FREEZING, f"{name} to be paused")


@contextmanager
def _still(pod: Pod) -> Iterator[None]:
    """Pause the pod: its clients wait, and no file is half-written."""
    if not running.exists(pod):
        yield
        return
    try:
        freeze(pod.name)
        yield
    finally:
        with uninterrupted():
            podman("pod", "unpause", pod.name)


def _are_written_in_place(content: str, parts: tuple[str, ...]) -> bool:
    """Return whether the files of a volume's folder may change. Maildir's, WebDAV's own and git's objects never do."""
    match content, parts:
        case "mail", _:
            return not parts or parts[-1] not in {"cur", "new"}
        case "web", [first, *rest] if first in _REPLACED:
            return ".DAV" in rest
        case "web", ["git", *rest]:
            return "objects" not in rest
        case _:
            return True


def _link(name: str, place: Place, target: int) -> bool:
    """Create a hard link in another folder; return whether the file system allows it."""
    try:
        os.link(name, name, src_dir_fd=place.descriptor, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EMLINK, errno.EXDEV}:
            raise
        return False
    return True


def _take_long(place: Place) -> list[str]:
    """Remove entries whose path is too long from a place, and return their paths."""
    beside, longest = len(os.fsencode(place.path())) + 1, list[str]()
    if beside + 255 > LONGEST:  # NAME_MAX
        for names in (place.folders, place.files, place.links):
            longest += [name for name in names if beside + len(os.fsencode(name)) > LONGEST]
            names[:] = [name for name in names if name not in longest]
    return [place.path(name) for name in longest]


def _copy_link(name: str, place: Place, target: int) -> None:
    there = os.stat(name, dir_fd=place.descriptor, follow_symlinks=False)
    os.symlink(os.readlink(name, dir_fd=place.descriptor), name, dir_fd=target)
    os.chown(name, there.st_uid, there.st_gid, dir_fd=target, follow_symlinks=False)


def hold(content: str, volume: Folder, folder: Folder) -> list[str]:
    """Copy a volume into an empty folder: hard links for files that never change, copies of the others.

    Return each path that is left out because it has more than LONGEST bytes. Such a path results from moving a deep
    folder into another, again and again.
    """
    here, there = os.fstat(volume.descriptor), os.fstat(folder.descriptor)
    same_disk, to, left_out = here.st_dev == there.st_dev, Descent(folder), list[str]()
    for place in volume.walk():
        target = to.to(place.parts)
        copied = not same_disk or _are_written_in_place(content, place.parts)
        left_out += _take_long(place)
        for name in place.files:
            if copied or not _link(name, place, target):
                copy_file(name, place.descriptor, target)
        for name in place.links:
            _copy_link(name, place, target)
        for name in place.folders:
            os.mkdir(name, 0o700, dir_fd=target)
        if place.parts:  # the folder of a volume itself is as Podman makes it
            become_like(target, os.fstat(place.descriptor))
    return left_out


@contextmanager
def taken(pod: Pod) -> Iterator[tuple[Folder, list[str]]]:
    """Yield a folder with a copy of each volume (web, mail, …), all from one moment; and the paths left out."""
    there = {content: volumes.folder(volume.name) for content, volume in pod.volumes.items()}
    with scratch(pod, "backup") as folder:
        left_out = []
        with _still(pod):
            for content, volume in there.items():
                held = hold(content, volume, folder.ensure(content, 0o755, 0))
                left_out += [f"{content}/{path}" for path in held]
        yield folder, left_out
