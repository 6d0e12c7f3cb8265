"""The git repositories on the web volume: NAME.git, private unless they hold git's own mark."""

import os
import re
from dataclasses import dataclass

from podserve import volumes
from podserve.commands import Result, podman
from podserve.descriptors import closing, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import Manifests

PUBLIC_MARK = "git-daemon-export-ok"
"""https://git-scm.com/docs/git-http-backend: what makes a repository one that may be served to anybody."""
_NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,62}\Z")
_DESCRIBED = 1000
"""Bytes of a description that are shown."""
_FOLDER = "/data/web/git"
"""Where docker/apache has them."""


@dataclass(frozen=True)
class Repository:
    """A repository: its name without .git, its one-line description, whether strangers may see and clone it."""

    name: str
    description: str
    public: bool


def name_of(name: str) -> str:
    """Return a repository's name without .git. Raises Problem for one that cannot be in an address or a path."""
    bare = name.removesuffix(".git")
    if not _NAME.match(bare):
        raise Problem(f"{name!r} is no name for a repository: expected letters, digits, dots, hyphens and underscores")
    return bare


class Repositories:
    """The repositories of a pod that runs; git works on them in its Apache container, as the user that serves them."""

    def __init__(self, manifests: Manifests) -> None:
        """Take the pod's documents."""
        self._container = manifests.containers["apache"]
        self._volume = manifests.volumes["web"].name

    def _run(self, *argv: str, stdin: str = "") -> Result:
        done = podman("exec", "-i", "--user", "www-data", self._container, *argv, stdin=stdin, check=False)
        if not done.ok:
            raise Problem(
                f"{argv[0]} failed in {self._container}: {done.stderr.strip()}. Does the pod run? invoke status"
            )
        return done

    def all(self) -> list[Repository]:
        """Return the repositories, by name."""
        volume = volumes.folder(self._volume)
        if not volume.has_folder("git"):
            return []
        there = volume.enter("git")
        return [
            self._read(name.removesuffix(".git"), there.enter(name))
            for name in there.names()
            if name.endswith(".git") and there.has_folder(name)
        ]

    @staticmethod
    def _read(name: str, folder: Folder) -> Repository:
        """Read what the web server, which may have been broken into, can write: of a description its beginning."""
        try:
            with closing(open_file("description", folder.descriptor)) as file:
                text = os.read(file, _DESCRIBED).decode(errors="replace").strip()
        except FileNotFoundError:
            text = ""
        except Problem as problem:
            text = f"({problem.text})"
        return Repository(name, text, folder.look(PUBLIC_MARK) is not None)

    def expect(self, name: str) -> str:
        """Return where a repository is in the container. Raises Problem when there is none by that name."""
        if name_of(name) not in {repository.name for repository in self.all()}:
            raise Problem(f"there is no repository {name}. Those there are: invoke repos.list")
        return f"{_FOLDER}/{name_of(name)}.git"

    def add(self, name: str, description: str, *, public: bool) -> None:
        """Make an empty repository. Raises Problem when there is one by that name."""
        if name_of(name) in {repository.name for repository in self.all()}:
            raise Problem(f"there is a repository {name} already. Those there are: invoke repos.list")
        path = f"{_FOLDER}/{name_of(name)}.git"
        # Without a template: no sample hooks, and GitWeb shows no sentence of git's as a description.
        self._run("git", "init", "--quiet", "--bare", "--initial-branch=main", "--template=", path)
        self._run("tee", f"{path}/description", stdin=f"{' '.join(description.split())}\n")
        if public:
            self.publish(name)

    def publish(self, name: str) -> None:
        """Let strangers see and clone it."""
        self._run("touch", f"{self.expect(name)}/{PUBLIC_MARK}")

    def hide(self, name: str) -> None:
        """Let nobody see it without a login."""
        self._run("rm", "-f", f"{self.expect(name)}/{PUBLIC_MARK}")

    def remove(self, name: str) -> None:
        """Remove it, with all its history."""
        self._run("rm", "-r", "-f", self.expect(name))
