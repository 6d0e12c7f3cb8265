"""Mail servers of other domains, in the tests' own network namespace: each keeps what it got, and may misbehave."""

import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from podserve.commands import run
from podserve.waiting import NotYet, wait_until


@dataclass(frozen=True)
class Received:
    """A message, whether it came over TLS, its login (`user:password`; empty without one), and its sender."""

    message: Message
    encrypted: bool
    login: str
    sender: str


class _Session(socketserver.StreamRequestHandler):
    server: "Receiver"

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode("ascii"))

    def _encrypt(self) -> None:
        assert self.server.context
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.encrypted = True
        self.setup()

    def handle(self) -> None:
        """Speak SMTP until the client goes, or breaks off a handshake."""
        self.encrypted, self.login, self.sender = False, "", ""
        try:
            if self.server.implicit_tls:
                self._encrypt()
            self._say("220 ready")
            while line := self.rfile.readline().decode("ascii").strip():
                self._answer(*line.partition(" ")[::2])
        except OSError:
            return

    def finish(self) -> None:
        """End the session, whatever the client did."""
        with suppress(OSError):
            super().finish()
        self.request.close()

    def _answer(self, word: str, rest: str) -> None:
        match word.upper():
            case "EHLO":
                offers = ["receiver", *(["STARTTLS"] if self.server.context and not self.encrypted else []),
                          *(["AUTH PLAIN"] if self.server.login else [])]  # fmt: skip
                for offer in offers:
                    self._say(f"250-{offer}")
                self._say("250 8BITMIME")
            case "STARTTLS" if self.server.context:
                self._say("220 go on")
                self._encrypt()
            case "AUTH":
                given = base64.b64decode(rest.split()[1]).decode().split("\0")
                self.server.logins.append(f"{given[1]}:{given[2]}")
                self.login = self.server.logins[-1] if self.server.logins[-1] == self.server.login else ""
                self._say("235 welcome" if self.login else "535 5.7.8 wrong user name or password")
            case "MAIL" if self.server.login and not self.login:
                self._say("530 5.7.0 log in first")
            case "MAIL":
                self.sender = rest.partition("<")[2].partition(">")[0]
                self._say("250 fine")
            case "RCPT" if any(f"<{name}@" in rest for name in self.server.unknown):
                self._say("550 5.1.1 nobody has this name")
            case "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                message = message_from_bytes(b"".join(lines))
                self.server.received.append(Received(message, self.encrypted, self.login, self.sender))
                self._say("250 taken")
            case "QUIT":
                self._say("221 bye")
            case _:
                self._say("250 fine")


class Receiver(socketserver.ThreadingTCPServer):
    """A mail server: its TLS context (None: it offers no STARTTLS), the login that it wants, and what it got.

    `logins` are those that clients tried, as `user:password`. `unknown` are names that it refuses as recipients.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int, context: ssl.SSLContext | None, login: str = "") -> None:
        """Listen at an address of this network namespace."""
        self.context, self.login, self.implicit_tls = context, login, port == 465
        self.received: list[Received] = []
        self.logins: list[str] = []
        self.unknown: set[str] = set()
        super().__init__((address, port), _Session)

    def taken(self, subject: str) -> Received:
        """Wait for the one message with this subject, and return it."""

        def check() -> Received:
            found = [received for received in self.received if received.message["Subject"] == subject]
            if not found:
                raise NotYet(f"it has {len(self.received)} others; logins: {len(self.logins)}")
            assert len(found) == 1, f"{subject} came {len(found)} times"
            return found[0]

        return wait_until(check, 10, f"the message {subject} to another server")

    @contextmanager
    def presenting(self, context: ssl.SSLContext | None) -> Iterator[None]:
        """Use another TLS context, or none, during the body."""
        usual, self.context = self.context, context
        try:
            yield
        finally:
            self.context = usual


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[None]:
    """Serve in a thread during the body."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def add_address(address: str) -> None:
    """Give this network namespace another address."""
    run(["ip", "address", "replace", f"{address}/32", "dev", "lo"])
