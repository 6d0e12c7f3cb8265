"""Checks the host, and names the command that solves each problem."""

import getpass
import os
import shutil
import time
from collections.abc import Iterable
from ipaddress import ip_address

from podserve import commands, host, network, ports, running, volumes
from podserve.certificates import store
from podserve.choices import ZoneMode
from podserve.errors import Problem
from podserve.findings import Check, Finding, Patient, State
from podserve.pod import Pod
from podserve.zone import checking, publishing

GIB = 2**30
SPACE = GIB
"""Free bytes to build the images: they take 0.3 GiB (`du` after a first `up`), and builds need copies."""
MEMORY = 256 * 2**20
"""Free bytes of memory that the pod needs to start: its idle processes have 211 MiB (RSS), much of it shared."""
MEMORY_FOR_BUILDING = 2 * MEMORY

SPACE_OF_A_POD = GIB // 8
"""Free bytes that a pod needs to start when its images exist."""


def _version(patient: Patient) -> Iterable[Finding]:
    info = patient.podman
    if info.version < host.OLDEST:
        said = f"Podman is {info.named}: expected {host.written(host.OLDEST)} or later"
        yield Finding("podman", "problem", said, "apt-get install podman, on Debian 12 or later")
    else:
        yield Finding("podman", "ok", f"Podman {info.named}, {'rootless' if host.rootless() else 'root'}")


def _source_addresses(patient: Patient) -> Iterable[Finding]:
    """Check whether services see the addresses of their clients."""
    if host.rootless():
        if patient.podman.version < network.PASTA:
            said = f"Podman is {patient.podman.named}, rootless: expected {host.written(network.PASTA)} or later, with "
            said += "pasta; this version has slirp4netns, which passes no DNS over UDP and no IPv6"
            yield Finding("source addresses", "problem", said, "use Debian 13 or later, or be root")
        elif not shutil.which("pasta"):
            said = "passt is missing: in rootless Podman's other network modes every client seems to be on this host, "
            said += "and the resolver would answer everybody"
            yield Finding("source addresses", "problem", said, "sudo apt-get install passt")
        else:
            yield Finding("source addresses", "ok", f"kept: {network.mode(patient.pod)}, rootless")
    elif patient.podman.backend != "netavark":
        said = f"Podman's network backend is {patient.podman.backend}: expected netavark, which keeps client addresses"
        save = "save the data of all Podman volumes (invoke backup: this pod's): the reset deletes every one"
        fix = f"{save}: apt-get install netavark && podman system reset"
        yield Finding("source addresses", "problem", said, fix)
    else:
        yield Finding("source addresses", "ok", "kept: a bridge of netavark's, as root")


def _user_ids(_: Patient) -> Iterable[Finding]:
    if not host.rootless():
        return
    fewest = min(map(host.subordinate_ids, host.SUBORDINATE_IDS))
    if fewest < host.USER_IDS:
        said = f"this user has {fewest} subordinate ids: expected {host.USER_IDS} in /etc/subuid and /etc/subgid"
        user, first = getpass.getuser(), host.free_ids()
        ids = f"{first}-{first + host.USER_IDS - 1}"
        if host.in_passwd(user):
            give = f"sudo usermod --add-subuids {ids} --add-subgids {ids} {user}"
        else:
            give = f"echo {user}:{first}:{host.USER_IDS} | sudo tee -a /etc/subuid /etc/subgid"
        yield Finding("user ids", "problem", said, f"{give} && podman system migrate")
    else:
        yield Finding("user ids", "ok", f"{fewest} subordinate ids")


def _first_port(patient: Patient) -> Iterable[Finding]:
    if not host.rootless():
        return
    first, needed = host.first_port(), min(port.number for port in patient.pod.ports.values())
    if first > needed:
        said = f"users other than root may serve on ports from {first} on: expected {needed}"
        setting = f"net.ipv4.ip_unprivileged_port_start={needed}"
        fix = f"echo {setting} | sudo tee /etc/sysctl.d/50-podserve.conf && sudo sysctl --system"
        yield Finding("low ports", "problem", said, fix)
    else:
        yield Finding("low ports", "ok", f"users may serve on ports from {first} on")


