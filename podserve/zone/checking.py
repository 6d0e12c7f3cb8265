"""Checks the records of this server at a resolver, and says what to type where."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial

import dns.reversename

from podserve.choices import ZoneMode
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import Settings
from podserve.values import Forwarder, forwarder, words
from podserve.zone import judging
from podserve.zone.asking import Resolvers, UnansweredError
from podserve.zone.judging import Judged, State
from podserve.zone.needed import Facts, needed_records, require_zone
from podserve.zone.record import Record

PATIENCE = 5.0
"""Seconds that `dns.check` waits for answers."""
GLANCE = 1.8
"""Seconds that `doctor` and `status` wait for answers. dnspython may take 0.5 s more, and both shall end within 3 s."""
REVERSE = "PTR: the name of a sending address. Large providers refuse mail from an address without it"
DELEGATION = "DNSSEC: with it the parent zone vouches for the key that signs the zone"


@dataclass(frozen=True)
class Verdict:
    """A record, its state, the data that were found, and what to do (empty unless the state is a problem)."""

    record: Record
    state: State
    found: tuple[str, ...] = ()
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether the record is right, or nobody reads it."""
        return self.state in {"right", "unused"}


@dataclass(frozen=True)
class Report:
    """The verdicts, and the resolvers that were asked. `silent` says why if none of them answered at all."""

    resolvers: str
    verdicts: tuple[Verdict, ...]
    silent: str = ""

    @property
    def wrong(self) -> list[Verdict]:
        """The verdicts that are problems."""
        return [verdict for verdict in self.verdicts if not verdict.ok]

    def of_domain(self, domain: str) -> "Report":
        """Return the verdicts about one zone, and about addresses; all for an empty text. Raises Problem."""
        require_zone(domain, (v.record.zone for v in self.verdicts if v.record.kind != "PTR"))
        there = (v for v in self.verdicts if domain in {"", v.record.zone} or v.record.kind == "PTR")
        return replace(self, verdicts=tuple(there))

    def json(self) -> str:
        """Return it as a JSON object: `ok`, `resolvers`, and for each record its state, `found` and `advice`."""
        found = [{**asdict(v.record), "state": v.state, "found": v.found, "advice": v.advice} for v in self.verdicts]
        return json.dumps({"ok": not self.wrong, "resolvers": self.resolvers, "records": found}, indent=2)


def _judge(record: Record, settings: Settings, wanted: list[Record], resolvers: Resolvers) -> Judged:
    """Judge a record by the rules of its type."""
    ask = resolvers.ask
    match record.kind:
        case "A" | "AAAA":
            same = {other.data for other in wanted if (other.name, other.kind) == (record.name, record.kind)}
            return judging.exact_addresses(same, record, ask)
        case "TXT" if record.name == f"_dmarc.{record.zone}":
            return judging.dmarc(record, ask)
        case "TXT" if record.version == "v=spf1" and record.name == record.zone:
            return judging.spf(record, ask, settings.public_address)
        case _:
            return judging.plain(record, ask)


def _advice(record: Record, state: State, why: str, *, ours: bool = False) -> str:
    """Return what a person types, and where, to make a record right. `ours`: this server answers for the record."""
    because = f"{why[0].upper()}{why[1:]}. " if why else ""
    if record.kind == "PTR":
        return f"{because}Ask the provider of your internet line or server to set the reverse DNS to {record.data}"
    if ours:
        return (
            f"{because}This server has the record: invoke status says whether it serves the zone. At the registrar of "
            f"{record.zone}, check the name servers, and their addresses (glue)"
        )
    where = "At the registrar of" if record.kind == "DS" else "At the DNS provider of"
    verb = "add" if state == "missing" else "change"
    form = f"name {record.relative}, type {record.kind}, data {record.value}"
    return f"{because}{where} {record.zone}, {verb}: {form}"


def _verdict(record: Record, judge: Callable[[Record], Judged], ours: str = "") -> Verdict:
    try:
        state, found, why = judge(record)
    except UnansweredError as error:
        return Verdict(record, "unanswered", (), str(error))
    wrong = state in {"missing", "different"}
    return Verdict(record, state, found, _advice(record, state, why, ours=record.zone == ours) if wrong else why)


