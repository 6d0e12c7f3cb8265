"""Issue and renewal of the pod's certificates: at the first start, when they are due, and on request.

There is one for each key type of the settings. They are issued and replaced together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podserve import failures, volumes
from podserve.certificates import acme, authority, rollover, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import IMPORTED, Certificate, KeyPair, Secret, new_key, soonest
from podserve.certificates.pem import read_key_pair
from podserve.choices import CertificateSource, ZoneMode
from podserve.errors import Problem
from podserve.pod import Pod
from podserve.settings import Settings


@dataclass(frozen=True)
class Renewal:
    """The certificates in use, ECDSA first, whether they are new ones, and warnings."""

    certificates: tuple[Certificate, ...]
    changed: bool = False
    warnings: list[str] = field(default_factory=list)


def wanted_origin(settings: Settings) -> str:
    """Return the origin that the certificate should have, in the words of `Certificate.origin`."""
    source = settings.certificate_source
    return acme.directory_origin(settings.acme_directory) if source is CertificateSource.ACME else source.value


def _from_authority(pod: Pod, keys: Iterable[Secret]) -> list[KeyPair]:
    folder = volumes.folder(pod.volumes["authority"].name)
    return [authority.issue_for(folder, pod.settings.certified_names, key) for key in keys]


def provide(pod: Pod) -> tuple[Certificate, ...]:
    """Return the pod's certificates; if there is none, issue them by the pod's own authority first."""
    if there := store.current(store.certificates_folder(pod)):
        rollover.prepare(pod)
        return there
    return _take(pod, _from_authority(pod, map(new_key, pod.settings.key_type))).certificates


def _take(pod: Pod, pairs: Sequence[KeyPair]) -> Renewal:
    said = [warning for pair in pairs for warning in require_good(pair, pod.settings.certified_names)]
    taken = store.take(pod, pairs)
    rollover.prepare(pod)
    failures.tell(pod, failures.RENEWAL, "")
    return Renewal(taken, changed=True, warnings=list(dict.fromkeys(said)))


def issue(pod: Pod) -> Renewal:
    """Issue certificates with other keys by the configured source, whatever the present ones are.

    A warning says so if the present keys stay (rollover). If this raises Problem, nothing has changed.
    """
    before = store.key_digests(store.certificates_folder(pod))
    keys = _keys(pod, keep=False)
    renewed = _issue(pod, keys)
    if keys[0].digest in before:
        said = f"the key stays: the record of the next key must be in the zone for {rollover.WAIT // 60} minutes first"
        renewed.warnings.append(f"{said}. For another key, run the same command later")
    return renewed


def _issue(pod: Pod, keys: Iterable[Secret]) -> Renewal:
    if pod.settings.certificate_source is CertificateSource.IMPORT:
        raise Problem(
            "certificate_source is import, so the pod issues no certificate: import one "
            "(invoke certs.import CERT KEY), or set certificate_source to authority or acme"
        )
    by_acme = pod.settings.certificate_source is CertificateSource.ACME
    try:
        names = pod.settings.certified_names
        return _take(pod, [acme.obtain(pod, names, key) for key in keys] if by_acme else _from_authority(pod, keys))
    except Problem as problem:
        failures.tell(pod, failures.RENEWAL, problem.text)
        raise


def _keys(pod: Pod, *, keep: bool) -> tuple[Secret, ...]:
    """Return the keys for new certificates: with `keep`, the present ones of the types in the settings.

    A TLSA record at a DNS provider, which a person has typed, names the key. In the pod's own zone the record comes
    first: there they are the next keys as soon as they may be used, and until then the present ones.
    """
    present = store.keys(store.certificates_folder(pod))
    if present and pod.settings.zone is ZoneMode.PUBLIC:
        return rollover.ready_keys(pod) or present
    kept = {key.name: key for key in present if keep}
    return tuple(kept.get(wanted.value) or new_key(wanted) for wanted in pod.settings.key_type)


def renew(pod: Pod, *, force: bool = False) -> Renewal:
    """Issue new certificates for the same keys if a third of a lifetime is left, or less, or for changed settings.

    With `force`, issue them in any case. A key pair for a second key type is added at once, or as soon as its key may
    be used. An imported certificate is never replaced: a warning says when it ends. Raises Problem if the issue fails;
    then the present certificates stay in use.
    """
    there, settings = provide(pod), pod.settings
    failures.tell(pod, failures.RENEWAL, "")
    if there[0].origin == IMPORTED:
        return _imported(there, settings, force=force)
    if settings.certificate_source is CertificateSource.IMPORT:
        return Renewal(there, warnings=["no certificate was imported yet: invoke certs.import CERT KEY"])
    as_set = there[0].origin == wanted_origin(settings) and not _uncovered(there, settings)
    stays = as_set and not any(one.due for one in there) and not force
    if stays and len(there) >= len(settings.key_type):
        return Renewal(there)
    keys = _keys(pod, keep=True)
    if not stays:
        return _issue(pod, keys)
    return _add(pod, keys) if len(keys) > len(there) else Renewal(there)


def _add(pod: Pod, keys: tuple[Secret, ...]) -> Renewal:
    """Issue one certificate more than before. A warning says that its TLSA record is a person's to type, if it is."""
    added = _issue(pod, keys)
    if pod.settings.zone is not ZoneMode.PUBLIC:
        said = f"a second key pair is served, so that there are {' and '.join(key.name for key in keys)} now"
        added.warnings.append(f"{said}. If your zone is signed (DNSSEC), add its TLSA record: invoke dns.check")
    return added


