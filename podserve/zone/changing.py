"""Adds and removes records of one's own in the zone of a pod that runs. The caller holds its lock (`state.locked`)."""

from dataclasses import replace

from podserve import resolver, running, volumes
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.waiting import NotYet, wait_until
from podserve.zone import own, served
from podserve.zone.needed import Facts, needed_records
from podserve.zone.record import ADDRESSES, Record

_PATIENCE = 10.0
"""Seconds until named must serve a change. It takes less than 1."""


def _facts(pod: Pod) -> Facts:
    """Return the facts. Raises Problem unless the pod exists and serves its zone."""
    served.require_public(pod)
    if not running.exists(pod):
        raise running.missing(pod)
    return Facts.of(pod)


def _take(pod: Pod, facts: Facts) -> None:
    """Check the zone with these records by named-checkzone, then write it and wait until named serves it.

    Raises Problem if the zone is wrong; then nothing has changed.
    """
    domain = pod.settings.domain
    # Only what the zone itself says counts: named-checkzone would ask resolvers for names elsewhere.
    strict = ["-i", "local", "-m", "fail", "-M", "fail", "-S", "fail"]
    said = podman("exec", "--interactive", pod.containers["dns"], "named-checkzone", *strict, domain, "/dev/stdin",
                  stdin=served.zone_text(facts, 1), check=False)  # fmt: skip
    if not said.ok:
        raise Problem(f"nothing was changed, because named-checkzone refuses the zone:\n{said.stdout}{said.stderr}")
    own.write_own(volumes.folder(pod.volumes["dns"].name), facts.own)
    serial = served.write_zone(pod, facts)
    resolver.read_again(pod)

    def in_use() -> None:
        if (seen := served.served_serial(pod)) < serial:
            raise NotYet(f"it serves the serial {seen}")

    wait_until(in_use, _PATIENCE, f"named to serve the zone {domain} with the serial {serial}")


def _same(one: Record, other: Record) -> bool:
    return (one.name, one.kind, one.data) == (other.name, other.kind, other.data)


def add_record(pod: Pod, name: str, kind: str, data: str, ttl: str) -> Record:
    """Add a record, and return it when named serves it. Raises Problem; then nothing has changed."""
    facts = _facts(pod)
    new = own.typed_record(pod.settings.domain, name, kind, data, ttl)
    if new.kind in ADDRESSES and new.name in pod.settings.host_names:
        raise Problem(
            f"the address of {new.name} is that of this server: set public_address (invoke.yaml), not a record"
        )
    if any(_same(new, there) for there in needed_records(facts)):
        raise Problem(f"the zone has this record already: {new.name} {new.kind} {new.data}")
    _take(pod, replace(facts, own=(*facts.own, new)))
    return new


def remove_record(pod: Pod, name: str, kind: str, data: str) -> list[Record]:
    """Remove one's own records of a name and a type, or the one with this data; return them when named has done so.

    Raises Problem if there is none; then nothing has changed.
    """
    facts = _facts(pod)
    whole, kind = own.whole_name(name, pod.settings.domain), kind.upper()
    wanted = own.data_of(kind, data) if data else ""

    def meant(record: Record) -> bool:
        return (record.name, record.kind) == (whole, kind) and wanted in {"", record.data}

    gone = [record for record in facts.own if meant(record)]
    if not gone:
        needed = any(meant(record) for record in needed_records(facts))
        why = "it is one that this server needs, and follows from the settings" if needed else "see invoke dns.list"
        raise Problem(f"dns.add has added no record {whole} {kind}{f' {data}' if data else ''}: {why}")
    _take(pod, replace(facts, own=tuple(record for record in facts.own if record not in gone)))
    return gone
