"""The keys by which the pod signs mail (DKIM, RFC 6376), on the volume `dkim`: made once, replaced without a gap.

    DOMAIN/SELECTOR.key            RSA-2048, as PEM
    DOMAIN/SELECTOR-ed25519.key    Ed25519 (RFC 8463), as rspamd reads it: Base64 of the seed and the public key
    selectors                      a line for each domain, DOMAIN SELECTOR: the pair that signs

A selector is the time at which its pair was made, so the pairs of a domain alone say what is next: a new pair signs a
day after it was made (until then resolvers may have cached that it does not exist), and an old one is removed a week
after the next one signs (until then its mail may be under way).
"""

import base64
import datetime as dt
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from podserve import volumes
from podserve.choices import FilterMode
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

RSPAMD = 5005
"""The user and group of rspamd (docker/mail/Containerfile)."""
PUBLISHED_BEFORE = dt.timedelta(days=1)
"""From when a pair is made until it signs: longer than resolvers keep an answer (values.TTL)."""
VALID_AFTER = dt.timedelta(days=7)
"""From when the next pair signs until a pair is removed: longer than mail waits in a queue (5 days, RFC 5321)."""
_TIME = "%Y%m%d%H%M%S"
_RSA, _ED25519 = ".key", "-ed25519.key"
_SELECTORS = "selectors"
_LARGEST = 2**14


@dataclass(frozen=True)
class SigningPair:
    """The pair of one selector: when it was made, and its public keys as a record has them (Base64)."""

    made: dt.datetime
    rsa: str
    ed25519: str

    @property
    def selector(self) -> str:
        """The selector of the RSA key."""
        return self.made.strftime(_TIME)

    @property
    def signs_from(self) -> dt.datetime:
        """When it begins to sign, unless it is the domain's first pair, which signs at once."""
        return self.made + PUBLISHED_BEFORE

    @property
    def records(self) -> dict[str, str]:
        """The texts of the records, by selector (RFC 6376, section 3.6.1; RFC 8463, section 4)."""
        return {
            self.selector: f"v=DKIM1; k=rsa; p={self.rsa}",
            f"{self.selector}-ed25519": f"v=DKIM1; k=ed25519; p={self.ed25519}",
        }


def _unreadable(folder: Folder, name: str) -> Problem:
    return Problem(
        f"{folder}/{name} is not a key that PodServe made. Mail cannot be signed with it. Restore it from a backup "
        "(invoke restore), or remove both files of this selector and run: invoke up"
    )


