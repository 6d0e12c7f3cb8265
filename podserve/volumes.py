"""Podman's volumes: made when missing, found on the host's disk."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from podserve import network
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
        # The network is named because Podman makes one of its own otherwise, for claims alone, too.
        podman("kube", "play", "--network", network.mode(manifests.settings), "-", stdin=yaml.safe_dump_all(missing))
    return bool(missing)


def remove(names: Iterable[str]) -> list[str]:
    """Remove these volumes, with all they hold, and return the names of those that existed."""
    there = existing()
    found = [name for name in names if name in there]
    if found:
        podman("volume", "rm", *found)
        folder.cache_clear()
    return found


def folders(names: Sequence[str]) -> dict[str, Path]:
    """Return where the files of these volumes are on this host. Raises Problem when there is no such volume."""
    found = podman("volume", "inspect", "--format", "{{.Mountpoint}}", *names).stdout.split("\n")
    return {name: Path(mountpoint) for name, mountpoint in zip(names, found, strict=False)}


@functools.cache
def folder(name: str) -> Path:
    """Return where a volume's files are on this host; Podman is asked once. Raises Problem where it has none."""
    return folders([name])[name]