def _ports(patient: Patient) -> Iterable[Finding]:
    found = ports.obstacles(patient.pod, patient.inspected.infra if patient.inspected.holds_ports else "")
    yield from (Finding("ports", "problem", obstacle.said, obstacle.fix) for obstacle in found)
    if not found:
        held = f", or held by {patient.pod.name} itself" if patient.inspected.holds_ports else ""
        yield Finding("ports", "ok", f"all free on {patient.pod.settings.bind}{held}")


def _space(patient: Patient) -> Iterable[Finding]:
    folder = patient.podman.storage
    free, claimed = host.free_space(folder), sum(volume.bytes for volume in patient.pod.volumes.values())
    said = f"{free / GIB:.1f} GiB free for {folder}"
    needed = SPACE_OF_A_POD if patient.inspected.state else SPACE
    if free < needed:
        yield Finding("disk", "problem", f"{said}: expected {needed / GIB:.1f}", f"podman system prune; df -h {folder}")
    elif free < claimed:
        fix = f"df -h {folder}"
        yield Finding("disk", "warning", f"{said}: the pod's volumes may grow to {claimed / GIB:.1f}", fix)
    else:
        yield Finding("disk", "ok", said)


def _runtime(_: Patient) -> Iterable[Finding]:
    """Run a container, and one step of a build."""
    tried = commands.run([str(commands.ROOT / "docker/engine.sh"), "--again"], env=os.environ, check=False, timeout=120)
    if not tried.ok:
        yield Finding("runtime", "problem", tried.stderr.strip(), "podman info; podman run --rm IMAGE true")
    else:
        yield Finding("runtime", "ok", tried.stderr.strip() or "runs a container and a build by Podman's own settings")


def _cgroups(patient: Patient) -> Iterable[Finding]:
    if not patient.podman.bounds_memory:
        said = "no cgroup controller of memory: a container may use up the memory of the host"
        fix = "boot with the kernel parameter cgroup_enable=memory" if not host.rootless() else (
            "sudo systemctl edit user@.service, with the lines [Service] and Delegate=memory pids; log in again"
        )  # fmt: skip
        yield Finding("cgroups", "warning", said, fix)
    elif host.hybrid_cgroups():
        fix = "boot with the kernel parameter systemd.unified_cgroup_hierarchy=1, if you can set it"
        yield Finding("cgroups", "warning", "v1 and v2 are both mounted, which crun refuses and runc accepts", fix)
    else:
        yield Finding("cgroups", "ok", patient.podman.cgroups)


def _memory(_: Patient) -> Iterable[Finding]:
    free = host.free_memory()
    said = f"{free / 2**20:.0f} MiB free"
    if free < MEMORY_FOR_BUILDING:
        state: State = "problem" if free < MEMORY else "warning"
        expected = f"{said}: expected {MEMORY_FOR_BUILDING / 2**20:.0f} to build the images"
        yield Finding("memory", state, expected, "ps --sort=-rss -eo rss,comm | head")
    else:
        yield Finding("memory", "ok", said)


def _clock(patient: Patient) -> Iterable[Finding]:
    newest = (commands.ROOT / "pyproject.toml").stat().st_mtime
    name = patient.pod.volumes["certificates"].name
    made = store.current(volumes.folder(name)) if volumes.is_there(name) else ()
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    fix = "timedatectl set-ntp true" if host.has_systemd() else "date -s '…'; apt-get install chrony"
    if time.time() < newest or any(time.time() < one.starts.timestamp() for one in made):
        yield Finding("clock", "problem", f"it is {now} here: before the date of this checkout or certificate", fix)
    elif not host.clock_is_kept():
        yield Finding("clock", "warning", f"it is {now} here, and nothing synchronises the clock", fix)
    else:
        yield Finding("clock", "ok", now)


