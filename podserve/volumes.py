"""Podman's volumes: made when missing, and held by their folders on the host."""

from collections.abc import Iterable
from pathlib import Path

from podserve import network
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import as_yaml
from podserve.pod import Pod

_found: dict[str, Path] = {}
"""Where volumes were found, by name: Podman, which takes a while to start, is asked once for all."""


def existing() -> set[str]:
    """Return the names of the volumes that there are."""
    told = podman("volume", "ls", "--format", "{{.Name}} {{.Mountpoint}}").stdout.splitlines()
    there = {name: Path(mountpoint) for name, _, mountpoint in (line.partition(" ") for line in told)}
    _found.update(there)
    return set(there)


def ensure_volumes(pod: Pod) -> None:
    """Make the claims of the pod that do not exist yet."""
    there = existing()
    missing = [claim for claim in pod.manifests.claims if claim["metadata"]["name"] not in there]
    if missing:
        # The network is named because Podman makes one of its own otherwise, for claims alone, too.
        podman("kube", "play", "--network", network.mode(pod), "-", stdin=as_yaml(missing))


def remove_volumes(names: Iterable[str]) -> list[str]:
    """Remove these volumes, with all they hold, and return the names of those that existed."""
    there = existing()
    found = [name for name in names if name in there]
    if found:
        podman("volume", "rm", *found)
        _found.clear()
    return found


def folder(name: str) -> Folder:
    """Return a volume's folder. Raises Problem where there is no such volume."""
    return Folder.at(path_on_host(name))


def path_on_host(name: str) -> Path:
    """Return where a volume's files are on this host: for tests, and for what Podman is to mount.

    Nothing else opens paths below it, which lead where those who write on the volume want: see podserve.folder. Raises
    Problem where there is no such volume.
    """
    if name not in _found:
        existing()
    if name not in _found:
        raise Problem(f"there is no volume {name} yet: invoke up makes it")
    return _found[name]


def mountable(name: str, inside: str) -> str:
    """Return the path of a folder in a volume, for Podman to mount, which follows links in it.

    Raises Problem where others than root may replace that folder.
    """
    volume = folder(name)
    root = volume.look()
    volume.enter(inside)
    if root is None or root.st_uid != 0 or root.st_mode & 0o022:
        raise Problem(f"{volume} can be changed by others than root: chown root:root {volume} && chmod 0755 {volume}")
    return f"{volume}/{inside}"
