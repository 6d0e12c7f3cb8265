"""The host: its Podman, its init, its clock, its memory and disk."""

import ctypes
import getpass
import json
import os
import re
import shutil
import socket
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import become, run
from podserve.errors import INTERRUPTIONS, Problem

OLDEST = (4, 3)
"""The oldest Podman that PodServe is tested with: Debian 12's."""
PROBES_UNRECORDED = (5, 0)
"""The first Podman that can leave out the events of health checks (healthcheck_events in its containers.conf)."""
QUADLET = (4, 4)
"""The first Podman with Quadlet (its release notes)."""
PATIENCE = 15
"""Seconds that Podman may take to report its version. It takes 0.1 s."""
USER_IDS = 65536
"""Subordinate ids that a rootless pod needs: an image may use all of them."""
SUBORDINATE_IDS = Path("/etc/subuid"), Path("/etc/subgid")
NO_HEALTH_CHECKS = "do not run by themselves without systemd: a service that hangs is not restarted"
_USER_NAMESPACE = "_CONTAINERS_USERNS_CONFIGURED"
"""The variable by which Podman itself detects that it runs under `podman unshare`."""
_WITHOUT_PACKAGES = {"DPKG_ADMINDIR": os.devnull}
"""Hides dpkg's database: `podman info` asks dpkg(1) for the packages of its helpers, for two thirds of its 0.3 s."""
_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""


def written(version: tuple[int, ...]) -> str:
    """Return a version as text: `4.3.1`."""
    return ".".join(map(str, version))


@dataclass(frozen=True)
class PodmanInfo:
    """What Podman says of itself: version, network backend, cgroups (v1 or v2), the folder of its storage.

    `controllers` are the controllers of the cgroups that it may use, `events` is the place of its events.
    """

    version: tuple[int, ...]
    backend: str
    cgroups: str
    storage: Path
    controllers: tuple[str, ...] = ()
    events: str = ""

    @property
    def named(self) -> str:
        """The version as text."""
        return written(self.version)

    @property
    def bounds_memory(self) -> bool:
        """Whether it can bound the memory of a container. Otherwise a container with a bound does not start."""
        return "memory" in self.controllers


