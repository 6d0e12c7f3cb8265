"""A pod for the tests, with its own name, network, volumes, loopback address and upstream DNS servers."""

import base64
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import bcrypt
import dns.message
import dns.query

from podserve import accounts, failures, homes, images, lifecycle, network, state, volumes
from podserve.accounts import random_password
from podserve.commands import Result, podman
from podserve.configuration import load
from podserve.errors import Problem, uninterrupted
from podserve.folder import Folder
from podserve.manifests import defaults
from podserve.pod import STATE, Pod
from podserve.repositories import Repositories
from podserve.settings import Settings
from podserve.waiting import NotYet, wait_until
from tests.testbed import command_line
from tests.testbed.forwarders import UPDATE_KEY, Upstream, start_upstream, write_names
from tests.testbed.server import Account, Server, token
from tests.testbed.vantage import Vantage, address_on, first_process

CHEAPEST = 4
"""bcrypt's lowest cost: a login takes 1 ms, instead of 50 ms with podserve.accounts.ROUNDS."""
NAMED = "sethlakowske.com", "acme.example.com"
"""The domains whose names the tests define (tests/testbed/upstream/zones.conf)."""
PORTS = list(Pod.of(load({}, defaults(), {})).ports)
"""The ports of a pod with the default settings, by name."""


