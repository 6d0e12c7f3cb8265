"""The inside of the containers: users, capabilities, mounts, ports, probes, versions and images."""

import json
import os
import re
import signal
import smtplib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from podserve.certificates.keypair import NAMES
from podserve.commands import podman, run
from podserve.shared_file import GROUP
from podserve.waiting import NotYet, wait_until
from tests.testbed.images import MB, unique
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account
from tests.testbed.vantage import first_process

SERVICES = ("apache", "mail", "dns")
PORTS = {
    "apache": {"tcp/80", "tcp/443"},
    "mail": {"tcp/25", "tcp/465", "tcp/587", "tcp/143", "tcp/993", "tcp/995", "tcp/4190"},
    "dns": {"tcp/53", "udp/53"},
}
CAPABILITIES = {
    "apache": {"CHOWN", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"},
    "mail": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"},
    "dns": {"NET_BIND_SERVICE"},
}
CAPABILITY_NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
}
"""The numbers in linux/capability.h."""
PROBES = {"apache": "http", "mail": "mail", "dns": "dns-alive"}
MOUNTS = {
    "apache": {"/data/web": True, "/data/state/certificates": False, "/data/state/accounts": False},
    "mail": {
        "/var/mail/vhosts": True,
        "/data/state/certificates": False,
        "/data/state/accounts": False,
        "/data/state/dkim": False,
    },
    "dns": {"/data/dns": False},
}
"""The folders at which each container mounts its claims, and whether it may write there."""
AS_ROOT = {
    "apache": {"s6-svscan", "s6-supervise", "apache2", "on-change", "inotifywait"},
    "mail": {"s6-svscan", "s6-supervise", "on-change", "inotifywait", "master", "dovecot", "anvil", "log", "config"},
    "dns": set(),
}
"""The only programs that may run as root: they bind ports, start the workers, and read the key and the accounts.

Dovecot's anvil, log and config start as root, and have no connections to clients.
"""

TAKER = """
use Socket; my ($own, @ports) = @ARGV; my %taken;
for (@ports) {
    my ($protocol, $port) = split "/";
    # SO_REUSEADDR is 2, SO_REUSEPORT 15.
    for my $address ("0.0.0.0", "127.0.0.1", $own) { for my $reuse ([], [2], [15], [2, 15]) {
        socket(my $one, PF_INET, $protocol eq "udp" ? SOCK_DGRAM : SOCK_STREAM, 0) or die;
        setsockopt($one, SOL_SOCKET, $_, 1) for @$reuse;
        bind($one, sockaddr_in($port, inet_aton($address))) or next;
        $taken{$_} = 1 if $protocol eq "udp" or listen($one, 1);
    } }
}
print join " ", sort keys %taken;
"""
"""A Perl program that tries to listen on the ports of other services, and prints those that it could take."""


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


@pytest.fixture
def host(test_pod: PodUnderTest, service: str) -> Host:
    """The container of the service, for testinfra."""
    return testinfra.get_host(f"podman://{test_pod.container(service)}")


@pytest.fixture
def container(test_pod: PodUnderTest, service: str) -> Any:
    """The container of the service, as `podman container inspect` describes it."""
    return json.loads(podman("container", "inspect", test_pod.container(service)).stdout)[0]


@dataclass(frozen=True)
class Process:
    """A process in a container: its user and name there, and its id on this host."""

    user: str
    name: str
    number: int


def processes(test_pod: PodUnderTest, service: str) -> list[Process]:
    """Return the processes of a service's container."""
    file = Path(f"/proc/{first_process(test_pod.container(service))}/root/etc/passwd")
    users = {line.split(":")[2]: line.split(":")[0] for line in file.read_text().splitlines()}
    found = []
    for process in test_pod.processes(service):
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        except OSError:
            continue  # the process has ended meanwhile
        found.append(Process(users[status["Uid"].split()[1]], status["Name"].strip(), int(process.name)))
    assert found
    return found


def test_workers_run_unprivileged(test_pod: PodUnderTest, service: str) -> None:
    def usual() -> list[Process]:
        running = processes(test_pod, service)
        if others := {process.name for process in running if process.user == "root"} - AS_ROOT[service]:
            raise NotYet(f"root runs {others}")  # for a moment after a change of the accounts: mailboxes
        return running

    assert {process.user for process in wait_until(usual, 5, "the usual programs of root")} - {"root"}


def test_the_first_process_is_the_daemon_or_its_supervisor(test_pod: PodUnderTest, service: str) -> None:
    first = {"apache": "s6-svscan", "mail": "s6-svscan", "dns": "named"}[service]
    assert Path(f"/proc/{first_process(test_pod.container(service))}/comm").read_text().strip() == first


