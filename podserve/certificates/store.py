"""The certificates volume: `current` leads to a folder with tls.crt, tls.key, ca.crt (Kubernetes' names) and origin.

The link is replaced in one step, so a reader finds the new key pair or the old one.
"""

import math
from itertools import pairwise

from cryptography import x509

from podserve import volumes
from podserve.certificates import container
from podserve.certificates.keypair import IMPORTED, LARGEST, Certificate, KeyPair, Secret, describe, key_digest, legible
from podserve.certificates.pem import parse_key
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

MOUNT = "/data/state/certificates"
"""The path of the volume in each container."""
_CURRENT = "current"


def certificates_folder(pod: Pod) -> Folder:
    """Return the folder of the volume. Raises Problem if there is no such volume."""
    return volumes.folder(pod.volumes["certificates"].name)


def _pair(folder: Folder) -> Folder | None:
    """Return the folder that `current` leads to, or is; None if there is none."""
    name = folder.target(_CURRENT) or _CURRENT
    return folder.enter(name) if folder.has_folder(name) else None


def current(folder: Folder) -> Certificate | None:
    """Return the certificate in use, or None if there is none. Raises Problem for one that cannot be read."""
    pair = _pair(folder)
    content = pair.read("tls.crt", LARGEST) if pair else None
    if not pair or content is None:
        return None
    said = pair.read("origin", LARGEST)
    # A person copied a key pair without an origin to the volume: it counts as imported.
    origin = IMPORTED if said is None else said.decode(errors="replace").strip()
    with legible(f"{folder}/{_CURRENT}/tls.crt", "Replace it: invoke certs.issue"):
        return describe(x509.load_pem_x509_certificate(content), origin)


def key_digests(folder: Folder, since: float = math.inf) -> tuple[str, ...]:
    """Return the digests of the public keys that ports show, as TLSA records hold them; none without a certificate.

    The first is that of the certificate in use. The others were replaced after `since`, in seconds since the epoch.
    Raises Problem as `current` does.
    """
    if not (pair := _pair(folder)):
        return ()
    kept = [name for name in folder.names() if folder.has_folder(name)]
    taken = sorted((there.st_mtime, name) for name in kept if (there := folder.look(name)))
    replaced = [name for (_, name), (at, _) in pairwise(taken) if at > since]
    pairs = [pair, *(folder.enter(name) for name in reversed(replaced))]
    return tuple(dict.fromkeys(filter(None, map(_digest, pairs))))


def _digest(pair: Folder) -> str:
    if not (content := pair.read("tls.crt", LARGEST)):
        return ""
    with legible(f"{pair}/tls.crt", "Replace it: invoke certs.issue"):
        return key_digest(x509.load_pem_x509_certificate(content).public_key())


def served_pair(folder: Folder) -> bytes:
    """Return the private key in use and its certificates, in one PEM file; empty if there is none."""
    pair = _pair(folder)
    parts = [pair.read(name, LARGEST) for name in ("tls.key", "tls.crt")] if pair else []
    return b"\n".join(part for part in parts if part) if all(parts) else b""


def key(folder: Folder) -> Secret | None:
    """Return the private key in use, or None if there is none. Raises Problem for one that cannot be read."""
    pair = _pair(folder)
    content = pair.read("tls.key", LARGEST) if pair else None
    return parse_key(content, f"{folder}/{_CURRENT}/tls.key") if content else None


def root(folder: Folder) -> str:
    """Return the CA certificate that clients must import (PEM); empty if it is unknown or not needed."""
    pair = _pair(folder)
    return ((pair and pair.read("ca.crt", LARGEST)) or b"").decode("ascii", errors="replace")


def take(pod: Pod, pair: KeyPair) -> Certificate:
    """Write a checked key pair to the volume, from which services read it.

    Raises Problem if the volume cannot be written.
    """
    name = pod.volumes["certificates"].name
    # A tar archive of PEM files is ASCII.
    archive = pair.archive().decode("ascii")
    put = container.run_once("take-pair", MOUNT, pair.certificate.serial, mounts={MOUNT: name}, stdin=archive)
    if not put.ok:
        raise Problem(
            f"the key pair could not be written to the volume {name}; the old one stays: {put.stderr.strip()}"
        )
    return pair.certificate
