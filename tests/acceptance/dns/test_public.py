"""The public zone: named is the domain's name server for the world, and the resolver of private clients as before."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.acceptance.dns.test_dns import (
    EVERY_KIND_FROM_THERE,
    FROM_THERE,
    REFUSED_FROM_THERE,
    STRANGERS_ANSWERS,
    TRANSPORTS,
    ask,
    data,
    logged,
    new_name,
    written_since,
)
from tests.testbed.internet import PUBLIC, RESOLVER, SECONDARY, Internet, internet_around
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import token
from tests.testbed.vantage import Vantage, neighbour_of

DOMAIN, MAIL_HOST = "lab.sethlakowske.com", "mail.lab.sethlakowske.com"
ELSEWHERE = "shop.example.com"
"""A name of the certificate in a zone that this server does not serve."""
FLAGS_FROM_THERE = """
import dns.flags, dns.message, dns.rcode, sys
from tests.testbed.stub import ask_until_answered
host, name, kind, transport = sys.argv[1:]
answer = ask_until_answered(host, dns.message.make_query(name, kind), transport)
print(dns.rcode.to_text(answer.rcode()), dns.flags.to_text(answer.flags & ~dns.flags.QR))
print(*(data for rrset in answer.answer for data in rrset))
"""
TRANSFER = """
import dns.message, dns.query, dns.rcode, dns.tsigkeyring, sys
host, zone, source, kind, *key = sys.argv[1:]
query = dns.message.make_query(zone, kind)
if kind == "IXFR":
    query.authority.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "SOA", ". . 1 0 0 0 0"))
if key:
    query.use_tsig(dns.tsigkeyring.from_text({key[0]: key[1]}))
try:
    answer = dns.query.tcp(query, host, timeout=10, source=source or None)
    print(dns.rcode.to_text(answer.rcode()), len(answer.answer))
except Exception as error:
    print(type(error).__name__)
"""
UPDATE = """
import dns.query, dns.rcode, dns.update, sys
update = dns.update.Update(sys.argv[2])
update.add("evil", 60, "A", "192.0.2.1")
print(dns.rcode.to_text(dns.query.tcp(update, sys.argv[1], timeout=10).rcode()))
"""
FLOOD = """
import dns.flags, dns.message, socket, sys, time
host, name, kind, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
wire, whole, cut, begin = dns.message.make_query(name, kind).to_wire(), 0, 0, time.monotonic()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.connect((host, 53))
    for sent in range(1, number + 1):
        client.send(wire)
        client.settimeout(0.3 if sent == number else 0.001)
        try:
            while answer := client.recv(4096):
                if dns.message.from_wire(answer).flags & dns.flags.TC:
                    cut += 1
                else:
                    whole += 1
        except TimeoutError:
            pass
print(whole, cut, time.monotonic() - begin)
"""
"""A script that sends a query many times; it prints the numbers of whole answers and of those cut off, and seconds."""


@pytest.fixture(scope="module")
def public() -> Iterator[PodUnderTest]:
    """A pod that serves its zone to the world."""
    with play_test_pod("-public", zone="public", public_address=PUBLIC, lan_address="192.168.7.2",
                       certificate_names=ELSEWHERE, secondaries=SECONDARY) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def internet(public: PodUnderTest, outsider: Vantage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """The internet that delegates the domain to this pod."""
    with internet_around(public, outsider, tmp_path_factory.mktemp("internet")) as there:
        yield there


@pytest.fixture(scope="module")
def neighbour_there(public: PodUnderTest) -> Iterator[Vantage]:
    """Another container on that pod's network."""
    with neighbour_of(public.name) as place:
        yield place


def serial(public: PodUnderTest) -> int:
    """Return the serial of the zone that private clients get, asked at the pod's address: a restore changes it."""
    query = dns.message.make_query(DOMAIN, "SOA")
    return int(dns.query.tcp(query, public.address, timeout=5).answer[0][0].serial)


def serve_later_serial(public: PodUnderTest, seconds: int) -> int:
    """Let named serve a serial of so many seconds from now, as if the clock was set back since; return the serial."""
    ahead = int(time.time()) + seconds
    for file in ("world.zone", "private.zone"):
        first, _, rest = (public.folder("dns") / file).read_text().partition("\n")
        words = first.split()
        (public.folder("dns") / file).write_text(" ".join([*words[:6], str(ahead), *words[7:]]) + f"\n{rest}")
    public.exec("dns", "read-settings")

    def later() -> int:
        if (seen := serial(public)) < ahead:
            raise NotYet(str(seen))
        return seen

    return wait_until(later, 5, "named to serve the later serial")


