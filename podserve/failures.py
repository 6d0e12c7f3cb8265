"""Why a task failed the last time: stored beside the pod's lock, for `status`, until the task succeeds."""

import datetime as dt
import json
from pathlib import Path

from podserve.errors import printable
from podserve.folder import Folder
from podserve.pod import Pod

BACKUP, RENEWAL = "backup", "renewal"
"""The tasks, by the ends of the names of the files. `down` does not remove the files."""


def _file(pod: Pod, task: str) -> Path:
    return pod.state / f"{pod.name}.{task}"


def tell(pod: Pod, task: str, why: str) -> None:
    """Store why a task failed; an empty text means that it succeeded."""
    file = _file(pod, task)
    if why:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        with Folder.at(file.parent).replacing(file.name, 0o644) as opened:
            opened.write(json.dumps({"at": now, "why": why}).encode())
    else:
        file.unlink(missing_ok=True)


def told(pod: Pod, task: str) -> tuple[str, str]:
    """Return when a task failed the last time, and why; empty texts if it succeeded, or if it never ran."""
    try:
        failure = json.loads(_file(pod, task).read_text())
        return printable(str(failure["at"])), printable(str(failure["why"]))
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, LookupError, TypeError):
        return "at an unknown time", f"the record of its failure, {_file(pod, task)}, cannot be read"


def forget(pod: Pod) -> None:
    """Remove the stored failures: the volumes of the pod are gone."""
    for task in (BACKUP, RENEWAL):
        tell(pod, task, "")
