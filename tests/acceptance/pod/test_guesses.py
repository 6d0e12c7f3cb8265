"""Password guessing is blocked on the web and throttled on mail, for the guesser only. The gateway is exempt."""

import base64
import contextlib
import imaplib
import json
import smtplib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address

import httpx
import pytest

from podserve.accounts import ROUNDS, random_password
from podserve.folder import Folder
from podserve.tokens import AppPasswords
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.vantage import Vantage

LIMIT = 20
"""Wrong passwords after which the logins from an address are blocked (conf-available/clients.conf)."""
AT_ONCE = 20
"""Requests with a login that an address may have in progress (conf-available/clients.conf)."""
WINDOW = 600
"""Seconds within which wrong passwords count (conf-available/clients.conf)."""
NUMBERS = iter(range(10, 255))
"""Numbers for addresses that no test has used yet."""
ASK = """
import collections, json, sys
import httpx
from podserve.certificates import client_context
source, host, domain, authority, path, logins, http2 = json.loads(sys.argv[1])
transport = httpx.HTTPTransport(verify=client_context(domain, authority), local_address=source, http2=http2)
with httpx.Client(transport=transport, base_url=f"https://{host}", headers={"Host": domain}, timeout=30) as client:
    answers = [client.get(path, auth=login and tuple(login)) for login in logins]
print(json.dumps([[a.status_code, a.headers.get("Retry-After"), a.http_version] for a in answers]))
"""


ASK_AT_ONCE = """
import asyncio, json, sys
import httpx
from podserve.certificates import client_context
source, host, domain, authority, path, logins = json.loads(sys.argv[1])
async def ask():
    context = client_context(domain, authority)
    transport = httpx.AsyncHTTPTransport(verify=context, local_address=source, http1=False, http2=True)
    async with httpx.AsyncClient(transport=transport, headers={"Host": domain}, timeout=30) as client:
        ask = lambda path, login: client.get(
            f"https://{host}{path}", auth=login and tuple(login), extensions={"sni_hostname": domain})
        await ask("/", None)
        answers = await asyncio.gather(*(ask(path, login) for login in logins))
    return [answer.status_code for answer in answers]
print(json.dumps(asyncio.run(ask())))
"""
LOG_IN = """
import json, sys, time
from tests.testbed.server import Account, Server, token
source, kind, host, domain, authority, name, password = json.loads(sys.argv[1])
import socket
connect = socket.create_connection
socket.create_connection = lambda to, timeout=None, _source=None, **more: connect(to, timeout, (source, 0), **more)
server, begin = Server(host, domain, authority), time.monotonic()
try:
    with getattr(server, kind)(Account(name, password)):
        said = "in"
except Exception as error:
    said = str(error)
print(json.dumps([said, time.monotonic() - begin]))
"""


@dataclass(frozen=True)
class Client:
    """A client with an address of its own, which is not private."""

    place: Vantage
    address: str
    test_pod: PodUnderTest

    def ask(
        self, path: str, logins: Sequence[tuple[str, str] | None], *, http2: bool = False
    ) -> list[tuple[int, str | None, str]]:
        """Send a GET request for each login over one connection; return status, Retry-After and protocol of each."""
        server = self.test_pod.server
        what = (self.address, self.test_pod.address, server.domain, server.authority, path, logins, http2)
        return [tuple(answer) for answer in json.loads(self.place.python(ASK, json.dumps(what)))]

    def statuses(self, path: str, *logins: tuple[str, str] | None) -> list[int]:
        """Send a GET request for each login over one connection, and return the status of each response."""
        return [status for status, _, _ in self.ask(path, logins or [None])]

    def statuses_at_once(self, path: str, *logins: tuple[str, str] | None) -> list[int]:
        """Send a GET request for each login over one connection, all at once, and return the statuses."""
        server = self.test_pod.server
        what = (self.address, self.test_pod.address, server.domain, server.authority, path, logins)
        return [int(status) for status in json.loads(self.place.python(ASK_AT_ONCE, json.dumps(what)))]

    def log_in(self, kind: str, account: Account, host: str = "") -> tuple[bool, float]:
        """Log in over `imap`, `pop3` or `submission`. Return whether the login was accepted, and its seconds."""
        server = self.test_pod.server
        what = (self.address, kind, host or self.test_pod.address, server.domain, server.authority, account.address,
                account.password)  # fmt: skip
        said, seconds = json.loads(self.place.python(LOG_IN, json.dumps(what)))
        assert said == "in" or "authentication fail" in said.lower(), said
        return said == "in", seconds