@contextmanager
def added(public: PodUnderTest, name: str, kind: str, content: str, *options: str) -> Iterator[None]:
    """Add a record for the body."""
    public.invoke("dns.add", name, kind, content, *options)
    try:
        yield
    finally:
        public.invoke("dns.remove", name, kind, "--data", content)


def restart(public: PodUnderTest) -> None:
    """Restart the DNS server as Podman does after a crash, and wait until it answers."""
    podman("restart", "--time", "5", public.container("dns"))

    def answers() -> None:
        try:
            dns.query.udp(dns.message.make_query(DOMAIN, "SOA"), public.server.host, timeout=0.5)
        except dns.exception.DNSException as error:
            raise NotYet(str(error)) from error

    wait_until(answers, 10, "the DNS server to answer")


def test_a_resolver_that_knows_only_the_root_validates_each_record(internet: Internet) -> None:
    records = json.loads(internet.own.invoke("dns.records", "--domain", DOMAIN, "--json").stdout)["records"]
    assert {record["type"] for record in records} == {"NS", "A", "MX", "TXT", "TLSA", "SRV"}
    for record in records:
        assert record["data"] in internet.validated(record["name"], record["type"]), record
    assert "; fully validated" in internet.delv(DOMAIN)
    assert internet.validated(f"{token()}.{DOMAIN}") == {"NXDOMAIN"}


def test_dns_check_is_right_at_that_resolver(internet: Internet) -> None:
    seen = internet.own.invoke("dns.check", "--domain", DOMAIN, "--resolver", RESOLVER)
    assert "right lab.sethlakowske.com DS" in seen.stdout
    assert "right lab.sethlakowske.com NS ns.lab.sethlakowske.com." in seen.stdout
    assert "records are right" in seen.stdout


@pytest.mark.parametrize("name", [DOMAIN, MAIL_HOST, f"ns.{DOMAIN}"])
@TRANSPORTS
def test_the_world_gets_the_public_address_and_private_clients_the_one_of_the_local_network(
    public: PodUnderTest, outsider: Vantage, name: str, transport: str
) -> None:
    assert outsider.python(FLAGS_FROM_THERE, public.address, name, "A", transport).split() == [
        "NOERROR",
        "AA",
        "RD",
        PUBLIC,
    ]
    assert data(ask(public.server, name, "A", transport)) == {"192.168.7.2"}
    assert data(ask(public.server, name, "AAAA", transport)) == set()


@TRANSPORTS
def test_private_clients_get_the_rest_of_the_zone_without_the_forwarders(public: PodUnderTest, transport: str) -> None:
    missing = f"{token()}.{DOMAIN}"
    assert data(ask(public.server, DOMAIN, "MX", transport)) == {f"10 {MAIL_HOST}."}
    assert data(ask(public.server, missing, "A", transport)) == {"NXDOMAIN"}
    assert not any(upstream.questions(missing) for upstream in public.upstreams)
    assert data(ask(public.server, ELSEWHERE, "A", transport)) == {"192.168.7.2"}
    other = new_name()
    assert data(ask(public.server, other, "A", transport)) == {"192.0.2.90"}
    assert sum(upstream.questions(other) for upstream in public.upstreams) == 1


@TRANSPORTS
def test_all_names_outside_the_zone_are_refused_to_strangers(
    public: PodUnderTest, outsider: Vantage, transport: str
) -> None:
    known = new_name()
    assert data(ask(public.server, known)) == {"192.0.2.90"}
    for name in (known, new_name(), ELSEWHERE, "sethlakowske.com", "localhost", "1.0.0.127.in-addr.arpa"):
        assert outsider.python(FROM_THERE, public.address, name, transport) == "REFUSED"
    assert not any(upstream.questions(ELSEWHERE) for upstream in public.upstreams)


def test_an_alias_in_the_zone_is_not_resolved_for_strangers(public: PodUnderTest, outsider: Vantage) -> None:
    target = new_name()
    with added(public, "alias", "CNAME", target):
        seen = outsider.python(FLAGS_FROM_THERE, public.address, f"alias.{DOMAIN}", "A", "tcp")
        assert seen.splitlines()[1] == f"{target}."
        assert not any(upstream.questions(target) for upstream in public.upstreams)
        assert data(ask(public.server, f"alias.{DOMAIN}")) == {f"{target}.", "192.0.2.90"}


