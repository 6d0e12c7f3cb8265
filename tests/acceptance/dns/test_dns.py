"""DNS: responses, the cache, unreachable forwarders, and refusals to strangers."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.xfr
import dns.zone
import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.forwarders import Upstream
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Server, token
from tests.testbed.stub import EXCHANGES, ask_until_answered
from tests.testbed.vantage import Vantage, first_process

DATAGRAM = 1232
"""The largest response over UDP (bytes) that no network fragments (https://www.dnsflagday.net/2020)."""
STRANGERS_ANSWERS = 5
"""Responses a second to the strangers of one network over UDP (rate-limit in named.conf)."""
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])
FROM_THERE = """
import dns.message, dns.rcode, sys
from tests.testbed.stub import ask_until_answered
host, name, transport = sys.argv[1:]
answer = ask_until_answered(host, dns.message.make_query(name, "A"), transport)
print(dns.rcode.to_text(answer.rcode()), *(data for rrset in answer.answer for data in rrset))
"""

REFUSED_FROM_THERE = """
import dns.message, socket, sys, time
host, number = sys.argv[1], int(sys.argv[2])
name = ".".join(["a" * 60] * 4)  # 261 bytes with it, as long as a question gets
begin, answers = time.monotonic(), 0
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.3)
client.connect((host, 53))
for sent in range(1, number + 1):
    client.send(dns.message.make_query(name, "A").to_wire())
    if sent % 20:
        continue
    client.setblocking(False)
    try:  # read meanwhile: a buffer that is full drops answers, too
        while client.recv(4096):
            answers += 1
    except BlockingIOError:
        pass
client.settimeout(0.3)
try:
    while client.recv(4096):
        answers += 1
except TimeoutError:
    pass
print(answers, time.monotonic() - begin)
"""
"""A script that sends a number of queries over UDP without a pause, and prints the number of responses and seconds."""
EVERY_KIND_FROM_THERE = """
import dns.edns, dns.message, dns.tsigkeyring, dns.update, socket, struct, sys
host, transport, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
def query(name="example.com", kind="A", kclass="IN", **words):
    return dns.message.make_query(name, kind, kclass, **words).to_wire()
plain = query()
def opcode(number):
    return plain[:2] + struct.pack("!H", number << 11) + plain[4:]
signed = dns.message.make_query("example.com", "A")
signed.use_tsig(dns.tsigkeyring.from_text({"stranger": "AAAA" * 8}))
kinds = [
    query(use_edns=0, want_dnssec=True), query(kind="ANY"), query(kind="AXFR"), query(kind="IXFR"), query(kind="TKEY"),
    query("version.bind", "TXT", "CH"), query("x", "TXT", "HS"), plain[:-2] + b"\\0\\5", plain[:-4] + b"\\0\\0\\0\\1",
    query("1.0.0.127.in-addr.arpa", "PTR"), *(opcode(number) for number in range(1, 16)),
    dns.update.Update("example.com").to_wire(), dns.update.Update("127.in-addr.arpa").to_wire(), signed.to_wire(),
    plain[:12] + bytes([63] + [1] * 63 + [63] + [2] * 63 + [63] + [3] * 63 + [0, 0, 1, 0, 1]),
    plain[:2] + b"\\x80\\0" + plain[4:], plain[:4] + b"\\0\\2" + plain[6:] + plain[12:], plain[:-3], plain[:12],
    plain[:5], plain + b"x" * 200, plain[:12] + b"\\xc0\\x0c\\0\\1\\0\\1", query(use_edns=7), bytes(range(256)),
    query(use_edns=0, options=[dns.edns.GenericOption(10, b"xxx")]),
    query(use_edns=0, options=[dns.edns.GenericOption(8, b"\\0\\1\\xff\\xff")]),
]
for _ in range(times):
    for wire in kinds:
        if transport == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(wire, (host, 53))
        else:
            with socket.create_connection((host, 53), 5) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
                client.sendall(struct.pack("!H", len(wire)) + wire)
print(times * len(kinds))
"""
"""A script that sends malformed queries and those of all kinds that a resolver refuses; it prints their number."""
FROM_IPV6_ADDRESSES = """
import dns.message, socket, sys
query = dns.message.make_query("example.com", "A").to_wire()
def answers(source, number):
    received = 0
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: the address stands in a route alone
        client.bind((source, 0))
        client.connect(("::1", 53))
        for _ in range(number):
            client.send(query)
        try:
            while client.recv(4096):
                received += 1
        except TimeoutError:
            return received
# So many that the limit, which is given time to forget, has not done so when the next asks.
print(answers(sys.argv[1], 200), *(answers(source, 1) for source in sys.argv[2:]))
"""


