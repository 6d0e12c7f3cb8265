"""What the unit tests share: settings by name, and a Podman that only writes down what it was asked."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podserve import settings
from podserve.commands import ROOT, Result, run
from podserve.manifests import KUBE, defaults

PODMAN = """\
#!/bin/sh
echo "$*" >> "$FAKE/calls"
case "$*" in
'volume ls'*) echo podserve-accounts ;;
'volume inspect'*) echo "$FAKE" ;;
'pod inspect'*) exit 125 ;;
esac
"""


Document = dict[str, Any]


def documents(file: str) -> list[Document]:
    """Return the documents of a file of kube/."""
    return list(yaml.safe_load_all((KUBE / file).read_text()))


def chosen(**given: object) -> settings.Settings:
    """Return the settings that are made of these and, otherwise, of the defaults."""
    return settings.load(given, defaults(), {})


@dataclass(frozen=True)
class FakePodman:
    """A folder with a program `podman`, which is also the one volume that this Podman knows."""

    folder: Path

    def __post_init__(self) -> None:
        """Write the program."""
        program = self.folder / "podman"
        program.write_text(PODMAN)
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The arguments of each call."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(self, *argv: str, stdin: str = "", **environment: str) -> Result:
        """Run a command to which this is Podman, on a host where Podman needs no settings of ours."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        env = {**inherited, "PATH": path, "FAKE": str(self.folder), "CONTAINERS_CONF": os.devnull, **environment}
        return run(argv, stdin=stdin, check=False, timeout=30, env=env)

    def invoke(self, *argv: str, stdin: str = "", **environment: str) -> Result:
        """Run an Invoke task with the default settings, whatever invoke.yaml says; `environment` adds to them."""
        given = {f"INVOKE_{name.upper()}": value for name, value in defaults().items()}
        root = ("--search-root", str(ROOT))
        return self.run(sys.executable, "-m", "invoke", *root, *argv, stdin=stdin, **{**given, **environment})
