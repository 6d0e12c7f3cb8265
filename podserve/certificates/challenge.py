"""The zones in which the pod's own BIND shows an ACME directory that names are the pod's (RFC 8555, section 8.4).

With `acme_challenge: dns` and `zone: public`, each name has a zone _acme-challenge.NAME below the domain's, which lego
updates from inside the pod with the key that named makes at each start (named-zones). A dynamic zone of its own leaves
the domain's zone a file that only the tasks write.
"""

import re
from functools import partial

import dns.exception
import dns.message
import dns.query

from podserve.certificates.provider import Variables
from podserve.choices import CertificateSource, Challenge, ZoneMode
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import Settings
from podserve.values import as_text
from podserve.waiting import NotYet, wait_until

_KEY = "/run/named/session.key"
"""The file that named writes for `update-policy local`; only its own user can read it."""
_PATIENCE = 10.0
"""Seconds until named must serve the zones. It takes less than 1."""
PROVIDER = "rfc2136", "--dns.disable-cp"
"""The provider for lego, and its option not to ask the name servers first: the only one is this."""


def by_own_zone(settings: Settings) -> bool:
    """Return whether the pod's own BIND shows the directory that names are the pod's."""
    acme = settings.certificate_source is CertificateSource.ACME and settings.acme_challenge is Challenge.DNS
    return acme and settings.zone is ZoneMode.PUBLIC and not settings.acme_dns_provider


def challenge_zones(settings: Settings) -> tuple[str, ...]:
    """Return the names of the zones, one for each name of the certificate; a wildcard shares that of its domain."""
    names = settings.certified_names if by_own_zone(settings) else ()
    return tuple(dict.fromkeys(f"_acme-challenge.{name.removeprefix('*.')}" for name in names))


def _expect_served(pod: Pod) -> None:
    """Raise NotYet unless named serves each zone: it reads new ones within a second."""
    host, port = as_text(pod.settings.local_address), pod.ports["dns-tcp"].number
    for zone in challenge_zones(pod.settings):
        try:
            answer = dns.query.tcp(dns.message.make_query(zone, "SOA"), host, port=port, timeout=1)
        except dns.exception.DNSException as error:
            raise NotYet(str(error)) from error
        if not answer.answer:
            raise NotYet(f"it does not serve {zone}")


def update_variables(pod: Pod) -> Variables:
    """Return the variables with which lego updates these zones. Raises Problem if named does not serve them."""
    said = podman("exec", pod.containers["dns"], "cat", _KEY, check=False)
    if not (found := re.search(r'secret "([^"]+)"', said.stdout)):
        raise Problem(
            f"named takes no updates for {pod.settings.domain} yet, which is public in the settings: invoke up"
        )
    wait_until(partial(_expect_served, pod), _PATIENCE, f"named to serve _acme-challenge.{pod.settings.domain}")
    return Variables({
        "RFC2136_NAMESERVER": "127.0.0.1:53",
        "RFC2136_TSIG_KEY": "local-ddns",
        "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
        "RFC2136_TSIG_SECRET": found[1],
        "RFC2136_TTL": "1",
        "RFC2136_SEQUENCE_INTERVAL": "0",
        "RFC2136_POLLING_INTERVAL": "1",
    })  # fmt: skip