def logged(test_pod: PodUnderTest) -> str:
    """Return all that the DNS server has logged."""
    log = podman("logs", test_pod.container("dns"))
    return log.stdout + log.stderr


def written_since(test_pod: PodUnderTest, before: str) -> list[str]:
    """Return up to five lines that the DNS server has logged after `before`, once it has answered another query."""
    assert data(ask(test_pod.server, new_name())) == {"192.0.2.90"}
    now = logged(test_pod)
    assert now.startswith(before)
    return now.removeprefix(before).splitlines()[:5]


def ask(server: Server, name: str, kind: str = "A", transport: str = "udp", kclass: str = "IN") -> dns.message.Message:
    """Return the server's response to a query that allows 4096 bytes over UDP."""
    question = dns.message.make_query(name, kind, kclass, use_edns=0, payload=4096)
    return EXCHANGES[transport](question, server.host, timeout=PATIENCE)


def data(answer: dns.message.Message) -> set[str]:
    """Return the records of a response as in a zone file, or the name of its error."""
    if answer.rcode() != dns.rcode.NOERROR:
        return {dns.rcode.to_text(answer.rcode())}
    return {record.to_text() for rrset in answer.answer for record in rrset}


def new_name(folder: str = "once") -> str:
    """Return a name that no query had before. In `once` it has 192.0.2.90 for 300 s, in `brief` 192.0.2.91 for 1 s."""
    return f"{token()}.{folder}.example.com"


def stale(answer: dns.message.Message) -> bool:
    """Return whether a response is marked as stale (RFC 8914, section 4.4)."""
    return any(error.code == dns.edns.EDECode.STALE_ANSWER for error in answer.extended_errors())


@contextmanager
def unreachable(test_pod: PodUnderTest, upstream: Upstream) -> Iterator[None]:
    """Make an upstream unreachable from the pod. A query to the upstream fails at once, as with an unplugged cable."""
    process = first_process(test_pod.container("dns"))
    inside = Vantage(test_pod.container("dns"), test_pod.address, process)
    added = inside.run("ip", "route", "add", "unreachable", upstream.address)
    assert added.ok, added
    try:
        yield
    finally:
        inside.run("ip", "route", "delete", "unreachable", upstream.address)


def silent(_own: PodUnderTest, upstream: Upstream) -> AbstractContextManager[None]:
    """Freeze an upstream, which then answers nothing. A query to the upstream fails after a timeout."""
    return upstream.stopped()


Away = Callable[[PodUnderTest, Upstream], AbstractContextManager[None]]
WAYS_TO_BE_AWAY = pytest.mark.parametrize("away", [unreachable, silent])


@contextmanager
def line_down(test_pod: PodUnderTest, away: Away) -> Iterator[None]:
    """Make both upstreams unreachable or silent."""
    with ExitStack() as stack:
        for upstream in test_pod.upstreams:
            stack.enter_context(away(test_pod, upstream))
        yield


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("A", {"192.0.2.80"}),
        ("AAAA", {"2001:db8::80"}),
        ("MX", {"10 mail.example.com.", "20 backup.example.com."}),
        ("TXT", {'"v=spf1 mx -all"'}),
    ],
)
@TRANSPORTS
def test_a_question_is_answered(test_pod: PodUnderTest, transport: str, kind: str, expected: set[str]) -> None:
    assert data(ask(test_pod.server, "example.com", kind, transport)) == expected


@TRANSPORTS
def test_a_name_that_does_not_exist_is_said_not_to(test_pod: PodUnderTest, transport: str) -> None:
    answer = ask(test_pod.server, f"{token()}.example.com", transport=transport)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert not answer.answer


