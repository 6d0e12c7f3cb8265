"""Mail to other servers: by a relay host, and with DANE and MTA-STS, where no message goes to a wrong server.

All servers are the tests' own, and so is the internet: a signed root zone with all its names.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from podserve import lifecycle, state
from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.choices import FilterMode, KeyType
from podserve.commands import podman, run
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import Forwarder, host_address
from podserve.waiting import NotYet, wait_until
from tests.testbed.internet import signed_zone
from tests.testbed.pod import PodUnderTest, prepare_test_pod
from tests.testbed.receivers import Receiver, add_address, serving
from tests.testbed.server import Account, letter, token
from tests.testbed.vantage import address_on

PROVIDER, PLAIN, DANE, STS, BOTH, POLICIES = (f"192.0.2.{number}" for number in range(30, 36))
"""The addresses of the mail servers and of the web server with their policies."""
DOMAINS = {"plain.example": PLAIN, "dane.example": DANE, "sts.example": STS, "both.example": BOTH}
"""The domains with a mail server of their own: with nothing, TLSA records, an MTA-STS policy, and with both."""
USER, PASSWORD = "pod@provider.example", "c0rrect horse:battery"
RELAYED = "relayed.example"
MTA_STS = 5006
"""The id of the user of mta_sts.py (docker/mail/Containerfile)."""


def root_zone(tlsa: Mapping[str, str]) -> str:
    """Return the root zone with all names of this internet. `tlsa` has the digests of keys, by domain."""
    lines = ["@ SOA ns. root. 1 3600 600 86400 0", "@ NS ns.", "ns. A 192.0.2.53", "*.google.com. A 192.0.2.80",
             f"smtp.provider.example. A {PROVIDER}"]  # fmt: skip
    for domain, address in DOMAINS.items():
        lines += [f"{domain}. MX 10 mx.{domain}.", f"mx.{domain}. A {address}"]
        if domain in tlsa:
            lines += [f"_25._tcp.mx.{domain}. TLSA 3 1 1 {tlsa[domain]}"]
        if domain in {"sts.example", "both.example"}:
            lines += [f'_mta-sts.{domain}. TXT "v=STSv1; id=1"', f"mta-sts.{domain}. A {POLICIES}"]
    return "\n".join(["", *lines, ""])


class PolicyServer(ThreadingHTTPServer):
    """A web server with policies, which may be gone."""

    gone = False


class PolicyHandler(BaseHTTPRequestHandler):
    """Serves the policy of each domain that has one: a certificate for the name of its mail server is required."""

    def do_GET(self) -> None:
        """Answer with the policy of the domain in the Host header."""
        domain = self.headers["Host"].removeprefix("mta-sts.")
        text = f"version: STSv1\nmode: enforce\nmx: mx.{domain}\nmax_age: 604800\n".encode()
        assert isinstance(self.server, PolicyServer)
        right = self.path == "/.well-known/mta-sts.txt" and not self.server.gone
        self.send_response(HTTPStatus.OK if right else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Certifier:
    """An authority, in a folder, and the TLS contexts of servers with certificates from it."""

    def __init__(self, folder: Path) -> None:
        """Make the authority in an empty folder. `digest` is that of the key made last."""
        self._folder, self.digest = folder, ""
        self.root = to_pem(authority.issue_for(Folder.at(folder), ("x.example",), KeyType.EC256).roots).decode()

    def context(self, *names: str) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names."""
        pair = authority.issue_for(Folder.at(self._folder), names, KeyType.EC256)
        (self._folder / "pair.pem").write_bytes(to_pem(pair.chain) + pair.key.pem)
        self.digest = pair.key.digest
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
    servers: Mapping[str, Receiver]
    policies: PolicyServer
    password: Path

    @property
    def provider(self) -> Receiver:
        """The relay host."""
        return self.servers[PROVIDER]

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


@contextmanager
def name_server(container: str, network: str, files: Path, root: str) -> Iterator[str]:
    """Yield the address of a name server on a network that serves a root zone. `files` is an empty folder."""
    files.chmod(0o755)
    (files / "root.zone").write_text(root)
    (files / "named.conf").write_text(
        'options { directory "/tmp"; pid-file none; recursion no; empty-zones-enable no; dnssec-validation no; };'
        'controls { }; zone "." { type primary; file "/root/root.zone"; };'
    )
    try:
        podman("run", "--detach", "--name", container, "--network", network, "--volume", f"{files}:/root:ro",
               "--entrypoint", "named", "localhost/podserve-dns:latest", "-g", "-c", "/root/named.conf")  # fmt: skip
        yield address_on(container, network)
    finally:
        podman("rm", "--force", "--time", "0", container, check=False)


