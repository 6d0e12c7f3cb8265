"""The pod's network: one on which services see their clients' own addresses, or none."""

import shutil

from podserve import host
from podserve.commands import podman
from podserve.settings import Settings

PASTA = (5, 0)
"""The Podman from which pasta carries rootless ports well (its default since 5.0); before, slirp4netns does."""


def by_pasta(told: host.Podman) -> bool:
    """Return whether pasta carries a rootless pod's ports; otherwise slirp4netns does, which listens to IPv4 alone."""
    return told.version >= PASTA


def mode(settings: Settings) -> str:
    """Return what `podman kube play --network` is given.

    As root a bridge of the pod's own. Rootless, a bridge's ports go through rootlessport, which hides who connects;
    pasta and slirp4netns's own port handler do not.
    https://docs.podman.io/en/latest/markdown/podman-kube-play.1.html#network-mode-net
    """
    if not host.rootless():
        return settings.pod
    return "pasta" if by_pasta(host.podman()) else "slirp4netns:port_handler=slirp4netns"


def missing(told: host.Podman) -> str:
    """Return the Debian package that rootless Podman lacks for that, or an empty text."""
    program, package = ("pasta", "passt") if by_pasta(told) else ("slirp4netns", "slirp4netns")
    return "" if shutil.which(program) else package


def ensure(settings: Settings) -> None:
    """Make the pod's bridge, named as the pod, if there is none and it needs one.

    Without Podman's own DNS, which would hold port 53 of the gateway's address; with IPv6 where the host has it.
    """
    if not host.rootless() and not podman("network", "exists", settings.pod, check=False).ok:
        podman("network", "create", "--disable-dns", *(["--ipv6"] if host.has_ipv6() else []), settings.pod)


def remove(settings: Settings) -> bool:
    """Remove the pod's bridge; return whether there was one.

    One that other containers are on, too, is refused by Podman, and stays.
    """
    return podman("network", "rm", settings.pod, check=False).ok
