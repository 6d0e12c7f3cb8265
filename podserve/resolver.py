"""What the tasks give to named, on the volume `dns`, which named's container only reads."""

import os

from podserve import running, volumes
from podserve.certificates import store
from podserve.certificates.keypair import to_pem
from podserve.certificates.pem import read_certificates
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

BIND = 5004
"""The user and group of named (docker/dns/Containerfile)."""
_LARGEST = 2**20
"""Bytes of the largest file here that is compared with a new one."""
FORWARDERS_ROOT, PAIR = "forwarders-root.pem", "tls.pem"
"""The root certificates of private forwarders over TLS; the pod's key pair, for DNS over TLS (named-settings)."""


def _put(there: Folder, name: str, content: bytes, mode: int = 0o644, group: int = 0) -> bool:
    """Give a file this content, or remove it if that is empty; return whether this changed anything."""
    if (there.read(name, _LARGEST) or b"") == content:
        return False
    if not content:
        there.remove(name)
        return True
    with there.replacing(name, mode) as file:
        os.fchown(file.fileno(), 0, group)
        file.write(content)
    return True


def write_files(pod: Pod) -> bool:
    """Write what the settings ask for, and return whether this changed a file that named reads.

    named cannot read the key on the certificates volume, because it is never root. Raises Problem if the file of
    `forwarders_root` holds no certificate; then nothing has changed.
    """
    name, root = pod.volumes["dns"].name, pod.settings.forwarders_root
    if name not in volumes.existing([name]):  # the pod is of an earlier version: `up` makes the volume
        return False
    roots = to_pem(read_certificates(root.expanduser())) if root else b""
    pair = store.served_pair(store.certificates_folder(pod)) if pod.settings.dns_over_tls else b""
    there = volumes.folder(name)
    changed = [_put(there, PAIR, pair, 0o640, BIND), _put(there, FORWARDERS_ROOT, roots)]
    return any(changed)


def read_again(pod: Pod) -> None:
    """Make named, if the pod exists, read its configuration and these files again.

    Raises Problem if named cannot use them: it serves as before.
    """
    if not running.exists(pod):
        return
    said = podman("exec", pod.containers["dns"], "read-settings", check=False)
    if not said.ok:
        raise Problem(
            f"named does not take its new files, and serves as before: {(said.stderr or said.stdout).strip()}"
        )
