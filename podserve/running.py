"""The pod as Podman has it: whether it exists, runs, and what it was played from."""

import json
from dataclasses import dataclass
from typing import Any

from podserve import systemd
from podserve.commands import podman
from podserve.errors import Problem
from podserve.manifests import DIGEST_LABEL
from podserve.pod import Pod


@dataclass(frozen=True)
class Inspected:
    """What Podman says of a pod: its state, the id of the container with its ports, the digest of its documents.

    The state is `Running`, `Degraded`, `Exited`, …. Texts are empty if there is no pod, or no digest.
    """

    state: str = ""
    infra: str = ""
    digest: str = ""

    @property
    def runs(self) -> bool:
        """Whether all its containers run."""
        return self.state == "Running"

    @property
    def holds_ports(self) -> bool:
        """Whether it holds its ports."""
        return self.state in {"Running", "Degraded", "Paused"}


def inspected(pod: Pod) -> Inspected:
    """Ask Podman of the pod."""
    answer = podman("pod", "inspect", pod.name, check=False)
    if not answer.ok:
        return Inspected()
    document = json.loads(answer.stdout)
    found: dict[str, Any] = document[0] if isinstance(document, list) else document
    labels = found.get("Labels")
    digest = labels.get(DIGEST_LABEL, "") if isinstance(labels, dict) else ""
    return Inspected(str(found.get("State", "")), str(found.get("InfraContainerID", "")), str(digest))


def exists(pod: Pod) -> bool:
    """Return whether the pod exists, running or not."""
    return inspected(pod).state != ""


def missing(pod: Pod) -> Problem:
    """Return the Problem of a missing pod; for a service, with its state in systemd."""
    service = f", and its service is {systemd.state_and_command(pod)}" if systemd.installed(pod) else ""
    return Problem(f"there is no pod {pod.name}{service}. Start it: invoke up")