@dataclass
class PodUnderTest:
    """The pod that the tests play, seen from inside."""

    pod: Pod
    postmaster: Account
    upstreams: tuple[Upstream, ...]
    names: Path
    cost: int = CHEAPEST
    """bcrypt's cost of new accounts."""
    _folders: dict[str, Path] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The settings of the pod."""
        return self.pod.settings

    @property
    def name(self) -> str:
        """The name of the pod."""
        return self.pod.name

    @property
    def environment(self) -> dict[str, str]:
        """The environment with which Invoke's tasks operate on this pod."""
        return _environment(self.settings)

    @cached_property
    def server(self) -> Server:
        """The server that clients of the pod see."""
        authority = self.folder("certificates") / "current" / "ca.crt"
        chosen = self.settings
        return Server(str(chosen.local_address), chosen.domain, str(authority))

    @property
    def address(self) -> str:
        """The address of the pod on its own network."""
        return self.address_of(self.container("mail"))

    @property
    def inside(self) -> Vantage:
        """The network namespace that the containers of the pod share, with the address 127.0.0.1."""
        container = self.container("mail")
        return Vantage(container, "127.0.0.1", first_process(container))

    def address_of(self, container: str) -> str:
        """Return the address of another container on the pod's network."""
        return address_on(container, self.name)

    def name_addresses(self, addresses: Mapping[str, str], kind: str = "A", ttl: int = 0) -> None:
        """Set the test names that the upstream DNS servers resolve (name to address), and wait until they do.

        With another `kind` of record than A, the values are the data of those records. `ttl` is in seconds.

        Names of earlier calls are removed. Raises Problem after 5 s.
        """
        write_names(self.names, addresses, kind, ttl)
        self._reload_upstreams()

        def known() -> None:
            for upstream in self.upstreams:
                for name, address in addresses.items():
                    answer = dns.query.udp(dns.message.make_query(name, kind), upstream.address, timeout=2)
                    if address not in str(answer.answer):
                        raise NotYet(f"{upstream.container} does not know {name}")

        wait_until(known, 5, "the upstream DNS servers to know new names")

    def publish(self, zone: str) -> None:
        """Set the test names that the upstream DNS servers resolve to the records of a zone file; wait until they do.

        The names are below one of NAMED. Names of earlier calls are removed. Raises Problem after 5 s: a server refuses
        a malformed file.
        """
        mark = token()
        write_names(self.names, {})
        with self.names.open("a") as file:
            file.write("".join(f"{mark}.{above}. TXT {mark}\n" for above in NAMED) + zone)
        self._reload_upstreams()

        def known() -> None:
            for upstream in self.upstreams:
                for above in NAMED:
                    query = dns.message.make_query(f"{mark}.{above}", "TXT")
                    if not dns.query.udp(query, upstream.address, timeout=2).answer:
                        raise NotYet(f"{upstream.container} has not loaded the records")

        wait_until(known, 5, "the upstream DNS servers to know new records")

    def _reload_upstreams(self) -> None:
        for upstream in self.upstreams:
            os.kill(int(first_process(upstream.container)), signal.SIGHUP)

    def invoke(self, *argv: str, stdin: str = "", check: bool = True, **environment: str) -> Result:
        """Run an Invoke task on this pod, with additional variables in `environment`.

        Raises Problem if the task fails (only with `check`), or if it does not end within 300 s.
        """
        result = command_line.invoke(argv, {**self.environment, **environment}, stdin=stdin, timeout=300)
        if check and not result.ok:
            raise Problem(f"this task failed:\n{result}")
        return result

    def exchange(self, port: str) -> None:
        """Make the exchange of the endpoint with this port name, with the postmaster's login if the endpoint takes one.

        Raises one of exchanges.FAILURES.
        """
        self.server.exchange(self.pod.ports[port], self.postmaster)

    def container(self, service: str) -> str:
        """Return Podman's name for a service's container (apache, mail, dns)."""
        return self.pod.containers[service]

    def processes(self, service: str) -> list[Path]:
        """Return the processes of a service's container, as folders of this host's /proc."""
        return processes_of(self.container(service))

    def exec(self, service: str, *argv: str, stdin: str = "", check: bool = True) -> Result:
        """Run a command in a service's container. Raises Problem if it fails (only with `check`)."""
        return podman("exec", "--interactive", self.container(service), *argv, stdin=stdin, check=check)

    def folder(self, content: str) -> Path:
        """Return the path of a volume (web, mail, accounts, …) on this host."""
        if content not in self._folders:
            self._folders[content] = volumes.path_on_host(self.pod.volumes[content].name)
        return self._folders[content]

    def new_account(self, name: str = "", cost: int = 0, domain: str = "") -> Account:
        """Add an account with a random password, and wait until the daemons know it. The default `name` is unique.

        `domain` is by default that of the pod. `cost` is the cost of bcrypt, by default the pod's. Where the time of a
        login matters, pass podserve.accounts.ROUNDS.
        """
        account = Account(f"{name or token()}@{domain or self.settings.domain}", random_password())
        salt = bcrypt.gensalt(cost or self.cost)
        hashed = bcrypt.hashpw(account.password.encode(), salt).decode().replace("$2b$", "$2y$", 1)
        there = accounts.Accounts(Folder.at(self.folder("accounts")))
        with there._changing() as hashes:  # noqa: SLF001  # only tests choose the cost
            hashes[account.address] = hashed
        homes.ensure_homes(Folder.at(self.folder("web")), [account.address], self.settings.domain)
        self.wait_until_known(account)
        return account

    def add_account(self) -> Account:
        """Add an account with the task `users.add`."""
        account = Account(f"{token()}@{self.settings.domain}", random_password())
        self.invoke("users.add", account.address, "--password-stdin", stdin=f"{account.password}\n")
        return account

    def add_repository(self, name: str, *, public: bool = False) -> None:
        """Make an empty repository."""
        Repositories(self.pod).add(name, "", public=public)

    def wait_until_known(self, account: Account) -> None:
        """Wait until the daemons know a new account.

        Dovecot finds it (asked as `doveadm user` does), and it is in Postfix's tables: the file `passwd` beside them
        has the accounts that they were last made from.
        """

        def known() -> None:
            mail = f"/proc/{first_process(self.container('mail'))}/root"
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(f"{mail}/run/dovecot/auth-userdb")
                # https://github.com/dovecot/core/blob/2.4.1/src/lib-auth-client/auth-master.c
                client.sendall(f"VERSION\t1\t0\nUSER\t1\t{account.address}\tservice=doveadm\n".encode())
                with client.makefile("rb") as answers:
                    while not (answer := answers.readline()).startswith((b"USER\t", b"NOTFOUND\t", b"FAIL\t")):
                        if not answer:
                            raise NotYet("Dovecot ended the connection")
            if not answer.startswith(b"USER\t"):
                raise NotYet("Dovecot does not know it")
            in_tables = Path(f"{mail}/run/postfix/passwd")
            if account.address.encode() not in in_tables.read_bytes():
                raise NotYet("it is not in Postfix's tables")

        wait_until(known, 2, f"{account.address} to be in use")

    def logs(self, since: float = 0.0) -> str:
        """Return the log of each container since a time (seconds since the epoch)."""
        texts = []
        for name in self.pod.containers.values():
            log = podman("logs", "--since", str(int(since)), name, check=False)
            texts.append(f"==> {name} <==\n{log.stdout}{log.stderr}")
        return "\n".join(texts)

    def wait_for_log(self, service: str, text: str, since: float, timeout: float = 10) -> str:
        """Wait up to `timeout` seconds for a line with `text` in a service's log since a time; return the first one."""

        def check() -> str:
            log = podman("logs", "--since", str(int(since)), self.container(service), check=False)
            found = [line for line in (log.stdout + log.stderr).splitlines() if text in line]
            if not found:
                raise NotYet(f"not in the log of {service}")
            return found[0]

        return wait_until(check, timeout, f"{text!r} in the log of {service}")


