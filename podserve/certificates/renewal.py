"""Issue and renewal of the pod's certificate: at the first start, when it is due, and on request."""

from dataclasses import dataclass, field
from pathlib import Path

from podserve import failures, volumes
from podserve.certificates import acme, authority, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Certificate, KeyPair, Secret, new_key
from podserve.certificates.pem import read_key_pair
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import Settings
from podserve.values import CertificateSource


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
    there = store.current(store.certificates_folder(pod))
    return there or _take(pod, _from_authority(pod, new_key(pod.settings.key_type))).certificate


def _take(pod: Pod, pair: KeyPair) -> Renewal:
    warnings = require_good(pair, pod.settings.certified_names)
    taken = store.take(pod, pair)
    failures.tell(pod, failures.RENEWAL, "")
    return Renewal(taken, changed=True, warnings=warnings)


def issue(pod: Pod) -> Renewal:
    """Issue a certificate with a new key by the configured source, whatever the present one is.

    If this raises Problem, nothing has changed.
    """
    return _issue(pod, new_key(pod.settings.key_type))


def _issue(pod: Pod, key: Secret) -> Renewal:
    try:
        return _take(pod, _from_source(pod, key))
    except Problem as problem:
        failures.tell(pod, failures.RENEWAL, problem.text)
        raise


def _from_source(pod: Pod, key: Secret) -> KeyPair:
    match pod.settings.certificate_source:
        case CertificateSource.ACME:
            return acme.obtain(pod, pod.settings.certified_names, key)
        case CertificateSource.AUTHORITY:
            return _from_authority(pod, key)
        case CertificateSource.IMPORT:
            raise Problem(
                "certificate_source is import, so the pod issues no certificate: import one "
                "(invoke certs.import CERT KEY), or set certificate_source to authority or acme"
            )


def _next_key(pod: Pod) -> Secret:
    """Return the key of the next certificate: the present one, if it is of the type in the settings.

    The TLSA record at a DNS provider, which a person has typed, names the key (RFC 7671, section 8.1).
    """
    present, wanted = store.key(store.certificates_folder(pod)), pod.settings.key_type
    return present if present and present.of_type(wanted) else new_key(wanted)


def renew(pod: Pod, *, force: bool = False) -> Renewal:
    """Issue a new certificate for the same key if a third of the lifetime is left, or less, or for changed settings.

    With `force`, issue one in any case. An imported certificate is never replaced: a warning says when it ends. Raises
    Problem if the issue fails; then the present certificate stays in use.
    """
    there, settings = provide(pod), pod.settings
    if there.origin == IMPORTED:
        return _imported(there, settings, force=force)
    if settings.certificate_source is CertificateSource.IMPORT:
        return Renewal(there, warnings=["no certificate was imported yet: invoke certs.import CERT KEY"])
    as_set = there.origin == wanted_origin(settings) and all(map(there.covers, settings.certified_names))
    if as_set and not there.due and not force:
        failures.tell(pod, failures.RENEWAL, "")
        return Renewal(there)
    return _issue(pod, _next_key(pod))


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


def bring(pod: Pod, certificate: Path, key: Path) -> Renewal:
    """Import a key pair and serve it. Raises Problem, which says what is wrong with the files; then nothing changes."""
    return _take(pod, read_key_pair(certificate, key, IMPORTED))
