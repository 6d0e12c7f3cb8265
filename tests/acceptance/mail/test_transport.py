"""Mail to other servers by a relay host. No mail and no password goes to a server that is not the right one."""

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from podserve import lifecycle, state
from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.commands import podman, run
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import Forwarder, KeyType, host_address
from podserve.waiting import NotYet, wait_until
from tests.testbed.internet import signed_zone
from tests.testbed.pod import PodUnderTest, prepare_test_pod
from tests.testbed.receivers import Receiver, add_address, serving
from tests.testbed.server import Account, letter, token
from tests.testbed.vantage import address_on

PROVIDER, PLAIN = "192.0.2.30", "192.0.2.34"
"""The addresses of the servers."""
USER, PASSWORD = "pod@provider.example", "c0rrect horse:battery"
RELAYED = "relayed.example"
ROOT = f"""
@ SOA ns. root. 1 3600 600 86400 0
@ NS ns.
ns. A 192.0.2.53
smtp.provider.example. A {PROVIDER}
plain.example. MX 10 mx.plain.example.
mx.plain.example. A {PLAIN}
"""
"""The root zone, with all names of the test's internet, signed."""


class Certifier:
    """An authority, in a folder, and the TLS contexts of servers with certificates from it."""

    def __init__(self, folder: Path) -> None:
        """Make the authority in an empty folder."""
        self._folder = folder
        self.root = to_pem(authority.issue_for(Folder.at(folder), ("x.example",), KeyType.EC256).roots).decode()

    def context(self, *names: str) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names."""
        pair = authority.issue_for(Folder.at(self._folder), names, KeyType.EC256)
        (self._folder / "pair.pem").write_bytes(to_pem(pair.chain) + pair.key.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "pair.pem")
        return context


@dataclass(frozen=True)
class World:
    """The pod, its account, the authority that it trusts, a certificate for a wrong name, and the other servers."""

    own: PodUnderTest
    account: Account
    certifier: Certifier
    wrong: ssl.SSLContext
    provider: Receiver
    plain: Receiver
    password: Path

    def send(self, recipient: str) -> str:
        """Send a message from the account, and return its subject."""
        subject = token()
        with self.own.server.submission(self.account) as client:
            client.send_message(letter(self.account.address, recipient, subject))
        return subject

    def deferred(self, recipient: str) -> str:
        """Wait until the one message to a recipient has failed and waits in the queue; return the reason."""

        def check() -> str:
            lines = map(json.loads, self.own.exec("mail", "postqueue", "-j").stdout.splitlines())
            reasons = [each.get("delay_reason", "") for line in lines for each in line["recipients"]
                       if each["address"] == recipient]  # fmt: skip
            if not any(reasons):
                raise NotYet(f"the reasons are {reasons}")
            return str(reasons[0])

        return wait_until(check, 10, f"the message to {recipient} to be deferred")

    def flush(self) -> None:
        """Deliver all messages in the queue now."""
        self.own.exec("mail", "postqueue", "-f")


def write_root(container: str, root: str) -> None:
    """Add a root certificate to those that a container trusts, in its own file system alone."""
    files = Path(podman("mount", container).stdout.strip())
    name = run(["openssl", "x509", "-noout", "-subject_hash"], stdin=root).stdout.strip()
    (files / "etc/ssl/certs" / f"{name}.0").write_text(root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A pod that sends the mail of one domain by a relay host, and an internet with a signed root."""
    folder, files = tmp_path_factory.mktemp("authority"), tmp_path_factory.mktemp("root")
    password = folder / "password"
    password.touch(0o600)
    password.write_text(f"{PASSWORD}\n")
    certifier = Certifier(folder)
    relay = {"relay_host": "smtp.provider.example", "relay_user": USER, "relay_password_file": str(password)}
    with ExitStack() as stack:
        prepared = stack.enter_context(prepare_test_pod("-transport", relay_domains=RELAYED, **relay))
        forwarder = f"{prepared.name}-root"
        stack.callback(podman, "rm", "--force", "--time", "0", forwarder, check=False)
        zone, _, _ = signed_zone(".", ROOT)
        files.chmod(0o755)
        (files / "root.zone").write_text(zone)
        (files / "named.conf").write_text(
            'options { directory "/tmp"; pid-file none; recursion no; empty-zones-enable no; dnssec-validation no; };'
            'controls { }; zone "." { type primary; file "/root/root.zone"; };'
        )
        podman("run", "--detach", "--name", forwarder, "--network", prepared.name, "--volume", f"{files}:/root:ro",
               "--entrypoint", "named", "localhost/podserve-dns:latest", "-g", "-c", "/root/named.conf")  # fmt: skip
        address = Forwarder(host_address(address_on(forwarder, prepared.name)))
        own = replace(prepared, pod=Pod.of(replace(prepared.settings, forwarders=(address,))))
        with state.locked(own.pod):
            started = lifecycle.up(own.pod)
        own = replace(own, postmaster=replace(own.postmaster, password=started.password))
        write_root(own.container("mail"), certifier.root)
        servers = {}
        for name, where, port, login in (("smtp.provider.example", PROVIDER, 587, f"{USER}:{PASSWORD}"),
                                         ("mx.plain.example", PLAIN, 25, "")):  # fmt: skip
            add_address(where)
            servers[where] = Receiver(where, port, certifier.context(name), login)
            stack.enter_context(serving(servers[where]))
        yield World(own, own.new_account(), certifier, certifier.context("mx.wrong.example"), servers[PROVIDER],
                    servers[PLAIN], password)  # fmt: skip


