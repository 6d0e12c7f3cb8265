"""The zone that the pod serves to the world: its records, those of `dns.add`, and what private clients get instead."""

from dataclasses import replace
from pathlib import Path

import dns.zone
import pytest

from podserve.errors import Problem
from podserve.folder import Folder
from podserve.zone.needed import Facts, needed_records
from podserve.zone.own import own_records, typed_record, write_own
from podserve.zone.record import Record
from podserve.zone.served import zone_text
from tests.unit.helpers import pod_with

ZONE = "example.org"


def facts(*own: Record, **given: str) -> Facts:
    """Return the facts of a server with a public zone, with these settings."""
    given = {"domain": ZONE, "zone": "public", "public_address": "203.0.113.7", "lan_address": "192.168.7.2", **given}
    pod = pod_with(**given)
    return Facts(pod.settings, pod.ports, ("ab" * 32,), own)


def served(of: Facts, name: str, kind: str, *, private: bool = False) -> set[tuple[str, int]]:
    """Return the data and the TTL of the records of a name in the zone file, as dnspython reads it."""
    zone = dns.zone.from_text(zone_text(of, 7, private=private), ZONE, relativize=False)
    found = zone.get_rdataset(f"{name}.", kind)
    return {(record.to_text(), found.ttl) for record in found} if found else set()


def own(name: str, kind: str, data: str, ttl: str = "") -> Record:
    """Return a record of `dns.add`."""
    return typed_record(ZONE, name, kind, data, ttl)


def test_the_zone_names_its_servers_with_the_addresses_that_the_registrar_asks_for() -> None:
    there = facts(nameservers="ns1.example.org ns2.example.org ns.example.net", certificate_names="shop.example.com")
    assert served(there, ZONE, "SOA") == {("ns1.example.org. postmaster.example.org. 7 3600 600 1209600 300", 3600)}
    assert served(there, ZONE, "NS") == {(f"{name}.", 3600) for name in there.settings.nameservers}
    assert served(there, "ns1.example.org", "A") == {("203.0.113.7", 3600)}
    assert "example.com" not in zone_text(there, 7)
    second = replace(there, own=(own("ns2", "A", "198.51.100.53"),))
    assert served(second, "ns2.example.org", "A") == {("198.51.100.53", 3600)}
    assert served(facts(), ZONE, "NS") == {("ns.example.org.", 3600)}


def test_without_a_public_zone_the_name_servers_are_the_providers() -> None:
    assert not [record for record in needed_records(facts(zone="lan")) if record.kind == "NS"]


def test_private_clients_get_the_local_address_for_what_leads_to_this_server() -> None:
    there = facts(own("www", "A", "203.0.113.7"), own("elsewhere", "A", "192.0.2.1"),
                  public_address="203.0.113.7 2001:db8::7")  # fmt: skip
    for name in (ZONE, "mail.example.org", "ns.example.org", "www.example.org"):
        assert served(there, name, "A", private=True) == {("192.168.7.2", 60)}
        assert served(there, name, "AAAA", private=True) == set()
    assert served(there, ZONE, "AAAA") == {("2001:db8::7", 3600)}
    assert served(there, "elsewhere.example.org", "A", private=True) == {("192.0.2.1", 3600)}
    assert served(there, ZONE, "MX", private=True) == served(there, ZONE, "MX") == {("10 mail.example.org.", 3600)}


def test_a_policy_of_ones_own_takes_the_place_of_the_servers_and_other_texts_stand_beside() -> None:
    there = facts(own("@", "TXT", "v=SPF1 mx ip4:192.0.2.1 -all"), own("@", "TXT", "a text", "60"))
    assert served(there, ZONE, "TXT") == {('"v=SPF1 mx ip4:192.0.2.1 -all"', 60), ('"a text"', 60)}
    assert served(there, "_dmarc.example.org", "TXT") == {
        ('"v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org"', 3600)
    }


def test_records_that_contradict_each_other_are_named() -> None:
    with pytest.raises(Problem, match=r"contradict each other: .*invoke dns\.list"):
        zone_text(facts(own("mail", "CNAME", "example.net")), 7)


def test_records_of_ones_own_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = (own("@", "TXT", 'a "quoted" text', "5"), own("*.x", "CNAME", "example.net"),
               own("_a._tcp", "SRV", "0 1 443 www.example.org"), own("h", "HTTPS", "1 . alpn=h2"))  # fmt: skip
    write_own(Folder.at(tmp_path), written)
    assert own_records(Folder.at(tmp_path), ZONE) == written
    assert own_records(Folder.at(tmp_path), "example.net")[0].name == "example.net"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("@", ZONE), ("www", "www.example.org"), ("WWW.Example.org", "www.example.org"), (ZONE, ZONE), (f"{ZONE}.", ZONE),
     ("www.example.org.", "www.example.org"), ("a.b", "a.b.example.org"), ("_dmarc.x", "_dmarc.x.example.org")],
)  # fmt: skip
def test_a_name_is_taken_with_and_without_the_domain(name: str, expected: str) -> None:
    assert own(name, "A", "192.0.2.1").name == expected


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("mx", "10 mx.example.net", "10 mx.example.net."),
        ("MX", "0 .", "0 ."),
        ("CNAME", "Example.net.", "Example.net."),
        ("TXT", "v=spf1 mx -all", '"v=spf1 mx -all"'),
        ("TXT", '"two" "strings"', '"two" "strings"'),
        ("TXT", "x" * 300, f'"{"x" * 255}" "{"x" * 45}"'),
        ("CAA", '0 issue "ca.example"', '0 issue "ca.example"'),
    ],
)
def test_data_are_taken_as_a_form_of_a_provider_takes_them(kind: str, data: str, expected: str) -> None:
    assert own("x", kind, data).data == expected


@pytest.mark.parametrize(
    ("name", "kind", "data", "said"),
    [
        ("x.example.net.", "A", "192.0.2.1", "is not in the zone"),
        ("..", "A", "192.0.2.1", "is no name"),
        ("x" * 64, "A", "192.0.2.1", "is no name"),
        ("x y", "A", "192.0.2.1\nevil A 192.0.2.2", "is no data"),
        ("x", "A", "2001:db8::1", "is no data"),
        ("x", "MX", "10 mail", "is no whole name"),
        ("x", "SOA", ". . 1 1 1 1 1", "cannot be added"),
        ("x", "RRSIG", "x", "cannot be added"),
        ("x", "ANY", "x", "cannot be added"),
        ("x", "TYPE65280", r"\# 0", "cannot be added"),
        ("x", "WHAT", "x", "is no type"),
        ("@", "NS", "ns.example.net.", "the setting nameservers"),
        ("@", "DS", f"1 13 2 {'00' * 32}", "belongs to its parent"),
    ],
)
def test_a_wrong_record_is_refused_with_what_was_expected(name: str, kind: str, data: str, said: str) -> None:
    with pytest.raises(Problem, match=said):
        own(name, kind, data)


@pytest.mark.parametrize("ttl", ["-1", "1h", "604801", "1.5", "²"])
def test_a_wrong_ttl_is_refused(ttl: str) -> None:
    with pytest.raises(Problem, match="expected a number of seconds"):
        own("x", "A", "192.0.2.1", ttl)