@pytest.fixture(scope="module")
def costly(test_pod: PodUnderTest) -> Account:
    """An account whose password has the default cost of bcrypt, for tests that measure the time of a login."""
    return test_pod.new_account(cost=ROUNDS)


@contextmanager
def new_clients(test_pod: PodUnderTest, outsider: Vantage, many: int = 2) -> Iterator[list[Client]]:
    """Yield clients with addresses that no test has used yet."""
    addresses = [f"198.51.100.{next(NUMBERS)}" for _ in range(many)]
    for address in addresses:
        assert outsider.run("ip", "address", "add", f"{address}/24", "dev", "eth0").ok
    yield [Client(outsider, address, test_pod) for address in addresses]
    for address in addresses:
        outsider.run("ip", "address", "delete", f"{address}/24", "dev", "eth0")


@pytest.fixture
def clients(test_pod: PodUnderTest, outsider: Vantage) -> Iterator[list[Client]]:
    """Two clients with addresses that no test has used yet."""
    with new_clients(test_pod, outsider) as made:
        yield made


def login(account: Account) -> tuple[str, str]:
    return account.address, account.password


def guesses(address: str, count: int) -> list[tuple[str, str]]:
    """Return logins of one account with as many different wrong passwords."""
    return [(address, f"guess {token()}") for _ in range(count)]


