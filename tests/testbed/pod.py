"""A pod of the tests' own, beside any other: own name, network, volumes, loopback address and upstream DNS servers."""

import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query

from podserve import accounts, homes, network, pod, settings, volumes
from podserve.accounts import random_password
from podserve.commands import Result, podman, run
from podserve.errors import uninterrupted
from podserve.folder import Folder
from podserve.manifests import Manifests, defaults
from podserve.waiting import NotYet, wait_until
from tests.testbed.forwarders import Upstream, start_upstream, write_names
from tests.testbed.server import Account, Server, token
from tests.testbed.vantage import Vantage, address_on, first_process


@dataclass
class PodUnderTest:
    """The pod that the tests play, seen from inside."""

    manifests: Manifests
    postmaster: Account
    upstreams: tuple[Upstream, ...]
    first_up: Result
    names: Path
    accounts: list[Account] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifests.settings.pod

    @property
    def environment(self) -> dict[str, str]:
        """The environment that makes Invoke's tasks mean this pod."""
        return _environment(self.manifests.settings)

    @property
    def server(self) -> Server:
        """It, as clients see it."""
        authority = volumes.path_on_host(self.manifests.volumes["certificates"].name) / "current" / "ca.crt"
        chosen = self.manifests.settings
        return Server(chosen.local_address, chosen.domain, str(authority))

    @property
    def address(self) -> str:
        """Its address on its own network."""
        found = json.loads(podman("pod", "inspect", self.name).stdout)
        document = found[0] if isinstance(found, list) else found
        networks = podman(
            "container", "inspect", "--format", "{{json .NetworkSettings.Networks}}", document["InfraContainerID"]
        )
        return str(json.loads(networks.stdout)[self.name]["IPAddress"])

    @property
    def inside(self) -> Vantage:
        """The network that its containers share, seen from one of them: loopback, and its own address."""
        container = self.container("mail")
        return Vantage(container, "127.0.0.1", first_process(container))

    def address_of(self, container: str) -> str:
        """Return the address of another container on its network."""
        return address_on(container, self.name)

    def name_addresses(self, addresses: Mapping[str, str]) -> None:
        """Have the upstream DNS servers answer with these addresses, by name, and none that they were told before."""
        write_names(self.names, addresses)
        for upstream in self.upstreams:
            podman("kill", "--signal", "HUP", upstream.container)

        def known() -> None:
            for upstream in self.upstreams:
                for name, address in addresses.items():
                    answer = dns.query.udp(dns.message.make_query(name, "A"), upstream.address, timeout=2)
                    if address not in str(answer.answer):
                        raise NotYet(f"{upstream.container} does not know {name}")

        wait_until(known, 5, "the upstream DNS servers to know new names")

    def invoke(self, *argv: str, stdin: str = "", check: bool = True, **environment: str) -> Result:
        """Run an Invoke task on this pod; `environment` adds to its INVOKE_ variables."""
        env = {**self.environment, **environment}
        return run([sys.executable, "-m", "invoke", *argv], stdin=stdin, check=check, timeout=300, env=env)

    def container(self, service: str) -> str:
        """Return Podman's name for a service's container (apache, mail, dns)."""
        return self.manifests.containers[service]

    def processes(self, service: str) -> list[Path]:
        """Return the processes of a service's container, as folders of this host's /proc."""
        space, found = Path(f"/proc/{first_process(self.container(service))}/ns/pid").readlink(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "ns" / "pid").readlink() == space:
                    found.append(process)
            except OSError:
                continue  # it has ended meanwhile
        return found

    def exec(self, service: str, *argv: str, stdin: str = "", check: bool = True) -> Result:
        """Run a command in a service's container."""
        return podman("exec", "--interactive", self.container(service), *argv, stdin=stdin, check=check)

    def folder(self, content: str) -> Path:
        """Return where a volume (web, mail, accounts, …) is on this host."""
        return volumes.path_on_host(self.manifests.volumes[content].name)

    def new_account(self, name: str = "") -> Account:
        """Add an account that only the caller knows, and return it when it is in use."""
        account = self.add_account(name)
        self.wait_until_known(account)
        return account

    def add_account(self, name: str = "") -> Account:
        """Add an account, with `users.add`."""
        account = Account(f"{name or token()}@{self.manifests.settings.domain}", random_password())
        self.invoke("users.add", account.address, "--password-stdin", stdin=f"{account.password}\n")
        self.accounts.append(account)
        return account

    def _volume(self, content: str) -> Folder:
        return volumes.folder(self.manifests.volumes[content].name)

    def add_hash(self, account: Account, hashed: str) -> None:
        """Add an account whose password was hashed by the test, and its home."""
        there = accounts.Accounts(self._volume("accounts"))
        with there._changing() as hashes:  # noqa: SLF001  # a test's own cost is no feature
            hashes[account.address] = hashed
        homes.ensure(self._volume("web"), [account.address])

    def wait_until_known(self, account: Account) -> None:
        """Return when an account that was added is in use."""

        def known() -> None:
            if not self.exec("mail", "doveadm", "user", account.address, check=False).ok:
                raise NotYet("Dovecot does not know it")

        wait_until(known, 2, f"{account.address} to be in use")

    def logs(self, since: float = 0.0) -> str:
        """Return what each container has logged since a time (s since the epoch)."""
        texts = []
        for name in self.manifests.containers.values():
            log = podman("logs", "--since", str(int(since)), name, check=False)
            texts.append(f"==> {name} <==\n{log.stdout}{log.stderr}")
        return "\n".join(texts)

    def wait_for_log(self, service: str, text: str, since: float, timeout: float = 10) -> str:
        """Return the first line with `text` that a service logged since a time; waits `timeout` seconds for it."""

        def check() -> str:
            log = podman("logs", "--since", str(int(since)), self.container(service), check=False)
            found = [line for line in (log.stdout + log.stderr).splitlines() if text in line]
            if not found:
                raise NotYet(f"not in the log of {service}")
            return found[0]

        return wait_until(check, timeout, f"{text!r} in the log of {service}")


