"""A key pair from an ACME directory (RFC 8555), by lego in a container on the pod's own network."""

import re

from podserve import volumes
from podserve.certificates import container
from podserve.certificates.keypair import LARGEST, KeyPair, to_pem
from podserve.certificates.pem import parse_certificates, parse_key, read_certificates
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.values import CertificateSource

_FOLDER = "acme"
"""The folder on the authority's volume with the account, its key and, for a moment, the new certificate."""


def directory_origin(directory: str) -> str:
    """Return the origin of a certificate from an ACME directory."""
    return f"{CertificateSource.ACME.value} {directory}"


def obtain(pod: Pod, names: tuple[str, ...]) -> KeyPair:
    """Return a new key pair for `names` from the ACME directory of the settings.

    The directory connects to port 80 of each name. lego joins the pod, so the pod's BIND resolves names for it. Raises
    Problem if there is no pod, and with lego's reason if the directory issues no certificate.
    """
    settings = pod.settings
    if not podman("pod", "exists", pod.name, check=False).ok:
        raise Problem(f"there is no pod {pod.name}, and the ACME directory must connect to it. Start it: invoke up")
    roots = read_certificates(settings.acme_root.expanduser()) if settings.acme_root else ()
    authority, web = (pod.volumes[content].name for content in ("authority", "web"))
    mounts = {"/data/state/authority": authority, "/data/web/acme": volumes.mountable(web, "acme")}
    asked = container.run_once(
        "obtain", settings.acme_directory, settings.acme_email, settings.key_type.value, *names,
        mounts=mounts, pod=pod.name, stdin=to_pem(roots).decode("ascii"),
    )  # fmt: skip
    if not asked.ok:
        raise Problem(
            f"{settings.acme_directory} issued no certificate for {', '.join(names)}: "
            f"{_reason(asked.stdout + asked.stderr)}"
        )
    there = volumes.folder(authority).enter(_FOLDER, "certificates")
    crt, key = f"{names[0]}.crt", f"{names[0]}.key"
    try:
        chain = parse_certificates(there.read(crt, LARGEST) or b"", f"{there}/{crt}")
        secret = parse_key(there.read(key, LARGEST) or b"", f"{there}/{key}")
        return KeyPair(directory_origin(settings.acme_directory), chain, secret, tuple(roots))
    finally:
        # The key is kept in one place only: on the certificates volume.
        for name in there.names():
            if name.startswith(f"{names[0]}."):
                there.remove(name)


_HINTS = {
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
    # Lines about a new account may come first.
    first = next((number for number, line in enumerate(reasons) if line.startswith("Could not")), 0)
    reason = " ".join(" ".join(reasons[first:]).split()) or "lego printed no reason; its time may have run out"
    hints = [hint for word, hint in _HINTS.items() if word in reason.lower()]
    return ". ".join([reason, *hints[:1]])