def trust_anchor(own: PodUnderTest, key: str) -> None:
    """Let the pod's resolver trust a root's key (DNSKEY) in place of the internet's, and wait until it validates."""
    flags, protocol, algorithm, public = key.split(" ", 3)
    files = Path(podman("mount", own.container("dns")).stdout.strip()) / "etc/bind"
    (files / "bind.keys").write_text(f'trust-anchors {{ . static-key {flags} {protocol} {algorithm} "{public}"; }};')
    config = files / "named.conf"
    config.write_text(config.read_text().replace("forward only;", 'forward only; bindkeys-file "/etc/bind/bind.keys";'))
    own.exec("dns", "read-settings")

    def validates() -> None:
        if " ad" not in (said := own.exec("dns", "dig", "+tries=1", "@127.0.0.1", "dane.example", "MX").stdout):
            raise NotYet(said)

    wait_until(validates, 10, "the pod's resolver to validate")


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
        prepared = stack.enter_context(
            prepare_test_pod(
                "-transport", dnssec="yes", dns_over_https="yes", mta_sts="testing", relay_domains=RELAYED, **relay
            )
        )
        names = {where: f"mx.{domain}" for domain, where in DOMAINS.items()} | {PROVIDER: "smtp.provider.example"}
        servers, digests = {}, {}
        for where, name in names.items():
            add_address(where)
            port, login = (587, f"{USER}:{PASSWORD}") if where == PROVIDER else (25, "")
            servers[where] = Receiver(where, port, certifier.context(name), login)
            digests[name.removeprefix("mx.")] = certifier.digest
            stack.enter_context(serving(servers[where]))
        add_address(POLICIES)
        policies = PolicyServer((POLICIES, 443), PolicyHandler)
        context = certifier.context("mta-sts.sts.example", "mta-sts.both.example")
        policies.socket = context.wrap_socket(policies.socket, server_side=True)
        stack.enter_context(serving(policies))
        zone, anchor, _ = signed_zone(
            ".", root_zone({name: digests[name] for name in ("dane.example", "both.example")})
        )
        address = stack.enter_context(name_server(f"{prepared.name}-root", prepared.name, files, zone))
        own = replace(prepared, pod=Pod.of(replace(prepared.settings, forwarders=(Forwarder(host_address(address)),))))
        with state.locked(own.pod):
            started = lifecycle.up(own.pod)
        own = replace(own, postmaster=replace(own.postmaster, password=started.password))
        write_root(own.container("mail"), certifier.root)
        trust_anchor(own, anchor)
        yield World(
            own, own.new_account(), certifier, certifier.context("mx.wrong.example"), servers, policies, password
        )


def test_mail_goes_by_the_relay_host_with_the_login(world: World) -> None:
    received = world.provider.taken(world.send(f"anna@{RELAYED}"))
    assert received.encrypted
    assert received.login == f"{USER}:{PASSWORD}"


def test_mail_for_other_domains_than_those_of_the_relay_host_goes_to_their_own_servers(world: World) -> None:
    assert world.servers[PLAIN].taken(world.send("anna@plain.example")).encrypted


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
        shown = world.own.invoke("status", check=False).stdout.split()  # wrapped at the width of the terminal
        assert "535 5.7.8 wrong user name or password" in " ".join(shown)
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
        world.own.settings, relay_host="smtp.provider.example:465", relay_domains=(), filter=FilterMode.OFF
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


@pytest.mark.parametrize(
    ("domain", "fault", "said"),
    [
        ("dane.example", "a wrong certificate", "Server certificate not verified"),
        ("dane.example", "no encryption", "TLS is required"),
        ("sts.example", "a wrong certificate", "Server certificate not verified"),
        ("sts.example", "no encryption", "TLS is required"),
        # The certificate is right for MTA-STS, but its key is another one than in the TLSA record.
        ("both.example", "another key", "Server certificate not verified"),
    ],
)
def test_mail_waits_until_the_server_of_a_domain_with_dane_or_mta_sts_is_the_right_one(
    world: World, domain: str, fault: str, said: str
) -> None:
    server, recipient = world.servers[DOMAINS[domain]], f"{token()}@{domain}"
    contexts = {"a wrong certificate": world.wrong, "another key": world.certifier.context(f"mx.{domain}")}
    with server.presenting(contexts.get(fault)):
        subject = world.send(recipient)
        assert said in world.deferred(recipient)
    world.flush()
    assert server.taken(subject).encrypted


