"""The status of the pod, found from outside by trying its services."""

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from podserve import (
    domains,
    endpoints,
    failures,
    forwarding,
    host,
    mail_queue,
    mail_reports,
    running,
    systemd,
    volumes,
)
from podserve.answering import others_certificate
from podserve.backup import keeping
from podserve.certificates import store
from podserve.certificates.clients import unverified_context
from podserve.certificates.keypair import IMPORTED, Certificate, soonest
from podserve.commands import podman
from podserve.errors import Problem
from podserve.filtering import filter_problems
from podserve.manifests import Volume
from podserve.pod import Pod
from podserve.values import both_forms
from podserve.zone import checking, publishing


@dataclass(frozen=True)
class Container:
    """A container: its state in Podman's words, the result of its health check now, the number of its restarts."""

    name: str
    state: str
    healthy: bool
    restarts: int


LITTLE = 2**30
"""Free bytes below which a volume counts as nearly full. Postfix refuses mail much later: when less than one and a half
times the largest message is free (75 MiB by default)."""


@dataclass(frozen=True)
class Use:
    """A volume: bytes used, bytes of its claim (which Podman does not enforce), and bytes free on its disk."""

    name: str
    used: int
    size: int
    free: int


@dataclass(frozen=True)
class Status:
    """The whole status. `queue` is the number of messages, -1 if unknown; `certificates` are the volume's."""

    pod: str
    domain: str
    containers: list[Container]
    endpoints: list[endpoints.Answer]
    certificates: tuple[Certificate, ...]
    queue: int
    volumes: list[Use]
    health_checks_run: bool
    """Whether systemd runs the health checks. `look` runs them in any case."""
    service: str = ""
    """The state of the pod's service in systemd; empty if the pod is not installed as a service."""
    backup_failed: str = ""
    """When the last backup failed, and why; empty if it succeeded."""
    renewal_failed: str = ""
    """When the last renewal of the certificate failed, and why; empty if it succeeded."""
    records: checking.Summary = field(default_factory=lambda: checking.Summary("unset", ""))
    """The DNS records in a line. Wrong records are a problem; records that no resolver answered for are none."""
    other_accounts: list[str] = field(default_factory=list)
    """The accounts of other domains, which cannot log in. They are no problem of the pod."""
    forwarders: list[str] = field(default_factory=list)
    """The forwarders over TLS that cannot be used, each with the reason and what to do."""
    zone: list[str] = field(default_factory=list)
    """The faults of the domain's zone, with `zone: public`."""
    mail_filter: list[str] = field(default_factory=list)
    """The faults of the filter of mail."""
    queue_reason: str = ""
    """Why messages wait in the queue: the commonest reason, in the words of Postfix. Empty if none waits."""
    queue_oldest: datetime | None = None
    """When the oldest deferred message came."""
    queue_stuck: str = ""
    """The problem if that message has waited for too long (`queue_hours`)."""
    reports: str = ""
    """What reports of other mail servers say that needs attention. Strangers send them, so it is no problem."""

    @property
    def facts(self) -> dict[str, str]:
        """What a person reads besides the tables and the problems: texts by title."""
        since = f"; the oldest that waits came on {self.queue_oldest:%Y-%m-%d %H:%M} UTC" if self.queue_oldest else ""
        waiting = f"{since}. They wait because: {self.queue_reason}" if self.queue_reason else ""
        found = {
            "Domain": both_forms(self.domain),
            "Certificate": f"{self.days_left} days left ({self.keys})",
            "Mail queue": f"{self.queue} messages{waiting}",
            "DNS records": self.records.said,
            "Reports": self.reports,
            "Service": f"{self.service} (systemd)" if self.service else "",
        }
        return {title: text for title, text in found.items() if text}

    @property
    def problems(self) -> list[str]:
        """The problems, one line each; empty if the pod is well."""
        up = [c for c in self.containers if c.state == "running"]
        down = f"the service is {self.service}: journalctl -u {self.pod}; invoke up starts it"
        other = others_certificate(self.endpoints, self.certificates)
        return [
            *([down] if self.service not in {"", systemd.ACTIVE} else []),
            *(f"container {c.name} is {c.state}: invoke up starts it" for c in self.containers if c not in up),
            *(f"container {c.name} fails its health check" for c in up if not c.healthy),
            *(f"{answer.port} does not answer: {answer.error}" for answer in self.endpoints if not answer.ok),
            *(f"{port} serves a certificate other than the volume's: invoke restart" for port in other),
            *self._ending(),
            *(
                [f"the certificate was not renewed ({self.renewal_failed}). Then: invoke certs.renew"]
                if self.renewal_failed
                else []
            ),
            *(f"forwarder {problem}" for problem in self.forwarders),
            *self.zone,
            *self.mail_filter,
            *(["the mail queue cannot be read: invoke logs --service mail"] if self.queue < 0 else []),
            *([self.queue_stuck] if self.queue_stuck else []),
            *(f"volume {v.name} is full: {v.used} of {v.size} bytes" for v in self.volumes if v.used > v.size),
            *self._filling(),
            *([f"DNS records: {self.records.said}: invoke dns.check"] if self.records.state == "wrong" else []),
            *([f"the last backup failed ({self.backup_failed}): invoke backup"] if self.backup_failed else []),
        ]

    @property
    def days_left(self) -> int:
        """Whole days until the first certificate's end; -1 without a certificate."""
        return soonest(self.certificates).days_left if self.certificates else -1

    @property
    def keys(self) -> str:
        """The key types of the certificates, such as `ec256, rsa2048`."""
        return ", ".join(certificate.key for certificate in self.certificates)

    def _filling(self) -> list[str]:
        """Name the volumes that are nearly full, in one line for each disk."""
        full: dict[int, list[str]] = {}
        for volume in self.volumes:
            if volume.free < LITTLE:
                full.setdefault(volume.free // 2**20, []).append(volume.name)
        help_ = "make room (podman system prune removes old images), or move the volume to a larger disk"
        return [f"{free} MiB are free for {', '.join(names)}: expected {LITTLE // 2**20}; {help_}"
                for free, names in full.items()]  # fmt: skip

    def _ending(self) -> list[str]:
        if not self.certificates:
            return ["there is no certificate: invoke up makes one"]
        if not (ending := [certificate for certificate in self.certificates if certificate.ending]):
            return []
        first = soonest(ending)
        bring = "invoke certs.import CERT KEY" if first.origin == IMPORTED else "invoke certs.renew"
        return [f"the certificate has {first.days_left} days left: {bring}"]

    def json(self) -> str:
        """Return it as a JSON object: the fields of this class, `certificate` (the first), and the properties here."""
        first = asdict(self.certificates[0]) if self.certificates else None
        also = {"certificate": first, "days_left": self.days_left, "ok": not self.problems, "problems": self.problems}
        return json.dumps({**asdict(self), **also}, indent=2, default=str)


def containers(names: Collection[str]) -> list[Container]:
    """Inspect containers, and run their health checks. The state of one that does not exist is `missing`."""
    shown = "{{.Name}} {{.State.Status}} {{.RestartCount}}"
    with ThreadPoolExecutor() as pool:
        # Without systemd nothing else runs the health checks. That of a container that does not run fails.
        healthy = pool.map(lambda name: podman("healthcheck", "run", name, check=False).ok, names)
        lines = podman("container", "inspect", "--format", shown, *names, check=False).stdout.splitlines()
        found = {name: (state, int(restarts)) for name, state, restarts in map(str.split, lines)}
    seen = {name: found.get(name, ("missing", 0)) for name in names}
    return [Container(name, state, ok and state == "running", restarts)
            for (name, (state, restarts)), ok in zip(seen.items(), healthy, strict=True)]  # fmt: skip


def _queue(pod: Pod) -> dict[str, Any]:
    """Return the fields of Status about the queue of mail."""
    try:
        queue = mail_queue.read_queue(pod)
    except Problem:
        return {"queue": -1}
    return {
        "queue": len(queue.messages),
        "queue_reason": queue.reason,
        "queue_oldest": queue.oldest and queue.oldest.arrived,
        "queue_stuck": queue.stuck(pod.settings.queue_hours),
    }


def _use(volume: Volume) -> Use:
    folder = volumes.folder(volume.name)
    return Use(volume.name, folder.used(), volume.bytes, folder.free())


def look(pod: Pod) -> Status:
    """Inspect the pod and try each of its endpoints. Raises Problem if there is no such pod."""
    if not running.exists(pod):
        raise running.missing(pod)
    context = unverified_context(pod.settings.domain)
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(containers, pod.containers.values())
        queue = pool.submit(_queue, pod)
        records = pool.submit(checking.summary, pod)
        forwarders = pool.submit(forwarding.tls_problems, pod)
        zone = pool.submit(publishing.zone_problems, pod)
        filtering = pool.submit(filter_problems, pod)
        reports = pool.submit(mail_reports.received, pod)
        answers = pool.submit(endpoints.attempt_all, pod, context, list(pod.ports))
        certificates = store.current(store.certificates_folder(pod))
        uses = pool.map(_use, pod.volumes.values())
        return Status(
            pod=pod.name,
            domain=pod.settings.domain,
            containers=seen.result(),
            endpoints=answers.result(),
            certificates=certificates,
            volumes=list(uses),
            health_checks_run=host.has_systemd(),
            service=systemd.state(pod) if systemd.installed(pod) else "",
            backup_failed=keeping.failed(pod),
            renewal_failed=": ".join(filter(None, failures.told(pod, failures.RENEWAL))),
            records=records.result(),
            other_accounts=domains.elsewhere(pod),
            forwarders=forwarders.result(),
            zone=zone.result(),
            mail_filter=filtering.result(),
            reports=reports.result().said,
            **queue.result(),
        )