def _public_rsa(folder: Folder, name: str) -> str:
    try:
        key = serialization.load_pem_private_key(folder.read(name, _LARGEST) or b"", None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(folder, name) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _unreadable(folder, name)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def _public_ed25519(folder: Folder, name: str) -> str:
    try:
        both = base64.b64decode(folder.read(name, _LARGEST) or b"", validate=True)
        public = ed25519.Ed25519PrivateKey.from_private_bytes(both[:32]).public_key().public_bytes_raw()
    except ValueError as error:
        raise _unreadable(folder, name) from error
    if both[32:] != public:
        raise _unreadable(folder, name)
    return base64.b64encode(public).decode()


def _pair(folder: Folder, selector: str) -> SigningPair:
    made = dt.datetime.strptime(selector, _TIME).replace(tzinfo=dt.UTC)
    rsa_key = _public_rsa(folder, f"{selector}{_RSA}")
    return SigningPair(made, rsa_key, _public_ed25519(folder, f"{selector}{_ED25519}"))


def pairs(folder: Folder) -> list[SigningPair]:
    """Return the pairs in the folder of a domain, the oldest first. Raises Problem if a key cannot be read."""
    names = (re.fullmatch(rf"([0-9]{{14}}){_ED25519}", name) for name in folder.names())
    return [_pair(folder, match[1]) for match in names if match]


def _make(folder: Folder, now: dt.datetime) -> SigningPair:
    """Make a pair, and return it. The Ed25519 key is written last, and a pair without it is none."""
    selector = now.strftime(_TIME)
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.put(f"{selector}{_RSA}", pem, 0o640, RSPAMD)
    signer = ed25519.Ed25519PrivateKey.generate()
    both = signer.private_bytes_raw() + signer.public_key().public_bytes_raw()
    folder.put(f"{selector}{_ED25519}", base64.b64encode(both), 0o640, RSPAMD)
    return _pair(folder, selector)


def signing(found: list[SigningPair], now: dt.datetime) -> SigningPair:
    """Return the pair that signs: the newest that was made a day ago or earlier; before that day the oldest one."""
    return next((pair for pair in reversed(found) if now >= pair.signs_from), found[0])


def retired(found: list[SigningPair], now: dt.datetime) -> list[SigningPair]:
    """Return the pairs that nobody needs any more."""
    return [pair for pair, later in pairwise(found) if now - later.signs_from >= VALID_AFTER]


def _volume(pod: Pod) -> Folder | None:
    """Return the volume; None with filter: off, and if there is none, as in a pod that an earlier version played."""
    name = pod.volumes["dkim"].name
    return volumes.folder(name) if pod.settings.filter is FilterMode.ON and volumes.is_there(name) else None


def _provided(volume: Folder, domains: Iterable[str], now: dt.datetime) -> dict[str, tuple[Folder, list[SigningPair]]]:
    """Make each domain's first pair, remove retired ones, and name those that sign; return folders and pairs.

    The keys of a domain that is none of these stay, and do not sign.
    """
    there = dict[str, tuple[Folder, list[SigningPair]]]()
    for domain in domains:
        folder = volume.ensure(domain, 0o750, 0)
        os.fchown(folder.descriptor, 0, RSPAMD)
        found = pairs(folder) or [_make(folder, now)]
        for pair in retired(found, now):
            for suffix in (_ED25519, _RSA):
                folder.remove(f"{pair.selector}{suffix}")
        there[domain] = folder, found
    lines = (f"{domain} {signing(found, now).selector}\n" for domain, (_, found) in there.items())
    volume.put(_SELECTORS, "".join(lines).encode("ascii"), 0o640, RSPAMD)
    return there


def provide_signing_keys(pod: Pod) -> None:
    """Make each domain's first pair, remove retired ones, and name those that sign. Does nothing with filter: off.

    Raises Problem if a key cannot be read.
    """
    if volume := _volume(pod):
        _provided(volume, pod.settings.domains, dt.datetime.now(dt.UTC))


def rotate(pod: Pod) -> dict[str, SigningPair]:
    """Make the next pair of each domain and return them by domain. A domain whose last pair is new keeps that one.

    Raises Problem if each domain's last pair is new, or if the pod signs nothing.
    """
    if pod.settings.filter is FilterMode.OFF:
        raise Problem('the pod signs no mail, because filter is "off". Expected "on" (invoke.yaml), then: invoke up')
    if not (volume := _volume(pod)):
        raise Problem("there are no keys yet: invoke up makes them")
    now = dt.datetime.now(dt.UTC)
    there = _provided(volume, pod.settings.domains, now)
    due = {domain: folder for domain, (folder, found) in there.items() if signing(found, now) == found[-1]}
    if not due:
        new = there[pod.settings.domain][1][-1]
        raise Problem(
            f"the selector {new.selector} is new, and signs from {new.signs_from:%Y-%m-%d %H:%M} UTC on. Wait until "
            "then"
        )
    return {domain: _make(folder, now) for domain, folder in due.items()}


def published(pod: Pod) -> dict[str, str]:
    """Return the texts of the records of all pairs, by the records' names; none before the first `up`.

    There are none with filter: off, either. Raises Problem if a key cannot be read.
    """
    volume = _volume(pod)
    return {
        f"{selector}._domainkey.{domain}": text
        for domain in pod.settings.domains
        if volume and volume.has_folder(domain)
        for pair in pairs(volume.enter(domain))
        for selector, text in pair.records.items()
    }