def test_no_process_can_gain_privileges(test_pod: PodUnderTest, service: str) -> None:
    wanted = sum(1 << CAPABILITY_NUMBERS[name] for name in CAPABILITIES[service])
    for process in processes(test_pod, service):
        try:
            lines = Path(f"/proc/{process.number}/status").read_text().splitlines()
        except OSError:
            continue  # the process has ended meanwhile
        status = dict(line.split(":", 1) for line in lines)
        assert status["NoNewPrivs"].strip() == "1", process
        assert int(status["CapBnd"], 16) == wanted, process
        if process.user != "root":
            # named keeps the capability with which it binds port 53 on a new interface.
            kept = 1 << CAPABILITY_NUMBERS["NET_BIND_SERVICE"] if process.name == "named" else 0
            assert int(status["CapEff"], 16) | kept == kept, process


def test_the_root_file_system_is_read_only(host: Host) -> None:
    assert host.run("touch /etc/written").rc != 0
    assert host.run("touch /usr/local/bin/written").rc != 0


def test_claims_are_mounted_where_the_architecture_says(container: Any, service: str) -> None:
    volumes = {mount["Destination"]: mount["RW"] for mount in container["Mounts"] if mount["Type"] == "volume"}
    scratch = {path for path in volumes if path in {"/run", "/run/named", "/tmp"}}  # noqa: S108  # the emptyDirs
    assert {path: writable for path, writable in volumes.items() if path not in scratch} == MOUNTS[service]


@pytest.mark.parametrize(
    ("service", "path"),
    [
        *((name, f"/data/state/{content}") for name in ("apache", "mail") for content in ("certificates", "accounts")),
        ("dns", "/data/dns"),
    ],
)
def test_a_service_cannot_write_what_tasks_write(test_pod: PodUnderTest, service: str, path: str) -> None:
    assert not test_pod.exec(service, "touch", f"{path}/written", check=False).ok


KEYS = [f"/data/state/certificates/current/{name}.key" for name in NAMES]

USERS = [("apache", "www-data"), ("mail", "vmail"), ("mail", "postfix"), ("mail", "_rspamd")]


@pytest.mark.parametrize("key", [*KEYS, "/run/tls/chains.pem"])
@pytest.mark.parametrize(("service", "user"), USERS)
def test_a_key_is_readable_by_root_alone(test_pod: PodUnderTest, service: str, user: str, key: str) -> None:
    reading = ("podman", "exec", "--user", user, test_pod.container(service), "cat", key)
    assert not podman(*reading[1:], check=False).ok
    assert test_pod.exec(service, "stat", "-L", "-c", "%a %u", key).stdout.strip() == "600 0"


def test_no_key_and_no_account_is_in_an_image(test_pod: PodUnderTest) -> None:
    secrets = r"PRIVATE KEY-----$|:\$2[aby]\$[0-9]"
    for image in ("base", "certificates", *SERVICES):
        name = f"localhost/podserve-{image}:latest"
        search = (
            "grep",
            name,
            "-rlIE",
            secrets,
            "/etc",
            "/root",
            "/run",
            "/srv",
            "/usr/local",
            "/usr/share/podserve",
            "/var",
        )
        found = podman("run", "--rm", "--network", "none", "--entrypoint", *search, check=False)
        assert not found.stdout, image
    assert test_pod.postmaster.password not in test_pod.logs()


@pytest.mark.parametrize(
    ("service", "user", "taken"),
    [
        ("apache", "www-data", set()),
        ("mail", "postfix", set()),
        ("mail", "vmail", set()),
        ("mail", "dovenull", set()),
        ("dns", "bind", set()),
        # Known exceptions (docs/security.md): apache and mail need CAP_NET_BIND_SERVICE. The ports can be taken because
        # BIND sets SO_REUSEADDR, and Postfix SO_REUSEPORT.
        ("apache", "root", {"udp/53", "tcp/25", "tcp/465", "tcp/587"}),
        ("mail", "root", {"udp/53"}),
    ],
)
def test_a_process_takes_no_port_of_another_service_but_what_is_known(
    test_pod: PodUnderTest, service: str, user: str, taken: set[str]
) -> None:
    others = sorted(set().union(*(ports for name, ports in PORTS.items() if name != service)))
    # Workers have no capabilities, so setpriv drops them. In dns nothing runs as root, and named may bind ports.
    identity = (
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user not in {"root", "bind"} else []
    )
    argv = [*identity, "perl", "-e", TAKER, test_pod.address, *others]
    assert set(test_pod.exec(service, *argv).stdout.split()) == taken


