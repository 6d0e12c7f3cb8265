"""The git repositories on the web volume: NAME.git, private unless they hold git's marker file."""

import os
import re
from dataclasses import dataclass

from podserve import volumes
from podserve.commands import Result, podman
from podserve.descriptors import closing, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

PUBLIC_MARK = "git-daemon-export-ok"
"""The file that makes a repository public: https://git-scm.com/docs/git-http-backend"""
_NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,62}\Z")
_DESCRIBED = 1000
"""Bytes of a description at most."""
_SHOWN = 20
"""Branches that an error names at most."""
_FOLDER = "/data/web/git"
"""The path of the repositories in the Apache container."""


@dataclass(frozen=True)
class Repository:
    """A repository: its name without .git, its description in one line, whether strangers may see and clone it."""

    name: str
    description: str
    public: bool


def name_of(name: str) -> str:
    """Return the name of a repository without .git. Raises Problem for a name that no address or path may hold."""
    bare = name.removesuffix(".git")
    if not _NAME.match(bare):
        raise Problem(
            f"{name!r} cannot be the name of a repository: expected letters, digits, dots, hyphens and underscores"
        )
    return bare


class Repositories:
    """The repositories of a pod that runs. git runs in the Apache container, as the user that serves them."""

    def __init__(self, pod: Pod) -> None:
        """Take the pod."""
        self._container = pod.containers["apache"]
        self._volume = pod.volumes["web"].name

    def _run(self, *argv: str, stdin: str = "") -> Result:
        done = podman("exec", "-i", "--user", "www-data", self._container, *argv, stdin=stdin, check=False)
        if not done.ok:
            raise Problem(f"{argv[0]} failed in {self._container}: {done.stderr.strip()}. Check the pod: invoke status")
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
        """Read a repository. Only the beginning of its description is read: the web server may write any amount."""
        try:
            with closing(open_file("description", folder.descriptor)) as file:
                text = os.read(file, _DESCRIBED).decode(errors="replace").strip()
        except FileNotFoundError:
            text = ""
        except Problem as problem:
            text = f"({problem.text})"
        return Repository(name, text, folder.look(PUBLIC_MARK) is not None)

    def expect(self, name: str) -> str:
        """Return the path of a repository in the container. Raises Problem if there is no such repository."""
        if name_of(name) not in {repository.name for repository in self.all()}:
            raise Problem(f"there is no repository {name}. To list the repositories: invoke repos.list")
        return f"{_FOLDER}/{name_of(name)}.git"

    def add(self, name: str, description: str, *, public: bool) -> None:
        """Create an empty repository. Raises Problem if there is one of that name."""
        if name_of(name) in {repository.name for repository in self.all()}:
            raise Problem(f"there is a repository {name} already. To list the repositories: invoke repos.list")
        path = f"{_FOLDER}/{name_of(name)}.git"
        # The empty template has no sample hooks, and no default description for GitWeb to show.
        self._run("git", "init", "--quiet", "--bare", "--initial-branch=main", "--template=", path)
        self._run("tee", f"{path}/description", stdin=f"{' '.join(description.split())}\n")
        if public:
            self.publish(name)

    def publish(self, name: str) -> None:
        """Make a repository public: strangers may see and clone it."""
        self._run("touch", f"{self.expect(name)}/{PUBLIC_MARK}")

    def hide(self, name: str) -> None:
        """Make a repository private: only accounts see it."""
        self._run("rm", "-f", f"{self.expect(name)}/{PUBLIC_MARK}")

    def set_head(self, name: str, branch: str) -> None:
        """Set the branch that a clone checks out. Raises Problem if the repository has no branch of that name."""
        git = "git", "-C", self.expect(name)
        branches = self._run(*git, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").stdout.splitlines()
        if not branches:
            raise Problem(f"there is no branch in {name} yet: push one, and a clone checks it out")
        if branch not in branches:
            shown = ", ".join(branches[:_SHOWN] + ["…"] * (len(branches) > _SHOWN))
            raise Problem(f"there is no branch {branch!r} in {name}: expected one of {shown}")
        self._run(*git, "symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def remove(self, name: str) -> None:
        """Remove a repository with its history."""
        self._run("rm", "-r", "-f", self.expect(name))
