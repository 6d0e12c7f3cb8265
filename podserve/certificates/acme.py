"""A key pair from an ACME directory (RFC 8555), by lego in a container on the pod's own network."""

import re

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from podserve import volumes
from podserve.certificates import challenge, container
from podserve.certificates.keypair import KeyPair, Secret, to_pem
from podserve.certificates.pem import parse_certificates, read_certificates
from podserve.certificates.provider import Variables, read_variables
from podserve.choices import CertificateSource, Challenge
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.values import covers

_LONGEST_BY_DNS = 1200
"""Seconds for lego with a DNS provider: it waits until all name servers of the zone have each record, often minutes."""


def directory_origin(directory: str) -> str:
    """Return the origin of a certificate from an ACME directory."""
    return f"{CertificateSource.ACME.value} {directory}"


def obtain(pod: Pod, names: tuple[str, ...], key: Secret) -> KeyPair:
    """Return a key pair for `names` with this key and a new certificate from the ACME directory of the settings.

    The directory connects to port 80 of each name, or looks up TXT records that lego sets. lego joins the pod, so the
    pod's BIND resolves names for it. Raises Problem if there is no pod, and with lego's reason if the directory issues
    no certificate.
    """
    settings = pod.settings
    if not podman("pod", "exists", pod.name, check=False).ok:
        raise Problem(f"there is no pod {pod.name}, and the ACME client uses its network. Start it: invoke up")
    roots = read_certificates(settings.acme_root.expanduser()) if settings.acme_root else ()
    variables, options = _proof(pod)
    authority, web = (pod.volumes[content].name for content in ("authority", "web"))
    mounts = {"/data/state/authority": authority, "/data/web/acme": volumes.mountable(web, "acme")}
    pem = _request(names, key) + to_pem(roots).decode("ascii")
    asked = container.run_once(
        "obtain", settings.acme_directory, settings.acme_email, *options,
        mounts=mounts, pod=pod.name, stdin=f"{variables.lines()}\n{pem}",
        longest=_LONGEST_BY_DNS if variables.values else container.LONGEST,
    )  # fmt: skip
    if not asked.ok:
        said = variables.masked(asked.stdout + asked.stderr)
        raise Problem(f"{settings.acme_directory} issued no certificate for {', '.join(names)}: {_reason(said)}")
    chain = parse_certificates(asked.stdout.encode(), "what lego printed")
    return KeyPair(directory_origin(settings.acme_directory), chain, key, tuple(roots))


def _proof(pod: Pod) -> tuple[Variables, tuple[str, ...]]:
    """Return lego's variables and options for the challenge: in the pod's zone, at a DNS provider, or at port 80."""
    settings = pod.settings
    if challenge.by_own_zone(settings):
        return challenge.update_variables(pod), ("--dns", *challenge.PROVIDER)
    if settings.acme_challenge is Challenge.DNS and settings.acme_dns_file:
        return read_variables(settings.acme_dns_file.expanduser()), ("--dns", settings.acme_dns_provider)
    return Variables(), ("--http", "--http.webroot", "/data/web/acme")


def _request(names: tuple[str, ...], key: Secret) -> str:
    """Return a certificate request (PEM). Directories refuse a name beside a wildcard that stands for it."""
    asked = [x509.DNSName(name) for name in names if not covers(set(names) - {name}, name)]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.add_extension(x509.SubjectAlternativeName(asked), critical=False).sign(key.private, SHA256())
    return signed.public_bytes(Encoding.PEM).decode("ascii")


_HINTS = {
    "unrecognized dns provider": "Debian's lego does not know this provider: expected another acme_dns_provider of "
    "those at https://go-acme.github.io/lego/dns (Debian leaves out some, such as cloudflare)",
    "information are missing": "Add these variables to the file of acme_dns_file",
    "error presenting token": "The name server refused the record: check acme_dns_provider and acme_dns_file, or with "
    "the pod's own zone: invoke restart",
    "time limit exceeded": "The name servers of the domain do not show the record: check that the domain is at "
    "acme_dns_provider, and that this host reaches its name servers on port 53",
    "txt record": "The directory does not see the record: check that the domain's name servers are those of "
    "acme_dns_provider, or this one: invoke dns.check",
    "error:connection": "The directory must reach port 80 of each name: check the DNS records, bind and the firewall",
    "error:dns": "The directory must resolve each name: check the names' DNS records",
    "error:unauthorized": "Another server than this pod answered at port 80 of a name: check the DNS records",
    "error:rejectedidentifier": "Its rules exclude a name: check domain, mail_host, files_host and certificate_names",
    "error:ratelimited": "The directory's rate limit is reached: wait, or set acme_directory to its staging directory",
    "connection refused": "The directory cannot be reached: check acme_directory, and that the directory runs",
    "no route to host": "The directory cannot be reached: check acme_directory, and that the directory runs",
    "no such host": "The pod's BIND cannot resolve the directory's name: check acme_directory and forwarders",
    "i/o timeout": "The directory does not answer: check that this host can reach it",
    "context deadline exceeded": "The directory does not answer in time: check that this host can reach it",
    "x509:": "The directory's certificate is not trusted: set acme_root to the PEM file of its root certificate",
}
"""Remedies, by an error type of RFC 8555, section 6.7, or by words in lego's output. The first match counts."""


def _reason(said: str) -> str:
    """Return the reason that lego gives, on one line, with a remedy."""
    # lego's lines begin with the date. Lines marked INFO give no reason.
    lines = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line).strip() for line in said.splitlines()]
    reasons = [line for line in lines if line and not line.startswith("[INFO]")][-8:]
    # Lines about a new account may come first. A reason of one line may have another beginning.
    first = next((number for number, line in enumerate(reasons) if line.startswith("Could not")), -1)
    reason = " ".join(" ".join(reasons[first:]).split()) or "lego printed no reason; its time may have run out"
    hints = [hint for word, hint in _HINTS.items() if word in reason.lower()]
    return ". ".join([reason, *hints[:1]])
