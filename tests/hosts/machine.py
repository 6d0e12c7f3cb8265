"""A pristine host: a privileged container with nothing of PodServe's in it, which can be switched off and on."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import ROOT, Result, podman, run
from podserve.errors import uninterrupted
from podserve.waiting import NotYet, wait_until

HERE = Path(__file__).parent
NETWORK = "podserve-hosts"
SUBNETS = "198.51.100.0/24", "2001:db8::/64"
"""What joins the hosts, their upstream and their stranger: not private (RFC 5737, RFC 3849), so that he is one."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""This machine's, which pip on a host must trust where a proxy stands between it and the package index."""
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_TRUSTED_HOST")
"""Variables of this machine that say where packages come from."""
USER = 1000
"""The number of a host's first user, as Debian gives it."""
PATIENCE = 1800
"""Seconds that the longest step, the acceptance tests, may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of host: its letter, its Debian, whether systemd runs it, and whose pod it is."""

    letter: str
    suite: str
    systemd: bool
    user: str = "root"

    @property
    def image(self) -> str:
        """The image of such a host."""
        return f"localhost/podserve-host-{self.suite}{'-systemd' if self.systemd else ''}:latest"


KINDS = {
    kind.letter: kind
    for kind in (
        Kind("A", "bookworm", systemd=False),
        Kind("B", "trixie", systemd=True),
        Kind("C", "trixie", systemd=True, user="keeper"),
        Kind("D", "bookworm", systemd=True, user="keeper"),
    )
}


def ensure_image(kind: Kind) -> None:
    """Bootstrap a kind's Debian from the archive, once."""
    if podman("image", "exists", kind.image, check=False).ok:
        return
    init = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,"
    packages = f"{init if kind.systemd else ''}procps"
    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/root.tar"
        run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", kind.suite, root])
        podman("import", "--quiet", root, kind.image)


@dataclass(frozen=True)
class Machine:
    """A host that runs: its kind, its container's name, and the resolver that it forwards to."""

    kind: Kind
    name: str
    upstream: str

    @property
    def addresses(self) -> list[str]:
        """Its addresses among the hosts, by which its pod is to be reached: IPv4 and IPv6."""
        return addresses(self.name)

    @property
    def home(self) -> str:
        """The folder of the one whose pod it is."""
        return "/root" if self.kind.user == "root" else f"/home/{self.kind.user}"

    def run(self, script: str, timeout: float = PATIENCE, *, stdin: str = "", as_root: bool = False) -> Result:
        """Run a shell's script on the host, in the checkout, as the one whose pod it is would in a login there."""
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        if AUTHORITIES.exists():
            variables["PIP_CERT"] = "/authorities.crt"
        variables["INVOKE_FORWARDERS"] = self.upstream
        # What podman exec starts is in this machine's cgroups: systemd starts it, or its namespaces are entered.
        enter: list[str] = []
        if self.kind.systemd and as_root:
            enter = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
            script = script.replace("$", "$$")  # which it would put variables of its own in place of
        elif self.kind.systemd:
            enter = ["nsenter", "-t", "1", "-m", "-C", "-n", "-i", "-u", "--"]
        if self.kind.user != "root" and not as_root:
            runtime = f"/run/user/{USER}"
            variables |= {"HOME": self.home, "USER": self.kind.user, "XDG_RUNTIME_DIR": runtime}
            variables["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
            enter += ["runuser", "-u", self.kind.user, "--"]
        words = [f"{name}={value}" for name, value in variables.items()]
        script = f"cd {self.home}/podserve && {{ {script}\n}} 2>&1"
        argv = ["exec", "--interactive", self.name, *enter, "env", *words, "sh", "-c", script]
        return podman(*argv, stdin=stdin, check=False, timeout=timeout)

    def switch_off_and_on(self) -> None:
        """Stop the host as its power button does, and start it again; return when its init has started it."""
        podman("stop", "--time", "60", self.name, timeout=120)
        podman("start", self.name)
        self.wait_until_started()

    def wait_until_started(self) -> None:
        """Return when the host's init has nothing more to start."""

        def started() -> None:
            asked = ["systemctl", "is-system-running"] if self.kind.systemd else ["echo", "running"]
            state = podman("exec", self.name, *asked, check=False, timeout=30).stdout.strip()
            # Degraded: a container cannot load kernel modules.
            if state not in {"running", "degraded"}:
                raise NotYet(state)

        wait_until(started, 90, f"{self.name} to start")

    def clone(self) -> None:
        """Take a clean copy of what is committed here to the host."""
        with tempfile.TemporaryDirectory() as folder:
            run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), f"{folder}/podserve"])
            podman("cp", f"{folder}/podserve", f"{self.name}:{self.home}/podserve")

    def add_user(self) -> None:
        """Add the one whose pod it is: without subordinate ids, and with services that end with the last login."""
        if self.kind.user == "root":
            return
        podman("exec", self.name, "useradd", "--uid", str(USER), "--create-home", self.kind.user)
        # As one from a directory (LDAP), who has no subordinate ids until somebody gives them.
        podman("exec", self.name, "truncate", "--size", "0", "/etc/subuid", "/etc/subgid")

    def own_checkout(self) -> None:
        """Give the copy to the one whose pod it is, and have that user's services started, as a login does."""
        if self.kind.user == "root":
            return
        podman("exec", self.name, "chown", "-R", self.kind.user, f"{self.home}/podserve")
        started = self.run(f"systemctl start user@{USER}", as_root=True)
        assert started.ok, started