def podman_info() -> PodmanInfo:
    """Ask Podman. Raises Problem if Podman is missing, fails, or does not answer within PATIENCE seconds."""
    try:
        env = {**os.environ, **_WITHOUT_PACKAGES}
        info = json.loads(run(["podman", "info", "--format", "json"], timeout=PATIENCE, env=env).stdout)
        version = tuple(int(number) for number in re.findall(r"\d+", info["version"]["Version"])[:3])
        host, storage = info["host"], Path(info["store"]["graphRoot"])
        return PodmanInfo(
            version, host.get("networkBackend", "cni"), host["cgroupVersion"], storage,
            tuple(host.get("cgroupControllers") or ()), host.get("eventLogger", ""),
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        expected = "expected the output of Podman 4.3 or later"
        raise Problem(f"the output of 'podman info --format json' cannot be read: {expected}") from error


def probes_are_events() -> bool:
    """Return whether Podman records an event for each health check: `healthcheck_events` in containers.conf(5)."""
    said = True
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for folder in (Path("/usr/share/containers"), Path("/etc/containers"), own / "containers"):
        for file in (folder / "containers.conf", *sorted((folder / "containers.conf.d").glob("*.conf"))):
            if file.is_file():
                said = tomllib.loads(file.read_text()).get("engine", {}).get("healthcheck_events", said)
    return bool(said)


def rootless() -> bool:
    """Return whether a user other than root runs Podman, also from within the user namespace."""
    return os.geteuid() != 0 or _USER_NAMESPACE in os.environ


def user() -> int:
    """Return the id of the user on the host, also from within the user namespace."""
    return int(os.environ.get("_CONTAINERS_ROOTLESS_UID", os.getuid()))


def entered() -> bool:
    """Return whether this process runs in the user namespace of rootless Podman."""
    return _USER_NAMESPACE in os.environ


def enter() -> None:
    """Re-execute this process (exec) as root of the user namespace of rootless containers, unless it is root already.

    Files on volumes belong to subordinate ids, which only that root may read, write and assign. The task begins again
    there. Raises Problem if Podman does not answer: no timeout applies after exec().
    """
    if os.geteuid() != 0:
        podman_info()
        # Signals are blocked while Python starts; explain_interruptions unblocks them.
        held = ",".join(number.name.removeprefix("SIG") for number in INTERRUPTIONS)
        become("podman", "unshare", "env", f"--block-signal={held}", sys.executable, "-P", "-m", "invoke",
               *sys.argv[1:])  # fmt: skip


def has_systemd() -> bool:
    """Return whether systemd runs on this host (sd_booted(3)) and, for rootless Podman, for this user."""
    booted = Path("/run/systemd/system").is_dir()
    return booted and (not rootless() or Path(f"/run/user/{user()}/systemd/private").exists())


def _given(file: Path) -> list[tuple[str, int, int]]:
    """Return the entries of subuid(5) or subgid(5): the owner, the first id, the number of ids."""
    lines = re.findall(r"^([^:#\n]+):(\d+):(\d+)$", file.read_text(), re.MULTILINE) if file.exists() else []
    return [(owner, int(first), int(count)) for owner, first, count in lines]


def subordinate_ids(file: Path) -> int:
    """Return the number of ids that /etc/subuid or /etc/subgid gives to this user."""
    mine = {getpass.getuser(), str(os.getuid())}
    return sum(count for owner, _, count in _given(file) if owner in mine)


def free_ids() -> int:
    """Return the first id of USER_IDS free subordinate ids, from 100000 on as useradd does."""
    start = 100000
    for first, count in sorted((first, count) for file in SUBORDINATE_IDS for _, first, count in _given(file)):
        if first < start + USER_IDS and start < first + count:
            start = first + count
    return start


def in_passwd(user: str) -> bool:
    """Return whether usermod knows a user: one in /etc/passwd, not one of a directory (LDAP)."""
    return any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines())


def first_port() -> int:
    """Return the lowest port that a user other than root may serve on."""
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


def hybrid_cgroups() -> bool:
    """Return whether cgroup v1 and v2 are both mounted. crun refuses that."""
    return Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()


def _meminfo(name: str) -> int:
    """Return a value of proc_meminfo(5), in bytes."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def memory() -> int:
    """Return the memory of the host, in bytes."""
    return _meminfo("MemTotal")


def free_memory() -> int:
    """Return the memory that programs can still allocate, in bytes."""
    return _meminfo("MemAvailable")


def free_space(folder: Path) -> int:
    """Return the free bytes of the file system of a folder. The folder need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def clock_is_kept() -> bool:
    """Return whether the kernel's clock is synchronised (by NTP or a hypervisor), as adjtimex(2) reports it."""
    asked = ctypes.create_string_buffer(512)  # a struct timex (208 bytes) that changes nothing
    return int(ctypes.CDLL(None).adjtimex(asked)) != _UNSYNCHRONISED


def addresses() -> set[str]:
    """Return the addresses of this host."""
    links = json.loads(run(["ip", "-json", "address"], timeout=PATIENCE).stdout)
    return {address["local"] for link in links for address in link.get("addr_info", [])}


def outward_address() -> str:
    """Return this host's IPv4 address on the way of its default route; an empty text without such a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 53))  # RFC 5737. This sends nothing: the kernel looks up the route
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def has_ipv6() -> bool:
    """Return whether this host has a global IPv6 address (scope 00 in if_inet6)."""
    file = Path("/proc/net/if_inet6")
    return file.exists() and any(line.split()[3] == "00" for line in file.read_text().splitlines())


def looked_up(name: str) -> set[str]:
    """Return the addresses of a name by this host's resolver; none after 4 s without an answer."""
    try:
        found = run(["getent", "ahosts", name], check=False, timeout=4).stdout
    except Problem:
        return set()
    return {line.split()[0] for line in found.splitlines()}