def _environment(chosen: settings.Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
    return {**inherited, **{f"INVOKE_{name}": value for name, value in chosen.environment().items()}}


def free_address(ports: Sequence[int]) -> str:
    """Return a loopback address none of whose `ports` is taken."""
    for last in range(77, 250):
        address = f"127.0.0.{last}"
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            continue
        return address
    raise AssertionError(f"no loopback address has all of these ports free: {ports}")


@contextmanager
def play_test_pod(purpose: str = "", **given: str) -> Iterator[PodUnderTest]:
    """Yield a running pod of one's own; afterwards nothing of it is left, also when interrupted.

    `purpose` ends its name, where a run has more than one. `given` are settings that differ from the defaults.
    """
    name = f"podserve-test-{os.getpid()}{purpose}"
    chosen = settings.load({**given, "pod": name}, defaults(), {})
    ports = sorted({port.number for port in Manifests(chosen).ports.values()})
    chosen = settings.load({**given, "pod": name, "bind": free_address(ports)}, defaults(), {})
    upstreams: list[Upstream] = []
    scratch = tempfile.TemporaryDirectory()
    names = Path(scratch.name) / "names.zone"
    write_names(names, {})
    try:
        run([sys.executable, "-m", "invoke", "build"], env=_environment(chosen), timeout=900)
        network.ensure(chosen)
        upstreams += [start_upstream(f"{name}-upstream-{number}", name, names) for number in (1, 2)]
        chosen = settings.load({**vars(chosen), "forwarders": " ".join(u.address for u in upstreams)}, defaults(), {})
        first_up = run([sys.executable, "-m", "invoke", "up"], env=_environment(chosen), timeout=300)
        password = re.search(r"with the password (\S+)", first_up.stdout)
        assert password, first_up
        postmaster = Account(chosen.postmaster_address, password[1])
        yield PodUnderTest(Manifests(chosen), postmaster, tuple(upstreams), first_up, names)
    finally:
        with uninterrupted():
            scratch.cleanup()
            if upstreams:
                podman("rm", "--force", "--time", "0", *(u.container for u in upstreams), check=False)
            run([sys.executable, "-m", "invoke", "down", "--volumes", "--yes"], env=_environment(chosen), check=False)
            for lock in pod.STATE.glob(f"{name}*.lock"):
                lock.unlink()
