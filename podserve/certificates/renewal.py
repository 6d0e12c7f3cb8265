"""Issue and renewal of the pod's certificate: at the first start, when it is due, and on request."""

from dataclasses import dataclass, field
from pathlib import Path

from podserve import failures, volumes
from podserve.certificates import acme, authority, rollover, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Certificate, KeyPair, Secret, new_key
from podserve.certificates.pem import read_key_pair
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import Settings
from podserve.values import CertificateSource, ZoneMode


@dataclass(frozen=True)
class Renewal:
    """The certificate in use, whether that is a new one, and warnings."""

    certificate: Certificate
    changed: bool = False
    warnings: list[str] = field(default_factory=list)


def wanted_origin(settings: Settings) -> str:
    """Return the origin that the certificate should have, in the words of `Certificate.origin`."""
    source = settings.certificate_source
    return acme.directory_origin(settings.acme_directory) if source is CertificateSource.ACME else source.value


def _from_authority(pod: Pod, key: Secret) -> KeyPair:
    folder = volumes.folder(pod.volumes["authority"].name)
    return authority.issue_for(folder, pod.settings.certified_names, key)


def provide(pod: Pod) -> Certificate:
    """Return the pod's certificate; if there is none, issue one by the pod's own authority first."""
    if there := store.current(store.certificates_folder(pod)):
        rollover.prepare(pod)
        return there
    return _take(pod, _from_authority(pod, new_key(pod.settings.key_type))).certificate


def _take(pod: Pod, pair: KeyPair) -> Renewal:
    warnings = require_good(pair, pod.settings.certified_names)
    taken = store.take(pod, pair)
    rollover.prepare(pod)
    failures.tell(pod, failures.RENEWAL, "")
    return Renewal(taken, changed=True, warnings=warnings)


def issue(pod: Pod) -> Renewal:
    """Issue a certificate with another key by the configured source, whatever the present one is.

    A warning says so if the present key stays (rollover). If this raises Problem, nothing has changed.
    """
    before = store.key_digests(store.certificates_folder(pod))
    key = _key(pod, keep=False)
    renewed = _issue(pod, key)
    if key.digest in before:
        said = f"the key stays: the record of the next key must be in the zone for {rollover.WAIT // 60} minutes first"
        renewed.warnings.append(f"{said}. For another key, run the same command later")
    return renewed


def _issue(pod: Pod, key: Secret) -> Renewal:
    if pod.settings.certificate_source is CertificateSource.IMPORT:
        raise Problem(
            "certificate_source is import, so the pod issues no certificate: import one "
            "(invoke certs.import CERT KEY), or set certificate_source to authority or acme"
        )
    by_acme = pod.settings.certificate_source is CertificateSource.ACME
    try:
        names = pod.settings.certified_names
        return _take(pod, acme.obtain(pod, names, key) if by_acme else _from_authority(pod, key))
    except Problem as problem:
        failures.tell(pod, failures.RENEWAL, problem.text)
        raise


def _key(pod: Pod, *, keep: bool) -> Secret:
    """Return the key for a new certificate: with `keep`, the present one if it is of the type in the settings.

    The TLSA record at a DNS provider, which a person has typed, names the key. In the pod's own zone the record comes
    first: there it is the next key as soon as it may be used, and until then the present one.
    """
    present, wanted = store.key(store.certificates_folder(pod)), pod.settings.key_type
    if present and pod.settings.zone is ZoneMode.PUBLIC:
        return rollover.ready_key(pod) or present
    return present if keep and present and present.of_type(wanted) else new_key(wanted)


def renew(pod: Pod, *, force: bool = False) -> Renewal:
    """Issue a new certificate for the same key if a third of the lifetime is left, or less, or for changed settings.

    With `force`, issue one in any case. An imported certificate is never replaced: a warning says when it ends. Raises
    Problem if the issue fails; then the present certificate stays in use.
    """
    there, settings = provide(pod), pod.settings
    failures.tell(pod, failures.RENEWAL, "")
    if there.origin == IMPORTED:
        return _imported(there, settings, force=force)
    if settings.certificate_source is CertificateSource.IMPORT:
        return Renewal(there, warnings=["no certificate was imported yet: invoke certs.import CERT KEY"])
    as_set = there.origin == wanted_origin(settings) and all(map(there.covers, settings.certified_names))
    return Renewal(there) if as_set and not there.due and not force else _issue(pod, _key(pod, keep=True))


def _imported(there: Certificate, settings: Settings, *, force: bool) -> Renewal:
    if force:
        raise Problem(
            "an imported certificate cannot be renewed: import a newer one by invoke certs.import CERT KEY, or replace "
            f"it by one from certificate_source ({settings.certificate_source.value}): invoke certs.issue"
        )
    missing = [name for name in settings.certified_names if not there.covers(name)]
    ending = (
        f"the imported certificate has {there.days_left} days left: import a newer one by invoke certs.import CERT KEY"
    )
    return Renewal(
        there,
        warnings=[
            *([f"the imported certificate is not for {', '.join(missing)}"] if missing else []),
            *([ending] if there.due else []),
        ],
    )  # fmt: skip


def bring(pod: Pod, certificate: Path, key: Path, *, now: bool = False) -> Renewal:
    """Import a key pair and serve it. Raises Problem, which says what is wrong with the files; then nothing changes.

    Under a zone that the pod serves, a new key is served only at a second call, when its TLSA record has been there for
    long enough; or with `now`.
    """
    pair = read_key_pair(certificate, key, IMPORTED)
    warnings = require_good(pair, pod.settings.certified_names)
    there = store.current(store.certificates_folder(pod))
    if there and not now and (begin := rollover.announce(pod, pair.key)):
        said = (
            f"its key is new, and its TLSA record is in the zone now. Run the same command again at {begin:%H:%M} UTC"
        )
        return Renewal(there, warnings=[f"{said} or later, or with --now: then other mail servers may refuse the key",
                                        *warnings])  # fmt: skip
    return _take(pod, pair)
