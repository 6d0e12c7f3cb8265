"""Repositories: pages a second, and MB a second of a clone."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import git, load
from bench.figures import Figure
from bench.peers.contestants import Contest
from bench.sides import Side
from tests.testbed.git import Git
from tests.testbed.pod import PodUnderTest

_REQUESTS = 24
_CGIT = {"list": "", "summary": "bench.git/", "commit": "bench.git/commit/?id={}", "blob": "bench.git/tree/file.txt"}
"""The addresses of cgit's pages after /git/."""
_GITWEB = {"list": "", "summary": "bench.git", "commit": "bench.git/commit/{}", "blob": "bench.git/blob/HEAD:/file.txt"}
"""The addresses of GitWeb's pages after /git/."""


def measure(contest: Contest, _own: PodUnderTest) -> Iterator[Figure]:
    """Request the same pages of the same repository, and clone it. Bare Apache runs GitWeb as CGI, as cgit runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = load.file_of(folder, git.SIZE).read_bytes()
        commit = Git(contest.pod.server).commit(folder / "work", "Say", {"large.bin": content, "file.txt": b"Hello.\n"})
        for side in contest.sides:
            git.serve_public(side, folder / "work")
        for page in _GITWEB:

            def act(side: Side, page: str = page) -> float:
                path = "/git/" + (_CGIT if side.name.startswith("cgit") else _GITWEB)[page].format(commit)
                load.request(side, path, load.CLIENTS, "--h1")  # a persistent process is fast from its second page on
                return load.request(side, path, _REQUESTS, "--h1")

            # Bare Apache runs the same GitWeb, so only cgit tells whether GitWeb is fast.
            yield contest.figure(page, "/s", contest.run(act), floor=False)
        yield contest.compare("clone of 32 MB", "MB/s", partial(git.clone, folder=folder))
