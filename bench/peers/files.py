"""WebDAV with a login: small files by rclone, a large file, and a listing."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure
from bench.peers.contestants import Contest
from bench.running import seconds
from bench.sides import Side
from podserve.errors import Problem
from tests.testbed.git import give
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

_SMALL, _EACH = 300, 4096
"""Files of the copies by rclone, and bytes of each."""
_ROUNDS = 1
"""Of the copies. The peers compute bcrypt for each request: three rounds take 14 minutes, and vary by 3 %."""
_PATIENCE = 300
"""Seconds after which a copy has failed: a peer that computes bcrypt for each request takes up to 70 s."""
_LARGE = 64_000_000
_LISTED = 5000


def _list(side: Side, account: Account) -> float:
    """Return the seconds of a listing, as `curl` gets it. Raises Problem if it is not complete."""
    with tempfile.NamedTemporaryFile() as said:
        words = ["--request", "PROPFIND", "--header", "Depth: 1", "--output", said.name]
        taken = seconds(partial(load.curl, side, account, "/webdav/listed/", *words))
        if (found := Path(said.name).read_bytes().count(b"listed/file")) < _LISTED:
            raise Problem(f"{side.name} listed {found} of {_LISTED} files")
    return taken


def _fill(folder: Path) -> None:
    """Make the folder that is listed, with _LISTED files of the web server's user."""
    folder.mkdir()
    for number in range(_LISTED):
        (folder / f"file{number}.txt").write_text("Hello.\n")
    give(folder)


def measure(contest: Contest, test_pod: PodUnderTest) -> Iterator[Figure]:
    """Copy, upload, download and list with the same login on all sides."""
    account = test_pod.postmaster
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "small").mkdir()
        for number in range(_SMALL):
            (work / "small" / f"{number}.bin").write_bytes(os.urandom(_EACH))
        last: dict[str, str] = {}

        def copy(side: Side, *folders: str) -> float:
            return _SMALL / seconds(partial(load.rclone, side, account, "copy", *folders, timeout=_PATIENCE))

        def up(side: Side) -> float:
            last[side.name] = uuid.uuid4().hex
            return copy(side, f"{work}/small", f"dav:{last[side.name]}")

        def down(side: Side) -> float:
            got = work / uuid.uuid4().hex
            speed = copy(side, f"dav:{last[side.name]}", str(got))
            if (count := len(list(got.iterdir()))) != _SMALL:
                raise Problem(f"{count} of {_SMALL} files came back from {side.name}")
            return speed

        for what, act in (("up", up), ("down", down)):
            yield contest.figure(f"{_SMALL} × 4 kB by rclone, {what}", "/s", contest.run(act, _ROUNDS))
        large = load.file_of(work, _LARGE)
        for what, words in (("up", ["--upload-file", str(large)]), ("down", ["--output", f"{folder}/got"])):

            def move(side: Side, words: list[str] = words) -> float:
                return _LARGE / 1e6 / seconds(partial(load.curl, side, account, "/webdav/large.bin", *words))

            yield contest.compare(f"64 MB, {what}", "MB/s", move)
        for side in contest.sides:
            _fill(side.web / "dav" / "listed")
        yield contest.compare(f"listing of {_LISTED:,}", "s", lambda side: _list(side, account), cost=True)
