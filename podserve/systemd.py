"""The pod as a service of the machine: Quadlet units for systemd, and a timer that renews certificates.

https://docs.podman.io/en/latest/markdown/podman-systemd.unit.5.html
"""

import os
import pwd
from pathlib import Path

from podserve import host, network
from podserve.commands import ROOT, Result, environment, run
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import LOG_OPTION, Manifests
from podserve.settings import Settings

ACTIVE = "active"
"""What systemd calls a service that runs."""
START_TIMEOUT = 120
"""Seconds that systemd gives Podman to play the pod, which takes it some 2 s on an idle machine."""

NETWORK = """\
[Unit]
Description=Network of the pod {pod}

[Network]
NetworkName={pod}
# Podman's own DNS would hold port 53 of the gateway's address.
DisableDNS=true
IPv6={ipv6}
"""
POD = """\
[Unit]
Description=PodServe {pod}: web, mail and DNS for {domain}
{network_online}
# A network that comes late is tried for until it is there.
StartLimitIntervalSec=0

[Kube]
Yaml={folder}/podserve.yaml
ConfigMap={folder}/config.yaml
Network={network}
{log}

[Service]
{environment}
Restart=always
RestartSec=1
TimeoutStartSec={timeout}

[Install]
WantedBy={target}
"""
NETWORK_ONLINE = """\
Wants=network-online.target
After=network-online.target"""
NO_WAITING = """
[Quadlet]
# Quadlet would wait 90 s for the system's network-online.target, which on many hosts nothing ever starts.
DefaultDependencies=false"""
"""What a user's unit has in place of it: systemd's user manager knows nothing of the network."""
RENEWAL = """\
[Unit]
Description=Certificates of {pod}, renewed when they are due
Wants=network-online.target
After=network-online.target {pod}.service

[Service]
Type=oneshot
WorkingDirectory={root}
{environment}
ExecStart={root}/.venv/bin/invoke certs.renew
"""
TIMER = """\
[Unit]
Description=Certificates of {pod}, looked at every day

[Timer]
OnCalendar=daily
# Not everybody at midnight; and after a night that was switched off, at the next start.
RandomizedDelaySec=6h
Persistent=true

[Install]
WantedBy=timers.target
"""


def _folder(kind: str) -> Path:
    """Return where systemd looks for units of a kind: `containers/systemd` (Quadlet's) or `systemd/system`."""
    if not host.rootless():
        return Path("/etc") / kind
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / kind.replace("systemd/system", "systemd/user")


def _files(settings: Settings) -> list[Path]:
    quadlet, units, pod = _folder("containers/systemd"), _folder("systemd/system"), settings.pod
    return [quadlet / f"{pod}.kube", quadlet / f"{pod}.network", units / f"{pod}-renew.service",
            units / f"{pod}-renew.timer"]  # fmt: skip


def installed(settings: Settings) -> bool:
    """Return whether the pod is a service of this machine."""
    return _files(settings)[0].exists()


def require_systemd(settings: Settings) -> None:
    """Raise Problem, with what to do instead, on a host without systemd or with a Podman that has no Quadlet."""
    told = host.podman()
    if host.has_systemd() and told.version >= host.QUADLET:
        return
    lacks = f"Podman is {told.named}, and Quadlet came with 4.4" if host.has_systemd() else "this host has no systemd"
    here = f"cd {ROOT} && ./bootstrap invoke"
    raise Problem(
        f"{settings.pod} cannot be made a service: {lacks}. Have cron start it and renew its certificates instead "
        f"(crontab -e):\n  @reboot {here} up\n  @daily {here} certs.renew"
    )


def _systemctl(*words: str, check: bool = True) -> Result:
    mode = ["--user"] if host.rootless() else []
    return run(["systemctl", *mode, *words], check=check, timeout=START_TIMEOUT + 30)


