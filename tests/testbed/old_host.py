"""An IMAP server that people come from: its folders are below INBOX, and dots separate them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.choices import KeyType
from podserve.commands import podman
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.testbed.forwarders import write_pair
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.vantage import address_on

CONFIGURATION = """\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
protocols = imap
log_path = /dev/stderr
ssl = required
ssl_server_cert_file = /old/tls.crt
ssl_server_key_file = /old/tls.key
passdb passwd-file {
  passwd_file_path = /old/passwd
  auth_username_format = anyone
}
userdb static {
}
first_valid_uid = 5000
mail_uid = vmail
mail_gid = vmail
mail_driver = maildir
mail_home = /mail/%{user}
mail_path = ~/Maildir
namespace inbox {
  inbox = yes
  separator = .
  prefix = INBOX.
}
"""
MANY = """
mkdir -p /mail/$1/Maildir/cur /mail/$1/Maildir/new /mail/$1/Maildir/tmp
for number in $(seq "$2"); do
    file=/mail/$1/Maildir/cur/$((1600000000 + number)).$number.a:2,S
    printf 'Subject: %s\\nMessage-ID: <%s@example.com>\\n\\nHi.\\n' "$number" "$number" > "$file"
done
chown -R vmail: "/mail/$1"
"""


@dataclass(frozen=True)
class OldHost:
    """The server: its container, its name, its password for any user, and the file of its authority."""

    container: str
    server: Server
    password: str
    authority: Path

    @property
    def origin(self) -> str:
        """The address as `users.migrate` takes it."""
        return f"imaps://{self.server.domain}"

    def new_user(self) -> Account:
        """Return a user with an empty mailbox."""
        return Account(f"{token()}@example.com", self.password)

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Stop the server with all its sessions, and start it again afterwards."""
        podman("exec", self.container, "s6-svc", "-wd", "-d", "/run/old")
        try:
            yield
        finally:
            podman("exec", self.container, "s6-svc", "-wu", "-u", "/run/old")
            wait_until(self.answers, 10, "the old host to answer again")

    def answers(self) -> None:
        """Log in. Raises NotYet if that is not possible."""
        try:
            with self.server.imap(self.new_user()):
                pass
        except OSError as error:
            raise NotYet(str(error)) from error

    def put(self, user: Account, count: int) -> None:
        """Put so many messages into the INBOX of a new user."""
        podman("exec", self.container, "sh", "-c", MANY, "sh", user.address, str(count))


@contextmanager
def old_host(test_pod: PodUnderTest, folder: Path) -> Iterator[OldHost]:
    """Play the server on the pod's network. `folder` is an empty folder."""
    name, password, container = (
        f"{token()}.sethlakowske.com",
        f"%{{user}} $HOME #'\"\\ {token()}",
        f"{test_pod.name}-old",
    )
    signer, pair = folder / "authority", folder / "pair"
    for made in (signer, pair):
        made.mkdir()
        made.chmod(0o755)
    write_pair(signer, pair, name)
    roots = folder / "roots.pem"
    roots.write_bytes(to_pem(authority.issue_for(Folder.at(signer), (name,), KeyType.EC256).roots))
    (pair / "dovecot.conf").write_text(CONFIGURATION)
    (pair / "run").write_text("#!/bin/sh\nexec dovecot -F -c /old/dovecot.conf\n")
    (pair / "passwd").write_text(f"anyone:{{PLAIN}}{password}\n")
    start = "install -d -o vmail /mail && install -D /old/run /run/old/run && exec s6-supervise /run/old"
    try:
        podman("run", "--detach", "--name", container, "--network", test_pod.name, "--volume", f"{pair}:/old:ro",
               "--entrypoint", "sh", "localhost/podserve-mail:latest", "-c", start)  # fmt: skip
        address = address_on(container, test_pod.name)
        test_pod.name_addresses({name: address})
        made_host = OldHost(container, Server(address, name, str(roots)), password, roots)

        wait_until(made_host.answers, 10, "the old host to answer")
        yield made_host
    finally:
        podman("rm", "--force", "--time", "0", container, check=False)
