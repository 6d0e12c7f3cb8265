"""The certificates volume: `current` leads to a folder with tls.crt, tls.key, ca.crt (Kubernetes' names) and origin.

A second key pair is alt.crt and alt.key there: it has the other algorithm, and the first one is ECDSA. The link is
replaced in one step, so a reader finds the new key pairs or the old ones.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import TypeVar

from cryptography import x509

from podserve import volumes
from podserve.certificates import container
from podserve.certificates.keypair import (
    IMPORTED,
    LARGEST,
    NAMES,
    Certificate,
    KeyPair,
    Secret,
    archive,
    describe,
    key_digest,
    legible,
)
from podserve.certificates.pem import parse_key
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

T = TypeVar("T")

MOUNT = "/data/state/certificates"
"""The path of the volume in each container."""
_CURRENT = "current"


def certificates_folder(pod: Pod) -> Folder:
    """Return the folder of the volume. Raises Problem if there is no such volume."""
    return volumes.folder(pod.volumes["certificates"].name)


def _pairs(folder: Folder) -> Folder | None:
    """Return the folder that `current` leads to, or is; None if there is none."""
    name = folder.target(_CURRENT) or _CURRENT
    return folder.enter(name) if folder.has_folder(name) else None


def _of_each(pairs: Folder, where: str, find: Callable[[x509.Certificate], T]) -> Iterable[T]:
    """Yield what `find` returns for each certificate in a folder of key pairs. Raises Problem for a malformed one."""
    for name in NAMES:
        if (content := pairs.read(f"{name}.crt", LARGEST)) is not None:
            with legible(f"{where}/{name}.crt", "Replace it: invoke certs.issue"):
                found = find(x509.load_pem_x509_certificate(content))
            yield found


def current(folder: Folder) -> tuple[Certificate, ...]:
    """Return the certificates in use, ECDSA first; there may be none. Raises Problem for one that cannot be read."""
    if not (pairs := _pairs(folder)):
        return ()
    said = pairs.read("origin", LARGEST)
    # A person copied a key pair without an origin to the volume: it counts as imported.
    origin = IMPORTED if said is None else said.decode(errors="replace").strip()
    return tuple(_of_each(pairs, f"{folder}/{_CURRENT}", lambda leaf: describe(leaf, origin)))


def key_digests(folder: Folder, since: float = math.inf) -> tuple[str, ...]:
    """Return the digests of the public keys that ports show, as TLSA records hold them; none without a certificate.

    The first are those of the certificates in use. The others were replaced after `since`, in seconds since the epoch.
    Raises Problem as `current` does.
    """
    if not (present := _pairs(folder)):
        return ()
    kept = [name for name in folder.names() if folder.has_folder(name)]
    taken = sorted((there.st_mtime, name) for name in kept if (there := folder.look(name)))
    replaced = [name for (_, name), (at, _) in pairwise(taken) if at > since]
    every = [present, *(folder.enter(name) for name in reversed(replaced))]
    digests = (_of_each(pairs, str(pairs), lambda leaf: key_digest(leaf.public_key())) for pairs in every)
    return tuple(dict.fromkeys(chain.from_iterable(digests)))


def served_pair(folder: Folder) -> bytes:
    """Return the first private key in use and its certificates, in one PEM file; empty if there is none."""
    pairs = _pairs(folder)
    parts = [pairs.read(name, LARGEST) for name in ("tls.key", "tls.crt")] if pairs else []
    return b"\n".join(part for part in parts if part) if all(parts) else b""


def keys(folder: Folder) -> tuple[Secret, ...]:
    """Return the private keys in use, ECDSA first; there may be none. Raises Problem for one that cannot be read."""
    pairs = _pairs(folder)
    read = {name: pairs.read(f"{name}.key", LARGEST) for name in NAMES} if pairs else {}
    return tuple(parse_key(content, f"{folder}/{_CURRENT}/{name}.key") for name, content in read.items() if content)


def root(folder: Folder) -> str:
    """Return the CA certificate that clients must import (PEM); empty if it is unknown or not needed."""
    pairs = _pairs(folder)
    return ((pairs and pairs.read("ca.crt", LARGEST)) or b"").decode("ascii", errors="replace")


def take(pod: Pod, pairs: Sequence[KeyPair]) -> tuple[Certificate, ...]:
    """Write one or two checked key pairs, ECDSA first, to the volume, from which services read them.

    Return their certificates. Raises Problem if the volume cannot be written.
    """
    name, taken = pod.volumes["certificates"].name, tuple(pair.certificate for pair in pairs)
    # A tar archive of PEM files is ASCII.
    packed = archive(pairs).decode("ascii")
    put = container.run_once("take-pair", MOUNT, taken[0].serial, mounts={MOUNT: name}, stdin=packed)
    if not put.ok:
        raise Problem(
            f"the key pair could not be written to the volume {name}; the old one stays: {put.stderr.strip()}"
        )
    return taken
