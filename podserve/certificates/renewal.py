"""Issue and renewal of the pod's certificate: at the first start, when it is due, and on request."""

from dataclasses import dataclass, field
from pathlib import Path

from podserve import volumes
from podserve.certificates import acme, authority, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Certificate, KeyPair
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


def _from_authority(pod: Pod) -> KeyPair:
    folder = volumes.folder(pod.volumes["authority"].name)
    return authority.issue_for(folder, pod.settings.certified_names, pod.settings.key_type)


def provide(pod: Pod) -> Certificate:
    """Return the pod's certificate; if there is none, issue one by the pod's own authority first."""
    return store.current(store.certificates_folder(pod)) or _take(pod, _from_authority(pod)).certificate


def _take(pod: Pod, pair: KeyPair) -> Renewal:
    warnings = require_good(pair, pod.settings.certified_names)
    return Renewal(store.take(pod, pair), changed=True, warnings=warnings)


def issue(pod: Pod) -> Renewal:
    """Issue a new certificate by the configured source, whatever the present one is.

    If this raises Problem, nothing has changed.
    """
    match pod.settings.certificate_source:
        case CertificateSource.ACME:
            return _take(pod, acme.obtain(pod, pod.settings.certified_names))
        case CertificateSource.AUTHORITY:
            return _take(pod, _from_authority(pod))
        case CertificateSource.IMPORT:
            raise Problem(
                "certificate_source is import, so the pod issues no certificate: import one "
                "(invoke certs.import CERT KEY), or set certificate_source to authority or acme"
            )


def renew(pod: Pod, *, force: bool = False) -> Renewal:
    """Issue a new certificate if a third of the lifetime is left, or less, or if the settings have changed.

    With `force`, issue one in any case. An imported certificate is never replaced: a warning says when it ends. Raises
    Problem if the issue fails; then the present certificate stays in use.
    """
    there, settings = provide(pod), pod.settings
    if there.origin == IMPORTED:
        return _imported(there, settings, force=force)
    if settings.certificate_source is CertificateSource.IMPORT:
        return Renewal(there, warnings=["no certificate was imported yet: invoke certs.import CERT KEY"])
    as_set = there.origin == wanted_origin(settings) and set(settings.certified_names) <= set(there.names)
    return Renewal(there) if as_set and not there.due and not force else issue(pod)


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
