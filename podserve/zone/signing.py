"""The one key that signs the domain's zone: made once, kept on the volume `dns`, and never replaced silently.

The parent's DS record names the key. If named signed with another one, resolvers that validate would refuse the whole
domain. The file DOMAIN.key says which key it is, so a lost key differs from one that was never made.
"""

import os
from dataclasses import dataclass
from pathlib import PurePath

import dns.dnssec
import dns.name
import dns.rdata

from podserve import volumes
from podserve.certificates.container import run_once
from podserve.descriptors import closing, open_file
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod
from podserve.resolver import BIND
from podserve.zone.asking import Resolvers, UnansweredError
from podserve.zone.record import normal

IMAGE = "localhost/podserve-dns:latest"
_PARTS = "key", "private", "state"
"""The ends of the names of a key's files. Without .state, named would take the key for one of another policy."""
_LARGEST = 2**16
_GLANCE = 1.0
"""Seconds to ask for the parent's DS record before the first key is made."""


@dataclass(frozen=True)
class Key:
    """A key: the name of its files on the volume, and its public half (the data of the DNSKEY record)."""

    name: str
    public: str

    def ds(self, domain: str) -> str:
        """Return the data of the DS record, with the digest SHA-256 (RFC 4509)."""
        record = dns.rdata.from_text("IN", "DNSKEY", self.public)
        made = dns.dnssec.make_ds(dns.name.from_text(domain), record, "SHA256")
        return str(made.to_text())


def _folder(pod: Pod) -> Folder:
    return volumes.folder(pod.volumes["dns"].name)


def _name(there: Folder, domain: str) -> str:
    """Return the name of the domain's key; an empty text if none was ever made."""
    return (there.read(f"{domain}.key", _LARGEST) or b"").decode(errors="replace").strip()


def signing_key(pod: Pod) -> Key | None:
    """Return the key of the domain; None if none was ever made. Raises Problem if it is lost."""
    there, domain = _folder(pod), pod.settings.domain
    if not (name := _name(there, domain)):
        return None
    parts = [there.read(f"{name}.{part}", _LARGEST) if PurePath(name).name == name else None for part in _PARTS]
    lines = (parts[0] or b"").decode(errors="replace").splitlines()
    public = [line.partition(" DNSKEY ")[2] for line in lines if " DNSKEY " in line]
    if not all(parts) or not public:
        raise Problem(
            f"the DNSSEC key of {domain} is lost: expected {name}.key, .private and .state in {there}. named serves "
            "the zone without signatures. While the parent has a DS record, resolvers that validate refuse it all. "
            "Restore a backup that has the key (invoke restore FILE). Without one, remove the DS record at the "
            "registrar, wait a day, then: invoke dns.ds --new"
        )
    return Key(name, normal("DNSKEY", public[0]))


def _let_named_read(there: Folder, name: str) -> bool:
    """Give the files of a key the owner and the mode that named needs; return whether they had others."""
    changed = False
    for part in _PARTS:
        with closing(open_file(f"{name}.{part}", there.descriptor)) as file:
            at = os.fstat(file)
            if (at.st_uid, at.st_gid, at.st_mode & 0o777) != (0, BIND, 0o640):
                os.fchown(file, 0, BIND)
                os.fchmod(file, 0o640)
                changed = True
    return changed


def make_key(pod: Pod) -> Key:
    """Make a key, in place of any other. Raises Problem if dnssec-keygen fails."""
    there, domain = _folder(pod), pod.settings.domain
    there.remove(f"{domain}.key")
    for name in there.names():
        if name.startswith(f"K{domain}.+"):
            there.remove(name)
    said = run_once("dnssec-keygen", "-q", "-k", "own", "-l", "/etc/bind/signing.conf", "-K", "/data/dns", domain,
                    mounts={"/data/dns": pod.volumes["dns"].name}, image=IMAGE)  # fmt: skip
    name = said.stdout.strip()
    if not said.ok or not name.startswith(f"K{domain}.+"):
        raise Problem(f"dnssec-keygen made no key for {domain}: {(said.stderr or said.stdout).strip()}")
    _let_named_read(there, name)
    with there.replacing(f"{domain}.key", 0o644) as file:
        file.write(f"{name}\n".encode("ascii"))
    made = signing_key(pod)
    if not made:
        raise Problem(f"dnssec-keygen made no key for {domain} that can be read")
    return made


def provide_key(pod: Pod) -> bool:
    """Make the key if none was ever made, and let named read it; return whether this changed anything.

    Raises Problem if it is lost, or if the parent has a DS record though there is no key here: then none is made.
    """
    settings = pod.settings
    if key := signing_key(pod):
        return _let_named_read(_folder(pod), key.name)
    try:
        there = Resolvers(settings.forwarders, _GLANCE, settings.forwarders_root).ask(settings.domain, "DS")
    except UnansweredError:
        there = ()
    if there:
        raise Problem(
            f"the parent zone has a DS record for {settings.domain} ({there[0]}), and this server has no key for it. "
            "named serves the zone without signatures. Restore the backup that has the key (invoke restore FILE). If "
            "another provider signed the zone, remove the DS record at the registrar, wait a day, then: "
            "invoke dns.ds --new"
        )
    make_key(pod)
    return True


def require_key(pod: Pod) -> Key:
    """Return the key of the domain. Raises Problem if there is none yet, or if it is lost."""
    key = signing_key(pod)
    if not key:
        raise Problem(f"{pod.settings.domain} has no DNSSEC key yet: invoke up makes it")
    return key


def replace_lost_key(pod: Pod) -> Key:
    """Make a new key where none can be used. Raises Problem if the key is there."""
    try:
        there = signing_key(pod)
    except Problem:
        there = None
    if there:
        raise Problem(
            f"the DNSSEC key of {pod.settings.domain} is there ({there.name}), and is not replaced: invoke dns.ds"
        )
    return make_key(pod)
