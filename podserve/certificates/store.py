"""The certificates volume: `current` leads to a folder with tls.crt, tls.key, ca.crt (Kubernetes' names) and origin.

The link is replaced in one step, so that a reader finds a pair that fits or the pair before it.
"""

from pathlib import Path

from cryptography import x509

from podserve import volumes
from podserve.certificates import container
from podserve.certificates.pairs import IMPORTED, Certificate, Pair, describe, legible
from podserve.errors import Problem
from podserve.manifests import Manifests

MOUNT = "/data/state/certificates"
"""Where each container has the volume."""


def folder(manifests: Manifests) -> Path:
    """Return where the volume is on this host. Raises Problem when there is none."""
    return volumes.folder(manifests.volumes["certificates"].name)


def current(folder: Path) -> Certificate | None:
    """Return the certificate that `current` leads to, or None where there is none. Raises Problem for a broken one."""
    file = folder / "current" / "tls.crt"
    if not file.exists():
        return None
    said = file.with_name("origin")
    # A pair that somebody put there is as one that was imported: theirs.
    origin = said.read_text().strip() if said.exists() else IMPORTED
    with legible(str(file), "Another one: invoke certs.issue"):
        return describe(x509.load_pem_x509_certificate(file.read_bytes()), origin)


def root(folder: Path) -> str:
    """Return what clients must import to trust the certificate (PEM); empty where that is not known, or not needed."""
    file = folder / "current" / "ca.crt"
    return file.read_text() if file.exists() else ""


def take(manifests: Manifests, pair: Pair) -> Certificate:
    """Put a pair, which has been judged, on the volume: in use from then on. Raises Problem when it cannot be put."""
    name = manifests.volumes["certificates"].name
    # A tar archive of PEM files is ASCII.
    archive = pair.archive().decode("ascii")
    put = container.run("take-pair", MOUNT, pair.certificate.serial, mounts={MOUNT: name}, stdin=archive)
    if not put.ok:
        raise Problem(f"the pair could not be put on the volume {name}; what was there stays: {put.stderr.strip()}")
    return pair.certificate