def test_listening_sockets_are_the_port_table_and_nothing_else(test_pod: PodUnderTest) -> None:
    # The containers share the pod's network namespace, so any of them sees all sockets.
    first = next(process.number for process in processes(test_pod, "dns"))
    listed = run(
        ["nsenter", f"--net=/proc/{first}/ns/net", "ss", "--numeric", "--listening", "--tcp", "--udp", "--no-header"]
    )
    sockets = [line.split() for line in listed.stdout.splitlines()]
    assert {f"{words[0]}/{words[4].rsplit(':', 1)[-1]}" for words in sockets} == set().union(*PORTS.values())


def test_the_published_ports_are_the_port_table_and_nothing_else(test_pod: PodUnderTest) -> None:
    found = json.loads(podman("pod", "inspect", test_pod.name).stdout)
    infra = (found[0] if isinstance(found, list) else found)["InfraContainerID"]
    (inspected,) = json.loads(podman("container", "inspect", infra).stdout)
    published = {
        (f"{protocol}/{inner}", place["HostPort"], place["HostIp"])
        for port, places in inspected["HostConfig"]["PortBindings"].items()
        for inner, protocol in [port.split("/")]
        for place in places
    }
    table = set().union(*PORTS.values())
    bound = str(test_pod.settings.bind)
    assert published == {(port, port.partition("/")[2], bound) for port in table}


def test_the_accounts_file_has_slow_hashes_that_only_root_and_its_group_read(test_pod: PodUnderTest) -> None:
    account = test_pod.add_account()
    test_pod.invoke("users.passwd", account.address, "--password-stdin", stdin=f"{account.password}\n")
    file = test_pod.folder("accounts") / "passwd"
    status = file.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 0, GROUP)
    hashes = dict(line.split(":", 1) for line in file.read_text().splitlines())
    for address in (account.address, test_pod.postmaster.address):
        # bcrypt at cost 10, which OWASP's Password Storage Cheat Sheet asks for at least.
        assert re.fullmatch(r"\$2y\$10\$[./A-Za-z0-9]{53}", hashes[address])


def test_versions_are_the_ones_the_project_is_written_for(test_pod: PodUnderTest) -> None:
    assert "Apache/2.4." in test_pod.exec("apache", "apache2", "-v").stdout
    assert test_pod.exec("mail", "postconf", "-h", "mail_version").stdout.startswith("3.10.")
    assert test_pod.exec("mail", "dovecot", "--version").stdout.startswith("2.4.")
    assert "BIND 9.20." in test_pod.exec("dns", "named", "-v").stdout


def test_dovecot_and_postfix_sync_what_they_accept(test_pod: PodUnderTest) -> None:
    assert test_pod.exec("mail", "doveconf", "-h", "mail_fsync").stdout.strip() in {"optimized", "always"}
    # Postfix always syncs: no parameter disables this.
    assert "fsync" not in test_pod.exec("mail", "postconf").stdout


def test_images_carry_oci_labels(test_pod: PodUnderTest) -> None:
    del test_pod
    images = [f"localhost/podserve-{name}:latest" for name in ("base", "certificates", *SERVICES)]
    found = podman("image", "inspect", "--format", "{{json .Config.Labels}}", *images).stdout.splitlines()
    for image, described in zip(images, found, strict=True):
        labels = json.loads(described)
        for name in ("version", "revision", "source", "created"):
            assert labels.get(f"org.opencontainers.image.{name}"), (image, name)
        assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"]), image


def test_all_images_together_hold_at_most_420_mb(test_pod: PodUnderTest) -> None:
    del test_pod
    assert sum(unique()) <= 420 * MB


def test_images_hold_no_documentation_locales_package_lists_or_compilers(test_pod: PodUnderTest, service: str) -> None:
    root = Path(f"/proc/{first_process(test_pod.container(service))}/root")
    assert (root / "usr/share/doc").is_dir()
    folders = "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "usr/share/doc", "usr/share/info"
    found = [file for folder in folders for file in (root / folder).rglob("*") if file.is_file()]
    files = {str(file.relative_to(root)) for file in found if not file.is_symlink()}
    assert not {file for file in files if not re.fullmatch(r"usr/share/doc/(.*/)?copyright", file)}
    for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"):
        assert not {"cc", "gcc", "make"} & {file.name for file in (root / folder).iterdir()}


def test_the_pod_is_named_and_set_up_as_the_architecture_says(test_pod: PodUnderTest) -> None:
    found = json.loads(podman("pod", "inspect", test_pod.name).stdout)
    document = found[0] if isinstance(found, list) else found
    assert document["State"] == "Running"
    names = {entry["Name"] for entry in document["Containers"]}
    assert {f"{test_pod.name}-{service}" for service in SERVICES} <= names
    assert len(names) == 1 + len(SERVICES)
    assert test_pod.exec("apache", "hostname").stdout.strip() == test_pod.settings.domain
    for name in (test_pod.settings.domain, test_pod.settings.mail_host):
        assert test_pod.exec("mail", "getent", "hosts", name).stdout.startswith("127.0.0.1")