def test_mail_goes_by_the_relay_host_with_the_login(world: World) -> None:
    received = world.provider.taken(world.send(f"anna@{RELAYED}"))
    assert received.encrypted
    assert received.login == f"{USER}:{PASSWORD}"


def test_mail_for_other_domains_than_those_of_the_relay_host_goes_to_their_own_servers(world: World) -> None:
    assert world.plain.taken(world.send("anna@plain.example")).encrypted


@pytest.mark.parametrize("fault", ["a wrong certificate", "no encryption"])
def test_a_relay_host_with_a_fault_gets_neither_mail_nor_password_until_it_is_right(world: World, fault: str) -> None:
    recipient = f"{token()}@{RELAYED}"
    tried = len(world.provider.logins)
    with world.provider.presenting(world.wrong if "certificate" in fault else None):
        subject = world.send(recipient)
        reason = world.deferred(recipient)
    assert ("Server certificate not verified" if "certificate" in fault else "TLS is required") in reason
    assert len(world.provider.logins) == tried
    world.flush()
    assert world.provider.taken(subject).encrypted


def test_mail_waits_for_the_right_password_and_a_new_one_is_used_without_a_restart(world: World) -> None:
    recipient, other = f"{token()}@{RELAYED}", f"{token()} {token()}"
    world.provider.login = f"{USER}:{other}"
    try:
        subject = world.send(recipient)
        assert "535 5.7.8 wrong user name or password" in world.deferred(recipient)
        assert "535 5.7.8 wrong user name or password" in world.own.invoke("status", check=False).stdout.replace(
            "\n", " "
        )
        before = podman("container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", world.own.container("mail"))
        world.password.write_text(f"{other}\n")
        world.own.invoke("up")
        after = podman("container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", world.own.container("mail"))
        assert after.stdout == before.stdout
        world.flush()
        assert world.provider.taken(subject).login == f"{USER}:{other}"
    finally:
        world.provider.login = f"{USER}:{PASSWORD}"
        world.password.write_text(f"{PASSWORD}\n")
        world.own.invoke("up")


def test_the_password_is_where_root_in_the_mail_container_reads_it_and_nowhere_else(world: World) -> None:
    told = [podman("container", "inspect", name).stdout for name in world.own.pod.containers.values()]
    commands = [(process / "cmdline").read_bytes().decode() + (process / "environ").read_bytes().decode()
                for process in world.own.processes("mail")]  # fmt: skip
    documents = [file.read_text() for file in state.applied_folder(world.own.pod).iterdir()]
    assert not [text for text in (*told, *commands, *documents) if PASSWORD in text]
    for file in ("/var/mail/vhosts/.relay/password", "/run/postfix/relay-login.lmdb"):
        assert world.own.exec("mail", "stat", "-c", "%U %G %a", file).stdout.strip() == "root root 600"
    for content in ("accounts", "certificates", "web", "dns"):
        assert not run(["grep", "-rlF", PASSWORD, str(world.own.folder(content))], check=False).stdout


def test_by_default_all_mail_for_other_servers_goes_by_the_relay_host_and_on_port_465_over_tls_at_once(
    world: World,
) -> None:
    name, settings = f"{world.own.name}-all", replace(
        world.own.settings, relay_host="smtp.provider.example:465", relay_domains=()
    )  # fmt: skip
    environment = [f"--env={name}={value}" for name, value in settings.environment().items()]
    folder = world.password.parent / "mail" / ".relay"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "password").write_text(PASSWORD)
    provider = Receiver(PROVIDER, 465, world.certifier.context("smtp.provider.example"), f"{USER}:{PASSWORD}")
    with serving(provider):
        podman("run", "--detach", "--name", name, "--network", world.own.name, "--dns", world.own.address, *environment,
               "--volume", f"{folder.parent}:/var/mail/vhosts", "localhost/podserve-mail:latest")  # fmt: skip
        try:
            write_root(name, world.certifier.root)

            def well() -> None:
                if not podman("exec", name, "healthcheck", "mail", check=False).ok:
                    raise NotYet("it does not answer")

            wait_until(well, 10, "the mail service")
            subject = token()
            podman("exec", "--interactive", name, "sendmail", "anna@elsewhere.example",
                   stdin=f"Subject: {subject}\n\nHello.\n")  # fmt: skip
            assert provider.taken(subject).login == f"{USER}:{PASSWORD}"
        finally:
            podman("rm", "--force", "--time", "0", name, check=False)
