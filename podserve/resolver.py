"""What the tasks give to named, on the volume `dns`, which named's container only reads."""

from podserve import volumes
from podserve.certificates.keypair import to_pem
from podserve.certificates.pem import read_certificates
from podserve.commands import podman
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

_LARGEST = 2**20
"""Bytes of the largest file here that is compared with a new one."""
FORWARDERS_ROOT = "forwarders-root.pem"
"""The root certificates of private forwarders over TLS (docker/dns, named-settings)."""


def _put(there: Folder, name: str, content: bytes) -> bool:
    """Give a file this content, or remove it if that is empty; return whether this changed anything."""
    if (there.read(name, _LARGEST) or b"") == content:
        return False
    if not content:
        there.remove(name)
        return True
    with there.replacing(name, 0o644) as file:
        file.write(content)
    return True


def write_files(pod: Pod) -> bool:
    """Write what the settings ask for, and return whether this changed a file that named reads.

    Raises Problem if the file of `forwarders_root` holds no certificate; then nothing has changed.
    """
    root = pod.settings.forwarders_root
    wanted = to_pem(read_certificates(root.expanduser())) if root else b""
    return _put(volumes.folder(pod.volumes["dns"].name), FORWARDERS_ROOT, wanted)


def read_again(pod: Pod) -> None:
    """Make named read its configuration and these files again. Raises Problem if it cannot: it serves as before."""
    said = podman("exec", pod.containers["dns"], "read-settings", check=False)
    if not said.ok:
        raise Problem(
            f"named does not take its new files, and serves as before: {(said.stderr or said.stdout).strip()}"
        )
