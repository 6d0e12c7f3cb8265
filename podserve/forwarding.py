"""Whether the pod's forwarders work: it resolves names of the internet, and their certificates are right."""

import secrets

import dns.exception
import dns.message
import dns.query
import dns.rcode

from podserve.commands import podman
from podserve.exchanges import QUESTION
from podserve.pod import Pod
from podserve.values import as_text

_HINTS = {
    "expired": "its operator must renew it; or check this host's clock: invoke doctor",
    "not yet valid": "check this host's clock: invoke doctor",
    "mismatch": "check the name after the # in forwarders",
    "issuer": "set forwarders_root to the PEM file of its root certificate",
    "self-signed": "set forwarders_root to the PEM file of its root certificate",
}
"""What to do, by words of OpenSSL's reasons (X509_STORE_CTX_get_error(3)). The first match counts."""


def tls_problems(pod: Pod) -> list[str]:
    """Return a line for each forwarder over TLS that named cannot use now: the forwarder, the reason, what to do.

    The pod's own container connects to each, with the name and the root certificates that named has.
    """
    if not any(forwarder.name for forwarder in pod.settings.forwarders):
        return []
    said = podman("exec", pod.containers["dns"], "forwarder-problems", check=False)
    lines = said.stdout.splitlines() if said.ok else [f"forwarders: they could not be tried: {said.stderr.strip()}"]
    return [f"{line}; {_hint(line)}" for line in lines]


def _hint(line: str) -> str:
    reason = line.rpartition(": ")[2]
    return next((hint for word, hint in _HINTS.items() if word in reason), "check that this host can reach it")


def problem(pod: Pod) -> str:
    """Return why the pod cannot resolve names of the internet at the moment, or an empty text when it can."""
    # A random name, which need not exist: a known one could be answered from the cache.
    query = dns.message.make_query(f"{secrets.token_hex(8)}.{QUESTION}", "A")
    host, port = as_text(pod.settings.local_address), pod.ports["dns-udp"].number
    try:
        said = dns.query.udp(query, host, port=port, timeout=1).rcode()
    except (OSError, dns.exception.DNSException):
        said = None
    if said in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return ""
    reason = "no answer within 1 s" if said is None else dns.rcode.to_text(said)
    reasons = "; ".join([reason, *tls_problems(pod)])
    return f"the forwarders ({as_text(pod.settings.forwarders)}) did not resolve a name of {QUESTION}: {reasons}"
