"""The host's ports: which of the pod's ports another program holds, and which program."""

import errno
import functools
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import podman, run
from podserve.manifests import Port
from podserve.pod import Pod
from podserve.values import ANY_ADDRESS, Address


@dataclass(frozen=True)
class Obstacle:
    """Why a port cannot be served on, and the command that solves it."""

    said: str
    fix: str


EVERY = str(ANY_ADDRESS), "*", "[::]"
"""All addresses, as ss prints them."""
ROOTLESS = {"pasta", "pasta.avx2", "passt", "passt.avx2", "slirp4netns", "rootlessport"}
"""The programs that hold the ports of rootless pods. Their command lines do not name the pod."""
SOME_POD = "?"
"""A value that is no container's id."""


def obstacles(pod: Pod, infra: str = "") -> list[Obstacle]:
    """Return an obstacle for each port of the pod that another program on this host holds.

    `infra` is the id of the container with the pod's ports, if the pod runs.
    """
    bind, found = pod.settings.bind, []
    listening = functools.cache(_listening)
    for port in pod.ports.values():
        family = socket.AF_INET6 if bind.version == 6 else socket.AF_INET  # noqa: PLR2004
        kind = socket.SOCK_DGRAM if port.protocol == "UDP" else socket.SOCK_STREAM
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port.protocol == "TCP"))
            try:
                probe.bind((str(bind), port.number))
            except PermissionError:  # a low port, which the doctor checks
                continue
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    found += _in_use(bind, port, infra, listening())
                else:
                    found.append(_obstacle(bind, port, error))
    return list(dict.fromkeys(found))  # an address that is not this host's gives the same obstacle for each port


def _obstacle(bind: Address, port: Port, error: OSError) -> Obstacle:
    name = f"port {port.number}/{port.protocol}"
    if error.errno == errno.EADDRNOTAVAIL:
        return Obstacle(f"bind is {bind}, which is not an address of this host", "ip -brief address, and set bind")
    return Obstacle(f"{name} on {bind} cannot be served: {error.strerror}", "ip -brief address, and set bind")


def _listening() -> list[tuple[str, str, str, str, str]]:
    """Return each listening socket: its protocol (tcp, udp), address, port, program and process."""
    found = run(["ss", "-H", "-l", "-n", "-t", "-u", "-p"], check=False, timeout=5).stdout
    return re.findall(r'^(\S+) .*?(\S+):(\d+) .*\(\("([^"]+)",pid=(\d+)', found, re.MULTILINE)


def _in_use(bind: Address, port: Port, infra: str, listening: list[tuple[str, str, str, str, str]]) -> list[Obstacle]:
    """Return the obstacle for a port in use, with its holder and the command that stops it; none if the pod has it."""
    said, protocol = f"port {port.number}/{port.protocol} is taken on {bind}", port.protocol.lower()
    holders = [
        (program, process)
        for kind, address, number, program, process in listening
        if (kind, number) == (protocol, str(port.number))
        and (bind == ANY_ADDRESS or address.partition("%")[0] in {str(bind), f"[{bind}]", *EVERY})
    ]
    if not holders:
        return [Obstacle(said, f"sudo ss -l{protocol[0]}np 'sport = :{port.number}' shows by whom; or set bind")]
    own = {infra, SOME_POD} if infra else set()
    others = [holder for holder in holders if _container_of(*holder) not in own]
    return [Obstacle(f"{said}{by}", fix) for by, fix in map(_described, others[:1])]


def _described(holder: tuple[str, str]) -> tuple[str, str]:
    """Return the holder of a port, as the end of a sentence, and the command that stops it."""
    program, process = holder
    container = _container_of(program, process)
    pod = "" if container in {"", SOME_POD} else _pod_of(container)
    if container == SOME_POD:
        return f" by another pod ({program}, process {process})", "podman pod ps, and podman pod stop; or set bind"
    if pod:
        return f" by the pod {pod}", f"podman pod stop {pod}"
    unit = _unit_of(process)
    by = f" by {unit.removesuffix('.service') if unit else program} (process {process})"
    if unit == "systemd-resolved.service":  # it holds loopback addresses only, and this host needs it
        return by, "set bind in invoke.yaml to the address to serve on: ip -brief address"
    return by, f"systemctl disable --now {unit}" if unit else f"kill {process}, or set another bind"


def _container_of(program: str, process: str) -> str:
    """Return the id of the container whose ports a process holds, SOME_POD if unknown, or an empty text for none."""
    if program in ROOTLESS:
        return SOME_POD
    if program != "conmon":
        return ""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:  # the process has ended
        return ""
    return words[words.index(b"-c") + 1].decode() if b"-c" in words else ""


@functools.cache
def _pod_of(container: str) -> str:
    """Return the pod of a container, given by its id, or the container's name if it is in no pod."""
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
