"""The network of the pod: services must see the addresses of their clients."""

from podserve import host
from podserve.commands import podman
from podserve.pod import Pod

PASTA = (5, 0)
"""The first Podman whose default for rootless ports is pasta.

Earlier versions use slirp4netns. On Debian 12 (4.3.1) it forwards no DNS over UDP, and no IPv6.
"""


def mode(pod: Pod) -> str:
    """Return the value of `podman kube play --network`: for root a bridge of the pod's own, otherwise pasta.

    Without root, the ports of a bridge go through rootlessport, which hides the clients' addresses. Pasta keeps them.
    https://docs.podman.io/en/latest/markdown/podman-kube-play.1.html#network-mode-net
    """
    return "pasta" if host.rootless() else pod.name


def ensure_network(pod: Pod) -> None:
    """Create the pod's bridge, with the pod's name, unless it exists or the pod needs none.

    Podman's own DNS is off: it would hold port 53 of the gateway's address. IPv6 is on if the host has it.
    """
    if not host.rootless() and not podman("network", "exists", pod.name, check=False).ok:
        podman("network", "create", "--disable-dns", *(["--ipv6"] if host.has_ipv6() else []), pod.name)


def remove_network(pod: Pod) -> bool:
    """Remove the pod's bridge; return whether it was removed. Podman keeps a bridge that other containers use."""
    return podman("network", "rm", pod.name, check=False).ok
