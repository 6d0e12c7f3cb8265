"""A DNS record that this server needs, and its forms: a zone file, JSON, and what a provider's form takes."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import dns.rdata

from podserve.values import TTL, Address

_VERSION = re.compile(r"v=[A-Za-z0-9]+")
_STRING = 255
"""Bytes of one string of a TXT record (RFC 1035, section 3.3.14). A longer text is several strings, without a gap."""


@dataclass(frozen=True)
class Record:
    """A record, and why this server needs it.

    `zone` is the domain where the record is entered. `name` is the whole name. Neither ends with a dot. `data` is
    written as in a zone file, where names end with a dot. `ttl` is in seconds.
    """

    zone: str
    name: str
    kind: str
    data: str
    reason: str
    ttl: int = TTL

    @property
    def relative(self) -> str:
        """The name as the form of a DNS provider takes it: without the zone, `@` for the zone itself."""
        return "@" if self.name == self.zone else self.name.removesuffix(f".{self.zone}")

    @property
    def value(self) -> str:
        """The data as the form of a DNS provider takes it: a text without quotes, and in one piece."""
        return unquoted(self.data) if self.kind == "TXT" else self.data

    @property
    def version(self) -> str:
        """What a text says it is, such as `v=spf1`: a name has one such text at most. Empty for any other record."""
        found = _VERSION.match(self.value) if self.kind == "TXT" else None
        return found[0].lower() if found else ""


ADDRESSES = {"A", "AAAA"}
"""The types of address records."""


def kind_of(address: Address) -> str:
    """Return the type of an address record: A or AAAA."""
    return "A" if address.version == 4 else "AAAA"  # noqa: PLR2004  # IPv4


def quoted(text: str) -> str:
    """Return the data of a TXT record with this text (ASCII), in strings of at most 255 bytes."""
    pieces = [text[start : start + _STRING] for start in range(0, len(text), _STRING)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)


def unquoted(data: str) -> str:
    """Return the text of the data of a TXT record. Bytes outside UTF-8 become U+FFFD."""
    strings: tuple[bytes, ...] = dns.rdata.from_text("IN", "TXT", data).strings  # type: ignore[attr-defined]
    return b"".join(strings).decode(errors="replace")


def normal(kind: str, data: str) -> str:
    """Return the data of a record as dnspython writes it, to compare. Raises dns.exception.DNSException."""
    return str(dns.rdata.from_text("IN", kind, data).to_text())


def as_zone_file(records: Iterable[Record]) -> str:
    """Return records as a zone file (RFC 1035, section 5), each zone after its $ORIGIN, each record after its reason.

    The name server that takes the file adds SOA and NS.
    """
    lines = []
    for zone, those in groupby(sorted(records, key=lambda record: record.zone), key=lambda record: record.zone):
        lines += [f"$ORIGIN {zone}.", f"$TTL {TTL}"]
        for record in those:
            ttl = "" if record.ttl == TTL else f"{record.ttl} "
            lines += [f"; {record.reason}", f"{record.relative} {ttl}IN {record.kind} {record.data}"]
    return "\n".join([*lines, ""])


def records_as_json(records: Iterable[Record]) -> str:
    """Return the records as a JSON object: each with the fields of Record, `relative`, `value` and `ttl` (s)."""
    found = [
        {"zone": r.zone, "name": r.name, "relative": r.relative, "type": r.kind, "ttl": r.ttl, "data": r.data,
         "value": r.value, "reason": r.reason}
        for r in records
    ]  # fmt: skip
    return json.dumps({"records": found}, indent=2)