@TRANSPORTS
def test_a_name_without_such_a_record_has_an_empty_answer(test_pod: PodUnderTest, transport: str) -> None:
    answer = ask(test_pod.server, "mail.example.com", "AAAA", transport)
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer


@TRANSPORTS
def test_an_alias_is_followed(test_pod: PodUnderTest, transport: str) -> None:
    assert data(ask(test_pod.server, "www.example.com", "A", transport)) == {"example.com.", "192.0.2.80"}


def test_a_large_answer_is_cut_off_by_udp_and_whole_by_tcp(test_pod: PodUnderTest) -> None:
    datagram, whole = (ask(test_pod.server, "large.example.com", "TXT", transport) for transport in ("udp", "tcp"))
    assert datagram.flags & dns.flags.TC
    assert datagram.payload == DATAGRAM
    assert len(datagram.to_wire()) <= DATAGRAM
    assert not whole.flags & dns.flags.TC
    assert len(data(whole)) == 40


def test_an_answer_that_fits_is_whole_by_udp(test_pod: PodUnderTest) -> None:
    assert not ask(test_pod.server, "example.com", "MX").flags & dns.flags.TC


def test_a_name_is_asked_for_upstream_only_once(test_pod: PodUnderTest) -> None:
    name = new_name()
    answers = [data(ask(test_pod.server, name, "A", transport)) for transport in ("udp", "tcp", "udp")]
    assert answers == [{"192.0.2.90"}] * 3
    assert sum(upstream.questions(name) for upstream in test_pod.upstreams) == 1


@pytest.mark.parametrize("which", [0, 1])
@WAYS_TO_BE_AWAY
def test_new_names_are_answered_while_one_of_two_forwarders_is_away(
    test_pod: PodUnderTest, away: Away, which: int
) -> None:
    names = [new_name() for _ in range(4)]
    with away(test_pod, test_pod.upstreams[which]):
        for name in names:
            assert data(ask(test_pod.server, name)) == {"192.0.2.90"}
    assert all(test_pod.upstreams[1 - which].questions(name) for name in names)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [("A", "192.0.2.7", "192.0.2.8"), ("MX", "10 old.acme.example.com.", "10 new.acme.example.com.")],
)
def test_an_expired_record_is_asked_for_anew_while_the_forwarders_answer(
    test_pod: PodUnderTest, kind: str, old: str, new: str
) -> None:
    name = f"{token()}.acme.example.com"
    test_pod.name_addresses({name: old}, kind, ttl=1)
    assert data(ask(test_pod.server, name, kind)) == {old}
    test_pod.name_addresses({name: new}, kind, ttl=1)

    def changed() -> None:
        answer = ask(test_pod.server, name, kind)
        assert not stale(answer)
        if data(answer) != {new}:
            raise NotYet("the old record has not expired")

    wait_until(changed, 3, "the old record, whose TTL is a second, to be replaced")


@WAYS_TO_BE_AWAY
@pytest.mark.alone
def test_a_known_name_is_answered_while_the_line_is_down_at_once_after_the_first_time(
    test_pod: PodUnderTest, away: Away
) -> None:
    name = new_name("brief")
    assert data(ask(test_pod.server, name)) == {"192.0.2.91"}

    def out_of_date() -> None:
        if not stale(ask(test_pod.server, name)):
            raise NotYet("the answer is still fresh")

    with line_down(test_pod, away):
        begin = time.monotonic()
        wait_until(out_of_date, 5, f"{name}, a second old, to be answered from the cache")
        # A second until it expires, and resolver-query-timeout.
        assert time.monotonic() - begin < 4
        begin = time.monotonic()
        again = ask(test_pod.server, name)
        taken = time.monotonic() - begin
    assert (data(again), stale(again)) == ({"192.0.2.91"}, True)
    assert taken < 0.5


@WAYS_TO_BE_AWAY
def test_an_unknown_name_fails_within_three_seconds_while_the_line_is_down(test_pod: PodUnderTest, away: Away) -> None:
    with line_down(test_pod, away):
        begin = time.monotonic()
        answer = ask(test_pod.server, new_name())
        taken = time.monotonic() - begin
    assert answer.rcode() == dns.rcode.SERVFAIL
    assert taken < 3


