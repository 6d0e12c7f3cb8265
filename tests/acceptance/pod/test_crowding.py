"""Limits on the connections of one address, from which shared addresses are exempt; other clients are always served."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import pytest

from podserve.accounts import ROUNDS
from podserve.commands import podman, run
from podserve.waiting import NotYet, wait_until
from tests.testbed import crowd
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token
from tests.testbed.vantage import Vantage, first_process

LIMITS = {25: 20, 443: 50, 465: 20, 587: 20}
"""Connections that an address may have at once, by port (main.cf.static; conf-available/clients.conf)."""
MANY = 60
PLACES = 350
"""Connections that all strangers may have at once on ports 80 and 443 (conf-available/clients.conf)."""
HOLD = 12.0
"""Seconds for which silent connections are held."""
SOON = 2.0
"""Seconds within which an ordinary client must be served during an attack."""
NETWORK = "2001:db8:25:{}::{}"
"""A documentation address (RFC 3849). The first {} is the number of a /64 network, the second of an address in it."""
VISIT = """
import json, socket, sys, time
from tests.testbed.server import Account, Server
source, host, domain, authority, name, password = json.loads(sys.argv[1])
connect = socket.create_connection
socket.create_connection = lambda to, timeout=None, _source=None, **more: connect(to, timeout, (source, 0), **more)
server, account = Server(host, domain, authority), Account(name, password)
visits = {
    "25": server.smtp, "587": lambda: server.submission(account), "465": lambda: server.submission(account, 465),
    "993": lambda: server.imap(account), "143": lambda: server.imap(account, implicit_tls=False),
    "995": lambda: server.pop3(account), "4190": lambda: server.rules(account),
}
took = {}
for port, visit in visits.items():
    begin = time.monotonic()
    with visit():
        took[port] = time.monotonic() - begin
print(json.dumps(took))
"""

VISIT_WEB = """
import json, sys, time
import httpx
from podserve.certificates import client_context
source, host, domain, authority = json.loads(sys.argv[1])
took = {}
for http2 in (False, True):
    begin = time.monotonic()
    transport = httpx.HTTPTransport(verify=client_context(domain, authority), local_address=source, http2=http2)
    with httpx.Client(transport=transport, headers={"Host": domain}, timeout=30) as client:
        answer = client.get(f"https://{host}/", extensions={"sni_hostname": domain})
    assert answer.status_code == 200, answer
    took[answer.http_version] = time.monotonic() - begin
print(json.dumps(took))
"""
VISIT_DNS = """
import json, sys, time
import dns.message, dns.query, dns.rcode
host, took = sys.argv[1], {}
for transport in ("udp", "tcp"):
    begin = time.monotonic()
    answer = getattr(dns.query, transport)(dns.message.make_query("example.com", "A"), host, timeout=30)
    assert answer.rcode() == dns.rcode.NOERROR, answer
    took[transport] = time.monotonic() - begin
print(json.dumps(took))
"""
UPLOADS = """
import json, socket, ssl, sys, time
from contextlib import ExitStack
import h2.config, h2.connection
source, host, domain, path, seconds = json.loads(sys.argv[1])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
end, held = time.monotonic() + seconds, 0
with ExitStack() as stack:
    for _ in range(24):
        plain = socket.create_connection((host, 443), 10, source_address=(source, 0))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname=domain))
        speaks = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        speaks.initiate_connection()
        for _ in range(6):
            stream = speaks.get_next_available_stream_id()
            speaks.send_headers(stream, [(":method", "POST"), (":path", path), (":scheme", "https"),
                (":authority", domain), ("content-type", "application/x-git-upload-pack-request")])
            speaks.send_data(stream, b"0")
        client.sendall(speaks.data_to_send())
        held += 1
    time.sleep(max(0, end - time.monotonic()))
