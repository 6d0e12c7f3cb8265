"""Files of the person who runs the pod that hold secrets: read only if nobody else can read or change them."""

import os
from pathlib import Path

from podserve.errors import Problem


def read_private(file: Path, setting: str, limit: int) -> bytes:
    """Return the first `limit` bytes of the file that a setting names.

    Raises Problem, which shows nothing of the content, if the file cannot be read, or if other users can use it.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(limit)
    except OSError as error:
        raise Problem(f"{setting}, {file}, cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise Problem(f"{setting}, {file}, holds secrets, and other users can read or change it: chmod 0600 {file}")
    return content
