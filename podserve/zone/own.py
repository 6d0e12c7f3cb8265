"""The records of `dns.add`, beside those that the server needs: on the volume `dns`, a line for each."""

import re
from collections.abc import Iterable

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype

from podserve.errors import Problem
from podserve.folder import Folder
from podserve.values import TTL
from podserve.zone.record import Record, quoted

FILE = "own.records"
REASON = "your own record (invoke dns.add)"
_LARGEST = 2**24
_LONGEST_TTL = 604800
"""Seconds: a week. BIND's default for what it caches (max-cache-ttl)."""
_REFUSED = {"SOA", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "NONE"}
"""Types that named makes itself, or that are no records."""


def own_records(there: Folder, zone: str) -> tuple[Record, ...]:
    """Return the records on the volume, in the zone of a domain."""
    lines = (there.read(FILE, _LARGEST) or b"").decode().splitlines()
    fields = (line.split(" ", 3) for line in lines)
    return tuple(Record(zone, _whole(name, zone), kind, data, REASON, int(ttl)) for name, ttl, kind, data in fields)


def write_own(there: Folder, records: Iterable[Record]) -> None:
    """Replace the records on the volume."""
    with there.replacing(FILE, 0o644) as file:
        file.writelines(f"{r.relative} {r.ttl} {r.kind} {r.data}\n".encode("ascii") for r in records)


def _whole(name: str, zone: str) -> str:
    return zone if name == "@" else f"{name}.{zone}"


def whole_name(name: str, zone: str) -> str:
    """Return the whole name, in lower case: `@` is the domain, and a name without the domain is below it.

    Raises Problem for a name that is wrong, or elsewhere.
    """
    text = name.lower().removesuffix(".")
    within = text == zone or text.endswith(f".{zone}")
    try:
        whole = dns.name.from_text(text if within else _whole(text, zone)).to_text(omit_final_dot=True)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise Problem(f"{name!r} is no name: expected www, www.{zone}, or @ for {zone} itself") from error
    if name.endswith(".") and not within:
        raise Problem(f"{name!r} is not in the zone {zone}: expected a name that ends with .{zone}., or www or @")
    return whole


def data_of(kind: str, data: str) -> str:
    """Return the data of a record as dnspython writes it. Names are whole; their last dot may be missing.

    A text without quotes is one text. Raises Problem for a type that is unknown or not for `dns.add`, or wrong data.
    """
    try:
        number = dns.rdatatype.from_text(kind)
    except (dns.rdatatype.UnknownRdatatype, ValueError) as error:
        raise Problem(f"{kind!r} is no type of record: expected one such as A, AAAA, CNAME, MX, TXT or SRV") from error
    if kind in _REFUSED or dns.rdatatype.is_metatype(number) or kind.startswith("TYPE"):
        raise Problem(f"records of the type {kind} cannot be added: named makes them itself, or nobody does")
    if not data.isprintable():
        raise Problem(f"{data!r} is no data of a record: expected one line")
    text = quoted(data) if kind == "TXT" and not data.startswith('"') else data
    try:
        found = str(dns.rdata.from_text("IN", kind, text, origin=dns.name.root, relativize=False).to_text())
    except (dns.exception.DNSException, ValueError, UnicodeError) as error:
        raise Problem(f"{data!r} is no data of a record of the type {kind}: {error}") from error
    short = [
        word for word in found.split() if kind != "TXT" and re.fullmatch(r"[^.]+\.", word) and word not in text.split()
    ]
    if short:
        raise Problem(f"{short[0][:-1]!r} in {data!r} is no whole name: expected one such as {short[0]}example.org")
    return found


def typed_record(zone: str, name: str, kind: str, data: str, ttl: str = "") -> Record:
    """Return a record from what a person typed. Raises Problem, which says what is wrong."""
    kind, whole = kind.upper(), whole_name(name, zone)
    if ttl and not (ttl.isascii() and ttl.isdigit() and int(ttl) <= _LONGEST_TTL):
        raise Problem(f"--ttl is {ttl!r}: expected a number of seconds up to {_LONGEST_TTL}")
    if kind == "NS" and whole == zone:
        raise Problem(f"the name servers of {zone} are those of the setting nameservers (invoke.yaml)")
    if kind == "DS" and whole == zone:
        raise Problem(
            f"the DS record of {zone} belongs to its parent zone: give that of invoke dns.ds to the registrar"
        )
    return Record(zone, whole, kind, data_of(kind, data), REASON, int(ttl or TTL))
