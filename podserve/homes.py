"""The folder of each account on the web volume: /webdav/home/NAME/ for NAME@DOMAIN, otherwise with the whole address.

`domain` may change, and NAME would then be another account's. So a file on the accounts volume says which domain it
stands for.
"""

from collections.abc import Iterable

from podserve import volumes
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import LOCAL_PART

WWW_DATA = 33
"""The user and group of Apache's workers: Debian's fixed number (base-passwd)."""


_DOMAIN_FILE = "home-domain"
_LARGEST = 2**10


def home_of(account: str, domain: str) -> str:
    """Return the name of an account's folder. `domain` is that of the pod."""
    return account.removesuffix(f"@{domain}")


def ensure_homes(web: Folder, accounts: Iterable[str], domain: str) -> None:
    """Create the missing folders of accounts, given by their addresses. `web` is the folder of the web volume.

    Raises Problem if a folder's name belongs to a file or a link.
    """
    homes = web.ensure("home", 0o755, WWW_DATA)
    for account in accounts:
        homes.ensure(home_of(account, domain), 0o750, WWW_DATA)


def arrange_homes(pod: Pod) -> None:
    """Give each folder the name that it has while this pod runs, so that it stays its account's.

    An interrupted call is completed by the next one. Raises Problem if a name is taken.
    """
    names = [pod.volumes[content].name for content in ("accounts", "web")]
    if all(map(volumes.is_there, names)):
        accounts, web = map(volumes.folder, names)
        follow_domain(accounts, web, pod.settings.domain)


def follow_domain(accounts: Folder, web: Folder, domain: str) -> None:
    """Rename the folders if another domain is the pod's now (`arrange_homes`)."""
    homes = web.ensure("home", 0o755, WWW_DATA)
    before = (accounts.read(_DOMAIN_FILE, _LARGEST) or domain.encode()).decode("ascii", "replace")
    for name in homes.names() if before != domain else ():
        if LOCAL_PART.match(name) and homes.has_folder(name):
            homes.move(name, homes, f"{name}@{before}")
    accounts.put(_DOMAIN_FILE, domain.encode("ascii"), 0o600, 0)
    for name in homes.names():
        if name.endswith(f"@{domain}") and homes.has_folder(name):
            homes.move(name, homes, home_of(name, domain))
