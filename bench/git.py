"""Git: GitWeb's pages a second, and MB a second of a clone."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure, Goal
from bench.running import in_turn, seconds
from bench.sides import Side, native_twin, replaced
from podserve.commands import ROOT
from tests.testbed.git import Git, serve
from tests.testbed.pod import PodUnderTest

SECTION = "git"
SIZE = 32_000_000
_PAGES = 24
CONFIGURATION = ROOT / "docker/apache/rootfs/etc/apache2/podserve/git.conf"
_PERSISTENT = {"\nAlias /git ": "\nScriptAlias /git ", "proxy:unix:/run/apache2/gitweb|fcgi://localhost/": "cgi-script"}
"""The parts of Apache's configuration that make GitWeb's processes persistent, and their replacements for plain CGI."""


def plain_cgi(configuration: str) -> str:
    """Return Apache's configuration of git with GitWeb as plain CGI. Raises Problem if a replaced part is missing."""
    return replaced(configuration, _PERSISTENT, "_PERSISTENT (bench/git.py)")


def serve_public(side: Side, work: Path) -> None:
    """Put a bare clone of `work` at a side's address /git/bench.git."""
    serve(work, side.web / "git" / "bench.git", public=True)


def clone(side: Side, folder: Path) -> float:
    """Return the MB a second of a clone of /git/bench.git, which has a file of 32 MB."""
    target = folder / "clone"
    try:
        git = Git(side.server)
        taken = seconds(lambda: git.run("clone", "--quiet", git.url("bench.git"), str(target)))
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return SIZE / 1e6 / taken


def measure(test_pod: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Request pages and clone on both sides; request the pages also from GitWeb as plain CGI."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = load.file_of(folder, SIZE).read_bytes()
        Git(pod.server).commit(folder / "work", "Say", {"large.bin": content, "file.txt": b"Hello.\n"})
        configuration = folder / "git.conf"
        configuration.write_text(plain_cgi(CONFIGURATION.read_text()))
        with native_twin(test_pod, "plain-cgi", "apache", git=configuration) as cgi:
            for side in (pod, native, cgi):
                serve_public(side, folder / "work")
            for page, path in (("list", "/git/"), ("summary", "/git/bench.git")):

                def act(side: Side, path: str = path) -> float:
                    load.request(side, path, load.CLIENTS, "--h1")  # a persistent process is fast from its second on
                    return load.request(side, path, _PAGES, "--h1")

                taken, natively, plainly = in_turn(*(side.measured(act) for side in (pod, native, cgi)))
                yield Figure(SECTION, f"GitWeb's {page} a second", "/s", taken, native.name, natively)
                yield Figure(SECTION, f"GitWeb's {page} a second, persistent", "/s", taken, "plain CGI", plainly,
                             Goal("ratio", 8, least=True))  # fmt: skip
        act = partial(clone, folder=folder)
        taken, natively = in_turn(pod.measured(act), native.measured(act))
        yield Figure(SECTION, "clone of 32 MB", "MB/s", taken, native.name, natively)
