"""Brings the domain's zone, and the keys of DKIM, onto their volumes; says what is wrong with the zone."""

from concurrent.futures import ThreadPoolExecutor

from podserve import dkim
from podserve.certificates import rollover
from podserve.choices import ZoneMode
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.zone import served, signing, transfer
from podserve.zone.record import normal

_VIEWS = {"for private clients": (), "for the internet": ("-b", "127.0.0.53")}
"""Where a query must come from to get each of the two zones (named-zones)."""


def publish(pod: Pod) -> tuple[bool, list[str]]:
    """Write what is missing or has changed; return whether named must read it, and warnings.

    A lost key, or records that contradict each other, are warnings: the pod serves everything else.
    """
    warnings = list[str]()
    try:
        dkim.provide_signing_keys(pod)
    except Problem as problem:
        warnings.append(problem.text)
    if pod.settings.zone is not ZoneMode.PUBLIC:
        return False, warnings
    changed = transfer.provide_transfer_key(pod)
    for step in (signing.provide_key, served.write_zone):
        try:
            changed = bool(step(pod)) or changed
        except Problem as problem:
            warnings.append(problem.text)
    rollover.confirm_published(pod, served.published_zone(pod))
    return changed, warnings


def _problem(pod: Pod, whom: str, key: str) -> str:
    """Return what is wrong with the zone that named serves to some; an empty text if it is signed with this key."""
    domain = pod.settings.domain
    asked = ["+norecurse", "+tries=1", "+time=1", "+noall", "+comments", "+answer"]
    said = podman(
        "exec", pod.containers["dns"], "dig", *_VIEWS[whom], "@127.0.0.1", *asked, domain, "DNSKEY", check=False
    ).stdout
    if "status: NOERROR" not in said or " aa" not in said:
        return f"named does not serve the zone {domain} {whom}: invoke logs --service dns, then invoke up"
    found = [normal("DNSKEY", line.partition("DNSKEY\t")[2]) for line in said.splitlines() if "DNSKEY\t" in line]
    if key and key not in found:
        return (
            f"named does not sign the zone {domain} {whom} with the key on the volume: invoke up, then invoke restart"
        )
    return ""


def key_problem(pod: Pod) -> str:
    """Return why the zone's key cannot be used; an empty text if it can, or if the zone is not public."""
    try:
        if pod.settings.zone is ZoneMode.PUBLIC and not signing.signing_key(pod):
            return f"the zone {pod.settings.domain} has no DNSSEC key, and is not signed: invoke up"
    except Problem as problem:
        return problem.text
    return ""


def zone_problems(pod: Pod) -> list[str]:
    """Return a line for each fault of the zone that named serves; none if the zone is not public."""
    if pod.settings.zone is not ZoneMode.PUBLIC:
        return []
    lost = key_problem(pod)
    key = "" if lost else signing.require_key(pod).public
    with ThreadPoolExecutor() as pool:
        seen = pool.map(lambda whom: _problem(pod, whom, key), _VIEWS)
        return [line for line in (lost, *seen) if line]