def test_probes_run_every_three_seconds_and_fail_after_five(
    test_pod: PodUnderTest, container: Any, service: str
) -> None:
    check = container["Config"]["Healthcheck"]
    assert check["Interval"] == 3_000_000_000
    assert check["Retries"] == 5
    assert f"healthcheck {PROBES[service]}" in " ".join(check["Test"])
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert podman("healthcheck", "run", test_pod.container(service), check=False).ok


def test_each_probe_answers_within_a_tenth_of_a_second(test_pod: PodUnderTest) -> None:
    for service, probe in (*PROBES.items(), ("dns", "dns-ready")):
        # Bash measures the time inside, because `podman exec` takes as long again. The fastest of ten tries counts,
        # because other load delays some of them.
        script = f"TIMEFORMAT=%R; for try in {{1..10}}; do time healthcheck {probe}; done"
        timed = test_pod.exec(service, "bash", "-c", script, check=False)
        assert min(float(word) for word in timed.stderr.split() if word[:1].isdigit()) < 0.1, timed


@pytest.mark.parametrize(
    ("service", "names"),
    [
        ("apache", {"apache2"}),
        ("mail", {"master", "smtpd"}),
        ("mail", {"dovecot", "imap-login"}),
        ("dns", {"named"}),
    ],
)
def test_a_frozen_service_fails_its_probe_and_the_probe_ends(
    test_pod: PodUnderTest, service: str, names: set[str]
) -> None:
    frozen = [process.number for process in processes(test_pod, service) if process.name in names]
    for number in frozen:
        os.kill(number, signal.SIGSTOP)
    try:
        probed = test_pod.exec(service, "timeout", "5", "healthcheck", PROBES[service], check=False)
        assert probed.code not in {0, 124}, probed  # 124: timeout ended it
    finally:
        for number in frozen:
            os.kill(number, signal.SIGCONT)

    def well() -> None:
        if not test_pod.exec(service, "healthcheck", PROBES[service], check=False).ok:
            raise NotYet("the probe fails")

    wait_until(well, 10, "the thawed service to answer again")


@pytest.mark.parametrize(
    ("image", "setting", "said"),
    [
        ("apache", "DOMAIN=two words", "ServerName"),
        ("dns", "FORWARDERS=nonsense", "nonsense"),
        ("dns", "DNSSEC=perhaps", "expected yes or no"),
        ("mail", "MESSAGE_SIZE_LIMIT=much", "message_size_limit"),
        ("mail", "IMAP_SESSIONS=many", "mail_max_userip_connections"),
    ],
)
def test_a_bad_setting_ends_the_start_with_the_daemons_own_words(
    test_pod: PodUnderTest, image: str, setting: str, said: str
) -> None:
    settings = {**test_pod.pod.manifests.config["data"], **dict([setting.split("=", 1)])}
    words = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
    started = podman("run", "--rm", "--network", "none", *words, f"localhost/podserve-{image}:latest", check=False)
    assert not started.ok
    assert said in started.stdout + started.stderr


def test_postfix_takes_its_settings_at_once_when_they_are_written(test_pod: PodUnderTest) -> None:
    settings = [f"--env={name}={value}" for name, value in test_pod.pod.manifests.config["data"].items()]
    # Postfix's programs wait until main.cf is older than a second, in case it is still being written.
    query = "postmap -q key 'inline:{key=value}'"
    script = f"mkdir /run/dovecot /run/postfix && mail-settings && date +%s%N && {query} && date +%s%N"
    ran = podman("run", "--rm", "--network", "none", "--entrypoint", "sh", *settings, "localhost/podserve-mail:latest",
                 "-c", script)  # fmt: skip
    before, value, after = ran.stdout.split()
    assert value == "value"
    assert (int(after) - int(before)) / 1e9 < 1


def test_submission_is_back_at_once_after_it_met_no_dovecot(test_pod: PodUnderTest, alice: Account) -> None:
    test_pod.exec("mail", "s6-svc", "-wd", "-d", "/run/s6/dovecot")
    try:
        test_pod.exec("mail", "pkill", "-x", "smtpd", check=False)  # an old smtpd would not ask Dovecot again
        with pytest.raises((smtplib.SMTPException, OSError)), test_pod.server.submission(alice):
            pass
    finally:
        test_pod.exec("mail", "s6-svc", "-u", "/run/s6/dovecot")

    def back() -> None:
        try:
            with test_pod.server.submission(alice):
                pass
        except smtplib.SMTPException as error:
            raise NotYet(str(error)) from error

    wait_until(back, 5, "submission to serve again")
