"""What this checkout remembers of a pod, below the folder `Pod.state`: a lock, and the documents that it played.

| path | content |
| --- | --- |
| `NAME.lock` | the lock of tasks that change the pod |
| `NAME/played/` | the documents that were given to Podman or systemd last |
| `NAME/applied/` | those of the last pod that answered on every port, with the images by id |
| `NAME/previous/` | what `applied` held before the last upgrade |
"""

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from podserve.errors import Problem
from podserve.manifests import defaults, read_documents
from podserve.pod import Pod
from podserve.settings import SETTINGS, Settings

_logger = logging.getLogger(__name__)


def _lock_file(pod: Pod) -> Path:
    return pod.state / f"{pod.name}.lock"


def _opened(file: Path) -> TextIO:
    """Open a file to lock. Raises Problem if the file belongs to another user."""
    try:
        return file.open("a")
    except PermissionError as error:
        owner = (file if file.exists() else file.parent).owner()
        raise Problem(
            f"{file} belongs to {owner}, who runs this pod: run this task as {owner}, such as by sudo -u {owner}"
        ) from error


@contextmanager
def locked(pod: Pod) -> Iterator[None]:
    """Hold the lock of the pod, for a task that changes it. Another task of this checkout waits for its end.

    A task takes the lock once: a second time, the process would wait for itself. Raises Problem if the lock is the
    file of another user.
    """
    pod.state.mkdir(exist_ok=True)
    with _opened(_lock_file(pod)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.warning("another task holds the lock of %s: waiting for it to end", pod.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_locked(pod: Pod) -> bool:
    """Return whether a task of this checkout changes the pod, or backs it up, at this moment."""
    try:
        with _lock_file(pod).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def played_folder(pod: Pod) -> Path:
    """Return the folder of the documents that were played last."""
    return pod.state / pod.name / "played"


def applied_folder(pod: Pod) -> Path:
    """Return the folder of the documents of the last pod that answered."""
    return pod.state / pod.name / "applied"


def previous_folder(pod: Pod) -> Path:
    """Return the folder of the documents that the last upgrade replaced."""
    return pod.state / pod.name / "previous"


def forget_documents(pod: Pod, *, with_previous: bool) -> None:
    """Remove the documents that were played and, with `with_previous`, those that `upgrade --back` plays."""
    for folder in (played_folder(pod), applied_folder(pod)):
        shutil.rmtree(folder, ignore_errors=True)
    if with_previous:
        shutil.rmtree(pod.state / pod.name, ignore_errors=True)


def read_back(pod: Pod, folder: Path) -> Pod | None:
    """Return the pod whose documents lie in a folder, or None if they cannot be read.

    The documents hold the settings that services read. The others are those of `pod`, as they are now.
    """
    try:
        manifests = read_documents(folder)
        found = manifests.texts
        # Documents of an earlier version lack the settings that came later. Files were served at the domain alone.
        earlier = {name: text for name, text in defaults().items() if SETTINGS[name].services}
        texts = {**pod.settings.texts(), **earlier, "files_host": found["domain"], **found}
        before = Pod.of(Settings.of_texts(texts), pod.state)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return before.playing(replace(manifests, claims=before.manifests.claims))


def applied(pod: Pod) -> Pod | None:
    """Return the last pod that answered on every port, or None if there is none."""
    return read_back(pod, applied_folder(pod))


def previous(pod: Pod) -> Pod | None:
    """Return the pod that the last upgrade replaced, or None if there is none."""
    return read_back(pod, previous_folder(pod))
