"""The host's ports: which of those that the pod serves on are taken, and by whom."""

import errno
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import podman, run
from podserve.manifests import Manifests, Port


@dataclass(frozen=True)
class Obstacle:
    """Why a port cannot be served on, and the command that mends it."""

    said: str
    fix: str


def taken(manifests: Manifests) -> list[Obstacle]:
    """Return an obstacle for each port of the table that something else on this host holds."""
    bind, found = manifests.settings.bind, []
    for port in manifests.ports.values():
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        kind = socket.SOCK_DGRAM if port.protocol == "UDP" else socket.SOCK_STREAM
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port.protocol == "TCP"))
            try:
                probe.bind((bind, port.number))
            except PermissionError:  # a low port, which is looked at for itself (doctor)
                continue
            except OSError as error:
                found.append(_obstacle(bind, port, error))
    return list(dict.fromkeys(found))  # an address that is none of this host's is said once


def _obstacle(bind: str, port: Port, error: OSError) -> Obstacle:
    name = f"port {port.number}/{port.protocol}"
    if error.errno == errno.EADDRINUSE:
        by, fix = _holder(bind, port)
        return Obstacle(f"{name} is taken on {bind}{by}", fix)
    if error.errno == errno.EADDRNOTAVAIL:
        return Obstacle(f"bind is {bind}, which is no address of this host", "ip -brief address, and set bind")
    return Obstacle(f"{name} on {bind} cannot be served: {error.strerror}", "ip -brief address, and set bind")


def _holder(bind: str, port: Port) -> tuple[str, str]:
    """Return who holds a port of an address, as the end of a sentence, and how to make it let go."""
    see = ["ss", "-H", "-l", "-n", "-p", f"-{port.protocol[0].lower()}", f"sport = :{port.number}"]
    every = ("0.0.0.0", "*", "[::]")  # noqa: S104  # as ss writes them
    sockets = re.findall(r'(\S+):\d+ .*\(\("([^"]+)",pid=(\d+)', run(see, check=False, timeout=5).stdout)
    holders = [
        words[1:] for words in sockets if bind in every or words[0].partition("%")[0] in {bind, f"[{bind}]", *every}
    ]
    if not holders:
        return "", f"sudo ss -l{port.protocol[0].lower()}np 'sport = :{port.number}' tells by whom; or set bind"
    program, process = holders[0]
    if program == "conmon" and (pod := _pod_of(process)):
        return f" by the pod {pod}", f"podman pod stop {pod}"
    unit = _unit_of(process)
    by = f" by {unit.removesuffix('.service') if unit else program} (process {process})"
    if unit == "systemd-resolved.service":  # it holds loopback addresses alone, and resolves this host's names
        return by, "set bind in invoke.yaml to the address to serve on: ip -brief address"
    return by, f"systemctl disable --now {unit}" if unit else f"kill {process}, or set another bind"


def _pod_of(conmon: str) -> str:
    """Return the pod that a conmon's container belongs to, or the container's name when it is in none."""
    words = Path(f"/proc/{conmon}/cmdline").read_bytes().split(b"\0")
    container = words[words.index(b"-c") + 1].decode() if b"-c" in words else ""
    shown = podman("ps", "--pod", "--no-trunc", "--filter", f"id={container}", "--format", "{{.PodName}} {{.Names}}",
                   check=False).stdout.split()  # fmt: skip
    return shown[0] if shown else ""


def _unit_of(process: str) -> str:
    """Return the systemd service that a process belongs to, or an empty text."""
    try:
        cgroups = Path(f"/proc/{process}/cgroup").read_text()
    except OSError:
        return ""
    found = re.search(r"/system\.slice/(?:.*/)?([^/\n]+\.service)$", cgroups, re.MULTILINE)
    return found[1] if found else ""
