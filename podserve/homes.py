"""Each account's own folder on the web volume: /webdav/home/NAME/."""

import os
from collections.abc import Iterable
from pathlib import Path

WWW_DATA = 33
"""The user and group that Apache serves as: Debian's fixed number (base-passwd)."""


def ensure(web: Path, accounts: Iterable[str]) -> None:
    """Make the folder of each account, by its address, that has none yet. `web` is the web volume's folder."""
    homes = web / "home"
    if not homes.exists():
        homes.mkdir(mode=0o755)
        os.chown(homes, WWW_DATA, WWW_DATA)
    for account in accounts:
        home = homes / account.partition("@")[0]
        if not home.exists():
            home.mkdir(mode=0o750)
            os.chown(home, WWW_DATA, WWW_DATA)
