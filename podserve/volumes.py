"""Podman's volumes: made when missing, found on the host's disk."""

from pathlib import Path

import yaml

from podserve.commands import podman
from podserve.manifests import Manifests


def existing() -> set[str]:
    """Return the names of all volumes there are."""
    return set(podman("volume", "ls", "--quiet").stdout.split())


def ensure(manifests: Manifests) -> bool:
    """Make the claims of the pod that do not exist yet; return whether any was made."""
    there = existing()
    missing = [claim for claim in manifests.claims if claim["metadata"]["name"] not in there]
    if missing:
        podman("kube", "play", "-", stdin=yaml.safe_dump_all(missing))
    return bool(missing)


def remove(manifests: Manifests) -> list[str]:
    """Remove the claims of the pod, with all they hold, and return their names."""
    names = [volume.name for volume in manifests.volumes.values() if volume.name in existing()]
    if names:
        podman("volume", "rm", *names)
    return names


def folder(name: str) -> Path:
    """Return where a volume's files are on this host. Raises Problem when there is no such volume."""
    return Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout.strip())
