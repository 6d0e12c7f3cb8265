"""Changes of the keys under a zone that the pod serves: the TLSA record of a key is there before a port shows the key.

With `zone: public` the next keys exist, one for each key type, and their records are in the zone, long before a
certificate needs them. They may be used two TTLs later, when no resolver has the records from before, and the old keys'
records stay for as long (RFC 7671, section 8.1). The keys are one file on the authority's volume, so an interruption at
any moment loses nothing.
"""

import datetime as dt
import time
from collections.abc import Iterable

from podserve import volumes
from podserve.certificates import store
from podserve.certificates.keypair import LARGEST, Secret, new_key
from podserve.certificates.pem import parse_keys
from podserve.choices import ZoneMode
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.values import TTL

_FILE = "next.pem"
"""The next keys. The time of the file is that of their publication."""
WAIT = 2 * TTL
"""Seconds between the publication of a key's record and its use, and between its last use and the end of its record."""


def _folder(pod: Pod) -> Folder:
    return volumes.folder(pod.volumes["authority"].name)


def _next_keys(pod: Pod) -> tuple[Secret, ...]:
    folder = _folder(pod)
    content = folder.read(_FILE, LARGEST)
    return parse_keys(content, f"{folder}/{_FILE}") if content else ()


def _set_next(pod: Pod, keys: Iterable[Secret]) -> None:
    with _folder(pod).replacing(_FILE, 0o600) as file:
        file.write(b"".join(key.pem for key in keys))


def _digests(keys: Iterable[Secret]) -> set[str]:
    return {key.digest for key in keys}


def prepare(pod: Pod) -> None:
    """Make the next keys, unless there are some. Without a public zone, remove them: their records are nowhere."""
    if pod.settings.zone is not ZoneMode.PUBLIC:
        _folder(pod).remove(_FILE)
        return
    there = _digests(_next_keys(pod))
    if not there or there & set(store.key_digests(store.certificates_folder(pod))):
        _set_next(pod, map(new_key, pod.settings.key_type))


def tlsa_keys(pod: Pod) -> tuple[str, ...]:
    """Return the digests for TLSA records: of the keys in use first, then of the last ones and of the next ones.

    Without a public zone, a person types the records: then only the first.
    """
    folder = store.certificates_folder(pod)
    if pod.settings.zone is not ZoneMode.PUBLIC:
        return store.key_digests(folder)
    following = [key.digest for key in _next_keys(pod)]
    return tuple(dict.fromkeys([*store.key_digests(folder, time.time() - WAIT), *following]))


def confirm_published(pod: Pod, zone: str) -> None:
    """Begin the wait for the next keys again unless their records are in the text of the zone that named serves."""
    following = _next_keys(pod)
    if any(digest not in zone for digest in _digests(following)):
        _set_next(pod, following)


def ready_keys(pod: Pod) -> tuple[Secret, ...]:
    """Return the next keys if they may be used: their records are in the zone for long enough.

    Keys of other types than those of the settings are replaced by new ones.
    """
    following, wanted = _next_keys(pod), pod.settings.key_type
    if following and [key.name for key in following] != [key_type.value for key_type in wanted]:
        _set_next(pod, map(new_key, wanted))
        return ()
    return () if _left(pod) else following


def _left(pod: Pod) -> float:
    """Return the seconds until the next keys may be used."""
    there = _folder(pod).look(_FILE)
    return max(0.0, there.st_mtime + WAIT - time.time()) if there else WAIT


def announce(pod: Pod, keys: Iterable[Secret]) -> dt.datetime | None:
    """Make keys that a person brings the next ones; return when they may be used (UTC), or None if they may be now."""
    if pod.settings.zone is not ZoneMode.PUBLIC:
        return None
    present = store.key_digests(store.certificates_folder(pod))
    if not (brought := [key for key in keys if key.digest not in present]):
        return None
    if _digests(_next_keys(pod)) != _digests(brought):
        _set_next(pod, brought)
    left = _left(pod)
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=left) if left else None
