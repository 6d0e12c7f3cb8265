"""The pod's network: one on which services see their clients' own addresses, or none."""

from podserve import host
from podserve.commands import podman
from podserve.pod import Pod

PASTA = (5, 0)
"""The Podman from which pasta carries rootless ports well (its default since then).

Before, slirp4netns does, with its own port handler: on Debian 12 (4.3.1) no DNS by UDP came through, nor does IPv6.
"""


def mode(pod: Pod) -> str:
    """Return what `podman kube play --network` is given.

    As root a bridge of the pod's own. Rootless, a bridge's ports go through rootlessport, which hides who connects;
    pasta does not.
    https://docs.podman.io/en/latest/markdown/podman-kube-play.1.html#network-mode-net
    """
    return "pasta" if host.rootless() else pod.name


def ensure_network(pod: Pod) -> None:
    """Make the pod's bridge, named as the pod, if there is none and it needs one.

    Without Podman's own DNS, which would hold port 53 of the gateway's address; with IPv6 where the host has it.
    """
    if not host.rootless() and not podman("network", "exists", pod.name, check=False).ok:
        podman("network", "create", "--disable-dns", *(["--ipv6"] if host.has_ipv6() else []), pod.name)


def remove_network(pod: Pod) -> bool:
    """Remove the pod's bridge; return whether there was one.

    One that other containers are on, too, is refused by Podman, and stays.
    """
    return podman("network", "rm", pod.name, check=False).ok
