"""The key by which secondary name servers copy the zone (TSIG, RFC 8945): on the volume `dns`, for named alone."""

import base64
import os
import secrets

from podserve import volumes
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.resolver import BIND

_LARGEST = 2**12
_BYTES = 32
"""As many as the hash has (RFC 8945, section 6)."""


def _file(pod: Pod) -> str:
    return f"{pod.settings.domain}.transfer.key"


def provide_transfer_key(pod: Pod) -> bool:
    """Make the key if there are secondaries and it is missing; return whether it was made."""
    there, domain = volumes.folder(pod.volumes["dns"].name), pod.settings.domain
    if not pod.settings.secondaries or there.look(_file(pod)):
        return False
    secret = base64.b64encode(secrets.token_bytes(_BYTES)).decode()
    with there.replacing(_file(pod), 0o640) as file:
        os.fchown(file.fileno(), 0, BIND)
        file.write(f'key "transfer.{domain}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'.encode("ascii"))
    return True


def key_statement(pod: Pod) -> str:
    """Return the key as a statement of named.conf. Raises Problem if there is none."""
    found = volumes.folder(pod.volumes["dns"].name).read(_file(pod), _LARGEST)
    if not found:
        raise Problem("there is no key for transfers yet: set secondaries (invoke.yaml), then: invoke up")
    return found.decode("ascii", errors="replace")
