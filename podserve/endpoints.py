"""The table of the pod's endpoints: each has an exchange that shows that it works, anonymous or with a login."""

import hashlib
import ssl
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.query

from podserve import exchanges
from podserve.exchanges import FAILURES, Exchange, Login, Target
from podserve.pod import Pod
from podserve.values import as_text

PATIENCE = 2.0
"""Seconds that one exchange may take."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: the name of its port in kube/podserve.yaml, what it is for, whether it shows the pod's certificate.

    `exchange` without a login is anonymous. With a login, the client uses it where the endpoint takes one, and expects
    an answer that only a working service gives: a file, a mailbox, a name that resolves.
    """

    name: str
    label: str
    tls: bool
    exchange: Exchange


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("http", "redirection to HTTPS, certificate challenges", tls=False, exchange=exchanges.by_http),
        Endpoint("https", "site, WebDAV, GitWeb", tls=True, exchange=exchanges.by_https),
        Endpoint("smtp", "mail from other servers", tls=True, exchange=exchanges.by_smtp),
        Endpoint("submission", "mail from your clients (STARTTLS)", tls=True, exchange=exchanges.by_submission),
        Endpoint("submissions", "mail from your clients (TLS)", tls=True, exchange=exchanges.by_submissions),
        Endpoint("imap", "mailboxes (STARTTLS)", tls=True, exchange=exchanges.by_imap),
        Endpoint("imaps", "mailboxes (TLS)", tls=True, exchange=exchanges.by_imaps),
        Endpoint("pop3s", "mailboxes (TLS)", tls=True, exchange=exchanges.by_pop3s),
        Endpoint("sieve", "mail rules (ManageSieve, STARTTLS)", tls=True, exchange=exchanges.by_sieve),
        Endpoint(
            "dns-udp", "resolver for loopback and private networks", tls=False, exchange=exchanges.by_dns(exchanges.udp)
        ),
        Endpoint(
            "dns-tcp", "resolver for loopback and private networks", tls=False, exchange=exchanges.by_dns(dns.query.tcp)
        ),
        Endpoint("dns-tls", "resolver over TLS for private networks", tls=True, exchange=exchanges.by_dns_over_tls),
    )
}
"""Every endpoint that a pod may have, by name. A pod has those of its ports (`Pod.ports`)."""


def tls_ports(pod: Pod) -> list[str]:
    """Return the ports of a pod that show its certificate."""
    return [port for port in pod.ports if ENDPOINTS[port].tls]


@dataclass(frozen=True)
class Answer:
    """How an endpoint answered: its error, empty when all was well, and the seconds it took.

    `fingerprint` is the SHA-256 (hexadecimal) of the certificate that it showed; empty if it showed none.
    """

    port: str
    error: str
    seconds: float
    fingerprint: str = ""

    @property
    def ok(self) -> bool:
        """Whether all was well."""
        return not self.error


def attempt(pod: Pod, context: ssl.SSLContext, port: str, login: Login | None = None) -> Answer:
    """Try one endpoint."""
    begin, host = time.monotonic(), as_text(pod.settings.local_address)
    target = Target(host, pod.ports[port].number, pod.settings.domain, context, PATIENCE)
    try:
        shown = ENDPOINTS[port].exchange(target, login)
    except FAILURES as error:
        return Answer(port, str(error) or type(error).__name__, time.monotonic() - begin)
    fingerprint = hashlib.sha256(shown).hexdigest() if shown else ""
    return Answer(port, "", time.monotonic() - begin, fingerprint)


def attempt_all(pod: Pod, context: ssl.SSLContext, ports: Collection[str]) -> list[Answer]:
    """Try these endpoints at once; the answers come in the same order."""
    with ThreadPoolExecutor(len(ports)) as pool:
        return list(pool.map(lambda port: attempt(pod, context, port), ports))
