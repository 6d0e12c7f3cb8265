"""Names that named does not resolve for clients: from the file of `blocklist` to a response policy zone on a volume."""

import hashlib
import json
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from podserve import volumes
from podserve.errors import Problem
from podserve.folder import Folder
from podserve.pod import Pod

_ZONE, _STATE = "blocklist.zone", "blocklist.json"
"""The zone (docker/dns, named-settings), and what it was made from: the fields of `Blocklist`."""
_LARGEST = 2**26
"""Bytes of the largest file: a hundred times the usual ones."""
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,240}}\Z)({_LABEL}\.)+(?![0-9]+\Z){_LABEL}\Z")  # a zone's name has 255 bytes at most
_HEAD = """\
$TTL 60
@ SOA localhost. nobody.invalid. {serial} 1d 1h 1w 60
  NS localhost.
; The pod's own processes: mail to a blocked name must not be returned as undeliverable.
32.1.0.0.127.rpz-client-ip CNAME rpz-passthru.
128.1.zz.rpz-client-ip CNAME rpz-passthru.
"""


@dataclass(frozen=True)
class Blocklist:
    """A list in use: its file and a digest, the numbers of names and of entries not understood, the allowed names.

    `serial` is the zone's. named takes a zone only if its serial is higher than before.
    """

    file: str = ""
    digest: str = ""
    names: int = 0
    wrong: int = 0
    allowed: tuple[str, ...] = ()
    serial: int = 0

    @property
    def summary(self) -> str:
        """The numbers, as a person reads them."""
        wrong = f"; {self.wrong} entries were not understood" if self.wrong else ""
        allowed = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        return f"{self.names} names of {self.file} are blocked, with all names below them{wrong}{allowed}"


def _words(line: str) -> list[str]:
    """Return the names in a line: `0.0.0.0 NAME...` as in a hosts file, or `NAME`. Raises ValueError for another."""
    words = line.partition("#")[0].lower().split()
    if len(words) > 1:
        ip_address(words[0])
        return words[1:]
    return words


def names_in(text: str, file: str) -> tuple[set[str], int]:
    """Return the names of a hosts file or of a list of names, and the number of entries that were not understood.

    Names of one label, such as localhost, are left out. Raises Problem for a text that is no such list.
    """
    names, wrong, first = set[str](), 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = [word.removeprefix("*.").rstrip(".") for word in _words(line)]
        except ValueError:
            words = [line]
        for word in words:
            if _NAME.match(word):
                names.add(word)
            elif "." in word or " " in word or not word.replace("-", "").isalnum():
                wrong, first = wrong + 1, first or f"line {number} is {line.strip()[:60]!r}"
    if not names or wrong > len(names) / 10:
        why = f"{first}, and {wrong} of {wrong + len(names)} entries are like it" if first else "it has no names"
        raise Problem(
            f"{file} is no blocklist: {why}. Expected a name on each line, or 0.0.0.0 NAME as in a hosts file"
        )
    return names, wrong


def _parents(name: str) -> Iterable[str]:
    while name:
        name = name.partition(".")[2]
        yield name


def zone(names: set[str], allowed: Iterable[str], serial: int) -> str:
    """Return the policy zone: no name of `names`, and none below it, exists, except `allowed` and all below these."""
    free = set(allowed)
    blocked = sorted(name for name in names if not {name, *_parents(name)} & free and names.isdisjoint(_parents(name)))
    lines = [f"{star}{name} CNAME rpz-passthru." for name in sorted(free) for star in ("", "*.")]
    lines += [f"{star}{name} CNAME ." for name in blocked for star in ("", "*.")]
    return _HEAD.format(serial=serial) + "\n".join(lines) + "\n"


def _stored(there: Folder) -> Blocklist:
    with suppress(ValueError, TypeError):
        found = json.loads(there.read(_STATE, 2**20) or b"{}")
        return Blocklist(**{**found, "allowed": tuple(found.get("allowed", ()))})
    return Blocklist()


def write(pod: Pod, allow: str = "", block: str = "") -> tuple[Blocklist, bool]:
    """Write the zone of the setting's file, unless it is the one in use; return the list, and whether it has changed.

    Without the setting, remove the zone. `allow` is a name to allow from now on, `block` one to allow no more. Raises
    Problem if the file cannot be read or is no list, or for a wrong name: then the list in use stays.
    """
    there = volumes.folder(pod.volumes["dns"].name)
    before, file = _stored(there), pod.settings.blocklist
    if file is None:
        there.remove(_ZONE)
        if not before.digest:
            return before, False
        return _keep(there, Blocklist(allowed=before.allowed, serial=before.serial)), True
    for name in (allow, block):
        if name and not _NAME.match(name):
            raise Problem(f"{name!r} is no name: expected one such as news.example.org, in lower case")
    allowed = tuple(sorted({*before.allowed, *([allow] if allow else [])} - {block}))
    try:
        with file.expanduser().open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise Problem(f"the blocklist {file} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise Problem(f"the blocklist {file} has more than {_LARGEST // 2**20} MiB")
    digest = hashlib.sha256(content + " ".join(allowed).encode()).hexdigest()
    if digest == before.digest and there.look(_ZONE):
        return before, False
    names, wrong = names_in(content.decode(errors="replace"), str(file))
    serial = max(int(time.time()), before.serial + 1)
    with there.replacing(_ZONE, 0o644) as new:
        new.write(zone(names, allowed, serial).encode("ascii"))
    return _keep(there, Blocklist(str(file), digest, len(names), wrong, allowed, serial)), True


def _keep(there: Folder, now: Blocklist) -> Blocklist:
    with there.replacing(_STATE, 0o644) as opened:
        opened.write(json.dumps(now.__dict__).encode())
    return now
