"""The host's ports: which of those that the pod serves on are taken."""

import errno
import socket

from podserve.manifests import Manifests


def taken(manifests: Manifests) -> list[str]:
    """Return a line for each port of the table that something else on this host holds."""
    complaints = []
    for port in manifests.ports.values():
        family = socket.AF_INET6 if ":" in manifests.settings.bind else socket.AF_INET
        kind = socket.SOCK_DGRAM if port.protocol == "UDP" else socket.SOCK_STREAM
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port.protocol == "TCP"))
            try:
                probe.bind((manifests.settings.bind, port.number))
            except OSError as error:
                complaints.append(_complaint(manifests.settings.bind, port.number, port.protocol, error))
    return list(dict.fromkeys(complaints))  # an address that is none of this host's is said once


def _complaint(bind: str, number: int, protocol: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        see = f"ss -l{protocol[0].lower()}np 'sport = :{number}'"
        hint = " (systemd-resolved and dnsmasq often do)" if number == 53 else ""  # noqa: PLR2004  # domain
        return f"port {number}/{protocol} is taken on {bind}{hint}. See by whom: {see}; free it, or set another bind"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"bind is {bind}, which is no address of this host. See them: ip -brief address"
    return f"port {number}/{protocol} on {bind} cannot be served: {error.strerror}"
