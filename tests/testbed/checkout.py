"""A copy of this checkout whose images have names of their own: its tasks change no image that other tests use."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import ROOT, Result, podman, run
from tests.testbed.images import IMAGES
from tests.testbed.server import token

_OURS = "localhost/podserve-"
"""The beginning of the names of this checkout's images."""


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout and of its state, in a folder."""

    folder: Path
    names: str
    """The beginning of the names of its images."""

    def image(self, service: str) -> str:
        """Return the name of a service's image."""
        return f"{self.names}{service}:latest"

    def edit(self, file: str, before: str, after: str) -> None:
        """Replace a text in a file of the checkout."""
        path = self.folder / file
        text = path.read_text()
        assert before in text, file
        path.write_text(text.replace(before, after))

    def invoke(self, environment: Mapping[str, str], *words: str, check: bool = True) -> Result:
        """Run an Invoke task of this checkout."""
        argv = ["env", "--chdir", str(self.folder), sys.executable, "-m", "invoke", *words]
        return run(argv, env=environment, timeout=300, check=check)


@contextmanager
def copy_of_checkout(folder: Path) -> Iterator[Checkout]:
    """Yield a copy of this checkout in a new folder; its images are this checkout's under other names."""
    left_out = shutil.ignore_patterns(".git", ".venv", "artefacts", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=left_out)
    made = Checkout(folder, f"localhost/{token()}-")
    try:
        for image in IMAGES:
            podman("tag", f"{_OURS}{image}", f"{made.names}{image}")
        for file in ("docker/build.sh", "kube/podserve.yaml"):
            made.edit(file, _OURS, made.names)
        yield made
    finally:
        # (The filter "reference" also lists all other names of an image that it finds.)
        listed = podman("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        podman("rmi", "--force", *(name for name in listed if name.startswith(made.names)), check=False)
