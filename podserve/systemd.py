"""The pod as a service of the machine: Quadlet units for systemd, and timers for its certificates and its problems.

https://docs.podman.io/en/latest/markdown/podman-systemd.unit.5.html
"""

import os
import pwd
from pathlib import Path

from podserve import host, network, units
from podserve.commands import ROOT, Result, environment, run
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.manifests import LOG_OPTION
from podserve.pod import Pod
from podserve.state import played_folder

ACTIVE = "active"
"""The state of a service that runs, in systemd's words."""
START_TIMEOUT = 120
"""Seconds in which Podman must play the pod for systemd. It takes 2 s on an idle machine."""


def _folder(kind: str) -> Path:
    """Return the folder of units of a kind: `containers/systemd` (Quadlet's) or `systemd/system`."""
    if not host.rootless():
        return Path("/etc") / kind
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / kind.replace("systemd/system", "systemd/user")


def _files(pod: Pod) -> list[Path]:
    quadlet, folder, name = _folder("containers/systemd"), _folder("systemd/system"), pod.name
    own = [folder / f"{name}-{what}.{kind}" for what in ("renew", "watch") for kind in ("service", "timer")]
    return [quadlet / f"{name}.kube", quadlet / f"{name}.network", *own]


def _timers(pod: Pod) -> list[str]:
    return [f"{pod.name}-renew.timer", f"{pod.name}-watch.timer"]


def installed(pod: Pod) -> bool:
    """Return whether the pod is a service of this machine."""
    return _files(pod)[0].exists()


def require_systemd(pod: Pod) -> None:
    """Raise Problem, with an alternative, on a host without systemd or with a Podman without Quadlet."""
    info = host.podman_info()
    if host.has_systemd() and info.version >= host.QUADLET:
        return
    lacks = f"Podman is {info.named}, and Quadlet needs 4.4" if host.has_systemd() else "this host has no systemd"
    here = f"cd {ROOT} && ./bootstrap invoke"
    raise Problem(
        f"{pod.name} cannot be made a service: {lacks}. Let cron start it, renew its certificates and mail its "
        f"problems to the postmaster (crontab -e):\n  @reboot {here} up\n  @daily {here} certs.renew\n"
        f"  @hourly {here} status --tell >/dev/null"
    )


def _systemctl(*words: str, check: bool = True) -> Result:
    mode = ["--user"] if host.rootless() else []
    return run(["systemctl", *mode, *words], check=check, timeout=START_TIMEOUT + 30)


