"""Mail to other servers: the pod connects to the server of the recipient's domain, and encrypts."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from email import message_from_string

import pytest

from podserve.commands import podman
from podserve.waiting import NotYet, wait_until
from tests.testbed.mail import wait_until_left
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, letter, token

HASH = "$2y$04$abcdefghijklmnopqrstuuLPmuYTZxDOBXSvsvmE1LnBBWGdz5kXi"
"""A bcrypt hash. Nobody logs in to the receiving server."""


@dataclass(frozen=True)
class Receiver:
    """Another mail server: its container, and an address there."""

    container: str
    address: str

    def message(self) -> str:
        """Wait for the one message in the mailbox, and return it."""

        def check() -> str:
            name, _, domain = self.address.partition("@")
            folder = f"/var/mail/vhosts/{domain}/{name}/Maildir/new"
            found = podman("exec", self.container, "sh", "-c", f"cat {folder}/*", check=False)
            if not found.ok:
                raise NotYet("the mailbox is empty")
            return found.stdout

        return wait_until(check, 10, f"a message to {self.address}")


@pytest.fixture(scope="module")
def receiver(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A mail server of another domain on the pod's network: a container of the mail image."""
    name, domain = f"{test_pod.name}-receiver", f"{token()}.sethlakowske.com"
    accounts = tmp_path_factory.mktemp("accounts")
    accounts.chmod(0o755)
    (accounts / "passwd").write_text(f"anna@{domain}:{HASH}\n")
    settings = replace(
        test_pod.settings, domain=domain, mail_host=domain, postmaster="anna", submissions=False, managesieve=False
    )
    environment = [word for key, value in settings.environment().items() for word in ("--env", f"{key}={value}")]
    mount = f"{accounts}:/data/state/accounts"
    podman("run", "--detach", "--name", name, "--network", test_pod.name, "--volume", mount, *environment,
           "localhost/podserve-mail:latest")  # fmt: skip
    try:
        address = test_pod.address_of(name)
        test_pod.name_addresses({domain: address})

        def listens() -> None:
            with closing(socket.create_connection((address, 25), timeout=1)) as client:
                if not client.recv(100).startswith(b"220 "):
                    raise NotYet("it does not greet")

        wait_until(listens, 10, "the receiving server")
        yield Receiver(name, f"anna@{domain}")
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def test_a_port_that_a_setting_closes_has_no_listener(receiver: Receiver) -> None:
    found = podman("exec", receiver.container, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    listening = {int(line.split()[1].rpartition(":")[2], 16) for line in found.splitlines() if " 0A " in line}
    assert {25, 587} <= listening
    assert not {465, 4190} & listening
    assert "managesieve" not in podman("exec", receiver.container, "doveadm", "service", "status").stdout


def test_mail_to_another_server_arrives_there_encrypted_and_leaves_the_queue(
    server: Server, test_pod: PodUnderTest, alice: Account, receiver: Receiver
) -> None:
    subject = token()
    with server.submission(alice) as client:
        client.send_message(letter(alice.address, receiver.address, subject))
    message = message_from_string(receiver.message())
    assert message["Subject"] == subject
    assert message["Return-Path"] == f"<{alice.address}>"
    transfers = [" ".join(words.split()) for words in message.get_all("Received", [])]
    [from_the_pod] = [words for words in transfers if words.startswith(f"from mail.{server.domain} ")][:1]
    assert re.search(r"\(using TLSv1\.3 .* with ESMTPS ", from_the_pod), transfers
    wait_until_left(test_pod, receiver.address, 5, "the message to leave the queue")
