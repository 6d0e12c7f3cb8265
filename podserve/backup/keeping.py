"""Backup and restore of a pod: what is put into an archive, and where it comes back to."""

import datetime as dt
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from podserve import network, pod, volumes
from podserve.backup import archive, snapshot
from podserve.backup.archive import FORMAT, Header, Progress
from podserve.errors import Problem
from podserve.manifests import Manifests

STANDARD_OUTPUT = "-"


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
    if file.exists():
        raise Problem(f"{file} exists already, and is kept: give another name, or remove it")
    try:
        made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Problem(
            f"{part} is there already: a backup is being written, or one was killed. Give another name, or remove it"
        ) from error
    try:
        with os.fdopen(made, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def length(file: Path) -> int:
    """Return the bytes of an archive. Raises Problem where there is none."""
    try:
        return file.stat().st_size
    except OSError as error:
        raise Problem(f"{file} cannot be read: {error.strerror}") from error


def size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def backup(manifests: Manifests, name: str, progress: Progress, total: Progress) -> None:
    """Write an archive of all that the pod owns to a file, or for `-` to standard output, while it goes on.

    `total` is told the bytes there are, and `progress` those that were read. Raises Problem; then no file is left.
    """
    if missing := {volume.name for volume in manifests.volumes.values()} - volumes.existing().keys():
        raise Problem(f"there is nothing to back up: no volume {', '.join(sorted(missing))}. Make the pod: invoke up")
    settings = {key: value for key, value in vars(manifests.settings).items() if isinstance(value, str)}
    try:
        with pod.alone(manifests.settings), _destination(name) as out, snapshot.taken(manifests) as folder:
            total(size(folder))
            archive.write(folder, Header(FORMAT, _now().isoformat(), settings), out, progress)
    except OSError as error:
        raise Problem(f"the backup to {name} failed, and is not there: {error.strerror or error}") from error


def _require_empty(manifests: Manifests) -> None:
    there = volumes.existing()
    full = sorted(v.name for v in manifests.volumes.values() if v.name in there and any(there[v.name].iterdir()))
    if full:
        raise Problem(
            f"{manifests.settings.pod} is not empty ({', '.join(full)}): restoring replaces all that it keeps. "
            "Keep that first: invoke backup. Then say --yes"
        )


def _put(manifests: Manifests, restored: Path) -> None:
    """Replace what the volumes hold by what was unpacked beside them."""
    for content, volume in manifests.volumes.items():
        source, folder = restored / content, volumes.folder(volume.name)
        if not source.is_dir():
            continue
        for old in folder.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        kept = source.stat()
        os.chown(folder, kept.st_uid, kept.st_gid)
        folder.chmod(kept.st_mode & 0o7777)
        for new in source.iterdir():
            shutil.move(new, folder / new.name)
    os.sync()


def verify(manifests: Manifests, file: Path, progress: Progress) -> tuple[Header, int]:
    """Read a whole archive that is to be put back; return what it is of, and the bytes that it takes unpacked.

    Raises Problem where it is no good, or of another domain.
    """
    header, needed = archive.verify(file, progress)
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


def restore(manifests: Manifests, file: Path, needed: int, progress: Progress, *, replace: bool) -> None:
    """Put back what an archive holds that was verified, the pod being down; `needed` are the bytes it takes unpacked.

    It is unpacked beside the volumes: until all of it is there, nothing is touched. Raises Problem where it would,
    without `replace`, replace what the pod keeps.
    """
    settings = manifests.settings
    with pod.alone(settings):
        if not replace:
            _require_empty(manifests)
        with snapshot.scratch(manifests, "restore") as folder:
            if shutil.disk_usage(folder).free < needed:
                raise Problem(f"the disk of {folder} is too full: {needed} bytes are to be unpacked there")
            archive.extract(file, folder, progress)
            pod.down(settings)
            network.ensure(settings)
            volumes.ensure(manifests)
            _put(manifests, folder)
