"""Hostile archives, made member by member, that try to make `restore` write elsewhere."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import zstandard

from podserve.backup.layout import FORMAT

Member = tuple[tarfile.TarInfo, bytes]
CONTENTS = ("accounts", "authority", "certificates", "dkim", "dns", "mail", "web")


def plain(name: str, content: bytes = b"", *, mode: int = 0o644, owner: int = 0) -> Member:
    """Return a member that is a file."""
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = mode, owner, owner
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    """Return a member that is a symbolic link or, with another `kind`, a hard link, a device and so on."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o777
    return info, b""


def hard(name: str, target: str) -> Member:
    """Return a member that is a hard link."""
    return link(name, target, tarfile.LNKTYPE)


def folder(name: str, *, mode: int = 0o755) -> Member:
    """Return a member that is a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def header(**changed: object) -> Member:
    """Return the first member of an archive, with some values changed."""
    told = {"format": FORMAT, "made": "", "settings": {"domain": "example.org"}, **changed}
    return plain("podserve.json", json.dumps(told).encode())


def manifest(members: Iterable[Member]) -> Member:
    """Return the last member of an archive: the checksums of its files."""
    files = [(info, content) for info, content in members if info.isreg() and info.name != "podserve.json"]
    sums = {info.name: hashlib.sha256(content).hexdigest() for info, content in files}
    return plain("manifest.json", json.dumps(sums).encode())


def foreign(file: Path, *members: Member) -> Path:
    """Write an archive of these members."""
    with (
        file.open("wb") as out,
        zstandard.ZstdCompressor(write_checksum=True).stream_writer(out, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def crafted(file: Path, *members: Member, domain: str = "example.org") -> Path:
    """Write an archive that is valid except for the additional members; its checksums include them."""
    volumes = [folder("volumes"), *(folder(f"volumes/{content}") for content in CONTENTS)]
    all_ = [header(settings={"domain": domain}), *volumes, *members]
    return foreign(file, *all_, manifest(all_))
