"""The findings of the doctor's checks, and what the checks look at."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from podserve import host, running
from podserve.pod import Pod

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of a check, in one line, and the command that solves the problem."""

    check: str
    state: State
    said: str
    fix: str = ""


@dataclass(frozen=True)
class Patient:
    """What the checks look at: the pod, and what Podman says of itself and of the pod."""

    pod: Pod
    podman: host.PodmanInfo
    inspected: running.Inspected


Check = Callable[[Patient], Iterable[Finding]]


def as_json(found: list[Finding]) -> str:
    """Return the findings as a JSON object, with `ok` for whether there is no problem."""
    return json.dumps({"ok": sound(found), "findings": [asdict(finding) for finding in found]}, indent=2)


def sound(found: list[Finding]) -> bool:
    """Return whether there is no problem among the findings."""
    return all(finding.state != "problem" for finding in found)