def _uncovered(there: tuple[Certificate, ...], settings: Settings) -> list[str]:
    """Return the names in the settings that not all certificates are for."""
    return [name for name in settings.certified_names if not all(one.covers(name) for one in there)]


def _imported(there: tuple[Certificate, ...], settings: Settings, *, force: bool) -> Renewal:
    if force:
        raise Problem(
            "an imported certificate cannot be renewed: import a newer one by invoke certs.import CERT KEY, or replace "
            f"it by one from certificate_source ({settings.certificate_source.value}): invoke certs.issue"
        )
    missing, due = _uncovered(there, settings), [one for one in there if one.due]
    days = soonest(due or there).days_left
    ending = f"the imported certificate has {days} days left: import a newer one by invoke certs.import CERT KEY"
    return Renewal(
        there,
        warnings=[
            *([f"the imported certificate is not for {', '.join(missing)}"] if missing else []),
            *([ending] if due else []),
        ],
    )  # fmt: skip


def bring(pod: Pod, files: Iterable[tuple[Path, Path]], *, now: bool = False) -> Renewal:
    """Import one key pair, or one of each algorithm, from files (certificate, key), and serve nothing else.

    Raises Problem, which says what is wrong with the files; then nothing changes. Under a zone that the pod serves, a
    new key is served only at a second call, when its TLSA record has been there for long enough; or with `now`.
    """
    pairs, warnings = list[KeyPair](), list[str]()
    for certificate, key in files:
        pairs.append(read_key_pair(certificate, key, IMPORTED))
        try:
            warnings += require_good(pairs[-1], pod.settings.certified_names)
        except Problem as problem:
            raise Problem(f"{certificate}: {problem.text}") from problem
    pairs.sort(key=lambda pair: pair.key.algorithm)
    if len({pair.key.algorithm for pair in pairs}) < len(pairs):
        names = " and ".join(pair.key.name for pair in pairs)
        raise Problem(f"both key pairs are of one algorithm ({names}): expected one of ECDSA and one of RSA")
    there = store.current(store.certificates_folder(pod))
    if there and not now and (begin := rollover.announce(pod, [pair.key for pair in pairs])):
        said = (
            f"its key is new, and its TLSA record is in the zone now. Run the same command again at {begin:%H:%M} UTC"
        )
        return Renewal(there, warnings=[f"{said} or later, or with --now: then other mail servers may refuse the key",
                                        *dict.fromkeys(warnings)])  # fmt: skip
    return _take(pod, pairs)