def processes_of(container: str) -> list[Path]:
    """Return the processes of a container, as folders of this host's /proc."""
    space, found = Path(f"/proc/{first_process(container)}/ns/pid").readlink(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "pid").readlink() == space:
                found.append(process)
        except OSError:
            continue  # the process has just exited
    return found


def _environment(chosen: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
    return {**inherited, **{f"INVOKE_{name}": value for name, value in chosen.environment().items()}}


def volumes_of(pod: str) -> set[str]:
    """Return the names of the volumes that begin with this name of a pod."""
    return set(podman("volume", "ls", "--quiet", "--filter", f"name=^{pod}").stdout.split())


def free_address(ports: Sequence[int]) -> str:
    """Return a loopback address on which all `ports` are free (TCP)."""
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
def prepare_test_pod(purpose: str = "", **given: str) -> Iterator[PodUnderTest]:
    """Yield a pod with its settings, images, network and upstream DNS servers. It is not played yet.

    Afterwards everything of the pod is removed, even after an interruption. `purpose` is the end of the pod's name, for
    runs with more than one pod. `given` are settings that differ from the defaults. The postmaster's password is empty.
    """
    name = f"podserve-test-{os.getpid()}{purpose}"
    ports = sorted({port.number for port in Pod.of(load({"pod": name}, defaults(), {})).ports.values()})
    given = {**given, "pod": name, "bind": free_address(ports)}
    pod = Pod.of(load(given, defaults(), {}))
    upstreams: list[Upstream] = []
    scratch = tempfile.TemporaryDirectory()
    names = Path(scratch.name) / "names.zone"
    write_names(names, {})
    key = base64.b64encode(os.urandom(32)).decode()
    names.with_name(UPDATE_KEY).write_text(f'key acme {{ algorithm hmac-sha256; secret "{key}"; }};')
    try:
        images.build(show=logging.getLogger(__name__).info)
        network.ensure_network(pod)
        upstreams += [start_upstream(f"{name}-upstream-{number}", name, names) for number in (1, 2)]
        pod = Pod.of(load({**given, "forwarders": " ".join(u.address for u in upstreams)}, defaults(), {}))
        yield PodUnderTest(pod, Account(pod.settings.postmaster_address, ""), tuple(upstreams), names)
    finally:
        with uninterrupted():
            scratch.cleanup()
            if upstreams:
                podman("rm", "--force", "--time", "0", *(u.container for u in upstreams), check=False)
            # How a pod ends is tested elsewhere: here it gets no time for that.
            podman("pod", "rm", "--force", "--time", "0", name, check=False)
            with state.locked(pod):
                lifecycle.down(pod, with_volumes=True)
                failures.forget(pod)
            for left in [*STATE.glob(f"{name}*.lock"), *STATE.glob(f"{name}*.serial")]:
                left.unlink()


@contextmanager
def play_test_pod(purpose: str = "", cost: int = CHEAPEST, **given: str) -> Iterator[PodUnderTest]:
    """Yield a running pod, made by `prepare_test_pod`. `cost` is the cost of bcrypt for its new accounts."""
    with prepare_test_pod(purpose, **given) as prepared:
        with state.locked(prepared.pod):
            started = lifecycle.up(prepared.pod)
        assert started.password, "the pod is new"
        postmaster = replace(prepared.postmaster, password=started.password)
        yield replace(prepared, cost=cost, postmaster=postmaster)
