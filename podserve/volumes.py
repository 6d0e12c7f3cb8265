"""Podman's volumes: they are created if missing, and used through their folders on the host."""

import re
from collections.abc import Iterable
from pathlib import Path

from podserve import network
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import as_yaml
from podserve.pod import Pod

_found: dict[str, Path] = {}
"""The paths of volumes, by name. Podman takes long to start, so it is asked once for all that a task needs."""


def existing(names: Iterable[str]) -> set[str]:
    """Return those of these names that have a volume.

    Podman is asked for these alone: it looks at each volume that it lists, and fails if somebody removes one meanwhile.
    """
    wanted = f"name=^({'|'.join(re.escape(name) for name in names)})$"
    lines = podman("volume", "ls", "--filter", wanted, "--format", "{{.Name}} {{.Mountpoint}}").stdout.splitlines()
    paths = {name: Path(mountpoint) for name, _, mountpoint in (line.partition(" ") for line in lines)}
    _found.update(paths)
    return set(paths)


def is_there(name: str) -> bool:
    """Return whether there is a volume of this name. Once it was found, Podman is not asked again (see `folder`)."""
    return name in _found or name in existing([name])


def ensure_volumes(pod: Pod) -> None:
    """Create the volumes of the pod that do not exist yet."""
    names = [claim["metadata"]["name"] for claim in pod.manifests.claims]
    there = existing(names)
    missing = [claim for claim in pod.manifests.claims if claim["metadata"]["name"] not in there]
    if missing:
        # Without a network's name Podman would create one of its own, even for claims alone.
        podman("kube", "play", "--network", network.mode(pod), "-", stdin=as_yaml(missing))
        existing(names)


def remove_volumes(names: Iterable[str]) -> list[str]:
    """Remove these volumes with their content; return the names of those that existed."""
    found = sorted(existing(names))
    if found:
        podman("volume", "rm", *found)
        _found.clear()
    return found


def folder(name: str) -> Folder:
    """Return the folder of a volume. Raises Problem if there is no such volume."""
    return Folder.at(path_on_host(name))


def path_on_host(name: str) -> Path:
    """Return the path of a volume on this host: for tests, and for Podman to mount.

    No other code opens paths below it: a service could have replaced any part by a link (see podserve.folder). Raises
    Problem if there is no such volume.
    """
    if name not in _found:
        existing([name])
    if name not in _found:
        raise Problem(f"there is no volume {name} yet: invoke up makes it")
    return _found[name]


def mountable(name: str, inside: str) -> str:
    """Return the path of a folder in a volume, for Podman to mount. Podman follows links in the path.

    Raises Problem if users other than root may replace that folder.
    """
    volume = folder(name)
    root = volume.look()
    volume.enter(inside)
    if root is None or root.st_uid != 0 or root.st_mode & 0o022:
        raise Problem(
            f"{volume} can be changed by users other than root: chown root:root {volume} && chmod 0755 {volume}"
        )
    return f"{volume}/{inside}"
