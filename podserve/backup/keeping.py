"""Backup and restore of a pod: what is put into an archive, and where it comes back to."""

import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from podserve import network, pod, volumes
from podserve.backup import reading, snapshot, writing
from podserve.backup.layout import FORMAT, Extent, Header, Progress
from podserve.descriptors import written_whole
from podserve.errors import Problem, printable
from podserve.folder import Folder
from podserve.manifests import Manifests
from podserve.settings import Settings

STANDARD_OUTPUT = "-"
_UNFINISHED = "it was killed, or interrupted, before its end"
"""What is kept of a backup from its beginning, so that one whose process is killed is told as well."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def file_name(manifests: Manifests) -> str:
    """Return the name of a backup that is made now."""
    return f"podserve-{manifests.settings.domain}-{_now():%Y%m%dT%H%M%SZ}.tar.zst"


@contextmanager
def _destination(name: str) -> Iterator[BinaryIO]:
    """Yield what to write to. A file is its owner's alone, appears when it is whole, and replaces none."""
    if name == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise Problem("an archive is nothing for a terminal: invoke backup --to - | age -p > FILE, or --to FILE")
        yield sys.stdout.buffer
        return
    file, part = Path(name), Path(f"{name}.part")
    folder = Folder.at(file.parent)
    if file.exists():
        raise Problem(f"{file} exists already, and is kept: give another name, or remove it")
    with ExitStack() as stack:
        try:
            unfinished = written_whole(file.name, folder.descriptor, unfinished=part.name, mode=0o600)
            out = stack.enter_context(unfinished)
        except FileExistsError as error:
            raise Problem(
                f"{part} is there already: a backup is being written, or was killed. Give another name, or remove it"
            ) from error
        yield out


def length(file: Path) -> int:
    """Return the bytes of an archive. Raises Problem where there is none."""
    try:
        return file.stat().st_size
    except OSError as error:
        raise Problem(f"{file} cannot be read: {error.strerror}") from error


def size(folder: Folder) -> int:
    """Return the bytes of all files of a folder."""
    return sum(os.stat(name, dir_fd=place.descriptor, follow_symlinks=False).st_size
               for place in folder.walk() for name in place.files)  # fmt: skip


def _failures(settings: Settings) -> Path:
    """Return the file that says why the last backup of a pod failed, beside what `down` removes."""
    return pod.STATE / f"{settings.pod}.backup"


def failed(settings: Settings) -> str:
    """Return when the last backup of a pod failed, and why; an empty text where it did not, or there was none."""
    try:
        told = json.loads(_failures(settings).read_text())
        under_way = told["why"] == _UNFINISHED and pod.is_busy(settings)
        return "" if under_way else printable(f"{told['at']}: {told['why']}")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, LookupError, TypeError):
        return f"what {_failures(settings)} says of it cannot be read"


def _tell(settings: Settings, why: str) -> None:
    """Keep why the last backup failed, for `status`; an empty text where it did not."""
    file = _failures(settings)
    if why:
        with Folder.at(file.parent).replacing(file.name, 0o644) as opened:
            opened.write(json.dumps({"at": _now().isoformat(), "why": why}).encode())
    else:
        file.unlink(missing_ok=True)


def forget(settings: Settings) -> None:
    """Forget why the last backup of a pod failed, whose volumes are gone."""
    _tell(settings, "")


def backup(manifests: Manifests, name: str, progress: Progress, total: Progress) -> list[str]:
    """Write an archive of all that the pod owns to a file, or for `-` to standard output, while it goes on.

    `total` is told the bytes there are, and `progress` those that were read. Return a line for each thing that had to
    be left out. Raises Problem; then no file is left. `failed` tells of both until a whole one is made.
    """
    with pod.alone(manifests.settings):
        _tell(manifests.settings, _UNFINISHED)
        try:
            left_out = _backup(manifests, name, progress, total)
        except Problem as problem:
            with suppress(OSError):  # the disk may be full, and what is kept from the beginning stays
                _tell(manifests.settings, problem.text)
            raise
        more = [f"{len(left_out) - 3} more"] if len(left_out) > 3 else []  # noqa: PLR2004
        _tell(manifests.settings, f"it is there, but without {'; '.join([*left_out[:3], *more])}" if left_out else "")
    return left_out