@WAYS_TO_BE_AWAY
def test_names_resolve_again_when_the_line_is_back(test_pod: PodUnderTest, away: Away) -> None:
    failed = new_name()
    with line_down(test_pod, away):
        assert data(ask(test_pod.server, failed)) == {"SERVFAIL"}
    # BIND caches a failure for a second (servfail-ttl).
    assert data(ask(test_pod.server, new_name())) == {"192.0.2.90"}

    def resolves() -> None:
        if (seen := data(ask(test_pod.server, failed))) != {"192.0.2.90"}:
            raise NotYet(f"answered by {seen}")

    wait_until(resolves, 3, f"{failed} to resolve")


def test_no_question_goes_past_the_forwarders_while_the_line_is_down(test_pod: PodUnderTest, since: float) -> None:
    name = new_name()
    with line_down(test_pod, unreachable):
        assert data(ask(test_pod.server, name)) == {"SERVFAIL"}
    test_pod.wait_for_log("dns", f"resolving '{name}/A/IN'", since)
    tried = {line.rsplit(maxsplit=1)[-1] for line in test_pod.logs(since).splitlines() if f"resolving '{name}" in line}
    assert tried <= {f"{upstream.address}#53" for upstream in test_pod.upstreams}


@WAYS_TO_BE_AWAY
def test_the_resolver_is_alive_but_not_ready_while_the_line_is_down(test_pod: PodUnderTest, away: Away) -> None:
    def not_ready() -> None:
        if test_pod.exec("dns", "healthcheck", "dns-ready", check=False).ok:
            raise NotYet("ready")

    def ready() -> None:
        if not test_pod.exec("dns", "healthcheck", "dns-ready", check=False).ok:
            raise NotYet("not ready")

    wait_until(ready, 10, "the resolver to be ready while the forwarders are")
    with line_down(test_pod, away):
        assert test_pod.exec("dns", "healthcheck", "dns-alive").ok
        wait_until(not_ready, 3, "the cached google.com to expire")
        assert test_pod.exec("dns", "healthcheck", "dns-alive").ok
    wait_until(ready, 10, "the resolver to be ready again")


REVERSE_IPV6 = dns.reversename.from_address("::1").to_text(omit_final_dot=True)
"""The name of the PTR record of ::1."""


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("localhost", "A", {"127.0.0.1"}),
        ("localhost", "AAAA", {"::1"}),
        ("{}.localhost", "A", {"127.0.0.1"}),
        ("1.0.0.127.in-addr.arpa", "PTR", {"localhost."}),
        (REVERSE_IPV6, "PTR", {"localhost."}),
        # Names of the zone that have no record.
        ("localhost", "MX", set()),
        ("{}.127.in-addr.arpa", "PTR", {"NXDOMAIN"}),
        ("0.0.0.0.in-addr.arpa", "PTR", {"NXDOMAIN"}),
        ("{}.invalid", "A", {"NXDOMAIN"}),
        ("{}.onion", "A", {"NXDOMAIN"}),
    ],
)
def test_a_name_of_the_machine_itself_is_answered_without_the_forwarders(
    test_pod: PodUnderTest, name: str, kind: str, expected: set[str]
) -> None:
    name = name.format(token())
    before = [upstream.questions(name) for upstream in test_pod.upstreams]
    assert data(ask(test_pod.server, name, kind)) == expected
    assert [upstream.questions(name) for upstream in test_pod.upstreams] == before


@pytest.mark.parametrize("name", ["localhost", "1.0.0.127.in-addr.arpa", REVERSE_IPV6, "invalid"])
@TRANSPORTS
def test_the_names_of_the_machine_itself_are_refused_to_strangers(
    test_pod: PodUnderTest, outsider: Vantage, transport: str, name: str
) -> None:
    assert outsider.python(FROM_THERE, test_pod.address, name, transport) == "REFUSED"


@TRANSPORTS
def test_recursion_is_refused_to_strangers(test_pod: PodUnderTest, outsider: Vantage, transport: str) -> None:
    known = new_name()
    assert data(ask(test_pod.server, known)) == {"192.0.2.90"}
    for name in (known, new_name(), "example.com"):
        assert outsider.python(FROM_THERE, test_pod.address, name, transport) == "REFUSED"


