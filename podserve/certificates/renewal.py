"""Which certificate the pod should have, and how it comes by it: at its start, when it is due, or when asked."""

from dataclasses import dataclass, field
from pathlib import Path

from podserve import volumes
from podserve.certificates import acme, authority, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Certificate, KeyPair
from podserve.certificates.pem import read_key_pair
from podserve.errors import Problem
from podserve.manifests import Manifests
from podserve.settings import Settings


@dataclass
class Outcome:
    """What came of it: the certificate in use, whether that is a new one, what to warn of."""

    certificate: Certificate
    changed: bool = False
    warnings: list[str] = field(default_factory=list)


def origin(settings: Settings) -> str:
    """Return the origin that the certificate should have, in the words of `Certificate.origin`."""
    return (
        acme.origin(settings.acme_directory) if settings.certificate_source == "acme" else settings.certificate_source
    )


def _from_authority(manifests: Manifests) -> KeyPair:
    folder = volumes.folder(manifests.volumes["authority"].name)
    return authority.issue(folder, manifests.settings.certified_names, manifests.settings.key_type)


def provide(manifests: Manifests) -> Certificate:
    """Return the pod's certificate; where there is none, one of the private authority's to begin with."""
    return store.current(store.folder(manifests)) or _take(manifests, _from_authority(manifests)).certificate


def _take(manifests: Manifests, pair: KeyPair) -> Outcome:
    warnings = require_good(pair, manifests.settings.certified_names)
    return Outcome(store.take(manifests, pair), changed=True, warnings=warnings)


def issue(manifests: Manifests) -> Outcome:
    """Have a new certificate made by the source that is set, whatever there is. A Problem changes nothing."""
    match manifests.settings.certificate_source:
        case "acme":
            return _take(manifests, acme.obtain(manifests, manifests.settings.certified_names))
        case "authority":
            return _take(manifests, _from_authority(manifests))
        case _:
            raise Problem(
                "certificate_source is import: the certificate is yours to bring, by invoke certs.import CERT KEY. "
                "For one that is issued set it to authority or acme"
            )


def renew(manifests: Manifests, *, force: bool = False) -> Outcome:
    """Have a new certificate issued where a third of a lifetime is left, or less, or the settings ask for another.

    `force` does not wait for that. What was imported is never replaced: a warning says when it should be. Raises
    Problem when none can be had; what was there stays in use.
    """
    there, settings = provide(manifests), manifests.settings
    if there.origin == IMPORTED:
        return _imported(there, settings, force=force)
    if settings.certificate_source == IMPORTED:
        return Outcome(there, warnings=["no certificate was imported yet: invoke certs.import CERT KEY"])
    as_set = there.origin == origin(settings) and set(settings.certified_names) <= set(there.names)
    return Outcome(there) if as_set and not there.due and not force else issue(manifests)


def _imported(there: Certificate, settings: Settings, *, force: bool) -> Outcome:
    if force:
        raise Problem(
            "the certificate was imported, and stays until you replace it: invoke certs.import CERT KEY brings a newer "
            f"one, and invoke certs.issue makes one by certificate_source ({settings.certificate_source})"
        )
    missing = [name for name in settings.certified_names if not there.covers(name)]
    ending = (
        f"the imported certificate has {there.days_left} days left: invoke certs.import CERT KEY brings a newer one"
    )
    return Outcome(
        there,
        warnings=[
            *([f"the imported certificate is not for {', '.join(missing)}"] if missing else []),
            *([ending] if there.due else []),
        ],
    )  # fmt: skip


def bring(manifests: Manifests, certificate: Path, key: Path) -> Outcome:
    """Import a key pair and serve it. Raises Problem, which says what is wrong with the files; then nothing changes."""
    return _take(manifests, read_key_pair(certificate, key, IMPORTED))
