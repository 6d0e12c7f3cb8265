"""What the tasks give to named, on the volume `dns`, which named's container only reads."""

from podserve import running, volumes
from podserve.certificates import store
from podserve.certificates.keypair import to_pem
from podserve.certificates.pem import read_certificates
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod

BIND = 5004
"""The user and group of named (docker/dns/Containerfile)."""
FORWARDERS_ROOT, PAIR = "forwarders-root.pem", "tls.pem"
"""The root certificates of private forwarders over TLS; the pod's key pair, for DNS over TLS (named-settings)."""


def write_files(pod: Pod) -> bool:
    """Write what the settings ask for, and return whether this changed a file that named reads.

    named cannot read the key on the certificates volume, because it is never root. Raises Problem if the file of
    `forwarders_root` holds no certificate; then nothing has changed.
    """
    name, root = pod.volumes["dns"].name, pod.settings.forwarders_root
    if not volumes.is_there(name):  # the pod is of an earlier version: `up` makes the volume
        return False
    roots = to_pem(read_certificates(root.expanduser())) if root else b""
    pair = store.served_pair(store.certificates_folder(pod)) if pod.settings.dns_over_tls else b""
    there = volumes.folder(name)
    changed = [there.put(PAIR, pair, 0o640, BIND), there.put(FORWARDERS_ROOT, roots, 0o644, 0)]
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
