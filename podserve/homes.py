"""Each account's own folder on the web volume: /webdav/home/NAME/."""

from collections.abc import Iterable

from podserve.folder import Folder

WWW_DATA = 33
"""The user and group that Apache serves as: Debian's fixed number (base-passwd)."""


def ensure_homes(web: Folder, accounts: Iterable[str]) -> None:
    """Make the folder of each account, by its address, that has none yet. `web` is the web volume's folder.

    Raises Problem where something else is in its place.
    """
    homes = web.ensure("home", 0o755, WWW_DATA)
    for account in accounts:
        homes.ensure(account.partition("@")[0], 0o750, WWW_DATA)
