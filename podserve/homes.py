"""The folder of each account on the web volume: /webdav/home/NAME/."""

from collections.abc import Iterable

from podserve.folder import Folder

WWW_DATA = 33
"""The user and group of Apache's workers: Debian's fixed number (base-passwd)."""


def ensure_homes(web: Folder, accounts: Iterable[str]) -> None:
    """Create the missing folders of accounts, given by their addresses. `web` is the folder of the web volume.

    Raises Problem if a folder's name belongs to a file or a link.
    """
    homes = web.ensure("home", 0o755, WWW_DATA)
    for account in accounts:
        homes.ensure(account.partition("@")[0], 0o750, WWW_DATA)