def test_a_listed_secondary_with_the_key_is_notified_and_follows_each_change(internet: Internet) -> None:
    name = token()

    def copied(wanted: str, expected: set[str]) -> dns.message.Message:
        answer = internet.ask(wanted, server=SECONDARY)
        if not expected <= data(answer):
            raise NotYet(str(data(answer)))
        return answer

    # It copies the zone for the world, signed.
    whole = wait_until(lambda: copied(DOMAIN, {PUBLIC}), 10, "the secondary to have the zone")
    assert "RRSIG" in str(whole)
    with added(internet.own, name, "A", "192.0.2.99"):
        wait_until(lambda: copied(f"{name}.{DOMAIN}", {"192.0.2.99"}), 10, "the secondary to have the record")
    wait_until(lambda: copied(f"{name}.{DOMAIN}", {"NXDOMAIN"}), 10, "the secondary to lose the record")


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_nobody_else_may_transfer_the_zone(internet: Internet, neighbour_there: Vantage, kind: str) -> None:
    own, name = internet.own, f"transfer.{DOMAIN}"
    secret = own.invoke("dns.transfer-key").stdout.partition('secret "')[2].partition('"')[0]
    wrong, refused = "AAAA" * 10 + "AAA=", {"REFUSED 0", "NOTAUTH 0", "PeerBadKey", "PeerBadSignature"}

    def transfer(place: Vantage, source: str, *key: str) -> str:
        return place.python(TRANSFER, own.address, DOMAIN, source, kind, *key)

    stranger = internet.outsider
    assert transfer(stranger, SECONDARY, name, secret).startswith("NOERROR ")
    for source, *key in (
        (SECONDARY,),
        (SECONDARY, name, wrong),
        (SECONDARY, "other", secret),
        ("",),
        ("", name, secret),
    ):
        assert transfer(stranger, source, *key) in refused
    for key in ([], [name, wrong], [name, secret]):
        assert transfer(neighbour_there, "", *key) in refused


def test_updates_are_refused_to_everybody(public: PodUnderTest, outsider: Vantage, neighbour_there: Vantage) -> None:
    for place, host in ((outsider, public.address), (neighbour_there, public.address), (public.inside, "127.0.0.1")):
        assert place.python(UPDATE, host, DOMAIN) in {"REFUSED", "NOTAUTH"}
    assert data(ask(public.server, f"evil.{DOMAIN}")) == {"NXDOMAIN"}


def test_the_key_for_transfers_is_on_the_volume_alone_and_for_named_alone(public: PodUnderTest) -> None:
    secret = public.invoke("dns.transfer-key").stdout.partition('secret "')[2].partition('"')[0]
    assert len(secret) == 44
    (file,) = [file for file in public.folder("dns").iterdir() if secret in file.read_text()]
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (0, 5004, 0o640)
    inspected = podman("container", "inspect", public.container("dns")).stdout
    assert secret not in inspected + logged(public)
    played = [file.read_text() for file in public.pod.state.rglob("*") if file.is_file()]
    assert not [text for text in played if secret in text]


def test_a_record_of_ones_own_is_served_at_once_and_no_query_is_lost(internet: Internet) -> None:
    own, name, ended, answered, failed = internet.own, token(), threading.Event(), list[str](), list[str]()

    def load() -> None:
        queries = [dns.message.make_query(DOMAIN, "MX"), dns.message.make_query("example.com", "A")]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)  # noqa: FBT003  # dnspython wants it so
            while not ended.is_set():
                for query in queries:
                    try:
                        there = data(dns.query.udp(query, own.address, timeout=5, sock=client))
                    except dns.exception.DNSException as error:
                        there = {f"{error!r}", "SERVFAIL"}
                    (failed if there & {"SERVFAIL", "REFUSED", "NXDOMAIN"} else answered).append(str(there))

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        before = serial(own)
        own.invoke("dns.add", name, "TXT", "v=test a b")
        seen = data(ask(own.server, f"{name}.{DOMAIN}", "TXT"))
        own.invoke("dns.remove", name, "TXT")
        gone = data(ask(own.server, f"{name}.{DOMAIN}", "TXT"))
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert (seen, gone) == ({'"v=test a b"'}, {"NXDOMAIN"})
    assert serial(own) > before + 1
    assert not failed
    assert len(answered) > 100