print(json.dumps([held]))
"""


@pytest.fixture(scope="module")
def alice(test_pod: PodUnderTest) -> Account:
    """An account whose password has the default cost of bcrypt, because these tests measure the time of a login."""
    return test_pod.new_account(cost=ROUNDS)


@pytest.fixture(scope="module")
def addresses(outsider: Vantage) -> Iterator[list[str]]:
    """Addresses of the outsider that no other client uses."""
    added = [f"198.51.100.{number}" for number in range(3, 12)]
    for address in added:
        assert outsider.run("ip", "address", "add", f"{address}/24", "dev", "eth0").ok
    yield added
    for address in added:
        outsider.run("ip", "address", "delete", f"{address}/24", "dev", "eth0")


@pytest.fixture
def ipv6(test_pod: PodUnderTest, outsider: Vantage) -> Iterator[list[list[str]]]:
    """Two IPv6 networks with two addresses each. The outsider has these addresses on a veth pair to the pod."""
    inside = test_pod.inside
    linked = outsider.run("ip", "link", "add", "six", "type", "veth", "peer", "name", "six", "netns", inside.process)
    assert linked.ok, linked
    networks = [[NETWORK.format(net, host) for host in (1, 2)] for net in (1, 2)]
    for place, own_addresses in ((inside, [NETWORK.format(0, 1)]), (outsider, [a for net in networks for a in net])):
        assert place.run("ip", "link", "set", "six", "up").ok
        for address in own_addresses:
            added = place.run("ip", "address", "add", f"{address}/48", "dev", "six", "nodad")
            assert added.ok, added
    yield networks
    outsider.run("ip", "link", "delete", "six")


def started(test_pod: PodUnderTest, service: str) -> str:
    """Return the start time of a service's container."""
    return podman("container", "inspect", "--format", "{{.State.StartedAt}}", test_pod.container(service)).stdout


@pytest.mark.parametrize("port", LIMITS)
def test_an_address_outside_gets_so_many_connections_and_no_more(
    test_pod: PodUnderTest, outsider: Vantage, port: int
) -> None:
    # Each port in a process of its own, whose connections end with it.
    served = outsider.python(inspect.getsource(crowd), test_pod.address, str(port), str(MANY))
    assert json.loads(served) == [LIMITS[port]]


@pytest.mark.parametrize("port", LIMITS)
def test_the_gateways_address_gets_more(test_pod: PodUnderTest, port: int) -> None:
    assert crowd.served(test_pod.server.host, port, MANY) == [MANY]


@pytest.mark.parametrize("port", [25, 465, 587])
def test_the_addresses_of_an_ipv6_network_share_their_connections(
    outsider: Vantage, ipv6: list[list[str]], port: int
) -> None:
    (one, two), (other, _) = ipv6
    served = outsider.python(inspect.getsource(crowd), NETWORK.format(0, 1), str(port), "15", one, two, other)
    assert json.loads(served) == [15, LIMITS[port] - 15, 15]


CROWDS = {
    "smtp": [(25, 0, 50), (25, 1, 50)],
    "imap": [(143, 0, 450)],
    "submission": [(587, 0, 50), (587, 1, 50), (465, 0, 30)],
    "others": [(993, 0, 450), (995, 1, 450), (4190, 1, 150)],
}
"""Silent and trickling connections to mail: the port, the index of their address, and their number."""


DNS = 250
"""Silent and trickling TCP connections to port 53, of the 300 that all clients may have (tcp-clients in named.conf)."""
WEB = [(443, 6), (80, 6), (443, 8)]
"""Connections that begin a request and then stop: the port, and the number of addresses with 50 connections each."""


@pytest.fixture(scope="module")
def sieges(test_pod: PodUnderTest, outsider: Vantage, alice: Account, addresses: list[str]) -> "Sieges":
    """The attacks of this module. Two run at a time, on different services or ports, because each takes HOLD s."""
    server, place = test_pod.server, (test_pod.address, test_pod.server.domain, test_pod.server.authority)
    name = token()
    test_pod.add_repository(name, public=True)

    def crowds(held: list[tuple[int, str, int]]) -> Callable[[], str]:
        words = test_pod.address, json.dumps(held), str(HOLD)
        return partial(outsider.python, inspect.getsource(crowd), *words, timeout=60)

    def mail() -> Siege:
        held = [(port, addresses[source], many) for each in CROWDS.values() for port, source, many in each]
        visitor = json.dumps([addresses[-1], *place, alice.address, alice.password])
        return _endure(test_pod, "mail", crowds(held), partial(outsider.python, VISIT, visitor))

    def web(port: int, sources: int) -> Siege:
        # When strangers have all connections that they may have, only clients of the host can still connect.
        full = sources * 50 > PLACES
        visitor = json.dumps(["0.0.0.0" if full else addresses[-1], *place])
        visit = partial(_here if full else outsider.python, VISIT_WEB, visitor)
        return _endure(test_pod, "apache", crowds([(port, source, 50) for source in addresses[:sources]]), visit)

    def uploads() -> Siege:
        path = f"/git/{name}.git/git-upload-pack"
        what = json.dumps([addresses[7], test_pod.address, server.domain, path, HOLD])
        visitor = json.dumps([addresses[-1], *place])
        return _endure(
            test_pod, "apache", partial(outsider.python, UPLOADS, what), partial(outsider.python, VISIT_WEB, visitor)
        )

    def names() -> Siege:
        visit = partial(_here, VISIT_DNS, server.host)
        return _endure(test_pod, "dns", crowds([(53, addresses[0], DNS)]), visit)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(mail), pool.submit(web, *WEB[0])
        wait([first, second])
        third, fourth = pool.submit(web, *WEB[1]), pool.submit(uploads)
        wait([third, fourth])
        fifth, sixth = pool.submit(web, *WEB[2]), pool.submit(names)
        return Sieges(first, {WEB[0]: second, WEB[1]: third, WEB[2]: fifth}, fourth, sixth)