def _delegation(zone: str, resolvers: Resolvers) -> Verdict:
    record = Record(zone, zone, "DS", "", DELEGATION)
    try:
        (state, found, why), wanted = judging.delegation(zone, resolvers.ask)
    except UnansweredError as error:
        return Verdict(record, "unanswered", (), str(error))
    record = replace(record, data=wanted)
    return Verdict(record, state, found, _advice(record, state, why) if state in {"missing", "different"} else why)


def _reverse(settings: Settings) -> Iterable[Record]:
    for address in settings.public_address:
        name = dns.reversename.from_address(str(address)).to_text(omit_final_dot=True)
        yield Record(name, name, "PTR", f"{settings.mail_host}.", REVERSE)


def chosen_resolvers(text: str) -> tuple[Forwarder, ...]:
    """Return the resolvers in a text, written as in the setting `forwarders`. Raises Problem for any other word."""
    try:
        return words(forwarder, may_be_empty=True)(text)
    except ValueError as error:
        raise Problem(
            f"{text!r} is no resolver: expected an IP address or tls://ADDRESS#NAME, such as --resolver 9.9.9.9"
        ) from error


def check(pod: Pod, budget: float, servers: tuple[Forwarder, ...] = ()) -> Report:
    """Ask for each record, for the PTR records and for the parent's DS, all at once; return what was found.

    `budget` is the time for all answers, in seconds. `servers` are the resolvers, by default the forwarders. Raises
    Problem without a public address.
    """
    facts = Facts.of(pod)
    settings, wanted = facts.settings, needed_records(facts)
    resolvers = Resolvers(servers or settings.forwarders, budget, settings.forwarders_root)
    zones = dict.fromkeys(record.zone for record in wanted)
    judge = partial(_judge, settings=settings, wanted=wanted, resolvers=resolvers)
    reverse = list(_reverse(settings))
    with ThreadPoolExecutor(len(wanted) + len(reverse) + len(zones)) as pool:
        signed = {zone: pool.submit(_delegation, zone, resolvers) for zone in zones}
        ours = settings.domain if settings.zone is ZoneMode.PUBLIC else ""
        seen = pool.map(partial(_verdict, judge=judge, ours=ours), wanted)
        back = pool.map(partial(_verdict, judge=lambda r: judging.plain(r, resolvers.ask)), reverse)
        unsigned = {zone for zone, verdict in signed.items() if verdict.result().state == "unused"}
        verdicts = (*(_unused(v) if v.record.zone in unsigned else v for v in _not_yet_used(seen)), *back,
                    *(verdict.result() for verdict in signed.values()))  # fmt: skip
    silent = verdicts[0].advice if all(verdict.state == "unanswered" for verdict in verdicts) else ""
    return Report(str(resolvers), verdicts, silent)


def _not_yet_used(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Yield the verdicts; the record of a key that is not in use is no problem while resolvers do not have it yet."""
    seen = set[str]()
    for verdict in verdicts:
        name, waits = verdict.record.name, verdict.record.kind == "TLSA" and verdict.state == "different"
        said = "the key of this record is not in use, and resolvers may have older records"
        yield replace(verdict, state="unused", advice=said) if waits and name in seen else verdict
        if verdict.record.kind == "TLSA":
            seen.add(name)


def _unused(verdict: Verdict) -> Verdict:
    """Return a verdict for an unsigned zone, where nobody reads TLSA records (RFC 7672, section 2.2)."""
    if verdict.record.kind != "TLSA" or verdict.state == "right":
        return verdict
    return replace(verdict, state="unused", advice="DNSSEC does not sign the zone")


@dataclass(frozen=True)
class Summary:
    """The records in one line: `state` is unset (no public address), unanswered, right or wrong."""

    state: str
    said: str


def summary(pod: Pod) -> Summary:
    """Check the records, and return what `status` and `doctor` say of them; within 3 s, whatever resolvers do."""
    if not pod.settings.public_address:
        return Summary("unset", "not checked: public_address is not set")
    try:
        seen = check(pod, GLANCE)
    except Problem as problem:
        return Summary("unanswered", f"not checked: {problem.text}")
    if seen.silent:
        return Summary("unanswered", f"not checked: {seen.silent}")
    if not seen.wrong:
        return Summary("right", f"all {len(seen.verdicts)} are right")
    names = ", ".join(dict.fromkeys(f"{v.record.name} {v.record.kind} is {v.state}" for v in seen.wrong[:3]))
    more = f" and {len(seen.wrong) - 3} more" if len(seen.wrong) > 3 else ""  # noqa: PLR2004
    return Summary("wrong", f"{names}{more}")
