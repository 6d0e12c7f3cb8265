"""Shared by the tests of WebDAV: a new folder, its listing, locks, and a machine that trusts the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx

from podserve.commands import Result, run
from tests.testbed.server import Account, Server, token

EXCLUSIVE, SHARED = (
    f'<lockinfo xmlns="DAV:"><lockscope><{scope}/></lockscope><locktype><write/></locktype></lockinfo>'
    for scope in ("exclusive", "shared")
)
WWW_DATA = 33
"""The user id that owns the files on the web volume."""


@contextmanager
def folder(server: Server, account: Account, parent: str = "/webdav/") -> Iterator[httpx.Client]:
    """Yield a client whose paths begin in a new folder of the account, and remove the folder afterwards."""
    with server.http(account) as client:
        client.base_url = client.base_url.join(f"{parent}{token()}/")
        assert client.request("MKCOL", "").status_code == 201
        yield client
        assert client.delete("").status_code == 204


@contextmanager
def visitor(server: Server, account: Account, there: httpx.Client) -> Iterator[httpx.Client]:
    """Yield a client of another account with the same base path as `there`."""
    with server.http(account) as client:
        client.base_url = there.base_url
        yield client


def address(server: Server, client: httpx.Client, name: str) -> str:
    """Return the full URL of a name in a client's folder, for the header Destination."""
    return f"https://{server.domain}{client.base_url.path}{name}"


def tree(answer: httpx.Response) -> ET.Element:
    """Return the XML document of a response."""
    # The XML comes from the server under test, which is trusted here.
    return ET.fromstring(answer.content)  # noqa: S314


def listed(client: httpx.Client, path: str = "") -> set[str]:
    """Return the hrefs in a PROPFIND of a folder, unchanged."""
    answer = client.request("PROPFIND", path, headers={"Depth": "1"})
    assert answer.status_code == 207, answer.text
    return {href.text or "" for href in tree(answer).findall("{DAV:}response/{DAV:}href")}


def lock(client: httpx.Client, path: str, scope: str = EXCLUSIVE, depth: str = "0") -> str:
    """Lock a path for a minute, and return the lock token in angle brackets."""
    locked = client.request("LOCK", path, content=scope, headers={"Timeout": "Second-60", "Depth": depth})
    assert locked.status_code in {200, 201}, locked.text
    return str(locked.headers["Lock-Token"])


def unlock(client: httpx.Client, path: str, key: str) -> int:
    """Unlock a path, and return the status of the response."""
    return client.request("UNLOCK", path, headers={"Lock-Token": key}).status_code


@dataclass(frozen=True)
class Desk:
    """A client machine that resolves the server's name and whose system trusts only the server's authority."""

    server: Server
    home: Path

    def run(self, *argv: str, stdin: str = "") -> Result:
        """Run a program on the machine, in its home folder."""
        hosts = self.home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{self.server.host} {self.server.domain}\n")
        setup = (
            'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/ssl/certs/ca-certificates.crt && cd "$HOME" '
            '&& shift 2 && exec "$@"'
        )
        namespace = ["unshare", "--mount", "env", f"HOME={self.home}", "sh", "-c", setup, "sh"]
        return run([*namespace, str(hosts), str(self.server.authority), *argv], stdin=stdin, check=False, timeout=60)
