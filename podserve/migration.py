"""Copies a mailbox from another server by IMAP, with Dovecot's `doveadm import` in the mail container (`migrate`)."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from podserve.commands import environment, lines
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.values import domain_name

IMAPS = 993
_LARGEST = 2**20
"""Bytes of a file with root certificates at most."""


@dataclass(frozen=True)
class Origin:
    """The mailbox to copy: its server, the user name there, and the root certificates (PEM) of a private authority."""

    host: str
    port: int
    user: str
    authority: str = ""


def mail_origin(address: str, user: str, authority: str = "") -> Origin:
    """Return the mailbox at an address such as `imaps://imap.example.org`. `authority` is the path of a PEM file.

    Raises Problem for another form: passwords go to no server without TLS.
    """
    expected = "expected imaps://HOST or imaps://HOST:PORT, with the name in the server's certificate"
    try:
        parts = urlsplit(address)
        host, port = domain_name()(parts.hostname or ""), parts.port or IMAPS
    except ValueError as error:
        raise Problem(f"{address!r} is no mail server to copy from: {expected}") from error
    if parts.scheme != "imaps" or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise Problem(f"{address!r} is no mail server to copy from: {expected}")
    if not user or not user.isprintable():
        raise Problem("--user is missing: expected the name that logs in at the other server")
    return Origin(host, port, user, _root_certificates(authority) if authority else "")


def _root_certificates(name: str) -> str:
    try:
        with Path(name).open() as file:
            text = file.read(_LARGEST)
    except (OSError, UnicodeError) as error:
        raise Problem(f"{name} cannot be read: expected a PEM file of root certificates") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Problem(f"{name} has no certificate: expected a PEM file of root certificates")
    return text


def copy_mail(pod: Pod, account: str, origin: Origin, password: str) -> Generator[str, None, None]:
    """Copy what is new in another mailbox into that of an account, and yield lines of progress. Nothing is deleted.

    Raises Problem after the last line if the other server cannot be used, or if the copy ends early: the next one goes
    on from there.
    """
    if not password or not password.isprintable():
        raise Problem("there is no password: expected it as the first line of standard input (--password-stdin)")
    # Standard input is in no process list and in no file. It stays open: when this task ends, so does the copy.
    authority = filter(None, origin.authority.splitlines())
    said = "".join(f"{line}\n" for line in (origin.host, origin.port, origin.user, password, *authority, ""))
    command = "podman", "exec", "--interactive", "--user", "vmail", pod.containers["mail"], "migrate", account
    yield from lines(command, env=environment(), stdin=said)