def test_nothing_is_asked_upstream_for_a_stranger(test_pod: PodUnderTest, outsider: Vantage) -> None:
    name = new_name()
    assert outsider.python(FROM_THERE, test_pod.address, name, "udp") == "REFUSED"
    assert not any(upstream.questions(name) for upstream in test_pod.upstreams)
    assert data(ask(test_pod.server, name)) == {"192.0.2.90"}
    assert sum(upstream.questions(name) for upstream in test_pod.upstreams) == 1


def test_a_flood_of_refused_queries_writes_nothing_to_the_log_and_is_hardly_answered(
    test_pod: PodUnderTest, outsider: Vantage
) -> None:
    before = logged(test_pod)
    answers, seconds = outsider.python(REFUSED_FROM_THERE, test_pod.address, "3000").split()
    assert written_since(test_pod, before) == []
    assert int(answers) <= STRANGERS_ANSWERS * (float(seconds) + 2)


@TRANSPORTS
def test_no_query_of_a_stranger_writes_to_the_log(test_pod: PodUnderTest, outsider: Vantage, transport: str) -> None:
    before = logged(test_pod)
    assert int(outsider.python(EVERY_KIND_FROM_THERE, test_pod.address, transport, "5")) >= 200
    assert written_since(test_pod, before) == []


def test_clients_of_the_network_are_not_limited(test_pod: PodUnderTest, neighbour: Vantage) -> None:
    script = """
import dns.message, dns.query, dns.rcode, sys
queries = [dns.message.make_query(name, "A") for name in ("example.com", "not.example.com") for _ in range(500)]
print(sum(dns.query.udp(query, sys.argv[1], timeout=5).rcode() != dns.rcode.REFUSED for query in queries))
"""
    assert neighbour.python(script, test_pod.address) == "1000"


def test_all_addresses_of_an_ipv6_network_are_limited_as_one(test_pod: PodUnderTest) -> None:
    # Documentation addresses (RFC 3849), which are all local to the pod during the test.
    prefix = "2001:db8:53::/48"
    added = test_pod.inside.run("ip", "-6", "route", "add", "local", prefix, "dev", "lo")
    assert added.ok, added
    try:
        one, same_network, other_network = "2001:db8:53:1::1", "2001:db8:53:1:ffff::2", "2001:db8:53:2::1"
        told = test_pod.inside.python(FROM_IPV6_ADDRESSES, one, same_network, other_network).split()
    finally:
        test_pod.inside.run("ip", "-6", "route", "delete", "local", prefix, "dev", "lo")
    first, second, third = map(int, told)
    assert 0 < first <= 2 * STRANGERS_ANSWERS
    assert (second, third) == (0, 1)


@TRANSPORTS
def test_recursion_is_given_to_private_addresses(test_pod: PodUnderTest, neighbour: Vantage, transport: str) -> None:
    assert neighbour.python(FROM_THERE, test_pod.address, new_name(), transport) == "NOERROR 192.0.2.90"


@pytest.mark.parametrize("name", ["version.bind", "hostname.bind", "id.server", "authors.bind"])
@TRANSPORTS
def test_the_resolver_tells_nothing_of_itself(server: Server, transport: str, name: str) -> None:
    question = dns.message.make_query(name, "TXT", "CH")
    assert not ask_until_answered(server.host, question, transport).answer


@pytest.mark.parametrize("zone", ["example.com", ".", "10.in-addr.arpa", "version.bind"])
def test_a_zone_transfer_is_refused(server: Server, zone: str) -> None:
    with pytest.raises(dns.xfr.TransferError):
        dns.query.inbound_xfr(server.host, dns.zone.Zone(zone), timeout=PATIENCE)


@pytest.mark.parametrize("service", ["apache", "mail", "dns"])
def test_the_pods_own_processes_resolve_through_its_resolver(test_pod: PodUnderTest, service: str) -> None:
    name = new_name()
    assert test_pod.exec(service, "cat", "/etc/resolv.conf").stdout.split() == ["nameserver", "127.0.0.1"]
    assert test_pod.exec(service, "getent", "ahostsv4", name).stdout.startswith("192.0.2.90 ")
    assert data(ask(test_pod.server, name)) == {"192.0.2.90"}
    assert sum(upstream.questions(name) for upstream in test_pod.upstreams) == 1