def _variables(given: dict[str, str]) -> str:
    """Return the lines of a unit that set these variables."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") for name, value in given.items()
    }
    return "\n".join(f'Environment="{name}={value}"' for name, value in escaped.items())


def _texts(manifests: Manifests, folder: Path) -> dict[Path, str]:
    """Return what is to stand in the unit files of a pod whose documents are in a folder."""
    settings = manifests.settings
    engine = {name: value for name, value in environment().items() if name == "CONTAINERS_CONF"}
    chosen = {f"INVOKE_{name}": value for name, value in settings.environment().items()}
    words = {"pod": settings.pod, "domain": settings.domain, "folder": folder, "root": ROOT, "timeout": START_TIMEOUT,
             "target": "default.target" if host.rootless() else "multi-user.target"}  # fmt: skip
    # A bridge has a unit of its own; what rootless pods have is made with them.
    words["network_online"] = "" if host.rootless() else NETWORK_ONLINE
    # A user may not read the journal everywhere: there Podman decides, and a file has a bound.
    words["log"] = f"PodmanArgs=--log-opt {LOG_OPTION}" if host.rootless() else "LogDriver=journald"
    words["ipv6"] = str(host.has_ipv6()).lower()
    words["network"] = network.mode(settings) if host.rootless() else f"{settings.pod}.network"
    texts = POD, "" if host.rootless() else NETWORK, RENEWAL, TIMER
    variables = {POD: _variables(engine), RENEWAL: _variables({**engine, **chosen})}
    ends = {POD: NO_WAITING} if host.rootless() else {}
    return {
        file: text.format(environment=variables.get(text, ""), **words) + ends.get(text, "")
        for file, text in zip(_files(settings), texts, strict=True)
        if text
    }


def write(manifests: Manifests, folder: Path) -> None:
    """Write the units of a pod whose documents are in a folder, and have systemd read them."""
    for file, text in _texts(manifests, folder).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with Folder.at(file.parent).replacing(file.name, 0o644) as opened:
            opened.write(text.encode())
    _systemctl("daemon-reload")


def refresh(manifests: Manifests, folder: Path) -> None:
    """Write the units again where they say another thing: the timer renews by settings that play nothing anew."""
    if any(not file.exists() or file.read_text() != text for file, text in _texts(manifests, folder).items()):
        write(manifests, folder)


def enable(settings: Settings) -> None:
    """Have the timer start now, and at each start of the machine. Quadlet has enabled the pod's own unit."""
    _systemctl("enable", "--now", f"{settings.pod}-renew.timer")
    if host.rootless() and not lingers():
        user = _user()
        tried = run(["loginctl", "enable-linger", user], check=False, timeout=10)
        if not tried.ok:
            why = f"{user}'s services end when {user} logs out: {tried.stderr.strip()}"
            raise Problem(f"{why}. Mend it, then run the same command again: sudo loginctl enable-linger {user}")


def _user() -> str:
    return pwd.getpwuid(host.user()).pw_name


def lingers() -> bool:
    """Return whether the services of the user run without a login."""
    return Path(f"/var/lib/systemd/linger/{_user()}").exists()


def remove(settings: Settings) -> list[str]:
    """Take the units back, stopped; return the files that were removed."""
    _systemctl("disable", "--now", f"{settings.pod}-renew.timer", check=False)
    stop(settings)
    there = [file for file in _files(settings) if file.exists()]
    for file in there:
        file.unlink()
    _systemctl("daemon-reload")
    return [str(file) for file in there]


def start(settings: Settings) -> None:
    """Start the service anew; return when the pod is played. Raises Problem with what the journal says otherwise."""
    unit = f"{settings.pod}.service"
    # After failures in a row systemd would not try again.
    _systemctl("reset-failed", unit, check=False)
    if not _systemctl("restart", unit, check=False).ok:
        which = ["--user", "--user-unit", unit] if host.rootless() else ["--unit", unit]
        said = run(["journalctl", *which, "-n", "15", "-o", "cat"], check=False)
        raise Problem(f"systemd could not start {unit}; its last lines:\n{said.stdout.rstrip()}")


def stop(settings: Settings) -> None:
    """Stop the service, which removes the pod, and the network's unit, so that it makes the network again."""
    _systemctl("stop", f"{settings.pod}.service", f"{settings.pod}-network.service", check=False)


def state(settings: Settings) -> str:
    """Return what systemd says of the service, such as active or failed."""
    return _systemctl("is-active", f"{settings.pod}.service", check=False).stdout.strip()


def told(settings: Settings) -> str:
    """Return that for a person, with the command that shows why."""
    return f"{state(settings)} ({status_command(settings)} tells more)"


def status_command(settings: Settings) -> str:
    """Return what a person types to see the service."""
    return f"systemctl {'--user ' if host.rootless() else ''}status {settings.pod}"


def journalled(settings: Settings) -> bool:
    """Return whether the journal has what the containers log."""
    return installed(settings) and not host.rootless()


def journal(containers: list[str], *, follow: bool) -> list[str]:
    """Return the command that shows what these containers have logged, also before the last start."""
    words = [f"CONTAINER_NAME={name}" for name in containers]
    return ["journalctl", "--no-hostname", "--output=short-iso", *(["--follow"] if follow else []), *words]
