"""docker/engine.sh: the settings that it finds by trying, and what it prints."""

import os
import shutil
from pathlib import Path

import pytest

from podserve.commands import ROOT, Result, run

PODMAN = """\
#!/bin/sh
echo "$1 ${CONTAINERS_CONF-none}" >> "$FAKE/calls"
[ "$1" = run ] || exit 0
for word in $WANTED; do
    grep -q "$word" "${CONTAINERS_CONF:-/dev/null}" || { echo "crun: no $word" >&2; exit 126; }
done
"""


class Engine:
    """A checkout with only engine.sh, and a fake Podman that needs certain words in its settings to run containers."""

    def __init__(self, folder: Path) -> None:
        """Create both."""
        self.folder = folder
        self.conf = folder / ".podserve" / "containers.conf"
        self.script = folder / "docker" / "engine.sh"
        self.script.parent.mkdir()
        shutil.copy(ROOT / "docker/engine.sh", self.script)
        self.program("podman", PODMAN)
        self.program("catatonit", "#!/bin/sh\n")

    def program(self, name: str, text: str) -> None:
        """Write a program into the first folder of PATH."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def find_out(self, *argv: str, wanted: str = "") -> Result:
        """Run engine.sh on a host where Podman needs these words in its settings."""
        env = {name: value for name, value in os.environ.items() if name != "CONTAINERS_CONF"}
        path = f"{self.folder}{os.pathsep}{env['PATH']}"
        return run([str(self.script), *argv], check=False, timeout=30,
                   env={**env, "PATH": path, "FAKE": str(self.folder), "WANTED": wanted})  # fmt: skip

    def calls(self) -> list[str]:
        """Return the calls of Podman since the last time: its first argument, and CONTAINERS_CONF (or none)."""
        file = self.folder / "calls"
        asked = file.read_text().splitlines() if file.exists() else []
        file.write_text("")
        return asked


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A new host for each test."""
    return Engine(tmp_path)


def test_podmans_own_settings_are_kept_where_they_work(engine: Engine) -> None:
    found = engine.find_out()
    assert (found.code, found.stdout, found.stderr) == (0, "", "")
    assert engine.conf.read_text() == ""


def test_what_works_is_found_by_trying_said_in_a_line_and_kept(engine: Engine) -> None:
    found = engine.find_out(wanted="runc nofile nproc")
    assert (found.code, found.stdout) == (0, f"{engine.conf}\n")
    assert found.stderr.count("\n") == 1
    assert "Podman runs containers here with runc limits (.podserve/containers.conf)" in found.stderr
    assert "crun: no runc" in found.stderr
    assert [file.name for file in engine.conf.parent.iterdir()] == ["containers.conf"]
    engine.calls()
    again = engine.find_out(wanted="runc nofile nproc")
    assert (again.stdout, again.stderr) == (found.stdout, "")
    assert engine.calls() == []


def test_where_nothing_works_it_says_what_podman_said_and_keeps_nothing(engine: Engine) -> None:
    found = engine.find_out(wanted="nonsense")
    assert (found.code, found.stdout) == (1, "")
    assert "engine: Podman cannot run a container on this host: crun: no nonsense" in found.stderr
    assert list(engine.conf.parent.iterdir()) == []


def test_two_that_find_out_at_once_do_not_share_what_they_try(engine: Engine) -> None:
    tried = []
    for _ in range(2):
        engine.find_out("--again", wanted="runc")
        tried.append({call.split()[1] for call in engine.calls() if call.startswith("run")} - {"none"})
    assert all(tried)
    assert tried[0].isdisjoint(tried[1])


def test_a_podman_that_hangs_is_told_of(engine: Engine) -> None:
    engine.program("timeout", "#!/bin/sh\nexit 124\n")
    found = engine.find_out()
    assert (found.code, found.stdout) == (124, "")
    assert found.stderr == "engine: podman has not ended within 60 s. See what 'podman info' says, as this user\n"
