"""The pod's certificate: issued once, renewed in time, installed atomically, trusted for its own names only."""

import datetime as dt
import os
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from podserve import certificates, failures
from podserve import volumes as podman_volumes
from podserve.certificates import authority, container, renewal, rollover, store
from podserve.certificates.judging import require_good
from podserve.certificates.keypair import Certificate, KeyPair, Secret, archive, to_pem
from podserve.certificates.pem import parse_keys, read_key, read_key_pair
from podserve.choices import KeyType
from podserve.commands import ROOT, Result, run
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from tests.unit.helpers import pod_with

NAMES = ("example.org", "mail.example.org")
PUBLIC = {"zone": "public", "public_address": "203.0.113.7"}
BOTH = {"key_type": "ec256 rsa2048"}
LONG_NAME = ".".join(["a" * 49] * 5)
SCRIPTS = ROOT / "docker/certificates/rootfs/usr/local/bin"


class Volumes:
    """The folders of the volumes certificates and authority, and a pod with these volumes."""

    def __init__(self, folder: Path) -> None:
        """Create the folders."""
        self.certificates, self.authority = folder / "certificates", folder / "authority"
        self.certificates.mkdir()
        self.authority.mkdir()
        self.next = self.authority / "next.pem"
        self.current = self.certificates / "current"
        self.ca = self.current / "ca.crt"

    def as_pod(self, *names: str, **settings: str) -> Pod:
        """Return a pod whose certificate is for these names."""
        domain, mail_host, *more = names or NAMES
        given = {"domain": domain, "mail_host": mail_host, "certificate_names": " ".join(more), "pod": self.pod}
        # One key type, where a test gives no other: an RSA key takes a tenth of a second.
        return pod_with(self.certificates.parent, **given, **{"key_type": "ec256", **settings})

    @property
    def pod(self) -> str:
        """The name of the pod. `_no_podman` finds the folders by this name."""
        return "unit-" + self.certificates.parent.name.replace("_", "-").lower()[-30:].strip("-")

    def ensure(self, *names: str) -> Certificate:
        """Issue a certificate if there is none, if it is due or if `names` has more names; return the current one."""
        return renewal.renew(self.as_pod(*names)).certificates[0]

    def content(self) -> dict[Path, bytes]:
        """Return the content of each file of both volumes, by its path after resolving links."""
        files = [file for folder in (self.certificates, self.authority) for file in folder.rglob("*") if file.is_file()]
        return {file.resolve(): file.read_bytes() for file in files}


PODS: dict[str, Volumes] = {}


@pytest.fixture(autouse=True)
def _no_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use folders as volumes, and run the container's scripts on this host."""

    def folder(name: str) -> Path:
        pod, _, content = name.rpartition("-")
        return {"certificates": PODS[pod].certificates, "authority": PODS[pod].authority}[content]

    def here(program: str, _mount: str, *argv: str, mounts: dict[str, str], stdin: str) -> Result:
        (volume,) = mounts.values()
        return run([str(SCRIPTS / program), str(folder(volume)), *argv], stdin=stdin, check=False)

    monkeypatch.setattr(podman_volumes, "folder", lambda name: Folder.at(folder(name)))
    monkeypatch.setattr(podman_volumes, "existing", set)
    monkeypatch.setattr(container, "run_once", here)


def made_in(folder: Path) -> Volumes:
    """Return new volumes in a folder."""
    made = Volumes(folder)
    PODS[made.pod] = made
    return made


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    """Two new volumes."""
    return made_in(tmp_path)


def loaded(file: Path) -> x509.Certificate:
    """Return the certificate in a PEM file."""
    return x509.load_pem_x509_certificate(file.read_bytes())


def verify(leaf: Path, authority: Path, name: str) -> list[x509.Certificate]:
    """Return the chain from a server's certificate to the authority. Raises VerificationError if there is none."""
    verifier = PolicyBuilder().store(Store([loaded(authority)])).build_server_verifier(x509.DNSName(name))
    return verifier.verify(loaded(leaf), [])


def test_a_new_volume_has_no_certificate(volumes: Volumes) -> None:
    assert store.current(Folder.at(volumes.certificates)) == ()


