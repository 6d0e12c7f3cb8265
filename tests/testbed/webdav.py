"""What the WebDAV tests share: a folder of one's own, its listing, locks, and a machine that trusts the server."""

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
"""Whom the files on the web volume belong to."""


@contextmanager
def folder(server: Server, account: Account, parent: str = "/webdav/") -> Iterator[httpx.Client]:
    """Yield a client whose paths begin in a new folder of the account's, removed afterwards."""
    with server.http(account) as client:
        client.base_url = client.base_url.join(f"{parent}{token()}/")
        assert client.request("MKCOL", "").status_code == 201
        yield client
        assert client.delete("").status_code == 204


@contextmanager
def visitor(server: Server, account: Account, there: httpx.Client) -> Iterator[httpx.Client]:
    """Yield another account's client whose paths begin where those of `there` do."""
    with server.http(account) as client:
        client.base_url = there.base_url
        yield client


def address(server: Server, client: httpx.Client, name: str) -> str:
    """Return the whole address of what lies in a client's folder, as the header Destination wants it."""
    return f"https://{server.domain}{client.base_url.path}{name}"


def tree(answer: httpx.Response) -> ET.Element:
    """Return an answer's XML document."""
    # The server under test is trusted with XML here.
    return ET.fromstring(answer.content)  # noqa: S314


def listed(client: httpx.Client, path: str = "") -> set[str]:
    """Return the addresses, as they are written, of what PROPFIND finds in a folder."""
    answer = client.request("PROPFIND", path, headers={"Depth": "1"})
    assert answer.status_code == 207, answer.text
    return {href.text or "" for href in tree(answer).findall("{DAV:}response/{DAV:}href")}


def lock(client: httpx.Client, path: str, scope: str = EXCLUSIVE, depth: str = "0") -> str:
    """Lock, for a minute, and return the token in its angle brackets."""
    locked = client.request("LOCK", path, content=scope, headers={"Timeout": "Second-60", "Depth": depth})
    assert locked.status_code in {200, 201}, locked.text
    return str(locked.headers["Lock-Token"])


def unlock(client: httpx.Client, path: str, key: str) -> int:
    """Unlock, and return the answer's status."""
    return client.request("UNLOCK", path, headers={"Lock-Token": key}).status_code


@dataclass(frozen=True)
class Desk:
    """Somebody's machine: knows the server's name and trusts its authority, as the system does, and nothing else."""

    server: Server
    home: Path

    def run(self, *argv: str, stdin: str = "") -> Result:
        """Run a program there, in the home folder."""
        hosts = self.home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{self.server.host} {self.server.domain}\n")
        setup = (
            'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/ssl/certs/ca-certificates.crt && cd "$HOME" '
            '&& shift 2 && exec "$@"'
        )
        namespace = ["unshare", "--mount", "env", f"HOME={self.home}", "sh", "-c", setup, "sh"]
        return run([*namespace, str(hosts), str(self.server.authority), *argv], stdin=stdin, check=False, timeout=60)
