"""Podman's volumes: made when missing, found on the host's disk."""

from collections.abc import Iterable
from pathlib import Path

from podserve import network
from podserve.commands import podman
from podserve.errors import Problem
from podserve.manifests import Manifests, as_yaml

_found: dict[str, Path] = {}
"""Where volumes were found, by name: Podman, which takes a while to start, is asked once for all."""


def existing() -> dict[str, Path]:
    """Return where the files of each volume that there is are on this host, by its name."""
    told = podman("volume", "ls", "--format", "{{.Name}} {{.Mountpoint}}").stdout.splitlines()
    there = {name: Path(mountpoint) for name, _, mountpoint in (line.partition(" ") for line in told)}
    _found.update(there)
    return there


def ensure(manifests: Manifests) -> bool:
    """Make the claims of the pod that do not exist yet; return whether any was made."""
    there = existing()
    missing = [claim for claim in manifests.claims if claim["metadata"]["name"] not in there]
    if missing:
        # The network is named because Podman makes one of its own otherwise, for claims alone, too.
        podman("kube", "play", "--network", network.mode(manifests.settings), "-", stdin=as_yaml(missing))
    return bool(missing)


def remove(names: Iterable[str]) -> list[str]:
    """Remove these volumes, with all they hold, and return the names of those that existed."""
    there = existing()
    found = [name for name in names if name in there]
    if found:
        podman("volume", "rm", *found)
        _found.clear()
    return found


def folder(name: str) -> Path:
    """Return where a volume's files are on this host. Raises Problem where there is no such volume."""
    place = _found.get(name) or existing().get(name)
    if not place:
        raise Problem(f"there is no volume {name} yet: invoke up makes it")
    return place
