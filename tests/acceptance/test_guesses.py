"""Who guesses passwords: shut off, while others are served, those among them who have the gateway's address."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.acceptance.own_pod import OwnPod, Vantage
from tests.acceptance.server import Account, Server

LIMIT = 20
"""Wrong passwords from an address that are looked at (conf-available/guesses.conf)."""
WINDOW = 600
"""Seconds for which they count (there, too)."""
NUMBERS = iter(range(10, 255))
"""Of addresses that no test has had yet."""
ASK = """
import collections, json, sys
import httpx
from podserve.certificates import client_context
source, host, domain, authority, path, login, times, http2 = json.loads(sys.argv[1])
transport = httpx.HTTPTransport(verify=client_context(domain, authority), local_address=source, http2=http2)
with httpx.Client(transport=transport, base_url=f"https://{host}", headers={"Host": domain}, timeout=30) as client:
    answers = [client.get(path, auth=login and tuple(login)) for _ in range(times)]
print(json.dumps([[a.status_code, a.headers.get("Retry-After"), a.http_version] for a in answers]))
"""


@dataclass(frozen=True)
class Client:
    """A client with an address of its own, outside."""

    place: Vantage
    address: str
    own: OwnPod

    def ask(
        self, path: str, login: tuple[str, str] | None = None, times: int = 1, *, http2: bool = False
    ) -> list[tuple[int, str | None, str]]:
        """Return status, Retry-After and protocol of each answer to a GET, over one connection."""
        server = self.own.server
        what = (self.address, self.own.address, server.domain, server.authority, path, login, times, http2)
        return [tuple(answer) for answer in json.loads(self.place.python(ASK, json.dumps(what)))]

    def statuses(self, path: str, login: tuple[str, str] | None = None, times: int = 1) -> list[int]:
        """Return the status of each answer."""
        return [status for status, _, _ in self.ask(path, login, times)]


@pytest.fixture
def clients(own: OwnPod, outsider: Vantage) -> Iterator[list[Client]]:
    """Two clients whose addresses nobody else has had."""
    addresses = [f"198.51.100.{next(NUMBERS)}" for _ in range(2)]
    for address in addresses:
        assert outsider.run("ip", "address", "add", f"{address}/24", "dev", "eth0").ok
    yield [Client(outsider, address, own) for address in addresses]
    for address in addresses:
        outsider.run("ip", "address", "delete", f"{address}/24", "dev", "eth0")


def login(account: Account) -> tuple[str, str]:
    return account.address, account.password


@pytest.mark.parametrize("http2", [False, True])
def test_a_guesser_on_the_web_is_shut_off_and_nobody_else(
    own: OwnPod, server: Server, alice: Account, clients: list[Client], *, http2: bool
) -> None:
    guesser, other = clients
    answers = guesser.ask("/webdav/", (alice.address, "guess"), LIMIT + 5, http2=http2)
    assert [status for status, _, _ in answers] == [401] * LIMIT + [429] * 5
    assert {version for _, _, version in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert all(0 < int(after or 0) <= WINDOW for status, after, _ in answers if status == 429)
    assert guesser.statuses("/webdav/", login(alice)) == [429], "a right password is not looked at either"
    assert guesser.statuses("/git/", login(alice)) == [429]
    assert guesser.statuses("/") == [200], "what needs no login is served"
    assert other.statuses("/webdav/", login(alice)) == [200]
    with server.http(alice) as here:
        assert here.get("/webdav/").status_code == 200


def test_who_mistypes_a_password_is_not_shut_off(alice: Account, clients: list[Client]) -> None:
    assert clients[0].statuses("/webdav/", (alice.address, "mistyped"), LIMIT - 1) == [401] * (LIMIT - 1)
    assert clients[0].statuses("/webdav/", login(alice), 2 * LIMIT) == [200] * 2 * LIMIT


def test_a_client_that_asks_first_without_a_login_is_not_counted_as_guessing(
    alice: Account, clients: list[Client]
) -> None:
    assert clients[0].statuses("/webdav/", None, 2 * LIMIT) == [401] * 2 * LIMIT
    assert clients[0].statuses("/webdav/", login(alice)) == [200]


def test_guesses_from_the_gateways_address_shut_off_nobody(server: Server, alice: Account) -> None:
    with server.http() as here:
        guesses = [here.get("/webdav/", auth=(alice.address, "guess")).status_code for _ in range(2 * LIMIT)]
        assert guesses == [401] * 2 * LIMIT
        assert here.get("/webdav/", auth=httpx.BasicAuth(*login(alice))).status_code == 200
