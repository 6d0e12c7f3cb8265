"""Changes of the key under a zone that the pod serves: the TLSA record of a key is there before a port shows the key.

With `zone: public` the next key exists, and its record is in the zone, long before a certificate needs it. It may be
used two TTLs later, when no resolver has the records from before, and the old key's record stays for as long (RFC 7671,
section 8.1). The key is a file on the authority's volume, so an interruption at any moment loses nothing.
"""

import datetime as dt
import time

from podserve import volumes
from podserve.certificates import store
from podserve.certificates.keypair import LARGEST, Secret, new_key
from podserve.certificates.pem import parse_key
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import TTL, ZoneMode

_FILE = "next.pem"
"""The next key. The time of the file is that of its publication."""
WAIT = 2 * TTL
"""Seconds between the publication of a key's record and its use, and between its last use and the end of its record."""


def _folder(pod: Pod) -> Folder:
    return volumes.folder(pod.volumes["authority"].name)


def _next_key(pod: Pod) -> Secret | None:
    folder = _folder(pod)
    content = folder.read(_FILE, LARGEST)
    return parse_key(content, f"{folder}/{_FILE}") if content else None


def _set_next(pod: Pod, key: Secret) -> None:
    with _folder(pod).replacing(_FILE, 0o600) as file:
        file.write(key.pem)


def prepare(pod: Pod) -> None:
    """Make the next key, unless there is one. Without a public zone, remove it: its record is nowhere."""
    if pod.settings.zone is not ZoneMode.PUBLIC:
        _folder(pod).remove(_FILE)
    elif not (there := _next_key(pod)) or there.digest in store.key_digests(store.certificates_folder(pod)):
        _set_next(pod, new_key(pod.settings.key_type))


def tlsa_keys(pod: Pod) -> tuple[str, ...]:
    """Return the digests for TLSA records: of the key in use first, then of the last ones and of the next one.

    Without a public zone, a person types the records: then only the first.
    """
    folder = store.certificates_folder(pod)
    if pod.settings.zone is not ZoneMode.PUBLIC:
        return store.key_digests(folder)
    following = _next_key(pod)
    digests = [*store.key_digests(folder, time.time() - WAIT), *([following.digest] if following else [])]
    return tuple(dict.fromkeys(digests))


def confirm_published(pod: Pod, zone: str) -> None:
    """Begin the wait for the next key again unless its record is in the text of the zone that named serves."""
    following = _next_key(pod)
    if following and following.digest not in zone:
        _set_next(pod, following)


def ready_key(pod: Pod) -> Secret | None:
    """Return the next key if it may be used: its record is in the zone for long enough.

    A key of another type than that of the settings is replaced by a new one.
    """
    following = _next_key(pod)
    if following and not following.of_type(pod.settings.key_type):
        _set_next(pod, new_key(pod.settings.key_type))
        return None
    return following if following and not _left(pod) else None


def _left(pod: Pod) -> float:
    """Return the seconds until the next key may be used."""
    there = _folder(pod).look(_FILE)
    return max(0.0, there.st_mtime + WAIT - time.time()) if there else WAIT


def announce(pod: Pod, key: Secret) -> dt.datetime | None:
    """Make a key that a person brings the next one; return when it may be used (UTC), or None if it may be used now."""
    if pod.settings.zone is not ZoneMode.PUBLIC or key.digest in store.key_digests(store.certificates_folder(pod)):
        return None
    following = _next_key(pod)
    if not following or following.digest != key.digest:
        _set_next(pod, key)
    left = _left(pod)
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=left) if left else None
