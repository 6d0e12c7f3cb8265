"""The locks that WebDAV clients hold on files and folders, as the Apache container's `webdav-locks` knows them."""

import json
from dataclasses import dataclass

from podserve.commands import Result, podman
from podserve.errors import Problem
from podserve.pod import Pod


@dataclass(frozen=True)
class Lock:
    """A lock: the path of its file or folder in an address, its account, its end (s since the epoch; 0: no end).

    Several accounts may hold a shared lock on the same path.
    """

    path: str
    account: str
    end: int
    shared: bool


class Locks:
    """The locks in a pod that runs."""

    def __init__(self, pod: Pod) -> None:
        """Take the pod."""
        self._container = pod.containers["apache"]

    def _run(self, *argv: str) -> Result:
        return podman("exec", "--user", "www-data", self._container, "webdav-locks", *argv, check=False)

    def _locks(self, *argv: str) -> list[Lock]:
        done = self._run(*argv)
        if not done.ok:
            raise Problem(
                f"webdav-locks failed in {self._container}: {done.stderr.strip()}. Does the pod run? invoke status"
            )
        return [Lock(**json.loads(line)) for line in done.stdout.splitlines()]

    def all(self) -> list[Lock]:
        """Return the locks, by path. Raises Problem if the pod does not run."""
        return self._locks("list")

    def remove(self, path: str) -> list[Lock]:
        """Remove the locks at a path and below it, and return them. Raises Problem if there is none."""
        removed = self._locks("break", path)
        if not removed:
            raise Problem(f"there is no lock at {path}. Those there are: invoke locks.list")
        return removed

    def prune(self) -> None:
        """Remove the locks of accounts that do not exist. Where the pod does not run, its next start does the same."""
        self._run("prune")
