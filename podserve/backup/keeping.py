"""Backup and restore of a pod: from the volumes into an archive, and back.

The caller of `backup` and `restore` holds the pod's lock (`state.locked`).
"""

import datetime as dt
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from podserve import failures, lifecycle, network, volumes
from podserve.backup import reading, snapshot, writing
from podserve.backup.layout import FORMAT, Extent, Header, Progress
from podserve.descriptors import written_whole
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.state import is_locked

STANDARD_OUTPUT = "-"
_UNFINISHED = "it was killed, or interrupted, before its end"
"""The failure that is stored when a backup begins: it stays if the process is killed."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def file_name(pod: Pod) -> str:
    """Return the file name of a backup that is made now."""
    return f"podserve-{pod.settings.domain}-{_now():%Y%m%dT%H%M%SZ}.tar.zst"


@contextmanager
def _destination(name: str) -> Iterator[BinaryIO]:
    """Yield the stream to write to. Only the owner can read the file. It appears when complete, and overwrites none."""
    if name == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise Problem(
                "an archive is binary and cannot go to a terminal: expected invoke backup --to FILE, or "
                "invoke backup --to - | age -p > FILE"
            )
        yield sys.stdout.buffer
        return
    file, part = Path(name), Path(f"{name}.part")
    folder = Folder.at(file.parent)
    if file.exists():
        raise Problem(f"{file} exists already, and is not overwritten: give another name, or remove it")
    with ExitStack() as stack:
        try:
            unfinished = written_whole(file.name, folder.descriptor, unfinished=part.name, mode=0o600)
            out = stack.enter_context(unfinished)
        except FileExistsError as error:
            raise Problem(
                f"{part} exists already: another backup is writing it, or a killed one left it. Give another name, or "
                "remove it"
            ) from error
        yield out


def length(file: Path) -> int:
    """Return the bytes of an archive. Raises Problem if there is none."""
    try:
        return file.stat().st_size
    except OSError as error:
        raise Problem(f"{file} cannot be read: {error.strerror}") from error


def size(folder: Folder) -> int:
    """Return the bytes of all files in a folder."""
    return sum(os.stat(name, dir_fd=place.descriptor, follow_symlinks=False).st_size
               for place in folder.walk() for name in place.files)  # fmt: skip


def failed(pod: Pod) -> str:
    """Return when the last backup failed, and why; an empty text if it succeeded, or if there was none."""
    at, why = failures.told(pod, failures.BACKUP)
    return "" if not why or (why == _UNFINISHED and is_locked(pod)) else f"{at}: {why}"


def _tell(pod: Pod, why: str) -> None:
    failures.tell(pod, failures.BACKUP, why)


def backup(pod: Pod, name: str, progress: Progress, total: Progress) -> list[str]:
    """Write an archive of all data of the pod to a file, or for `-` to standard output. The pod keeps serving.

    `total` gets the number of bytes, and `progress` those that were read. Return a line for each file that is left out.
    Raises Problem; then no file is left. `failed` reports a Problem or left-out files until a complete backup is made.
    """
    _tell(pod, _UNFINISHED)
    try:
        left_out = _backup(pod, name, progress, total)
    except Problem as problem:
        with suppress(OSError):  # the disk may be full; then the failure from the beginning stays
            _tell(pod, problem.text)
        raise
    more = [f"{len(left_out) - 3} more"] if len(left_out) > 3 else []  # noqa: PLR2004
    _tell(pod, f"it was written without {'; '.join([*left_out[:3], *more])}" if left_out else "")
    return left_out


def _shortened(path: str) -> str:
    return f"{path[:80]}… ({len(os.fsencode(path))} bytes)"


def _backup(pod: Pod, name: str, progress: Progress, total: Progress) -> list[str]:
    names = {volume.name for volume in pod.volumes.values()}
    if missing := names - volumes.existing(names):
        raise Problem(
            f"there is nothing to back up: no volume {', '.join(sorted(missing))}. Create it first: invoke up"
        )
    try:
        with _destination(name) as out, snapshot.taken(pod) as (folder, long):
            total(size(folder))
            unwritten = writing.write_archive(
                folder, Header(FORMAT, _now().isoformat(), pod.settings.texts()), out, progress
            )
    except OSError as error:
        raise Problem(f"the backup to {name} failed, and made no archive: {error.strerror or error}") from error
    too_long = [f"{_shortened(path)} is longer than a path may be in a backup: move it, or remove it" for path in long]
    return too_long + unwritten


def _require_empty(pod: Pod) -> None:
    there = volumes.existing(volume.name for volume in pod.volumes.values())
    full = [name for name in sorted(there) if volumes.folder(name).names()]
    if full:
        raise Problem(
            f"{pod.name} is not empty ({', '.join(full)}), and a restore replaces all its data. "
            "Save it first: invoke backup. Then: invoke restore FILE --yes"
        )


def _put(pod: Pod, restored: Folder) -> None:
    """Replace the content of the volumes by the unpacked files. The volumes' own folders stay as Podman made them."""
    for content, volume in pod.volumes.items():
        if not restored.has_folder(content):
            continue
        source, folder = restored.enter(content), volumes.folder(volume.name)
        folder.clear()
        if os.fstat(source.descriptor).st_dev != os.fstat(folder.descriptor).st_dev:
            snapshot.hold(content, source, folder)
            continue
        for name in source.names():
            os.rename(name, name, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor)
    os.sync()