def test_mail_to_a_domain_without_dane_and_mta_sts_is_encrypted_if_its_server_offers_that(world: World) -> None:
    server = world.servers[PLAIN]
    with server.presenting(world.wrong):
        assert server.taken(world.send("anna@plain.example")).encrypted
    with server.presenting(None):
        assert not server.taken(world.send("anna@plain.example")).encrypted


def test_mail_waits_while_nobody_knows_the_policies(world: World) -> None:
    recipient = f"{token()}@plain.example"
    world.own.exec("mail", "s6-svc", "-wD", "-d", "/run/s6/mta-sts")
    try:
        subject = world.send(recipient)
        assert "client TLS configuration problem" in world.deferred(recipient)
    finally:
        world.own.exec("mail", "s6-svc", "-u", "/run/s6/mta-sts")
    world.flush()
    assert world.servers[PLAIN].taken(subject)


def python_runs(own: PodUnderTest) -> bool:
    """Return whether Python runs in the mail container. It has a user of its own."""
    found = [process for process in own.processes("mail") if (process / "comm").read_text() == "python3\n"]
    assert {process.stat().st_uid for process in found} <= {MTA_STS}
    return bool(found)


def test_policies_are_kept_and_python_runs_only_while_postfix_asks_for_them(world: World) -> None:
    server, cache = world.servers[STS], world.own.folder("mail") / ".mta-sts" / "policies"

    def ended() -> None:
        world.own.exec("mail", "pkill", "-x", "smtp", check=False)
        if python_runs(world.own):
            raise NotYet("it runs")

    server.taken(world.send("anna@sts.example"))
    assert python_runs(world.own)
    socket = world.own.exec("mail", "stat", "-c", "%u %G %a", "/run/mta-sts/socket")
    assert socket.stdout.strip() == f"{MTA_STS} postfix 660"
    wait_until(ended, 10, "Python to end")
    world.policies.gone = True
    try:
        with server.presenting(world.wrong):
            recipient = f"{token()}@sts.example"
            world.send(recipient)
            assert "Server certificate not verified" in world.deferred(recipient)
    finally:
        world.policies.gone = False
    wait_until(ended, 10, "Python to end")
    cache.write_bytes(b"damaged" * 1000)
    with server.presenting(world.wrong):
        recipient = f"{token()}@sts.example"
        subject = world.send(recipient)
        assert "Server certificate not verified" in world.deferred(recipient)
    world.flush()
    assert server.taken(subject).encrypted


def test_other_servers_find_the_policy_of_the_pods_domain_and_nothing_else_at_its_name(world: World) -> None:
    domain, mail_host = world.own.settings.domain, world.own.settings.mail_host
    there = replace(world.own.server, domain=f"mta-sts.{domain}")  # whose certificate is verified
    with there.http() as client, there.http(world.account) as member:
        policy = client.get("/.well-known/mta-sts.txt")
        assert policy.headers["Content-Type"] == "text/plain"
        assert policy.text == f"version: STSv1\nmode: testing\nmx: {mail_host}\nmax_age: 604800\n"
        others = ("/", "/webdav/", "/webdav/site/", "/git/", "/ca.crt", "/robots.txt", "/podserve/landing.html",
                  "/dns-query?dns=AAABAAABAAAAAAAAAmRlAAABAAE", "/.well-known/mta-sts.txt/",
                  "/.well-known/acme-challenge/x", "/.well-known/mta-sts.txt%00")  # fmt: skip
        found = {path: {who.get(path).status_code, who.request("PROPFIND", path).status_code}
                 for path in others for who in (client, member)}  # fmt: skip
        assert {path for path, codes in found.items() if not codes <= {400, 404}} == set()
        assert member.put("/.well-known/mta-sts.txt", content="x").status_code in {403, 404, 405}
        assert client.get("/.well-known/mta-sts.txt").text == policy.text
