"""The list of DNS records, its forms, and the judgement of SPF and DNSSEC records."""

import json
import re
from collections.abc import Mapping
from ipaddress import ip_address

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from podserve.errors import Problem
from podserve.zone import checking, judging
from podserve.zone.asking import Resolvers
from podserve.zone.needed import Facts, needed_records, of_domain
from podserve.zone.record import Record, as_zone_file, quoted, records_as_json, unquoted
from podserve.zone.spf import SpfError, result
from tests.unit.helpers import pod_with

DIGEST, NEXT = "ab" * 32, "cd" * 32


def needed(**given: str) -> list[Record]:
    """Return the records of a server of example.org with these settings."""
    pod = pod_with(**{"domain": "example.org", "public_address": "203.0.113.7", **given})
    return needed_records(Facts(pod.settings, pod.ports, (DIGEST,)))


def lines(found: list[Record]) -> set[str]:
    """Return records as `NAME TYPE DATA`."""
    return {f"{record.name} {record.kind} {record.data}" for record in found}


def test_the_list_has_what_a_web_and_mail_server_needs() -> None:
    names = "*.example.org www.example.org"
    assert lines(needed(public_address="203.0.113.7 2001:db8::7", certificate_names=names)) == {
        *(f"{name} {kind}" for name in ("example.org", "mail.example.org", "www.example.org")
          for kind in ("A 203.0.113.7", "AAAA 2001:db8::7")),
        "example.org MX 10 mail.example.org.",
        'example.org TXT "v=spf1 mx -all"',
        '_dmarc.example.org TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org"',
        f"_25._tcp.mail.example.org TLSA 3 1 1 {DIGEST}",
        "_submission._tcp.example.org SRV 0 1 587 mail.example.org.",
        "_submissions._tcp.example.org SRV 0 1 465 mail.example.org.",
        "_sieve._tcp.example.org SRV 0 1 4190 mail.example.org.",
        "_imaps._tcp.example.org SRV 0 1 993 mail.example.org.",
        "_pop3s._tcp.example.org SRV 10 1 995 mail.example.org.",
        "_autodiscover._tcp.example.org SRV 0 1 443 example.org.",
    }  # fmt: skip
    assert all(record.reason for record in needed())
    assert "_submissions._tcp" not in str(lines(needed(public_address="203.0.113.7", submissions="no")))


@pytest.mark.parametrize(
    ("source", "directory", "expected"),
    [
        ("acme", "https://acme-v02.api.letsencrypt.org/directory", {'example.org CAA 0 issue "letsencrypt.org"'}),
        ("acme", "https://ca.example/directory", set()),
        ("authority", "https://acme-v02.api.letsencrypt.org/directory", set()),
    ],
)
def test_only_a_known_source_of_certificates_has_a_caa_record(source: str, directory: str, expected: set[str]) -> None:
    found = needed(certificate_source=source, acme_directory=directory, acme_email="you@example.org")
    assert {line for line in lines(found) if " CAA " in line} == expected


def test_the_id_of_the_policy_changes_with_its_content_and_the_name_that_has_it_gets_an_address() -> None:
    found = lines(needed(mta_sts="testing"))
    assert "mta-sts.example.org A 203.0.113.7" in found
    assert '_smtp._tls.example.org TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"' in found
    variants: list[dict[str, str]] = [{}, {"mta_sts": "none"}, {"mail_host": "mx.example.org"},
                                      {"mta_sts_max_age": "86400"}, {"files_host": "files.example.org"}]  # fmt: skip
    ids = [next(record.value for record in needed(**{"mta_sts": "testing", **given})
                if record.name == "_mta-sts.example.org") for given in variants]  # fmt: skip
    assert all(re.fullmatch("v=STSv1; id=[0-9a-f]{32}", text) for text in ids)
    assert len(set(ids[:-1])) == 4
    assert ids[-1] == ids[0]
    public = lines(needed(zone="public"))
    assert not [line for line in public if "mta-sts" in line]
    assert '_smtp._tls.example.org TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"' in public


def test_names_elsewhere_are_listed_under_their_own_domain() -> None:
    found = needed(mail_host="mx.example.net", files_host="files.example.org")
    assert lines(of_domain(found, "example.net")) == {
        "mx.example.net A 203.0.113.7",
        f"_25._tcp.mx.example.net TLSA 3 1 1 {DIGEST}",
    }
    assert of_domain(found, "") == found
    with pytest.raises(Problem, match=r"expected one of example\.net, example\.org"):
        of_domain(found, "example.edu")