def _shortened(path: str) -> str:
    return f"{path[:80]}… ({len(os.fsencode(path))} bytes)"


def _backup(manifests: Manifests, name: str, progress: Progress, total: Progress) -> list[str]:
    if missing := {volume.name for volume in manifests.volumes.values()} - volumes.existing():
        raise Problem(f"there is nothing to back up: no volume {', '.join(sorted(missing))}. Make the pod: invoke up")
    settings = {key: value for key, value in vars(manifests.settings).items() if isinstance(value, str)}
    try:
        with _destination(name) as out, snapshot.taken(manifests) as (folder, long):
            total(size(folder))
            unwritten = writing.write_archive(folder, Header(FORMAT, _now().isoformat(), settings), out, progress)
    except OSError as error:
        raise Problem(f"the backup to {name} failed, and is not there: {error.strerror or error}") from error
    told = [f"{_shortened(path)} is longer than a path can be in a backup: move it, or remove it" for path in long]
    return told + unwritten


def _require_empty(manifests: Manifests) -> None:
    there = volumes.existing()
    names = sorted(volume.name for volume in manifests.volumes.values())
    full = [name for name in names if name in there and volumes.folder(name).names()]
    if full:
        raise Problem(
            f"{manifests.settings.pod} is not empty ({', '.join(full)}): restoring replaces all that it keeps. "
            "Keep that first: invoke backup. Then say --yes"
        )


def _put(manifests: Manifests, restored: Folder) -> None:
    """Replace what the volumes hold by what was unpacked beside them. Their own folders stay as Podman made them."""
    for content, volume in manifests.volumes.items():
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
    """Raise Problem where what is unpacked does not fit beside the volumes."""
    there = os.fstatvfs(folder.descriptor)
    free = there.f_bavail * there.f_frsize
    if free < needed.on_disk:
        raise Problem(f"the disk of {folder} is too full: {needed.on_disk} bytes are to be unpacked, {free} are free")
    if there.f_files and there.f_favail < needed.members:  # Btrfs has no fixed number of them, and says 0
        raise Problem(f"the disk of {folder} takes {there.f_favail} more files: {needed.members} are to be unpacked")


def verify(manifests: Manifests, file: Path, progress: Progress) -> tuple[Header, Extent]:
    """Read a whole archive that is to be put back; return what it is of, and how much.

    Raises Problem where it is no good, or of another domain.
    """
    header, needed = reading.verify_archive(file, progress)
    if header.settings["domain"] != manifests.settings.domain:
        raise Problem(
            f"{file} is of {header.settings['domain']}, and this pod serves {manifests.settings.domain}: set domain "
            "(invoke.yaml) to what it was, and restore again"
        )
    return header, needed


def differences(manifests: Manifests, header: Header) -> list[str]:
    """Return a line for each setting that is another now than when the archive was made: the one of now counts."""
    now = vars(manifests.settings)
    return [
        f"{name} was {was!r} when the archive was made, and is {now[name]!r} now"
        for name, was in header.settings.items()
        if name in now and was != now[name]
    ]


def restore(manifests: Manifests, file: Path, needed: Extent, progress: Progress, *, replace: bool) -> None:
    """Put back what an archive holds that was verified, the pod being down; `needed` is how much that is.

    It is unpacked beside the volumes: until all of it is there, nothing is touched. Raises Problem where it would,
    without `replace`, replace what the pod keeps.
    """
    settings = manifests.settings
    with pod.alone(settings):
        if not replace:
            _require_empty(manifests)
        with snapshot.scratch(manifests, "restore") as folder:
            require_room(folder, needed)
            header, extent = reading.extract_archive(file, folder, progress)
            if header.settings["domain"] != settings.domain or extent != needed:
                raise Problem(f"{file} is another than when it was verified. Nothing was changed: restore it again")
            pod.down(settings)
            network.ensure(settings)
            volumes.ensure(manifests)
            _put(manifests, folder)
