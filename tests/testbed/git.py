"""Shared by the tests of git: the git client, and repositories on the web volume."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from podserve.commands import Result, run
from podserve.homes import WWW_DATA
from podserve.repositories import PUBLIC_MARK
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token

PERSON = {
    f"GIT_{role}_{what}": text
    for role in ("AUTHOR", "COMMITTER")
    for what, text in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


@dataclass(frozen=True)
class Git:
    """The git client of an account or of a stranger. It never prompts, and reads no configuration of a user."""

    server: Server
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    # Debian 12's libcurl (7.88.1) sends parts of a body twice over HTTP/2 if the socket is full for a moment (seen in
    # captures), and git refuses such a pack. So this is not git's default. Small bodies are not affected.
    options: Sequence[str] = ("-c", "http.version=HTTP/1.1")

    @property
    def env(self) -> dict[str, str]:
        """The environment of the client."""
        test_pod = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "LC_ALL": "C",
        }
        if self.server.authority:
            test_pod["GIT_SSL_CAINFO"] = self.server.authority
        return {**os.environ, **test_pod, **PERSON, **self.environment}

    def argv(self, *words: str) -> Sequence[str]:
        """Return the argv of a git command, which resolves the server's name to the address under test."""
        found = f"http.curloptResolve={self.server.domain}:443:{self.server.literal}"
        client = ["git", "-c", found, *self.options]
        # The client's time for compressing a large pack does not matter here.
        return [*client, "-c", "core.compression=0", "-c", "core.bigFileThreshold=1m", *words]

    def url(self, name: str) -> str:
        """Return the URL of a repository, with the login if there is an account."""
        login = f"{quote(self.account.address)}:{quote(self.account.password, safe='')}@" if self.account else ""
        return f"https://{login}{self.server.domain}/git/{name}"

    def run(self, *words: str, check: bool = True) -> Result:
        """Run a git command, and return its result."""
        return run(self.argv(*words), check=check, timeout=120, env=self.env)

    def commit(self, work: Path, message: str, files: Mapping[str, bytes]) -> str:
        """Write files, commit them, and return the commit's hash. Creates the repository if there is none."""
        if not work.exists():
            self.run("init", "--quiet", "--initial-branch", "main", str(work))
        for name, content in files.items():
            (work / name).write_bytes(content)
        self.run("-C", str(work), "add", "--all")
        self.run("-C", str(work), "commit", "--quiet", "--allow-empty", "--message", message)
        return self.run("-C", str(work), "rev-parse", "HEAD").stdout.strip()


@dataclass(frozen=True)
class Repository:
    """A repository on the web volume, its work tree, and the hash, message and file.txt of its one commit."""

    folder: Path
    work: Path
    commit: str
    message: str
    content: str

    @property
    def name(self) -> str:
        """The name of the repository, with .git."""
        return self.folder.name

    def tip(self, branch: str = "main") -> str:
        """Return the commit of a branch on the server, or an empty text."""
        found = run(
            ["git", "-c", "safe.directory=*", "-C", str(self.folder), "rev-parse", "-q", "--verify", branch],
            check=False,
        )
        return found.stdout.strip()


def serve(work: Path, folder: Path, *, public: bool = False) -> None:
    """Put a bare clone of `work` at `folder` on the web volume, owned by the service."""
    run(["git", "clone", "--quiet", "--bare", "--no-hardlinks", str(work), str(folder)])
    if public:
        (folder / PUBLIC_MARK).touch()
    give(folder)


def give(folder: Path) -> None:
    """Make the service the owner of a folder and of everything in it."""
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, WWW_DATA, WWW_DATA)


def make(test_pod: PodUnderTest, work: Path, *, public: bool = False) -> Repository:
    """Make a repository with a new name and one commit. `work` is a folder that does not exist yet."""
    message, content, folder = f"Say {token()}", token(), test_pod.folder("web") / "git" / f"{token()}.git"
    commit = Git(test_pod.server).commit(work, message, {"file.txt": content.encode()})
    serve(work, folder, public=public)
    return Repository(folder, work, commit, message, content)
