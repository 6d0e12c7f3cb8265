"""Logins on the web: what they cost beside the same Apache without authentication."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import load
from bench.figures import Figure, Goal, at_least
from bench.running import in_turn, seconds
from bench.sides import Side, native_twin, replaced
from podserve.commands import ROOT
from tests.testbed.git import Git, serve
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

SECTION = "logins"
_FILES, _SIZE = 300, 4_000
"""Files that rclone copies, and bytes of each."""
_REQUESTS = 1_000
_PAGES = 96
_NOWHERE = ("--output", "/dev/null")
_FOLDER = ROOT / "docker/apache/rootfs/etc/apache2/podserve"
_OPEN = {
    "logins": {
        "    AuthType Basic\n": "", '    AuthName "PodServe"\n': "", "    AuthBasicProvider file\n": "",
        "    LuaHookCheckUserID /usr/share/podserve/logins.lua login\n": "",
        "    LuaHookLog /usr/share/podserve/logins.lua after\n": "",
        "\nInclude podserve/webdav.conf": '\nDefine ACCOUNT "true"\nInclude podserve/webdav.conf',
    },
}  # fmt: skip
"""The parts of Apache's configuration that authenticate, and their replacements."""


@contextmanager
def _open_twin(test_pod: PodUnderTest) -> Iterator[Side]:
    """Yield a native twin whose Apache asks for no login."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.conf" for name in _OPEN}
        for name, file in files.items():
            file.write_text(replaced((_FOLDER / f"{name}.conf").read_text(), _OPEN[name], "_OPEN (bench/logins.py)"))
        with native_twin(test_pod, "open", "apache", **files) as side:
            yield side


def _copy(side: Side, account: Account | None, source: Path) -> float:
    """Copy a folder to the shared folder by rclone, and compare it byte by byte. Return the seconds of both."""
    load.rclone(side, account, "purge", "dav:files", check=False)
    took = seconds(lambda: load.rclone(side, account, "copy", str(source), "dav:files"))
    return took + seconds(lambda: load.rclone(side, account, "check", "--download", str(source), "dav:files"))


def measure(test_pod: PodUnderTest, pod: Side, native: Side) -> Iterator[Figure]:
    """Copy files with and without a login, request one file often, and read GitWeb as an account and as a stranger."""
    account = test_pod.postmaster
    with tempfile.TemporaryDirectory() as name, _open_twin(test_pod) as unasked:
        folder = Path(name)
        (folder / "files").mkdir()
        for number in range(_FILES):
            (folder / "files" / f"{number}").write_bytes(os.urandom(_SIZE))
        sides = ((native, account), (unasked, None))

        def copied(side: Side, login: Account | None) -> float:
            return _copy(side, login, folder / "files")

        def requested(side: Side, login: Account | None, version: str) -> float:
            return seconds(partial(load.curl, side, login, f"/webdav/files/1#[1-{_REQUESTS}]", *_NOWHERE, version))

        for act, words, most in ((copied, f"rclone: copy of {_FILES} files of 4 kB, and check", 1.3),
                                 (partial(requested, version="--http1.1"), f"{_REQUESTS:,} GETs, HTTP/1.1", 1.2),
                                 (partial(requested, version="--http2"), f"{_REQUESTS:,} GETs, HTTP/2", 1.2),
                                 ):  # fmt: skip
            taken, beside = in_turn(*(side.measured(partial(act, login=login)) for side, login in sides))
            yield Figure(SECTION, words, "s", taken, "no login", beside, Goal("ratio", most))
        Git(pod.server).commit(folder / "work", "Say", {"file.txt": b"Hello.\n"})
        serve(folder / "work", native.web / "git" / "logins.git", public=True)

        def read(side: Side, login: Account | None) -> float:
            options = ("--parallel", "--parallel-max", f"{load.CLIENTS}", "--http1.1")
            return _PAGES / seconds(
                partial(load.curl, side, login, f"/git/logins.git#[1-{_PAGES}]", *_NOWHERE, *options)
            )

        native.call(partial(read, login=account))
        taken, beside = in_turn(*(native.measured(partial(read, login=login)) for login in (account, None)))
        yield Figure(SECTION, "GitWeb's summary a second", "/s", taken, "a stranger", beside, at_least(0.95))
