"""A pristine host: a privileged container without anything of PodServe, which can be restarted."""

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
"""The network of the hosts, their upstream and their stranger. A stranger needs addresses that are not private;
these are for documentation (RFC 5737, RFC 3849)."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The CA certificates of this machine. pip on a host must trust them if a proxy intercepts the package index."""
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_TRUSTED_HOST")
"""Variables of this machine that name the source of packages."""
USER = 1000
"""The id of the first user of a host, as Debian assigns it."""
PATIENCE = 1800
"""Seconds that the longest step, the acceptance tests, may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of host: its letter, its Debian release, whether systemd runs it, and the user of the pod."""

    letter: str
    suite: str
    systemd: bool
    user: str = "root"

    @property
    def image(self) -> str:
        """The image of this kind of host."""
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
    """Build the image of a kind from Debian's archive, if it is missing."""
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
    """A running host: its kind, the name of its container, and the resolver to which its pod forwards."""

    kind: Kind
    name: str
    upstream: str

    @property
    def addresses(self) -> list[str]:
        """The addresses of the host on NETWORK, at which its pod is reachable: IPv4 and IPv6."""
        return addresses(self.name)

    @property
    def home(self) -> str:
        """The home folder of the user of the pod."""
        return "/root" if self.kind.user == "root" else f"/home/{self.kind.user}"

    def run(self, script: str, timeout: float = PATIENCE, *, stdin: str = "", as_root: bool = False) -> Result:
        """Run a shell script on the host, in the checkout, as in a login of the user of the pod (or as root)."""
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        if AUTHORITIES.exists():
            variables["PIP_CERT"] = "/authorities.crt"
        variables["INVOKE_FORWARDERS"] = self.upstream
        # podman exec starts processes in a cgroup of this machine. So systemd must start them, or nsenter.
        enter: list[str] = []
        if self.kind.systemd and as_root:
            enter = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
            script = script.replace("$", "$$")  # systemd-run would expand $ itself
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
        """Shut the host down, as its power button does, and start it; return when its init has finished."""
        podman("stop", "--time", "60", self.name, timeout=120)
        podman("start", self.name)
        self.wait_until_started()

    def wait_until_started(self) -> None:
        """Wait until the host's init has finished the start."""

        def started() -> None:
            asked = ["systemctl", "is-system-running"] if self.kind.systemd else ["echo", "running"]
            state = podman("exec", self.name, *asked, check=False, timeout=30).stdout.strip()
            # The state is degraded because a container cannot load kernel modules.
            if state not in {"running", "degraded"}:
                raise NotYet(state)

        wait_until(started, 90, f"{self.name} to start")

    def clone(self) -> None:
        """Copy a clean clone of the committed files to the host."""
        with tempfile.TemporaryDirectory() as folder:
            run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), f"{folder}/podserve"])
            podman("cp", f"{folder}/podserve", f"{self.name}:{self.home}/podserve")

    def add_user(self) -> None:
        """Add the user of the pod, without subordinate ids and without lingering."""
        if self.kind.user == "root":
            return
        podman("exec", self.name, "useradd", "--uid", str(USER), "--create-home", self.kind.user)
        # A user from a directory (LDAP) has no subordinate ids either, until somebody adds them.
        podman("exec", self.name, "truncate", "--size", "0", "/etc/subuid", "/etc/subgid")

    def own_checkout(self) -> None:
        """Make the user of the pod the owner of the copy, and start that user's services, as a login does."""
        if self.kind.user == "root":
            return
        podman("exec", self.name, "chown", "-R", self.kind.user, f"{self.home}/podserve")
        started = self.run(f"systemctl start user@{USER}", as_root=True)
        assert started.ok, started


def addresses(container: str) -> list[str]:
    """Return the addresses of a container on NETWORK: IPv4 and IPv6."""
    network = f'(index .NetworkSettings.Networks "{NETWORK}")'
    template = f"{{{{{network}.IPAddress}}}} {{{{{network}.GlobalIPv6Address}}}}"
    return podman("container", "inspect", "--format", template, container).stdout.split()


@contextmanager
def surroundings() -> Iterator[tuple[str, str]]:
    """Start the upstream and the stranger; yield the upstream's address and the stranger's process id."""
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
    """Yield a pristine host of a kind, then remove it. Only its Debian packages stay, for the next host."""
    ensure_image(kind)
    name = f"{NETWORK}-{kind.letter.lower()}"
    volume = f"{name}-containers"  # an overlay file system cannot lie on another one
    mounts = [f"{volume}:/var/lib/containers", f"podserve-hosts-packages-{kind.suite}:/var/cache/apt/archives",
              f"{HERE / 'boot'}:/usr/local/bin/boot:ro"]  # fmt: skip
    mounts += [f"{volume}-home:/home"] if kind.user != "root" else []
    mounts += [f"{AUTHORITIES}:/authorities.crt:ro"] if AUTHORITIES.exists() else []
    process = ["boot", name] if kind.systemd else ["sleep", "infinity"]
    # /run must be empty after a start, as on any host; systemd empties it itself.
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