def require_room(folder: Folder, needed: Extent) -> None:
    """Raise Problem if the unpacked files do not fit beside the volumes."""
    there = os.fstatvfs(folder.descriptor)
    free = there.f_bavail * there.f_frsize
    if free < needed.on_disk:
        raise Problem(
            f"the disk of {folder} is too full: the archive needs {needed.on_disk} bytes, and {free} are free. Make "
            "room: podman system prune"
        )
    if there.f_files and there.f_favail < needed.members:  # Btrfs has no fixed number, and says 0
        raise Problem(f"the disk of {folder} takes {there.f_favail} more files, and the archive has {needed.members}")


def verify_for(pod: Pod, file: Path, progress: Progress) -> tuple[Header, Extent]:
    """Verify an archive before a restore; return its header and its extent.

    Raises Problem if it is damaged or malformed, or is a backup of another domain.
    """
    header, needed = reading.verify_archive(file, progress)
    if header.settings["domain"] != pod.settings.domain:
        raise Problem(
            f"{file} is a backup of {header.settings['domain']}, and this pod serves {pod.settings.domain}: set domain "
            "(invoke.yaml) to that of the backup, then run the same command again"
        )
    return header, needed


def differences(pod: Pod, header: Header) -> list[str]:
    """Return a line for each setting that has changed since the backup. The present value applies."""
    now = pod.settings.texts()
    return [
        f"{name} was {was!r} when the archive was made, and is {now[name]!r} now"
        for name, was in header.settings.items()
        if name in now and was != now[name]
    ]


def restore(pod: Pod, file: Path, needed: Extent, progress: Progress, *, replace: bool) -> None:
    """Restore a verified archive. `needed` is the extent that `verify_for` returned.

    The archive is unpacked into a volume beside the pod's. Only then is the pod removed, and its data replaced. Raises
    Problem if the pod's volumes hold data and `replace` is False; then nothing has changed.
    """
    if not replace:
        _require_empty(pod)
    with snapshot.scratch(pod, "restore") as folder:
        require_room(folder, needed)
        header, extent = reading.extract_archive(file, folder, progress)
        if header.settings["domain"] != pod.settings.domain or extent != needed:
            raise Problem(f"{file} has changed since it was verified. Nothing was changed: run the same command again")
        lifecycle.down(pod)
        network.ensure_network(pod)
        volumes.ensure_volumes(pod)
        _put(pod, folder)
