"""The password for the relay host: from the person's file to the mail volume, where only root can read it."""

from podserve import volumes
from podserve.commands import podman
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.private_file import read_private

_FOLDER, _FILE = ".relay", "password"
"""The file on the mail volume (docker/mail, relay-login)."""
_LONGEST = 1000
"""Bytes of a password. A line of Postfix's client has some 2,000 bytes at most (line_length_limit)."""


def _password(pod: Pod) -> bytes:
    """Return the password of the settings; empty without one. Raises Problem if its file cannot be used."""
    file = pod.settings.relay_password_file
    if not file:
        return b""
    content = read_private(file.expanduser(), "relay_password_file", _LONGEST + 2)
    password = (content.splitlines() or [b""])[0]
    if not password or password != password.strip() or len(password) > _LONGEST or not password.isascii():
        raise Problem(
            f"the first line of relay_password_file, {file}, is no password: expected at most {_LONGEST} ASCII "
            "characters, without spaces at the beginning and the end"
        )
    return password


def provide_password(pod: Pod, *, runs: bool) -> None:
    """Give the mail service the password of the settings, or take the earlier one away.

    With `runs` Postfix reads it now, otherwise when the pod starts. Raises Problem if the file cannot be used: then
    nothing has changed.
    """
    password, volume = _password(pod), volumes.folder(pod.volumes["mail"].name)
    if not password and not volume.has_folder(_FOLDER):
        return
    there = volume.ensure(_FOLDER, 0o700, 0)
    if (there.read(_FILE, _LONGEST) or b"") == password:
        return
    with there.replacing(_FILE, 0o600) as file:
        file.write(password)
    if runs:
        podman("exec", pod.containers["mail"], "relay-login")