def _variables(given: dict[str, str]) -> str:
    """Return the lines of a unit that set variables."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") for name, value in given.items()
    }
    return "\n".join(f'Environment="{name}={value}"' for name, value in escaped.items())


def _texts(pod: Pod) -> dict[Path, str]:
    """Return the content of the unit files of a pod, which play the documents in its folder `played`."""
    settings = pod.settings
    engine = {name: value for name, value in environment().items() if name == "CONTAINERS_CONF"}
    chosen = {f"INVOKE_{name}": value for name, value in settings.environment().items()}
    words = {
        "pod": pod.name,
        "domain": settings.domain,
        "folder": played_folder(pod),
        "root": ROOT,
        "timeout": START_TIMEOUT,
        "target": "default.target" if host.rootless() else "multi-user.target",
    }
    # A bridge has a unit of its own. The network of a rootless pod is created with the pod.
    words["network_online"] = "" if host.rootless() else units.NETWORK_ONLINE
    # Not every user may read the journal, so Podman chooses the log driver for users. A log file has a bound.
    words["log"] = f"PodmanArgs=--log-opt {LOG_OPTION}" if host.rootless() else "LogDriver=journald"
    words["ipv6"] = str(host.has_ipv6()).lower()
    words["network"] = network.mode(pod) if host.rootless() else f"{pod.name}.network"
    bridge = "" if host.rootless() else units.NETWORK
    texts = units.POD, bridge, units.RENEWAL, units.RENEWAL_TIMER, units.WATCH, units.WATCH_TIMER
    variables = {
        units.POD: _variables(engine),
        **dict.fromkeys((units.RENEWAL, units.WATCH), _variables({**engine, **chosen})),
    }
    ends = {units.POD: units.NO_WAITING} if host.rootless() else {}
    return {
        file: text.format(environment=variables.get(text, ""), **words) + ends.get(text, "")
        for file, text in zip(_files(pod), texts, strict=True)
        if text
    }


def write_units(pod: Pod) -> None:
    """Write the units of a pod, and let systemd read them."""
    for file, text in _texts(pod).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with Folder.at(file.parent).replacing(file.name, 0o644) as opened:
            opened.write(text.encode())
    _systemctl("daemon-reload")


def refresh_units(pod: Pod) -> None:
    """Write the units again where they differ: the timer's settings may change when the pod's documents do not."""
    if any(not file.exists() or file.read_text() != text for file, text in _texts(pod).items()):
        write_units(pod)
        _systemctl("enable", "--now", *_timers(pod))  # one of them may be new


def enable(pod: Pod) -> None:
    """Start the timers now and at each start of the machine. Quadlet enables the pod's own unit."""
    _systemctl("enable", "--now", *_timers(pod))
    if host.rootless() and not lingers():
        user = _user()
        tried = run(["loginctl", "enable-linger", user], check=False, timeout=10)
        if not tried.ok:
            why = f"{user}'s services end when {user} logs out: {tried.stderr.strip()}"
            fix = f"sudo loginctl enable-linger {user}"
            raise Problem(f"{why}. To solve it, type this, then run the same command again: {fix}")


def _user() -> str:
    return pwd.getpwuid(host.user()).pw_name


def lingers() -> bool:
    """Return whether the user's services run without a login."""
    return Path(f"/var/lib/systemd/linger/{_user()}").exists()


def remove_units(pod: Pod) -> list[Path]:
    """Stop the units and remove them; return the files that were removed."""
    _systemctl("disable", "--now", *_timers(pod), check=False)
    stop(pod)
    there = [file for file in _files(pod) if file.exists()]
    for file in there:
        file.unlink()
    _systemctl("daemon-reload")
    return there


def start(pod: Pod) -> None:
    """Restart the service; return when the pod is played. Raises Problem with lines of the journal if that fails."""
    unit = f"{pod.name}.service"
    # After several failures systemd would not try again.
    _systemctl("reset-failed", unit, check=False)
    if not _systemctl("restart", unit, check=False).ok:
        which = ["--user", "--user-unit", unit] if host.rootless() else ["--unit", unit]
        said = run(["journalctl", *which, "-n", "15", "-o", "cat"], check=False)
        raise Problem(f"systemd could not start {unit}; its last lines:\n{said.stdout.rstrip()}")


def stop(pod: Pod) -> None:
    """Stop the service, which removes the pod, and the unit of the network, which creates the network again later."""
    _systemctl("stop", f"{pod.name}.service", f"{pod.name}-network.service", check=False)


def state(pod: Pod) -> str:
    """Return the state of the service in systemd, such as `active` or `failed`."""
    return _systemctl("is-active", f"{pod.name}.service", check=False).stdout.strip()


def state_and_command(pod: Pod) -> str:
    """Return the state of the service, with the command that shows why."""
    return f"{state(pod)} ({status_command(pod)} shows why)"


def status_command(pod: Pod) -> str:
    """Return the command that shows the service."""
    return f"systemctl {'--user ' if host.rootless() else ''}status {pod.name}"


def journalled(pod: Pod) -> bool:
    """Return whether the containers log to the journal."""
    return installed(pod) and not host.rootless()


def journal(containers: list[str], *options: str) -> list[str]:
    """Return the command that shows the logs of containers, also from before the last start."""
    words = [f"CONTAINER_NAME={name}" for name in containers]
    return ["journalctl", "--no-hostname", "--output=short-iso", *options, *words]