def _health(patient: Patient) -> Iterable[Finding]:
    if not host.has_systemd():
        yield Finding("health checks", "warning", host.NO_HEALTH_CHECKS, "invoke status, which runs them")
    elif (patient.podman.version >= host.PROBES_UNRECORDED and patient.podman.events == "journald"
          and host.probes_are_events()):  # fmt: skip
        said = "run by systemd; Podman writes 60 lines a minute about them to the journal"
        folder = f"{'~/.config' if host.rootless() else '/etc'}/containers/containers.conf.d"
        fix = rf"mkdir -p {folder}; printf '[engine]\nhealthcheck_events = false\n' > {folder}/podserve.conf"
        yield Finding("health checks", "warning", said, fix)
    else:
        yield Finding("health checks", "ok", "run by systemd; a service that hangs is restarted")


def _name(patient: Patient) -> Iterable[Finding]:
    """Look up the names that clients use: the domain and files_host."""
    settings, mine = patient.pod.settings, host.addresses()
    for name in dict.fromkeys((settings.domain, settings.files_host)):
        there = host.looked_up(name)
        if not there:
            said = f"{name} does not resolve here"
            yield Finding("name", "warning", said, f"give {name} an A record with this host's address")
        elif not (outward := {address for address in there if not ip_address(address).is_loopback}):
            said = f"{name} resolves to {', '.join(sorted(there))}, a loopback address"
            yield Finding("name", "warning", said, f"remove {name} from /etc/hosts, which hides its DNS record here")
        elif not outward & mine:
            said = f"{name} resolves to {', '.join(sorted(outward))}, not to this host (correct behind a router that "
            said += "forwards the ports)"
            yield Finding("name", "warning", said, f"give {name} an A record with this host's address")
        else:
            yield Finding("name", "ok", f"{name} resolves to this host: {', '.join(sorted(outward & mine))}")


def _records(patient: Patient) -> Iterable[Finding]:
    """Check the DNS records that this server needs, if its public address is set."""
    seen = checking.summary(patient.pod)
    fine = seen.state in {"unset", "right"}
    yield Finding("dns records", "ok" if fine else "warning", seen.said, "" if fine else "invoke dns.check")


def _zone(patient: Patient) -> Iterable[Finding]:
    """Check the domain's zone and its key, if this server serves it."""
    pod = patient.pod
    if pod.settings.zone is not ZoneMode.PUBLIC or not volumes.is_there(pod.volumes["dns"].name):
        return
    found = (
        publishing.zone_problems(pod) if patient.inspected.runs else list(filter(None, [publishing.key_problem(pod)]))
    )
    yield from (Finding("zone", "problem", problem, "invoke status") for problem in found)
    if not found:
        yield Finding("zone", "ok", f"{pod.settings.domain} is served and signed")


BEFORE_UP: tuple[Check, ...] = (_version, _source_addresses, _user_ids, _first_port, _space, _ports)
"""The checks that predict a failure of `up`. All together take less than 0.3 s."""
CHECKS: tuple[Check, ...] = (*BEFORE_UP, _runtime, _cgroups, _memory, _clock, _health, _name, _records, _zone)


def examine(pod: Pod, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Return the findings; after a problem with Podman itself, only that one. Raises Problem if Podman hangs."""
    info = host.podman_info()
    patient = Patient(pod, info, running.inspected(pod) if info.version >= host.OLDEST else running.Inspected())
    found: list[Finding] = []
    for check in checks:
        found += check(patient)
        if found[0].state == "problem":
            break
    return found


def diagnose(pod: Pod) -> list[Finding]:
    """Return the findings of all checks; if Podman is missing, fails or hangs, this is the only finding."""
    try:
        return examine(pod)
    except Problem as error:
        return [Finding("podman", "problem", error.text)]


def require(pod: Pod) -> None:
    """Raise Problem, with a line for each obstacle and its remedy, if the pod cannot start on this host."""
    problems = [finding for finding in examine(pod, BEFORE_UP) if finding.state == "problem"]
    if problems:
        lines = [f"  {finding.said}. To solve it: {finding.fix}" for finding in problems]
        raise Problem("the pod cannot be started:\n" + "\n".join(lines))