def addresses(container: str) -> list[str]:
    """Return a container's addresses among the hosts: IPv4 and IPv6."""
    network = f'(index .NetworkSettings.Networks "{NETWORK}")'
    template = f"{{{{{network}.IPAddress}}}} {{{{{network}.GlobalIPv6Address}}}}"
    return podman("container", "inspect", "--format", template, container).stdout.split()


@contextmanager
def surroundings() -> Iterator[tuple[str, str]]:
    """Yield what stands beside the hosts: the address of their upstream, and the process id of a stranger."""
    names = f"{NETWORK}-upstream", f"{NETWORK}-stranger"
    podman("rm", "--force", "--ignore", "--time", "0", *names)
    if not podman("network", "exists", NETWORK, check=False).ok:
        podman("network", "create", "--disable-dns", "--ipv6", *(f"--subnet={subnet}" for subnet in SUBNETS), NETWORK)
    try:
        podman("run", "--detach", "--name", names[0], "--network", NETWORK, "--volume",
               f"{ROOT / 'tests/testbed/upstream'}:/upstream:ro", "--entrypoint", "named",
               "localhost/podserve-dns:latest", "-g", "-c", "/upstream/named.conf")  # fmt: skip
        podman("run", "--detach", "--name", names[1], "--network", NETWORK, "localhost/podserve-base:latest", "sleep",
               "infinity")  # fmt: skip
        yield (
            addresses(names[0])[0],
            podman("container", "inspect", "--format", "{{.State.Pid}}", names[1]).stdout.strip(),
        )
    finally:
        with uninterrupted():
            podman("rm", "--force", "--time", "0", *names, check=False)
            podman("network", "rm", NETWORK, check=False)


@contextmanager
def machine(kind: Kind, upstream: str) -> Iterator[Machine]:
    """Yield a pristine host of a kind; afterwards nothing of it is left but its Debian packages, for the next one."""
    ensure_image(kind)
    name = f"{NETWORK}-{kind.letter.lower()}"
    volume = f"{name}-containers"  # an overlay cannot lie on another
    mounts = [f"{volume}:/var/lib/containers", f"podserve-hosts-packages-{kind.suite}:/var/cache/apt/archives",
              f"{HERE / 'boot'}:/usr/local/bin/boot:ro"]  # fmt: skip
    mounts += [f"{volume}-home:/home"] if kind.user != "root" else []
    mounts += [f"{AUTHORITIES}:/authorities.crt:ro"] if AUTHORITIES.exists() else []
    process = ["boot", name] if kind.systemd else ["sleep", "infinity"]
    # /run is empty after a start, as on any host; systemd sees to that itself.
    runs = ["--systemd=always"] if kind.systemd else ["--init", "--tmpfs", "/run"]
    podman("rm", "--force", "--ignore", "--time", "0", name)
    podman("volume", "rm", "--force", volume, f"{volume}-home")
    try:
        podman("run", "--detach", "--name", name, "--hostname", name, "--privileged", "--network", NETWORK, *runs,
               *(word for mount in mounts for word in ("--volume", mount)), kind.image, *process)  # fmt: skip
        made = Machine(kind, name, upstream)
        made.add_user()
        made.clone()
        made.wait_until_started()
        made.own_checkout()
        yield made
    finally:
        with uninterrupted():
            podman("rm", "--force", "--time", "0", name, check=False)
            podman("volume", "rm", "--force", volume, f"{volume}-home", check=False)