def test_added_records_are_listed_checked_and_kept_when_the_pod_starts_again(internet: Internet) -> None:
    own = internet.own
    with added(own, "www", "A", PUBLIC, "--ttl", "120"), added(own, "@", "TXT", f"v=spf1 mx ip4:{PUBLIC} -all"):
        assert own.invoke("dns.list").stdout.splitlines() == [
            f"www 120 A {PUBLIC}",
            f'@ 3600 TXT "v=spf1 mx ip4:{PUBLIC} -all"',
        ]
        records = own.invoke("dns.records").stdout
        assert f"www 120 IN A {PUBLIC}" in records
        assert "v=spf1 mx -all" not in records  # the added policy takes its place: two would be an error
        internet.wait(f"www.{DOMAIN}", {PUBLIC})
        assert own.invoke("dns.check", "--domain", DOMAIN, "--resolver", RESOLVER).ok
        restart(own)
        assert internet.validated(f"www.{DOMAIN}") == {PUBLIC}
        # A name of one's own that leads to this server leads private clients to it in the local network.
        assert data(ask(own.server, f"www.{DOMAIN}")) == {"192.168.7.2"}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("www", "A", "192.0.2"), "is no data of a record of the type A"),
        (("www", "NONSENSE", "x"), "is no type of record"),
        (("www", "DNSKEY", "257 3 13 AAAA"), "cannot be added: named makes them itself"),
        (("www.example.org.", "A", "192.0.2.1"), "is not in the zone"),
        (("a..b", "A", "192.0.2.1"), "is no name"),
        (("www", "MX", "10 mail"), "is no whole name"),
        (("www", "A", "192.0.2.1", "--ttl", "-1"), "expected a number of seconds"),
        (("@", "A", "192.0.2.1"), "set public_address"),
        (("@", "NS", "ns.example.net."), "the setting nameservers"),
        (("@", "CNAME", "example.net."), "contradict each other"),
        (("@", "MX", f"10 {MAIL_HOST}."), "has this record already"),
        (("cname", "MX", f"10 nowhere.{DOMAIN}."), "named-checkzone refuses the zone"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_refused_and_the_zone_stays_as_it_was(
    public: PodUnderTest, argv: tuple[str, ...], said: str
) -> None:
    before, files = serial(public), {file: file.read_bytes() for file in public.folder("dns").iterdir()}
    refused = public.invoke("dns.add", *argv, check=False)
    assert refused.code == 1
    assert said in " ".join(refused.stderr.split())
    assert (serial(public), {file: file.read_bytes() for file in public.folder("dns").iterdir()}) == (before, files)


def test_a_record_that_was_not_added_is_not_removed(public: PodUnderTest) -> None:
    for argv, said in (
        (("www", "AAAA"), "see invoke dns.list"),
        (("@", "MX"), "it is one that this server needs"),
    ):
        refused = public.invoke("dns.remove", *argv, check=False)
        assert refused.code == 1
        assert said in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    "argv", [("dns.add", "www", "A", "192.0.2.1"), ("dns.remove", "www", "A"), ("dns.list",), ("dns.ds",)]
)
def test_without_a_public_zone_its_tasks_say_what_to_set(test_pod: PodUnderTest, argv: tuple[str, ...]) -> None:
    refused = test_pod.invoke(*argv, check=False)
    assert refused.code == 1
    assert "zone is lan: this needs zone: public" in " ".join(refused.stderr.split())


def test_the_serial_rises_although_the_clock_was_set_back(public: PodUnderTest) -> None:
    served = serve_later_serial(public, 86400)
    with added(public, "later", "A", "192.0.2.1"):
        assert (changed := serial(public)) > served
    removed = serial(public)
    assert removed > changed
    restart(public)
    assert serial(public) > removed + 1000  # by then named might have renewed signatures, which raises it, too


def test_a_lost_key_is_loud_and_never_replaced_and_the_old_one_is_taken_again(
    internet: Internet, tmp_path: Path
) -> None:
    own, volume = internet.own, internet.own.folder("dns")
    keys = sorted(volume.glob("K*"))
    assert [file.suffix for file in keys] == [".key", ".private", ".state"]
    for file in keys:
        shutil.move(file, tmp_path)
    restart(own)
    assert "is lost: expected" in " ".join(own.invoke("up").stdout.split())
    status = json.loads(own.invoke("status", "--json", check=False).stdout)
    assert [line for line in status["problems"] if "the DNSSEC key of lab.sethlakowske.com is lost" in line]
    doctor = json.loads(own.invoke("doctor", "--json", check=False).stdout)
    assert [found["check"] for found in doctor["findings"] if found["state"] == "problem"] == ["zone"]
    refused = own.invoke("dns.ds", check=False)
    assert (refused.code, "is lost" in refused.stderr) == (1, True)
    internet.wait(DOMAIN, {"SERVFAIL"})
    assert not list(volume.glob("K*"))
    assert data(ask(own.server, DOMAIN)) == {"192.168.7.2"}
    assert data(ask(own.server, DOMAIN, "DNSKEY")) == set()  # it is served without signatures
    # A person copies the files back as root, and forgets their mode.
    for file in keys:
        shutil.copyfile(tmp_path / file.name, file)
        file.chmod(0o600)
    restart(own)
    own.invoke("up")
    internet.wait(DOMAIN, {PUBLIC})
    assert not [
        line for line in json.loads(own.invoke("status", "--json", check=False).stdout)["problems"] if "zone" in line
    ]