def test_each_mail_domain_has_records_of_its_own_in_its_own_zone() -> None:
    given = {"domain": "lab.example.org", "mail_domains": "example.org other.example lists.lab.example.org"}
    found = needed(**given)
    at = {f"{name} {kind}" for name, kind in (("", "MX"), ("", "TXT"), ("_dmarc.", "TXT"))}
    for domain, zone in (("example.org", "example.org"), ("other.example", "other.example"),
                         ("lists.lab.example.org", "lab.example.org")):  # fmt: skip
        there = lines(of_domain(found, zone))
        assert f"{domain} MX 10 mail.lab.example.org." in there
        assert f'{domain} TXT "v=spf1 mx -all"' in there
        assert f'_dmarc.{domain} TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"' in there
        assert f"_imaps._tcp.{domain} SRV 0 1 993 mail.lab.example.org." in there
        assert f"_autodiscover._tcp.{domain} SRV 0 1 443 lab.example.org." in there
    assert len(of_domain(found, "other.example")) == len(at) + 6
    assert not [record for record in found if record.name == "other.example" and record.kind == "A"]


def test_a_policy_of_a_mail_domain_has_its_record_and_its_address() -> None:
    given = {"mail_domains": "a.example b.example", "mta_sts": "testing", "certificate_names": "mta-sts.b.example"}
    found = lines(needed(**given))
    assert any(line.startswith('_mta-sts.b.example TXT "v=STSv1; id=') for line in found)
    assert not any(line.startswith("_mta-sts.a.example") for line in found)
    assert {
        "mta-sts.b.example A 203.0.113.7",
        '_smtp._tls.b.example TXT "v=TLSRPTv1; rua=mailto:postmaster@b.example"',
    } <= found


def test_without_a_public_address_there_is_no_list() -> None:
    with pytest.raises(Problem, match="public_address is not set: expected the address"):
        needed(public_address="")


def test_the_zone_file_is_read_by_another_program_as_the_same_records() -> None:
    found = needed(public_address="203.0.113.7 2001:db8::7")
    zone = dns.zone.from_text(as_zone_file(found), "example.org", check_origin=False, relativize=False)
    read = {f"{name.to_text(omit_final_dot=True)} {data.rdtype.name} {data.to_text()}"
            for name, _, data in zone.iterate_rdatas()}  # fmt: skip
    assert read == lines(found)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 510, 600])
def test_a_long_text_is_split_into_strings_and_joined_again(length: int) -> None:
    text = "".join(chr(33 + number % 90) for number in range(length))
    data = quoted(text)
    assert unquoted(data) == text
    record = Record("example.org", "x._domainkey.example.org", "TXT", data, "a long one")
    zone = dns.zone.from_text(as_zone_file([record]), "example.org", check_origin=False)
    (read,) = zone.find_rdataset("x._domainkey", "TXT")
    assert b"".join(read.strings).decode() == text
    assert max(map(len, read.strings)) <= 255
    assert json.loads(records_as_json([record]))["records"][0]["value"] == text


ADDRESS = ip_address("203.0.113.7")
MX = {("example.org", "MX"): ("10 mail.example.org.",), ("mail.example.org", "A"): ("203.0.113.7",)}


def spf(record: str, more: Mapping[tuple[str, str], tuple[str, ...]] | None = None) -> str:
    """Return the result of an SPF record for mail from ADDRESS."""
    zone = {**MX, ("example.org", "TXT"): (quoted(record),), **(more or {})}
    return result("example.org", ADDRESS, lambda name, kind: zone.get((name, kind), ()))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 mx -all", "pass"),
        ("v=spf1 MX -ALL", "pass"),
        ("v=spf1 a:mail.example.org -all", "pass"),
        ("v=spf1 a:mail.example.org/24 ~all", "pass"),
        ("v=spf1 ip4:203.0.113.0/24 -all", "pass"),
        ("v=spf1 -ip4:203.0.113.7 mx", "fail"),
        ("v=spf1 ip6:2001:db8::/32 ~all", "softfail"),
        ("v=spf1 a -all", "fail"),
        ("v=spf1 ?all", "neutral"),
        ("v=spf1", "neutral"),
        ("v=spf1 include:other.example -all", "pass"),
        ("v=spf1 redirect=other.example", "pass"),
        ("v=spf1 exp=why.example exists:%{i}.example ptr -all", "fail"),
    ],
)
def test_an_spf_record_is_evaluated_as_by_a_receiving_server(record: str, expected: str) -> None:
    assert spf(record, {("other.example", "TXT"): (quoted("v=spf1 ip4:203.0.113.7 -all"),)}) == expected


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("v=spf1 nonsense -all", "unknown"),
        ("v=spf1 ip4:1.2.3 -all", "no address"),
        ("v=spf1 m/x/y -all", "malformed"),
        ("v=spf1 a/33 -all", "a prefix of more than 32 bits"),
        ("v=spf1 include:nowhere.example -all", "0 SPF records"),
        ("v=spf1 include:example.org", "more than 10 DNS lookups"),
        ("v=spf1 " + " ".join(f"a:n{number}.example" for number in range(11)), "more than 10 DNS lookups"),
    ],
)
def test_an_spf_record_that_receivers_cannot_evaluate_is_an_error(record: str, why: str) -> None:
    with pytest.raises(SpfError, match=why):
        spf(record)