@pytest.mark.parametrize("http2", [False, True])
def test_a_guesser_on_the_web_is_shut_off_and_nobody_else(
    server: Server, new_account: Account, clients: list[Client], *, http2: bool
) -> None:
    alice = new_account
    guesser, other = clients
    answers = guesser.ask("/webdav/", guesses(alice.address, LIMIT + 5), http2=http2)
    statuses = [status for status, _, _ in answers]
    # A wrong login is counted after its response. Over HTTP/2 the server may have the next request before that.
    assert statuses in ([401] * looked_at + [429] * (LIMIT + 5 - looked_at) for looked_at in (LIMIT, LIMIT + 1))
    assert {version for _, _, version in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert all(0 < int(after or 0) <= WINDOW for status, after, _ in answers if status == 429)
    assert guesser.statuses("/webdav/", login(alice)) == [429], "a right password is not looked at either"
    assert guesser.statuses("/git/", login(alice)) == [429]
    assert guesser.statuses("/") == [200], "what needs no login is served"
    assert other.statuses("/webdav/", login(alice)) == [200]
    with server.http(alice) as here:
        assert here.get("/webdav/").status_code == 200


@contextmanager
def ipv6_addresses(test_pod: PodUnderTest, *addresses: str) -> Iterator[Vantage]:
    """Yield the pod's network namespace with these addresses on loopback. The pod serves there; none is exempt."""
    place = test_pod.inside
    words = [["ip", "-6", "address", change, f"{address}/128", "dev", "lo", *more]
             for change, more in (("add", ["nodad"]), ("delete", [])) for address in addresses]  # fmt: skip
    try:
        for added in words[: len(addresses)]:
            assert (done := place.run(*added)).ok, done
        yield place
    finally:
        for removed in words[len(addresses) :]:
            place.run(*removed)


@pytest.mark.parametrize("network", ["2001:db8:{}:2::", "2001:db8:{}::", "2001:db8:{}:10::"])
def test_a_guesser_with_ipv6_is_shut_off_by_the_network_that_its_addresses_are_of(
    test_pod: PodUnderTest, new_account: Account, network: str
) -> None:
    alice = new_account
    server, begin = test_pod.server, IPv6Address(network.format(f"{next(NUMBERS):x}"))
    # In text, these addresses omit zeros in different places.
    mine = [str(begin + end) for end in (0x1, 0x1_0000_0000_0000, 0x1_0000_0000_0001, 0x1_0002_0003_0004)]
    another = str(begin + 2**64)

    def statuses(source: str, *logins: tuple[str, str]) -> list[int]:
        what = (source, f"[{another}]", server.domain, server.authority, "/webdav/", logins, False)
        return [status for status, _, _ in json.loads(place.python(ASK, json.dumps(what)))]

    with ipv6_addresses(test_pod, *mine, another) as place:
        wrong = [status for address in mine for status in statuses(address, *guesses(alice.address, LIMIT // 4 + 1))]
        assert wrong == [401] * LIMIT + [429] * 4
        assert statuses(mine[0], login(alice)) == [429]
        assert statuses(another, login(alice)) == [200]


def test_many_requests_on_one_connection_are_not_many_connections(clients: list[Client]) -> None:
    assert set(clients[0].statuses_at_once("/", *[None] * 120)) == {200}


def test_guesses_at_once_are_as_few_as_those_one_after_another(costly: Account, clients: list[Client]) -> None:
    answers = clients[0].statuses_at_once("/webdav/", *guesses(costly.address, 100))
    assert set(answers) == {401, 429}
    assert answers.count(401) <= LIMIT + AT_ONCE


def test_who_mistypes_a_password_is_not_shut_off(new_account: Account, clients: list[Client]) -> None:
    assert clients[0].statuses("/webdav/", *guesses(new_account.address, LIMIT - 1)) == [401] * (LIMIT - 1)
    assert clients[0].statuses("/webdav/", *[login(new_account)] * 2 * LIMIT) == [200] * 2 * LIMIT


def test_a_wrong_app_password_counts_as_a_wrong_password(
    test_pod: PodUnderTest, new_account: Account, clients: list[Client]
) -> None:
    there, (guesser, other) = AppPasswords(Folder.at(test_pod.folder("accounts"))), clients
    right, *wrong = (there.make(new_account.address, f"device{number}", lambda: {new_account.address})
                     for number in range(LIMIT + 1))  # fmt: skip
    for number in range(1, LIMIT + 1):
        there.revoke(new_account.address, f"device{number}")
    assert guesser.statuses("/webdav/", *((new_account.address, word) for word in wrong)) == [401] * LIMIT
    assert guesser.statuses("/webdav/", (new_account.address, right)) == [429]
    assert other.statuses("/webdav/", (new_account.address, right)) == [200]


def test_one_stale_password_shuts_off_nobody_at_its_address(
    new_account: Account, bob: Account, clients: list[Client]
) -> None:
    phone, wrong = clients[0], (new_account.address, f"stale {token()}")
    assert phone.statuses("/webdav/", *[wrong] * 2 * LIMIT) == [401] * 2 * LIMIT
    assert phone.statuses("/git/", wrong) == [401]
    assert phone.statuses("/webdav/", login(bob), login(new_account)) == [200, 200]


def test_a_stale_password_that_is_sent_many_times_at_once_counts_once(
    costly: Account, bob: Account, clients: list[Client]
) -> None:
    answers = clients[0].statuses_at_once("/webdav/", *[(costly.address, f"stale {token()}")] * (LIMIT + AT_ONCE))
    assert 401 in answers
    assert set(answers) <= {401, 429}, "more than 20 requests in progress are answered 429"
    assert clients[0].statuses("/webdav/", login(bob)) == [200]


def test_a_password_that_was_wrong_is_accepted_once_it_is_set(
    test_pod: PodUnderTest, new_account: Account, clients: list[Client]
) -> None:
    changed = Account(new_account.address, random_password())
    assert clients[0].statuses("/webdav/", *[login(changed)] * 3) == [401] * 3
    test_pod.invoke("users.passwd", changed.address, "--password-stdin", stdin=f"{changed.password}\n")
    assert clients[0].statuses("/webdav/", login(changed), login(new_account)) == [200, 401]


def test_a_guesser_who_tries_many_accounts_is_shut_off(
    test_pod: PodUnderTest, new_account: Account, clients: list[Client]
) -> None:
    names = [f"{token()}@{test_pod.server.domain}" for _ in range(LIMIT)]
    guesser, other = clients
    assert guesser.statuses("/webdav/", *((name, "Passw0rd") for name in names)) == [401] * LIMIT
    assert guesser.statuses("/webdav/", login(new_account)) == [429]
    assert other.statuses("/webdav/", login(new_account)) == [200]


@pytest.mark.parametrize("there", [True, False])
def test_the_guesses_of_many_addresses_at_one_account_are_as_few_and_its_owner_is_not_shut_off(
    test_pod: PodUnderTest, bob: Account, outsider: Vantage, *, there: bool
) -> None:
    victim = test_pod.new_account() if there else Account(f"{token()}@{test_pod.server.domain}", "does not matter")
    with new_clients(test_pod, outsider, 4) as (owner, last, *guessers):
        known = 200 if there else 401
        assert owner.statuses("/webdav/", login(victim)) == [known]
        wrong = guesses(victim.address, LIMIT - (not there))
        share = LIMIT // len(guessers)
        for number, guesser in enumerate(guessers):
            mine = wrong[number * share :][:share]
            assert guesser.statuses("/webdav/", *mine) == [401] * len(mine)
        [(status, after, _)] = last.ask("/webdav/", [guesses(victim.address, 1)[0]])
        assert (status, 0 < int(after or 0) <= WINDOW) == (429, True), "an account that is not there is no exception"
        assert last.statuses("/webdav/", login(bob)) == [200], "other accounts are served at every address"
        if there:
            assert owner.statuses("/webdav/", login(victim)) == [200], "the address has logged in before"


def test_a_client_that_asks_first_without_a_login_is_not_counted_as_guessing(
    alice: Account, clients: list[Client]
) -> None:
    assert clients[0].statuses("/webdav/", *[None] * 2 * LIMIT) == [401] * 2 * LIMIT
    assert clients[0].statuses("/webdav/", login(alice)) == [200]


@pytest.mark.usefixtures("test_pod")  # the server at --target does not exempt this address
def test_guesses_from_the_gateways_address_shut_off_nobody(server: Server, alice: Account) -> None:
    with server.http() as here:
        answers = [here.get("/webdav/", auth=guess).status_code for guess in guesses(alice.address, 2 * LIMIT)]
        assert answers == [401] * 2 * LIMIT
        assert here.get("/webdav/", auth=httpx.BasicAuth(*login(alice))).status_code == 200


Login = tuple[bool, float]
"""Whether a login was accepted, and its time in seconds."""


@dataclass(frozen=True)
class Waits:
    """Logins under Dovecot's penalty. The three groups run in parallel, the logins of a group one after the other."""

    kinds: list[Login]
    """Wrong passwords over IMAP, submission and POP3, from one address."""
    others: list[Login]
    """Then right passwords over the same protocols, from another address."""
    unknown: list[Login]
    """Two logins with a name that cannot be looked up, then a right login, from one address."""
    beside_unknown: Login
    """Then a right login from another address."""
    network: list[Login]
    """Two wrong passwords from one address of an IPv6 network, then one from another address of this network."""
    beside_network: Login
    """Then a right login from another network."""


MAIL = ("imap", "submission", "pop3")


@contextmanager
def ipv6_cable(test_pod: PodUnderTest, outsider: Vantage) -> Iterator[tuple[str, list[str]]]:
    """Connect the pod and the outsider by a veth pair. Yield the pod's IPv6 address there, and three of the outsider.

    Two of these are in one network, the third is in another.
    """
    inside, server = test_pod.inside, "2001:db8:77::1"
    places = ["2001:db8:77:1::1", "2001:db8:77:1:ffff::2", "2001:db8:78:1::1"]
    linked = outsider.run("ip", "link", "add", "six", "type", "veth", "peer", "name", "six", "netns", inside.process)
    assert linked.ok, linked
    try:
        for place, addresses in ((inside, [server]), (outsider, places)):
            assert place.run("ip", "link", "set", "six", "up").ok
            for address in addresses:
                assert place.run("ip", "address", "add", f"{address}/32", "dev", "six", "nodad").ok
        yield server, places
    finally:
        outsider.run("ip", "link", "delete", "six")


@pytest.fixture(scope="module")
def waits(test_pod: PodUnderTest, outsider: Vantage, costly: Account) -> Waits:
    """The logins of three groups of clients."""

    def settled() -> None:
        # It replaces Dovecot's anvil, which keeps the penalties, for a moment after a new certificate is served.
        if any((process / "comm").read_text().startswith("read-certif") for process in test_pod.processes("mail")):
            raise NotYet("read-certificate runs")

    wait_until(settled, 10, "the last new certificate of another test")
    with new_clients(test_pod, outsider, 4) as clients, ipv6_cable(test_pod, outsider) as (server, places):

        def kinds() -> tuple[list[Login], list[Login]]:
            guesser, other = clients[:2]
            # A different password each time: Dovecot does not count a repeated one, which a client that is set up
            # wrongly would send.
            tried = [guesser.log_in(kind, Account(costly.address, f"guess at {kind}")) for kind in MAIL]
            return tried, [other.log_in(kind, costly) for kind in MAIL]

        def unknown() -> tuple[list[Login], Login]:
            guesser, other = clients[2:]
            tried = [guesser.log_in("imap", Account("two%words", f"guess {number}")) for number in range(2)]
            return [*tried, guesser.log_in("submission", costly)], other.log_in("submission", costly)

        def network() -> tuple[list[Login], Login]:
            guesser, neighbour, other = (Client(outsider, address, test_pod) for address in places)
            clients = guesser, guesser, neighbour
            wrong = [Account(*guess) for guess in guesses(costly.address, 3)]
            tried = [client.log_in("imap", each, server) for client, each in zip(clients, wrong, strict=True)]
            return tried, other.log_in("imap", costly, server)

        with ThreadPoolExecutor(3) as pool:
            first, second, third = pool.submit(kinds), pool.submit(unknown), pool.submit(network)
            return Waits(*first.result(), *second.result(), *third.result())


def test_a_guesser_on_mail_is_slowed_on_all_of_it_and_nobody_else(waits: Waits) -> None:
    assert [let_in for let_in, _ in waits.kinds] == [False] * 3
    # These delays are Dovecot's own: https://doc.dovecot.org/2.4.2/core/config/auth/penalty.html
    assert [seconds > least for (_, seconds), least in zip(waits.kinds, (1, 5, 9), strict=True)] == [True] * 3, waits
    assert [let_in for let_in, _ in waits.others] == [True] * 3
    assert max(seconds for _, seconds in waits.others) < 2


def test_a_login_that_cannot_be_looked_up_slows_its_address_outside(waits: Waits) -> None:
    *refused, right = waits.unknown
    assert [let_in for let_in, _ in refused] == [False] * 2
    assert right[1] > 4
    assert waits.beside_unknown[1] < 2


def test_guesses_of_one_address_of_an_ipv6_network_slow_all_of_it(waits: Waits) -> None:
    *guesser, neighbour = waits.network
    assert [let_in for let_in, _ in guesser] == [False, False]
    assert neighbour[1] > 8
    assert waits.beside_network[1] < 2


@pytest.mark.usefixtures("test_pod")  # the server at --target does not exempt this address
def test_guesses_from_the_gateways_address_slow_nobody_on_mail(server: Server, costly: Account) -> None:
    def guess(number: int) -> None:
        """Guess twice: each wrong password is answered after 2 s."""
        wrong = Account(costly.address, f"guess {number}")
        with pytest.raises(smtplib.SMTPAuthenticationError), server.submission(wrong):
            pass
        with pytest.raises(imaplib.IMAP4.error), server.imap(wrong):
            pass

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(guess, range(3)))
    begin = time.monotonic()
    with server.imap(costly), server.submission(costly), server.pop3(costly):
        pass
    assert time.monotonic() - begin < 4, "after one wrong password each of them would wait 4 s"


SASL = {
    "another's identity": "{local}\0{local}\0secret",
    "an unknown identity": "nobody\0{local}\0secret",
    "an identity alone": "{local}\0\0",
    "no name": "\0\0secret",
    "a space": "\0two words\0secret",
    "a variable": "\0%{{env:PATH}}\0secret",
    "a path": "\0../../etc/passwd\0secret",
    "letters that are not ASCII": "\0jürgen@example.com\0secret",
    "a line break in the name": "\0a\nb\0secret",
    "a line break in the password": "\0{local}\0a\nb",
    "a tab in the password": "\0{local}\0a\tb",
    "one part": "{local}",
    "two parts": "{local}\0secret",
    "four parts": "\0{local}\0secret\0more",
    "nothing": "",
    "a long name": "\0" + "a" * 3000 + "\0secret",
}
"""Messages of SASL PLAIN (RFC 4616) with logins that cannot be looked up or parsed."""


def fail_to_log_in(server: Server, account: Account) -> None:
    """Send each message of SASL, and two that are not base64, to ports 587 and 143, and check that all are refused."""
    said = [base64.b64encode(text.format(local=account.address).encode()).decode() or "=" for text in SASL.values()]
    said += ["!!!", "=A=="]
    with contextlib.ExitStack() as stack:
        smtp = [stack.enter_context(server.smtp(port=587)) for _ in said]
        for client, words in zip(smtp, said, strict=True):
            client.putcmd("AUTH", f"PLAIN {words}")
        imap = [stack.enter_context(server.plain_imap()) for _ in said]
        for connected, words in zip(imap, said, strict=True):
            connected.starttls(server.context())
            connected.send(f"a AUTHENTICATE PLAIN {words}\r\n".encode())
        assert [client.getreply()[0] // 100 for client in smtp] == [5] * len(said)
        assert {connected.readline().split()[1] for connected in imap} <= {b"NO", b"BAD"}


@pytest.mark.usefixtures("test_pod")  # the server at --target does not exempt this address
def test_logins_that_cannot_be_looked_up_slow_nobody_at_the_gateways_address(server: Server, costly: Account) -> None:
    fail_to_log_in(server, costly)
    begin = time.monotonic()
    with server.imap(costly), server.submission(costly), server.pop3(costly):
        pass
    assert time.monotonic() - begin < 4, "after a login that failed each of them would wait 4 s"
