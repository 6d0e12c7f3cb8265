"""Judges what resolvers answer for a record against what this server needs."""

import re
from typing import Literal

import dns.dnssec
import dns.exception
import dns.name
import dns.rdata

from podserve.values import Address
from podserve.zone.record import Record, unquoted
from podserve.zone.spf import Ask, SpfError, records_in, result

State = Literal["right", "missing", "different", "unused", "unanswered"]
"""`unused`: nobody reads the record, because DNSSEC does not sign the zone. `unanswered`: no resolver said."""
Judged = tuple[State, tuple[str, ...], str]
"""The state, what was found, and why it is different (empty if `found` shows it)."""
_DMARC = re.compile(r"v=DMARC1\s*;\s*p=(none|quarantine|reject)\s*(;\s*([a-z]+\s*=[^;]*(;\s*|\Z))*)?\Z")
"""A policy (RFC 7489, section 6.3): the version, the policy, then any tags."""
DIGESTS = {"1": "SHA1", "2": "SHA256", "4": "SHA384"}
"""The digests of a DS record, by their numbers (RFC 8624, section 3.3), as dnspython names them."""


def _by(right: bool, found: tuple[str, ...], why: str = "") -> Judged:  # noqa: FBT001  # the verdict itself
    return ("right" if right else "different" if found else "missing"), found, "" if right else why


def plain(record: Record, ask: Ask) -> Judged:
    """Judge a record that may have others beside it: MX, SRV, CAA and TLSA."""
    found = ask(record.name, record.kind)
    if record.kind in {"MX", "SRV"}:  # another priority or weight leads to the same server
        words = 1 if record.kind == "MX" else 2
        wanted, there = record.data.lower().split()[words:], [data.lower().split()[words:] for data in found]
        return _by(wanted in there, found)
    return _by(record.data.lower() in map(str.lower, found), found)


def exact_addresses(wanted: set[str], record: Record, ask: Ask) -> Judged:
    """Judge the addresses of a name: exactly `wanted`, because a client uses any of them."""
    found = ask(record.name, record.kind)
    return _by(set(found) == wanted, found)


def spf(record: Record, ask: Ask, public: tuple[Address, ...]) -> Judged:
    """Judge an SPF record: mail from each public address passes, whatever the record says besides."""
    found = tuple(records_in(ask(record.name, "TXT")))
    if not found:
        return "missing", (), ""
    try:
        said = {address: result(record.name, address, ask) for address in public}
    except SpfError as error:
        return "different", found, str(error)
    wrong = [f"{address}: {verdict}" for address, verdict in said.items() if verdict != "pass"]
    return _by(not wrong, found, f"mail from this server does not pass ({', '.join(wrong)})")


def dmarc(record: Record, ask: Ask) -> Judged:
    """Judge a DMARC record: one, well formed, with any policy."""
    found = tuple(text for text in map(unquoted, ask(record.name, "TXT")) if text.lower().startswith("v=dmarc1"))
    return _by(len(found) == 1 and bool(_DMARC.match(found[0])), found, "expected one record, and the policy first")


def delegation(zone: str, ask: Ask) -> tuple[Judged, str]:
    """Judge the parent's DS records of a zone by the zone's keys; return the DS record that belongs there, too."""
    there, keys = ask(zone, "DS"), [dns.rdata.from_text("IN", "DNSKEY", key) for key in ask(zone, "DNSKEY")]
    name = dns.name.from_text(zone)
    entry = [key for key in keys if key.flags & 1]  # type: ignore[attr-defined]  # the secure entry points
    made = {dns.dnssec.make_ds(name, key, digest, validating=True).to_text().lower()
            for key in entry for digest in DIGESTS.values()}  # fmt: skip
    wanted = dns.dnssec.make_ds(name, entry[0], "SHA256").to_text() if entry else ""
    if not there and not entry:
        return ("unused", (), "DNSSEC does not sign the zone"), ""
    right = any(data.lower() in made for data in there)
    return _by(right, there, "it fits no key of the zone: resolvers that validate refuse all of it"), wanted