def test_ten_lookups_are_allowed() -> None:
    assert spf("v=spf1 " + " ".join(f"a:n{number}.example" for number in range(9)) + " mx -all") == "pass"


def test_two_spf_records_are_an_error() -> None:
    with pytest.raises(SpfError, match="2 SPF records"):
        spf("v=spf1 -all", {("example.org", "TXT"): (quoted("v=spf1 -all"), quoted("v=spf1 mx -all"))})


def test_the_parents_ds_is_judged_by_the_keys_of_the_zone() -> None:
    algorithm = dns.dnssectypes.Algorithm.ECDSAP256SHA256
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key = dns.dnssec.make_dnskey(public, algorithm, flags=257)
    ds = dns.dnssec.make_ds(dns.name.from_text("example.org"), key, "SHA256").to_text()
    other = dns.dnssec.make_ds(dns.name.from_text("example.net"), key, "SHA256").to_text()
    keys = (key.to_text(), dns.dnssec.make_dnskey(public, algorithm, flags=256).to_text())
    for there, with_keys, state in [
        ((ds,), keys, "right"),
        ((ds.upper(), other), keys, "right"),
        ((other,), keys, "different"),
        ((), keys, "missing"),
        ((ds,), (), "different"),
        ((), (), "unused"),
    ]:
        answers: dict[str, tuple[str, ...]] = {"DS": there, "DNSKEY": with_keys}

        def ask(_: str, kind: str, told: Mapping[str, tuple[str, ...]] = answers) -> tuple[str, ...]:
            return told[kind]

        (judged, found, _), wanted = judging.delegation("example.org", ask)
        assert (judged, found) == (state, there)
        assert wanted == (ds if with_keys else "")


def test_the_zone_delegates_the_proof_of_each_name_to_this_server() -> None:
    acme = {"certificate_source": "acme", "acme_email": "you@example.org", "acme_challenge": "dns"}
    public = {**acme, "zone": "public", "certificate_names": "*.example.org"}
    found = {line for line in lines(needed(**public)) if line.startswith("_acme-challenge")}
    names = ("example.org", "mail.example.org", "mta-sts.example.org")
    assert found == {f"_acme-challenge.{name} NS ns.example.org." for name in names}
    provider = {"acme_dns_provider": "hetzner", "acme_dns_file": "./provider"}
    for other in ({**public, **provider}, {**acme, **provider}, {"zone": "public"}):
        assert not [line for line in lines(needed(**other)) if line.startswith("_acme-challenge")]


@pytest.mark.parametrize(
    ("known", "states"),
    [
        ((DIGEST, NEXT), ["right", "right"]),
        ((DIGEST,), ["right", "unused"]),  # a resolver has the records from before the renewal
        ((NEXT,), ["different", "right"]),
        ((), ["missing", "missing"]),
    ],
)
def test_resolvers_need_the_record_of_the_key_in_use(
    monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...], states: list[str]
) -> None:
    pod = pod_with(domain="example.org", public_address="203.0.113.7", forwarders="192.0.2.1")
    answers = {"TLSA": tuple(f"3 1 1 {digest}" for digest in known), "DS": (f"1 13 2 {DIGEST}",)}
    monkeypatch.setattr(Facts, "of", lambda _: Facts(pod.settings, pod.ports, (DIGEST, NEXT)))
    monkeypatch.setattr(Resolvers, "ask", lambda _, __, kind: answers.get(kind, ()))
    seen = checking.check(pod, 1.0)
    assert [verdict.state for verdict in seen.verdicts if verdict.record.kind == "TLSA"] == states
