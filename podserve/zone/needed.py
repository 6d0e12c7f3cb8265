"""The list of the records that this server needs, from its settings, its ports and its certificate.

Each function of SOURCES yields the records of one subject. A new subject (DKIM, …) is one more function, and
what it needs to know is one more field of Facts. `dns.records`, `dns.check` and the served zone then have its records.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from podserve import dkim, volumes
from podserve.certificates import rollover
from podserve.certificates.challenge import challenge_zones
from podserve.choices import CertificateSource, ZoneMode
from podserve.errors import Problem
from podserve.manifests import Port
from podserve.pod import Pod
from podserve.settings import Settings, policy_host
from podserve.values import as_text
from podserve.zone import own
from podserve.zone.record import ADDRESSES, Record, kind_of, normal, quoted

ISSUERS = {
    "acme-v02.api.letsencrypt.org": "letsencrypt.org",
    "acme-staging-v02.api.letsencrypt.org": "letsencrypt.org",
    "acme.zerossl.com": "sectigo.com",
    "dv.acme-v02.api.pki.goog": "pki.goog",
}
"""The name in a CAA record, by the host of an ACME directory: `caaIdentities` of the directory (RFC 8555, 7.1.1)."""
POLICY = "v=DMARC1; p=quarantine"
"""Mail that fails SPF is marked as spam. Forwarders break SPF, so `reject` would lose mail that they forward."""


@dataclass(frozen=True)
class Facts:
    """What the records follow from: the settings, the ports by name, and the SHA-256 digests (hexadecimal) of keys.

    `keys` are the public keys of the certificates that port 25 may show: first the present one.
    `own` are the records of `dns.add`. `dkim` are the texts of the keys that sign mail, by the names of their records.
    """

    settings: Settings
    ports: Mapping[str, Port]
    keys: tuple[str, ...] = ()
    own: tuple[Record, ...] = ()
    dkim: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pod: Pod) -> "Facts":
        """Return the facts about a pod. Before its first start it has no certificate, so `keys` is empty."""
        settings, certificates, dns = pod.settings, pod.volumes["certificates"].name, pod.volumes["dns"].name
        keys = rollover.tlsa_keys(pod) if volumes.is_there(certificates) else ()
        public = settings.zone is ZoneMode.PUBLIC and volumes.is_there(dns)
        records = own.own_records(volumes.folder(dns), settings.domain) if public else ()
        return cls(settings, pod.ports, keys, records, dkim.published(pod))

    def record(self, name: str, kind: str, data: str, reason: str) -> Record:
        """Return a record in the zone that its name belongs to."""
        return Record(zone_of(name, *self.settings.domains), name, kind, normal(kind, data), reason)


def zone_of(name: str, domain: str, *others: str) -> str:
    """Return the domain whose zone holds a name: `domain`, one of `others`, or for any other name the name above it."""
    for zone in (domain, *sorted(others, key=len)):
        if name == zone or name.endswith(f".{zone}"):
            return zone
    host = ".".join(label for label in name.split(".") if not label.startswith("_"))
    above = host.partition(".")[2]
    return above if "." in above else host


def _name_servers(facts: Facts) -> Iterable[Record]:
    settings = facts.settings
    if settings.zone is not ZoneMode.PUBLIC:
        return
    addressed = {record.name for record in facts.own if record.kind in ADDRESSES} | set(settings.certified_names)
    for name in settings.zone_servers:
        reason = "the domain's name servers. The registrar has the same names"
        yield facts.record(settings.domain, "NS", f"{name}.", reason)
        if name not in addressed and name.endswith(f".{settings.domain}"):
            for address in settings.public_address:
                reason = "a name server of the domain. The registrar has the same address (glue)"
                yield facts.record(name, kind_of(address), str(address), reason)


def _addresses(facts: Facts) -> Iterable[Record]:
    settings = facts.settings
    reasons = {
        settings.domain: "the web site",
        settings.mail_host: "mail servers and mail clients connect to this name",
        settings.files_host: "browsers see files and repositories at this name",
        **dict.fromkeys(settings.policy_hosts, "other mail servers find the MTA-STS policy at this name"),
    }
    for name in settings.host_names:
        for address in settings.public_address:
            reason = reasons.get(name, "the certificate holds this name")
            yield facts.record(name, kind_of(address), str(address), reason)


def _mail(facts: Facts) -> Iterable[Record]:
    for domain in facts.settings.domains:
        reason = "mail to NAME@DOMAIN goes to this host"
        yield facts.record(domain, "MX", f"10 {facts.settings.mail_host}.", reason)
        reason = (
            "SPF: only this server sends mail of the domain. Without it, others refuse that mail or take it for spam"
        )
        yield facts.record(domain, "TXT", quoted("v=spf1 mx -all"), reason)
        reason = "DMARC: what others do with mail that only claims to be from the domain, and where they report it"
        yield facts.record(f"_dmarc.{domain}", "TXT", quoted(f"{POLICY}; rua=mailto:postmaster@{domain}"), reason)


def _signatures(facts: Facts) -> Iterable[Record]:
    for name, text in facts.dkim.items():
        reason = "DKIM: others verify the signatures of the domain's mail by this key"
        yield facts.record(name, "TXT", quoted(text), reason)


def _issuers(facts: Facts) -> Iterable[Record]:
    settings = facts.settings
    issuer = ISSUERS.get(urlsplit(settings.acme_directory).hostname or "")
    if settings.certificate_source is CertificateSource.ACME and issuer:
        reason = "only this authority may issue certificates for the domain and all names below it"
        yield facts.record(settings.domain, "CAA", f'0 issue "{issuer}"', reason)


def _challenges(facts: Facts) -> Iterable[Record]:
    for name in challenge_zones(facts.settings):
        reason = "the ACME directory finds the proof there that the name is this server's"
        yield facts.record(name, "NS", f"{facts.settings.zone_servers[0]}.", reason)


def _dane(facts: Facts) -> Iterable[Record]:
    name = f"_{facts.ports['smtp'].number}._tcp.{facts.settings.mail_host}"
    reason = (
        "DANE: mail servers verify the key of the certificate by it, where DNSSEC signs the zone. "
        "A new key needs a new record"
    )
    for key in facts.keys:
        yield facts.record(name, "TLSA", f"3 1 1 {key}", reason)


def _transport(facts: Facts) -> Iterable[Record]:
    settings = facts.settings
    content = f"{as_text(settings.mta_sts)} {settings.mail_host} {settings.mta_sts_max_age}"
    identifier = hashlib.sha256(content.encode("ascii")).hexdigest()[:32]
    for domain in settings.domains:
        if policy_host(domain) in settings.policy_hosts:
            reason = "MTA-STS: other mail servers get the policy again when this id changes"
            yield facts.record(f"_mta-sts.{domain}", "TXT", quoted(f"v=STSv1; id={identifier}"), reason)
        if settings.policy_hosts or settings.zone is ZoneMode.PUBLIC:
            reason = "TLS-RPT: other mail servers report there when they cannot encrypt, or cannot verify this server"
            text = f"v=TLSRPTv1; rua=mailto:postmaster@{domain}"
            yield facts.record(f"_smtp._tls.{domain}", "TXT", quoted(text), reason)


def _clients(facts: Facts) -> Iterable[Record]:
    services = ("submission", 0), ("submissions", 0), ("imaps", 0), ("pop3s", 10), ("sieve", 0)
    for domain in facts.settings.domains:
        for port, priority in (service for service in services if service[0] in facts.ports):
            data = f"{priority} 1 {facts.ports[port].number} {facts.settings.mail_host}."
            reason = "mail clients find the server by the address of an account alone (RFC 6186, 8314, 5804)"
            yield facts.record(f"_{port}._tcp.{domain}", "SRV", data, reason)
        data = f"0 1 {facts.ports['https'].number} {facts.settings.domain}."
        reason = "Outlook finds the settings of mail by the address of an account alone (MS-OXDISCO)"
        yield facts.record(f"_autodiscover._tcp.{domain}", "SRV", data, reason)


Source = Callable[[Facts], Iterable[Record]]
SOURCES: tuple[Source, ...] = (
    _name_servers, _addresses, _mail, _signatures, _issuers, _challenges, _dane, _transport, _clients
)  # fmt: skip
"""The subjects, in the order in which they are shown."""


def needed_records(facts: Facts) -> list[Record]:
    """Return all records that the server needs, and those of `dns.add`. Raises Problem without a public address.

    A text of `dns.add` with a version, such as v=spf1, takes the place of the server's own one at the same name.
    """
    if not facts.settings.public_address:
        raise Problem(
            "public_address is not set: expected the address at which the internet reaches this server. Set it "
            "(invoke.yaml), or for this call: INVOKE_PUBLIC_ADDRESS=203.0.113.7 invoke dns.records"
        )
    replaced = {(record.name, record.version) for record in facts.own if record.version}
    found = [record for source in SOURCES for record in source(facts)]
    return [*(record for record in found if (record.name, record.version) not in replaced), *facts.own]


def require_zone(domain: str, zones: Iterable[str]) -> None:
    """Raise Problem if `domain` is none of these zones. An empty text stands for all of them."""
    known = sorted(set(zones))
    if domain and domain not in known:
        raise Problem(f"this server needs no records in {domain!r}: expected one of {', '.join(known)}")


def of_domain(found: list[Record], domain: str) -> list[Record]:
    """Return the records of one zone; all of them for an empty text. Raises Problem if there is no such zone."""
    require_zone(domain, (record.zone for record in found))
    return [record for record in found if domain in {"", record.zone}]