@pytest.mark.alone
@pytest.mark.parametrize("name", CROWDS)
def test_strangers_who_say_nothing_or_little_restart_nothing_and_keep_nobody_waiting(
    sieges: "Sieges", name: str
) -> None:
    siege = sieges.mail.result()
    siege.require_well()
    of = [each for each, crowds in CROWDS.items() for _ in crowds]
    there = sum(many for each, many in zip(of, siege.held, strict=True) if each == name)
    assert there >= min(many for _, _, many in CROWDS[name]) / 3, "they were there"


@pytest.mark.alone
@pytest.mark.parametrize(("port", "sources"), WEB)
def test_strangers_who_begin_a_request_keep_no_web_client_waiting(sieges: "Sieges", port: int, sources: int) -> None:
    siege = sieges.web[port, sources].result()
    siege.require_well()
    assert sum(siege.held) >= sources * 50 / 3, "they were there"


@pytest.mark.alone
def test_strangers_who_ask_nothing_by_tcp_keep_no_dns_client_waiting(sieges: "Sieges") -> None:
    siege = sieges.names.result()
    siege.require_well()
    assert sum(siege.held) >= DNS / 3, "they were there"


@pytest.mark.alone
def test_requests_without_an_end_keep_no_web_client_waiting(sieges: "Sieges") -> None:
    siege = sieges.uploads.result()
    siege.require_well()
    assert sum(siege.held)


def _here(script: str, *arguments: str) -> str:
    """Run a Python script on the host, and return its output. The pod sees the gateway's address."""
    done = run([sys.executable, "-", *arguments], stdin=script)
    return done.stdout


@dataclass(frozen=True)
class Siege:
    """The result of an attack: the connections that it had, and how the pod did meanwhile."""

    held: list[int]
    restarted: bool
    probed: list[bool]
    """Whether each probe of the service passed."""
    took: list[dict[str, float]]
    """The seconds that an ordinary client waited, by port or version of HTTP, for each of its visits."""

    def require_well(self) -> None:
        """Assert that every probe passed, every visit was short, and the container was not restarted."""
        assert all(self.probed)
        assert len(self.probed) > 1
        slowest = {port: max(each[port] for each in self.took) for port in self.took[0]}
        assert not {port: seconds for port, seconds in slowest.items() if seconds > SOON}
        assert not self.restarted


def _endure(test_pod: PodUnderTest, service: str, attack: Callable[[], str], visit: Callable[[], str]) -> Siege:
    """Run an attack. Until it ends, probe the service and let an ordinary client visit it."""
    since, probed, took = started(test_pod, service), list[bool](), list[dict[str, float]]()
    with ThreadPoolExecutor(1) as pool:
        strangers = pool.submit(attack)
        while not strangers.done():
            probed.append(podman("healthcheck", "run", test_pod.container(service), check=False).ok)
            took.append(json.loads(visit()))
    return Siege(json.loads(strangers.result()), started(test_pod, service) != since, probed, took)


@dataclass(frozen=True)
class Sieges:
    """The result of each attack, or its exception."""

    mail: Future[Siege]
    web: dict[tuple[int, int], Future[Siege]]
    uploads: Future[Siege]
    names: Future[Siege]


@pytest.mark.alone
def test_a_service_that_is_restarted_has_time_to_come_up(test_pod: PodUnderTest) -> None:
    container, since = test_pod.container("mail"), started(test_pod, "mail")

    def restarted() -> None:
        podman("exec", container, "pkill", "-STOP", "-x", "dovecot|imap-login", check=False)
        podman("healthcheck", "run", container, check=False)
        if started(test_pod, "mail") == since:
            raise NotYet("it runs on")

    wait_until(restarted, 60, "the fifth failure to restart the container")
    since = started(test_pod, "mail")
    # Podman 4.3.1 does not reset its count of failures, so one more failure would restart the container again.
    assert podman("healthcheck", "run", container, check=False).ok
    assert started(test_pod, "mail") == since

    def serves() -> None:
        if not podman("exec", container, "healthcheck", "mail", check=False).ok:
            raise NotYet("its probe fails")

    wait_until(serves, 20, "mail to serve again")
    assert first_process(container)
