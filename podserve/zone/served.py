"""The zone that named serves with `zone: public`: from the records to the two files on the volume `dns`.

The world gets public_address, and private clients get lan_address. named's container takes a changed file, and signs it
(named-zones).
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.zone

from podserve import volumes
from podserve.choices import ZoneMode
from podserve.errors import Problem
from podserve.exchanges import udp
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import as_text
from podserve.zone.needed import Facts, needed_records
from podserve.zone.record import ADDRESSES, Record, kind_of

WORLD, PRIVATE = "world.zone", "private.zone"
_LARGEST = 2**25
_LAN_TTL = 60
"""Seconds: private clients follow a new address of this host within a minute, as with `zone: lan` (named-zones)."""
_TIMES = "3600 600 1209600 300"
"""Seconds, in the SOA record: secondaries ask each hour, after a failure each 10 minutes, and serve for 14 days without
an answer. Resolvers remember for 5 minutes that a name does not exist."""
_SERIAL = 6
"""The place of the serial in the first line of a file, as named-zones expects it."""


def require_public(pod: Pod) -> None:
    """Raise Problem unless this server serves its zone to the world."""
    if pod.settings.zone is not ZoneMode.PUBLIC:
        said = (
            f"zone is {pod.settings.zone.value}: this needs zone: public, with which the pod serves its domain's zone. "
        )
        raise Problem(f"{said}Set it (invoke.yaml), then: invoke up")


def _local(records: Iterable[Record], facts: Facts) -> Iterable[Record]:
    """Yield the records as private clients get them: names that lead to this server lead to its lan_address."""
    public, done = set(map(str, facts.settings.public_address)), set[str]()
    for record in records:
        if not (facts.settings.lan_address and record.kind in ADDRESSES and record.data in public):
            yield record
        elif record.name not in done:
            done.add(record.name)
            for address in facts.settings.lan_address:
                yield replace(record, kind=kind_of(address), data=str(address), ttl=_LAN_TTL)


def zone_text(facts: Facts, serial: int, *, private: bool = False) -> str:
    """Return the zone of the domain as a file, for the world or for private clients. Its first line is the SOA record.

    Raises Problem if the records contradict each other.
    """
    settings = facts.settings
    records = [record for record in needed_records(facts) if record.zone == settings.domain]
    records = list(_local(records, facts)) if private else records
    ttls: dict[tuple[str, str], int] = {}
    for record in records:  # the records of a name and a type have one TTL (RFC 2181, section 5.2)
        of = record.name, record.kind
        ttls[of] = min(record.ttl, ttls.get(of, record.ttl))
    soa = f"@ 3600 IN SOA {settings.zone_servers[0]}. postmaster.{settings.domain}. {serial} {_TIMES}"
    lines = [f"{r.relative} {ttls[r.name, r.kind]} IN {r.kind} {r.data}" for r in records]
    zone = "\n".join([soa, *dict.fromkeys(lines), ""])
    try:
        dns.zone.from_text(zone, settings.domain, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise Problem(
            f"the records of {settings.domain} contradict each other: {error}. See invoke dns.list, and remove the one "
            "that is wrong: invoke dns.remove NAME TYPE"
        ) from error
    return zone


def published_zone(pod: Pod) -> str:
    """Return the zone for the world as it was written last; empty if there is none."""
    return (volumes.folder(pod.volumes["dns"].name).read(WORLD, _LARGEST) or b"").decode()


def _serial_in(zone: str) -> int:
    """Return the serial in a file; 0 if there is none."""
    with suppress(LookupError, ValueError):
        return int(zone.split("\n", 1)[0].split()[_SERIAL])
    return 0


def served_serial(pod: Pod) -> int:
    """Return the serial that named serves now; 0 if it serves no such zone."""
    query = dns.message.make_query(pod.settings.domain, "SOA", flags=0)
    host, port = as_text(pod.settings.local_address), pod.ports["dns-udp"].number
    with suppress(OSError, dns.exception.DNSException, LookupError):
        answer = udp(query, host, port=port, timeout=0.5)
        if answer.flags & dns.flags.AA:
            return int(answer.answer[0][0].serial)
    return 0


def _remembered(pod: Pod) -> tuple[Folder, str, int]:
    """Return the file with the last serial that this checkout wrote: its folder, its name, the serial (0: none).

    A restored volume has an older one.
    """
    pod.state.mkdir(parents=True, exist_ok=True)
    there, name = Folder.at(pod.state), f"{pod.name}.serial"
    found = (there.read(name, 100) or b"").decode(errors="replace").strip()
    return there, name, int(found) if found.isascii() and found.isdigit() else 0


def write_zone(pod: Pod, facts: Facts | None = None) -> int:
    """Write the zone if its records have changed; return its new serial, or 0 if nothing has changed.

    The serial is the time, and always higher than any before: also after a restore, and if the clock was set back.
    Raises Problem if the records contradict each other; then nothing has changed.
    """
    there, facts = volumes.folder(pod.volumes["dns"].name), facts or Facts.of(pod)
    files = {WORLD: False, PRIVATE: True}
    before = {name: (there.read(name, _LARGEST) or b"").decode() for name in files}
    checkout, memory, last = _remembered(pod)
    written = _serial_in(before[WORLD])
    same = all(before[name] == zone_text(facts, written, private=private) for name, private in files.items())
    if same and written >= last:
        return 0
    serial = max(int(time.time()), written + 1, last + 1, served_serial(pod) + 1)
    with checkout.replacing(memory, 0o644) as file:
        file.write(f"{serial}\n".encode("ascii"))
    for name, private in files.items():
        with there.replacing(name, 0o644) as file:
            file.write(zone_text(facts, serial, private=private).encode("ascii"))
    return serial