def test_a_key_that_the_parent_names_is_not_made_anew(internet: Internet) -> None:
    own = internet.own
    own.publish(f"{DOMAIN}. NS ns.elsewhere.example.\n{DOMAIN}. DS 1 13 2 {'00' * 32}\n")
    marker = own.folder("dns") / f"{DOMAIN}.key"
    kept = marker.read_text()
    marker.unlink()
    try:
        assert "the parent zone has a DS record" in " ".join(own.invoke("up").stdout.split())
        assert not marker.exists()
    finally:
        marker.write_text(kept)
        own.publish("")


def test_no_query_of_a_stranger_for_the_zone_writes_to_the_log(public: PodUnderTest, outsider: Vantage) -> None:
    before = logged(public)
    outsider.python(EVERY_KIND_FROM_THERE.replace("example.com", DOMAIN), public.address, "tcp", "2")
    outsider.python(EVERY_KIND_FROM_THERE.replace("example.com", DOMAIN), public.address, "udp", "5")
    assert written_since(public, before) == []


def test_a_flood_is_answered_in_part_and_a_resolver_among_the_strangers_is_always(
    public: PodUnderTest, outsider: Vantage
) -> None:
    name = f"_imaps._tcp.{DOMAIN}"
    whole, cut, seconds = outsider.python(FLOOD, public.address, name, "SRV", "600").split()
    assert int(whole) <= 50 * (float(seconds) + 2)
    assert 0 < int(cut) < 600 - int(whole)
    assert outsider.python(FLAGS_FROM_THERE, public.address, name, "SRV", "tcp").startswith("NOERROR")
    query = dns.message.make_query(name, "SRV")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:  # a private client
        client.setblocking(False)  # noqa: FBT003  # dnspython wants it so
        for _ in range(200):
            answer = dns.query.udp(query, public.address, timeout=5, sock=client)
            assert data(answer) == {f"0 1 993 {MAIL_HOST}."}


def test_a_flood_of_refused_queries_is_hardly_answered(public: PodUnderTest, outsider: Vantage) -> None:
    answers, seconds = outsider.python(REFUSED_FROM_THERE, public.address, "1000").split()
    assert int(answers) <= STRANGERS_ANSWERS * (float(seconds) + 2)


def test_after_a_restore_the_key_is_the_same_and_the_serial_higher(internet: Internet, tmp_path: Path) -> None:
    own, archive = internet.own, str(tmp_path / "backup")
    ds = own.invoke("dns.ds").stdout
    own.invoke("dns.add", "kept", "A", "192.0.2.77")
    own.invoke("backup", "--to", archive)
    serve_later_serial(own, 2 * 86400)
    own.invoke("dns.remove", "kept", "A")
    before = serial(own)
    for file in own.folder("dns").iterdir():
        file.unlink()
    own.invoke("restore", archive, "--yes")
    internet.connect()
    assert own.invoke("dns.ds").stdout == ds
    assert serial(own) > before
    internet.wait(f"kept.{DOMAIN}", {"192.0.2.77"})
    own.invoke("dns.remove", "kept", "A")


def test_a_lost_key_is_replaced_on_demand_alone(public: PodUnderTest) -> None:
    refused = public.invoke("dns.ds", "--new", check=False)
    assert (refused.code, "is there" in refused.stderr) == (1, True)
    before = public.invoke("dns.ds").stdout
    for file in public.folder("dns").glob("K*"):
        file.unlink()
    made = public.invoke("dns.ds", "--new").stdout
    assert made != before
    (served,) = dns.query.tcp(dns.message.make_query(DOMAIN, "DNSKEY"), public.address, timeout=5).answer[0]
    assert served.to_text() in made
    problems = json.loads(public.invoke("status", "--json", check=False).stdout)["problems"]
    assert not [line for line in problems if "named" in line or "key" in line]