def test_the_certificate_has_the_names_and_lasts_as_long_as_browsers_take(volumes: Volumes) -> None:
    made = volumes.ensure()
    assert (made,) == store.current(Folder.at(volumes.certificates))
    assert made.names == NAMES
    assert made.days_left == 396
    assert not made.due


def test_what_is_there_is_left_as_it_is(volumes: Volumes) -> None:
    made, before = volumes.ensure(), volumes.content()
    assert volumes.ensure() == made
    assert volumes.ensure(*reversed(NAMES)) == made
    assert volumes.content() == before


def test_another_name_renews_the_certificate_under_the_same_authority(volumes: Volumes) -> None:
    made, before = volumes.ensure(), volumes.ca.read_bytes()
    renewed = volumes.ensure(*NAMES, "more.example.org")
    assert renewed.serial != made.serial
    assert renewed.names == (*NAMES, "more.example.org")
    assert volumes.ca.read_bytes() == before


def test_a_certificate_that_is_due_is_renewed(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        # A certificate is valid from one hour before now, because clocks differ. 29 of 89 minutes: less than a third.
        patch.setattr(authority, "LIFETIME", dt.timedelta(minutes=29))
        old = volumes.ensure()
    assert old.due
    renewed = volumes.ensure()
    assert renewed.serial != old.serial
    assert renewed.days_left == 396


def test_a_certificate_that_is_not_yet_due_is_kept(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(authority, "LIFETIME", dt.timedelta(minutes=31))
        old = volumes.ensure()
    assert not old.due
    assert volumes.ensure() == old


@pytest.mark.parametrize(("hours", "kept"), [(1, True), (-1, False)])
def test_an_authority_issues_nothing_that_outlasts_it(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch, hours: int, *, kept: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(authority, "AUTHORITY_LIFETIME", authority.LIFETIME + dt.timedelta(hours=hours))
        volumes.ensure()
    before = volumes.ca.read_bytes()
    volumes.ensure(*NAMES, "more.example.org")
    assert (volumes.ca.read_bytes() == before) is kept
    assert loaded(volumes.ca).not_valid_after_utc >= loaded(volumes.current / "tls.crt").not_valid_after_utc
    assert verify(volumes.current / "tls.crt", volumes.ca, NAMES[0])


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_the_days_left_are_whole_days(days: int) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    assert Certificate("import", NAMES, "", ends - dt.timedelta(days=90), ends, "1", "", "ec256").days_left == days


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_verifies_for_each_name(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    chain = verify(volumes.current / "tls.crt", volumes.authority / "ca.pem", name)
    assert chain == [loaded(volumes.current / "tls.crt"), loaded(volumes.authority / "ca.pem")]


@pytest.mark.parametrize("name", ["example.com", "org", "www.example.org", "mail.mail.example.org"])
def test_the_chain_verifies_for_no_other_name(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    with pytest.raises(VerificationError):
        verify(volumes.current / "tls.crt", volumes.ca, name)


def test_another_pods_authority_does_not_vouch_for_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = made_in(tmp_path), made_in(tmp_path / "other")
    for volumes in (one, other):
        volumes.ensure()
    with pytest.raises(VerificationError):
        verify(one.current / "tls.crt", other.ca, NAMES[0])


def test_a_name_too_long_for_a_subject_verifies_too(volumes: Volumes) -> None:
    volumes.ensure(NAMES[0], LONG_NAME)
    assert verify(volumes.current / "tls.crt", volumes.ca, LONG_NAME)


def test_each_key_belongs_to_its_certificate(volumes: Volumes) -> None:
    renewal.provide(volumes.as_pod(**BOTH))
    for name in ("tls", "alt"):
        key = load_pem_private_key((volumes.current / f"{name}.key").read_bytes(), None).public_key()
        certified = loaded(volumes.current / f"{name}.crt").public_key()
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        assert key.public_bytes(*form) == certified.public_bytes(*form)


def test_keys_are_for_root_alone_and_certificates_for_all(volumes: Volumes) -> None:
    renewal.provide(volumes.as_pod(**BOTH))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in volumes.content()}
    keys, others = ("tls.key", "alt.key", "ca.pem"), ("tls.crt", "alt.crt", "ca.crt", "origin")
    assert modes == dict.fromkeys(keys, 0o600) | dict.fromkeys(others, 0o644)


def test_the_authoritys_key_is_not_where_the_services_look(volumes: Volumes) -> None:
    volumes.ensure()
    assert {file.name for file in volumes.current.iterdir()} == {"tls.key", "tls.crt", "ca.crt", "origin"}
    secret = (volumes.authority / "ca.pem").read_text().splitlines()[1]
    assert not [file for file in volumes.current.iterdir() if secret in file.read_text()]


def test_current_leads_to_the_newest_pair_within_the_volume(volumes: Volumes) -> None:
    for names in (NAMES, (*NAMES, "more.example.org")):
        made = volumes.ensure(*names)
        assert volumes.current.is_symlink()
        assert str(volumes.current.readlink()) == made.serial


def handshake(volumes: Volumes, context: ssl.SSLContext) -> str | None:
    """Make a handshake with a server that has the current key pair; return the TLS version. Raises SSLError."""
    pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair.load_cert_chain(volumes.current / "tls.crt", volumes.current / "tls.key")
    here, there = socket.socketpair()

    def serve() -> None:
        with closing(pair.wrap_socket(there, server_side=True, do_handshake_on_connect=False)) as server:
            server.do_handshake()

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        # The address of the connection: the context must verify the pod's name instead.
        with here, context.wrap_socket(here, server_hostname="127.0.0.1") as client:
            version = client.version()
        served.result()
        return version


@pytest.mark.parametrize("name", NAMES)
def test_a_client_of_the_pods_name_greets_it_at_any_address(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    assert handshake(volumes, certificates.client_context(name, volumes.ca)) == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.com", "www.example.org", "127.0.0.1"])
def test_a_client_of_another_name_refuses_it(volumes: Volumes, name: str) -> None:
    volumes.ensure()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(volumes, certificates.client_context(name, volumes.ca))


def strangers_authority(volumes: Volumes) -> Path:
    """Return the authority of another pod."""
    other = volumes.certificates.parent / "other"
    other.mkdir()
    elsewhere = made_in(other)
    elsewhere.ensure()
    return elsewhere.ca


@pytest.mark.parametrize("authority", [lambda _: None, strangers_authority], ids=["the host's", "another pod's"])
def test_a_client_of_another_authority_refuses_it(
    volumes: Volumes, authority: Callable[[Volumes], Path | None]
) -> None:
    volumes.ensure()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate"):
        handshake(volumes, certificates.client_context(NAMES[0], authority(volumes)))


def test_a_certificate_that_is_none_is_told_with_its_place(volumes: Volumes) -> None:
    volumes.ensure()
    (volumes.current / "tls.crt").write_text("no certificate")
    with pytest.raises(Problem, match=r"current/tls\.crt cannot be read as a certificate"):
        volumes.ensure()


def test_a_pair_is_put_beside_the_one_before_and_few_are_kept(volumes: Volumes) -> None:
    serials = [renewal.issue(volumes.as_pod()).certificates[0].serial for _ in range(5)]
    there = {entry.name for entry in volumes.certificates.iterdir() if not entry.is_symlink()}
    assert there == set(serials[-3:])
    assert volumes.current.readlink() == Path(serials[-1])


def test_the_same_pair_again_is_put_beside_itself(volumes: Volumes) -> None:
    pair = authority.issue_for(Folder.at(volumes.authority), NAMES, KeyType.EC256)
    for _ in range(2):
        store.take(volumes.as_pod(), [pair])
    assert store.current(Folder.at(volumes.certificates)) == (pair.certificate,)
    assert str(volumes.current.readlink()).startswith(f"{pair.certificate.serial}.")


@pytest.mark.parametrize("program", ["mkdir", "tar", "sync", "ln", "mv"])
def test_a_crash_at_any_step_leaves_the_old_pair_or_the_new_one_whole(
    volumes: Volumes, tmp_path: Path, program: str
) -> None:
    """Kill take-pair instead of each program that it calls, and after each."""
    pod = volumes.as_pod(**BOTH)
    old, keys = renewal.provide(pod), store.keys(Folder.at(volumes.certificates))
    for after in (False, True):
        programs = tmp_path / f"{program}-{after}"
        programs.mkdir()
        real = f'/bin/{program} "$@";' if after else ""
        (programs / program).write_text(f"#!/bin/sh\n{real} kill -KILL $PPID\n")
        (programs / program).chmod(0o755)
        pairs = [authority.issue_for(Folder.at(volumes.authority), NAMES, key) for key in keys]
        died = subprocess.run(
            [SCRIPTS / "take-pair", volumes.certificates, pairs[0].certificate.serial],
            input=archive(pairs),
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        there = store.current(Folder.at(volumes.certificates))
        assert there in {old, tuple(pair.certificate for pair in pairs)}
        for name in ("tls", "alt"):
            good = read_key_pair(volumes.current / f"{name}.crt", volumes.current / f"{name}.key", "authority")
            assert require_good(good, NAMES)[0].startswith("no root certificate of this host")
    assert renewal.provide(pod) == store.current(Folder.at(volumes.certificates)), (
        "and the next is put as if nothing had been"
    )
    renewed = renewal.issue(pod).certificates
    assert store.current(Folder.at(volumes.certificates)) == renewed


@pytest.mark.parametrize("key_type", ["ec256", "ec384", "rsa2048", "ec384 rsa2048"])
def test_there_is_a_key_of_each_type_that_is_set(volumes: Volumes, key_type: str) -> None:
    there = renewal.issue(volumes.as_pod(key_type=key_type)).certificates
    keys = [read_key(volumes.current / name).private for name in ("tls.key", "alt.key")[: len(there)]]
    names = [f"{'rsa' if isinstance(key, rsa.RSAPrivateKey) else 'ec'}{key.key_size}" for key in keys]
    assert " ".join(names) == " ".join(one.key for one in there) == key_type
    assert (volumes.current / "alt.key").exists() is (len(there) > 1)


def test_a_second_key_type_adds_a_pair_at_once_and_keeps_the_first_key(volumes: Volumes) -> None:
    folder = Folder.at(volumes.certificates)
    renewal.provide(volumes.as_pod())
    (first,) = store.key_digests(folder)
    added = renewal.renew(volumes.as_pod(**BOTH))
    assert [one.key for one in added.certificates] == ["ec256", "rsa2048"]
    assert store.key_digests(folder)[0] == first
    (warning,) = added.warnings
    assert "ec256 and rsa2048 now. If your zone is signed (DNSSEC), add its TLSA record" in warning
    assert not renewal.renew(volumes.as_pod(**BOTH)).changed
    assert not renewal.renew(volumes.as_pod()).changed, "it stays until the next issue"
    assert [one.key for one in renewal.renew(volumes.as_pod(), force=True).certificates] == ["ec256"]


def test_both_certificates_are_renewed_when_one_is_due(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    pod, folder = volumes.as_pod(**BOTH), Folder.at(volumes.authority)
    renewal.provide(pod)
    ec, rsa_key = store.keys(Folder.at(volumes.certificates))
    with monkeypatch.context() as patch:
        patch.setattr(authority, "LIFETIME", dt.timedelta(minutes=29))
        short = authority.issue_for(folder, NAMES, rsa_key)
    old = store.take(pod, [authority.issue_for(folder, NAMES, ec), short])
    renewed = renewal.renew(pod).certificates
    assert [one.days_left for one in renewed] == [396, 396]
    assert not {one.serial for one in renewed} & {one.serial for one in old}


def test_nothing_changes_if_only_one_of_two_certificates_is_issued(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = volumes.as_pod(**BOTH)
    before, issue_for = renewal.provide(pod), authority.issue_for

    def once(folder: Folder, names: tuple[str, ...], key: Secret) -> KeyPair:
        if key.algorithm == "rsa":
            raise Problem("no second one")
        return issue_for(folder, names, key)

    monkeypatch.setattr(authority, "issue_for", once)
    with pytest.raises(Problem, match="no second one"):
        renewal.issue(pod)
    assert store.current(Folder.at(volumes.certificates)) == before


def test_a_renewal_keeps_the_key_which_a_tlsa_record_names(volumes: Volumes) -> None:
    folder = Folder.at(volumes.certificates)
    renewal.provide(volumes.as_pod())
    (digest,) = store.key_digests(folder)
    renewed = renewal.renew(volumes.as_pod(), force=True)
    assert renewed.changed
    assert store.key_digests(folder) == (digest,)
    renewal.renew(volumes.as_pod(key_type="ec384"), force=True)
    assert store.key_digests(folder) != (digest,)


def test_an_issue_changes_the_key(volumes: Volumes) -> None:
    folder = Folder.at(volumes.certificates)
    renewal.provide(volumes.as_pod())
    before = store.key_digests(folder)
    renewal.issue(volumes.as_pod())
    assert store.key_digests(folder) != before


def test_a_renewal_that_failed_is_told_until_one_succeeds(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = volumes.as_pod()
    renewal.provide(pod)
    with monkeypatch.context() as patch:
        patch.setattr(authority, "LIFETIME", dt.timedelta(minutes=-30))
        with pytest.raises(Problem):
            renewal.renew(pod, force=True)
    assert "has expired" in failures.told(pod, failures.RENEWAL)[1]
    renewal.renew(pod)
    assert failures.told(pod, failures.RENEWAL) == ("", "")
    with pytest.raises(Problem, match="certificate_source is import"):
        renewal.issue(volumes.as_pod(certificate_source="import"))
    assert failures.told(pod, failures.RENEWAL) == ("", ""), "nothing was tried"


def test_a_certificate_with_a_wildcard_serves_the_names_that_it_stands_for(volumes: Volumes) -> None:
    pod = volumes.as_pod(*NAMES, f"*.{NAMES[0]}")
    (there,) = renewal.provide(pod)
    assert there.covers(f"any.{NAMES[0]}")
    assert not there.covers(f"a.b.{NAMES[0]}")
    assert not renewal.renew(volumes.as_pod(*NAMES, f"*.{NAMES[0]}", f"www.{NAMES[0]}")).changed
    assert renewal.renew(volumes.as_pod(*NAMES, f"a.b.{NAMES[0]}")).changed


def publish(volumes: Volumes, age: float, **settings: str) -> tuple[str, ...]:
    """Publish the TLSA records, as `up` does, `age` seconds ago; return the digests of the next keys."""
    pod = volumes.as_pod(**PUBLIC, **settings)
    rollover.confirm_published(pod, " ".join(rollover.tlsa_keys(pod)))
    for file in (volumes.next, *volumes.certificates.iterdir()):
        if not file.is_symlink():
            at = file.stat().st_mtime - age
            os.utime(file, (at, at))
    return following(volumes)


def following(volumes: Volumes) -> tuple[str, ...]:
    """Return the digests of the next keys."""
    return tuple(key.digest for key in parse_keys(volumes.next.read_bytes(), str(volumes.next)))


@pytest.mark.parametrize("key_type", ["ec256", "ec256 rsa2048"])
def test_a_renewal_changes_the_keys_when_their_records_were_published_for_two_ttls(
    volumes: Volumes, key_type: str
) -> None:
    pod = volumes.as_pod(**PUBLIC, key_type=key_type)
    renewal.provide(pod)
    first = store.key_digests(Folder.at(volumes.certificates))
    second = publish(volumes, rollover.WAIT - 60)
    assert rollover.tlsa_keys(pod) == (*first, *second)
    renewal.renew(pod, force=True)
    assert rollover.tlsa_keys(pod) == (*first, *second)
    publish(volumes, 60)
    renewal.renew(pod, force=True)
    third = following(volumes)
    assert rollover.tlsa_keys(pod) == (*second, *first, *third)
    publish(volumes, rollover.WAIT)
    assert rollover.tlsa_keys(pod) == (*second, *third)
    assert len(third) == len(key_type.split())


def test_the_pair_of_a_second_key_type_is_added_when_its_record_was_published_for_two_ttls(volumes: Volumes) -> None:
    renewal.provide(volumes.as_pod(**PUBLIC))
    first = store.key_digests(Folder.at(volumes.certificates))
    publish(volumes, rollover.WAIT + 60)
    pod = volumes.as_pod(**PUBLIC, **BOTH)
    assert not renewal.renew(pod).changed, "its record is not there yet"
    second = publish(volumes, rollover.WAIT - 60, **BOTH)
    assert rollover.tlsa_keys(pod) == (*first, *second)
    assert not renewal.renew(pod).changed
    publish(volumes, 60, **BOTH)
    added = renewal.renew(pod)
    assert ([one.key for one in added.certificates], added.warnings) == (["ec256", "rsa2048"], [])
    assert rollover.tlsa_keys(pod) == (*second, *first, *following(volumes))


def test_a_key_whose_record_is_not_in_the_zone_is_not_used(volumes: Volumes) -> None:
    pod = volumes.as_pod(**PUBLIC)
    renewal.provide(pod)
    first, second = rollover.tlsa_keys(pod)
    publish(volumes, rollover.WAIT + 60)
    rollover.confirm_published(pod, first)
    renewal.renew(pod, force=True)
    assert rollover.tlsa_keys(pod) == (first, second)
    assert any("the key stays" in warning for warning in renewal.issue(pod).warnings)


def test_an_interruption_after_the_key_was_used_leaves_its_record_and_makes_the_next_key_later(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = volumes.as_pod(**PUBLIC)
    renewal.provide(pod)
    first = rollover.tlsa_keys(pod)[0]
    (second,) = publish(volumes, rollover.WAIT + 60)

    prepare = rollover.prepare

    def interrupted(pod: Pod) -> None:
        if read_key(volumes.current / "tls.key").digest == second:
            raise KeyboardInterrupt
        prepare(pod)

    with monkeypatch.context() as patch:
        patch.setattr(rollover, "prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            renewal.renew(pod, force=True)
    assert rollover.tlsa_keys(pod) == (second, first)
    renewal.renew(pod)
    third = read_key(volumes.next).digest
    assert rollover.tlsa_keys(pod) == (second, first, third)


def test_another_type_of_key_is_published_first(volumes: Volumes) -> None:
    renewal.provide(volumes.as_pod(**PUBLIC))
    publish(volumes, rollover.WAIT + 60)
    pod = volumes.as_pod(**PUBLIC, key_type="ec384")
    first = rollover.tlsa_keys(pod)[0]
    renewal.renew(pod, force=True)
    assert rollover.tlsa_keys(pod)[0] == first
    (second,) = publish(volumes, rollover.WAIT + 60)
    renewal.renew(pod, force=True)
    assert rollover.tlsa_keys(pod)[0] == second
    assert read_key(volumes.current / "tls.key").private.key_size == 384


def test_without_a_public_zone_there_is_no_next_key(volumes: Volumes) -> None:
    renewal.provide(volumes.as_pod(**PUBLIC))
    assert stat.S_IMODE(volumes.next.stat().st_mode) == 0o600
    renewal.provide(volumes.as_pod())
    assert not volumes.next.exists()
    assert len(rollover.tlsa_keys(volumes.as_pod())) == 1


def test_what_the_authority_issues_is_judged_as_any_other_pair(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(authority, "LIFETIME", dt.timedelta(minutes=-30))
        with pytest.raises(Problem, match="has expired"):
            renewal.provide(volumes.as_pod())
    assert store.current(Folder.at(volumes.certificates)) == ()
    there = renewal.provide(volumes.as_pod())
    monkeypatch.setattr(authority, "LIFETIME", dt.timedelta(minutes=-30))
    with pytest.raises(Problem, match="has expired"):
        renewal.issue(volumes.as_pod())
    assert store.current(Folder.at(volumes.certificates)) == there


def test_what_the_authority_issues_comes_without_a_warning(volumes: Volumes) -> None:
    assert renewal.issue(volumes.as_pod()).warnings == []


def foreign(folder: Path, names: tuple[str, ...], key_type: KeyType) -> tuple[KeyPair, tuple[Path, Path]]:
    """Return a key pair of another authority, and its two files in a new folder below this one."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    pair = authority.issue_for(Folder.at(folder), names, key_type)
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(to_pem([*pair.chain, *pair.roots]))
    files[1].write_bytes(pair.key.pem)
    return pair, files


def test_two_pairs_are_imported_together_and_one_alone_replaces_both(volumes: Volumes, tmp_path: Path) -> None:
    (one, first), (other, second) = (foreign(tmp_path, NAMES, key) for key in (KeyType.RSA2048, KeyType.EC384))
    brought = renewal.bring(volumes.as_pod(), [first, second])
    assert [there.key for there in brought.certificates] == ["ec384", "rsa2048"]
    assert brought.certificates == store.current(Folder.at(volumes.certificates))
    assert volumes.ca.read_bytes() == to_pem([*other.roots, *one.roots])
    assert len(brought.warnings) == 1, "each is given once"
    alone = renewal.bring(volumes.as_pod(**BOTH), [first]).certificates
    assert alone == (replace(one.certificate, origin="import"),)
    assert not renewal.renew(volumes.as_pod(**BOTH)).changed, "no pair is added to an imported one"


def test_two_pairs_of_one_algorithm_or_a_wrong_second_one_are_refused(volumes: Volumes, tmp_path: Path) -> None:
    before = volumes.ensure()
    files = [foreign(tmp_path, NAMES, key)[1] for key in (KeyType.EC256, KeyType.EC384)]
    with pytest.raises(
        Problem, match=r"both key pairs are of one algorithm \(ec256 and ec384\): expected one of ECDSA"
    ):
        renewal.bring(volumes.as_pod(), files)
    _, other = foreign(tmp_path, ("example.com",), KeyType.RSA2048)
    with pytest.raises(Problem, match=rf"{other[0]}: the certificate is for example\.com: expected example\.org"):
        renewal.bring(volumes.as_pod(), [files[0], other])
    assert store.current(Folder.at(volumes.certificates)) == (before,)


def test_two_keys_that_a_person_brings_are_published_first(volumes: Volumes, tmp_path: Path) -> None:
    pod = volumes.as_pod(**PUBLIC, **BOTH)
    renewal.provide(pod)
    folder = Folder.at(volumes.certificates)
    present, (kept, _) = store.key_digests(folder), store.keys(folder)
    pair, files = foreign(tmp_path, NAMES, KeyType.RSA2048)
    same = authority.issue_for(Folder.at(files[0].parent), NAMES, kept)
    ours = tmp_path / "ours.pem", tmp_path / "ours.key"
    ours[0].write_bytes(to_pem(same.chain))
    ours[1].write_bytes(kept.pem)
    assert not renewal.bring(pod, [ours, files]).changed
    assert rollover.tlsa_keys(pod) == (*present, pair.key.digest), "only the new key is to be published"
    renewal.provide(pod)
    publish(volumes, rollover.WAIT + 60, **BOTH)
    assert renewal.bring(pod, [ours, files]).changed
    assert store.key_digests(folder) == (present[0], pair.key.digest)


def test_an_imported_pair_is_never_replaced_by_a_renewal(volumes: Volumes, tmp_path: Path) -> None:
    pair, files = foreign(tmp_path, NAMES[:1], KeyType.EC256)
    brought = renewal.bring(volumes.as_pod(), [files])
    assert brought.changed
    assert [warning.partition(":")[0] for warning in brought.warnings] == [
        "the certificate is not for mail.example.org",
        "no root certificate of this host verifies the certificate",
    ]
    assert volumes.ca.read_bytes() == to_pem(pair.roots), "what clients need is theirs to import"
    kept = renewal.renew(volumes.as_pod())
    assert (kept.changed, kept.certificates) == (False, (replace(pair.certificate, origin="import"),))
    assert kept.warnings == ["the imported certificate is not for mail.example.org"]
    with pytest.raises(Problem, match="an imported certificate cannot be renewed: import a newer one"):
        renewal.renew(volumes.as_pod(), force=True)
    assert renewal.issue(volumes.as_pod()).certificates[0].origin == "authority"


def test_where_one_is_to_be_imported_the_authoritys_serves_until_then(volumes: Volumes) -> None:
    outcome = renewal.renew(volumes.as_pod(certificate_source="import"))
    assert outcome.certificates[0].origin == "authority"
    assert outcome.warnings == ["no certificate was imported yet: invoke certs.import CERT KEY"]
    with pytest.raises(Problem, match="certificate_source is import"):
        renewal.issue(volumes.as_pod(certificate_source="import"))


def test_an_authority_that_cannot_be_read_is_told_and_not_replaced(volumes: Volumes) -> None:
    volumes.ensure()
    (volumes.authority / "ca.pem").write_text("nonsense")
    with pytest.raises(Problem, match=r"ca\.pem does not hold a private key and its certificate. Restore it"):
        renewal.issue(volumes.as_pod())
    assert (volumes.authority / "ca.pem").read_text() == "nonsense"
