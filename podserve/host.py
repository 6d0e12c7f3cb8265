"""What the host offers: its Podman, its init, its clock, its space."""

import ctypes
import getpass
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import become, run
from podserve.errors import INTERRUPTIONS, Problem

OLDEST = (4, 3)
"""The oldest Podman that PodServe is known to work with: Debian 12's."""
QUADLET = (4, 4)
"""The first Podman with Quadlet (its release notes)."""
PATIENCE = 15
"""Seconds that Podman may take to tell its version; it takes a tenth of one."""
USER_IDS = 65536
"""Subordinate ids that a rootless pod needs: those that an image may use."""
SUBORDINATE_IDS = Path("/etc/subuid"), Path("/etc/subgid")
NO_HEALTH_CHECKS = "do not run by themselves without systemd: a service that hangs is not restarted"
_USER_NAMESPACE = "_CONTAINERS_USERNS_CONFIGURED"
"""The variable by which Podman itself knows that `podman unshare` has been before it."""
_WITHOUT_PACKAGES = {"DPKG_ADMINDIR": os.devnull}
"""What keeps `podman info` from asking dpkg(1), as whose packages it names its helpers: two thirds of its 0.3 s."""
_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""


def written(version: tuple[int, ...]) -> str:
    """Return a version as one writes it."""
    return ".".join(map(str, version))


@dataclass(frozen=True)
class PodmanInfo:
    """What Podman says of itself: version, network backend, cgroups (v1 or v2), the folder of its storage.

    And the controllers of those cgroups that it may use.
    """

    version: tuple[int, ...]
    backend: str
    cgroups: str
    storage: Path
    controllers: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The version as one writes it."""
        return written(self.version)

    @property
    def bounds_memory(self) -> bool:
        """Whether it can give a container a bound of memory. One that has a bound all the same does not start."""
        return "memory" in self.controllers


def podman_info() -> PodmanInfo:
    """Ask Podman. Raises Problem when it is missing, fails, or does not answer within PATIENCE seconds."""
    try:
        env = {**os.environ, **_WITHOUT_PACKAGES}
        told = json.loads(run(["podman", "info", "--format", "json"], timeout=PATIENCE, env=env).stdout)
        version = tuple(int(number) for number in re.findall(r"\d+", told["version"]["Version"])[:3])
        host, storage = told["host"], Path(told["store"]["graphRoot"])
        return PodmanInfo(
            version, host.get("networkBackend", "cni"), host["cgroupVersion"], storage,
            tuple(host.get("cgroupControllers") or ()),
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        expected = "expected what Podman 4.3 or later says"
        raise Problem(f"what 'podman info --format json' says cannot be read: {expected}") from error


def rootless() -> bool:
    """Return whether Podman is used by somebody who is not root, also from within that user's namespace."""
    return os.geteuid() != 0 or _USER_NAMESPACE in os.environ


def user() -> int:
    """Return the number that the user has on the host, also from within a user namespace."""
    return int(os.environ.get("_CONTAINERS_ROOTLESS_UID", os.getuid()))


def entered() -> bool:
    """Return whether this process runs in the user namespace of rootless Podman."""
    return _USER_NAMESPACE in os.environ


def enter() -> None:
    """Go on as the root of the user namespace that rootless Podman's containers have, where that is needed.

    What lies on volumes belongs to subordinate ids, which only that root may read, write and give away. The task begins
    anew there. Raises Problem where Podman does not answer: what a process becomes nobody limits in time.
    """
    if os.geteuid() != 0:
        podman_info()
        # Who interrupts it while Python begins is heard when it has begun.
        held = ",".join(number.name.removeprefix("SIG") for number in INTERRUPTIONS)
        become("podman", "unshare", "env", f"--block-signal={held}", sys.executable, "-P", "-m", "invoke",
               *sys.argv[1:])  # fmt: skip


def has_systemd() -> bool:
    """Return whether systemd runs this host (sd_booted(3)) and, for rootless Podman, this user's services."""
    booted = Path("/run/systemd/system").is_dir()
    return booted and (not rootless() or Path(f"/run/user/{user()}/systemd/private").exists())


def _given(file: Path) -> list[tuple[str, int, int]]:
    """Return what subuid(5) or subgid(5) gives: to whom, from which id on, how many."""
    lines = re.findall(r"^([^:#\n]+):(\d+):(\d+)$", file.read_text(), re.MULTILINE) if file.exists() else []
    return [(owner, int(first), int(count)) for owner, first, count in lines]


def subordinate_ids(file: Path) -> int:
    """Return how many ids /etc/subuid or /etc/subgid gives to this user."""
    mine = {getpass.getuser(), str(os.getuid())}
    return sum(count for owner, _, count in _given(file) if owner in mine)


def free_ids() -> int:
    """Return the first id, from 100000 on (as useradd's), of USER_IDS that no user has as subordinate ones."""
    start = 100000
    for first, count in sorted((first, count) for file in SUBORDINATE_IDS for _, first, count in _given(file)):
        if first < start + USER_IDS and start < first + count:
            start = first + count
    return start


def in_passwd(user: str) -> bool:
    """Return whether a user is one of this host's own, whom usermod knows, not one of a directory's (LDAP)."""
    return any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines())


def first_port() -> int:
    """Return the lowest port that a user who is not root may serve on."""
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


def hybrid_cgroups() -> bool:
    """Return whether cgroup v1 and v2 are mounted side by side, which crun refuses."""
    return Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()


def _meminfo(name: str) -> int:
    """Return a line of proc_meminfo(5), in bytes."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def memory() -> int:
    """Return the bytes of memory that the host has."""
    return _meminfo("MemTotal")


def free_memory() -> int:
    """Return the bytes of memory that programs can still take."""
    return _meminfo("MemAvailable")


def free_space(folder: Path) -> int:
    """Return the free bytes of the file system that a folder is on, or will be when it is made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def clock_is_kept() -> bool:
    """Return whether something (NTP, a hypervisor) keeps the kernel's clock right: adjtimex(2) knows."""
    asked = ctypes.create_string_buffer(512)  # a struct timex that asks for no change; it has some 208 bytes
    return int(ctypes.CDLL(None).adjtimex(asked)) != _UNSYNCHRONISED


def addresses() -> set[str]:
    """Return the addresses of this host."""
    told = json.loads(run(["ip", "-json", "address"], timeout=PATIENCE).stdout)
    return {address["local"] for link in told for address in link.get("addr_info", [])}


def has_ipv6() -> bool:
    """Return whether this host has an IPv6 address by which others may reach it (scope 00 in if_inet6)."""
    file = Path("/proc/net/if_inet6")
    return file.exists() and any(line.split()[3] == "00" for line in file.read_text().splitlines())


def looked_up(name: str) -> set[str]:
    """Return the addresses that this host's resolver has for a name; empty when it has none, or takes over 4 s."""
    try:
        told = run(["getent", "ahosts", name], check=False, timeout=4).stdout
    except Problem:
        return set()
    return {line.split()[0] for line in told.splitlines()}
