"""The types of settings: each has a parser from text, which raises ValueError. `as_text` converts a value back."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar

import idna

from podserve.choices import KeyType

T = TypeVar("T")

Address = IPv4Address | IPv6Address
ANY_ADDRESS = IPv4Address("0.0.0.0")  # noqa: S104
"""All IPv4 addresses of a host: what a port without hostIP is served on (Kubernetes' default)."""
LOOPBACK = IPv4Address("127.0.0.1")

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"  # RFC 1123, section 2.1
DOMAIN_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)+(?![0-9]+\Z){_LABEL}\Z")
PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
POD_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\Z")
HTTPS_ADDRESS = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/%-]*)?\Z")
EMAIL_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9.-]+\Z")
LOGIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+=/%-]*\Z")
QUOTA = re.compile(r"(none|[1-9][0-9]{0,5}[MGT])\Z")
LOCAL_PART = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z")
"""The part of an account before the @. It has no + (which begins a tag), and no character that means something in a
path or in a file with colons."""


TTL = 3600
"""Seconds that resolvers keep a record: long enough to be cached, short enough to correct a mistake the same day."""
PLAIN_DNS, DNS_OVER_TLS = 53, 853
"""The ports of DNS (RFC 1035, section 4.2) and of DNS over TLS (RFC 7858, section 3.1)."""
_OVER_TLS = "tls://"


@dataclass(frozen=True)
class Forwarder:
    """A resolver to which the pod forwards. With a `name`, over TLS: its certificate must be for that name."""

    address: Address
    port: int = PLAIN_DNS
    name: str = ""

    def __str__(self) -> str:
        """Return it as in the setting: `192.0.2.1`, `tls://192.0.2.1#NAME`, or `tls://192.0.2.1@PORT#NAME`."""
        if not self.name:
            return str(self.address)
        port = "" if self.port == DNS_OVER_TLS else f"@{self.port}"
        return f"{_OVER_TLS}{self.address}{port}#{self.name}"


class WrongWordError(ValueError):
    """A word of a list is wrong. The text of the error is that word."""


def is_domain(text: str) -> bool:
    """Return whether this is a domain name in lower case."""
    return bool(DOMAIN_NAME.match(text))


def matching(pattern: re.Pattern[str], *, longest: int = 1000, may_be_empty: bool = False) -> Callable[[str], str]:
    """Return a parser of texts that match a pattern, with `longest` characters at most."""

    def parse_text(text: str) -> str:
        if not (may_be_empty and not text) and not (pattern.match(text) and len(text) <= longest):
            raise ValueError(text)
        return text

    return parse_text


def domain_name(*, longest: int = 253) -> Callable[[str], str]:
    """Return a parser of domain names in lower case. A name outside ASCII becomes its A-label (RFC 5890)."""
    parse_text = matching(DOMAIN_NAME, longest=longest)
    return lambda text: parse_text(text if text.isascii() else idna.encode(text, uts46=True).decode())


def host_and_port(text: str) -> str:
    """Parse a host name as `domain_name` does, perhaps with a port after a colon; an empty text is none."""
    host, colon, port = text.partition(":")
    return f"{domain_name()(host)}{colon}{number(1, 65535)(port) if colon else ''}" if text else ""


def name_or_wildcard(text: str) -> str:
    """Parse a domain name as `domain_name` does, or one after `*.`, which stands for one label."""
    star = "*." if is_wildcard(text) else ""
    return star + domain_name()(text.removeprefix(star))


def is_wildcard(name: str) -> bool:
    """Return whether a certificate's name stands for all names with one more label."""
    return name.startswith("*.")


def covers(names: Iterable[str], name: str) -> bool:
    """Return whether one of a certificate's names is this one, or a wildcard for it (RFC 6125, section 6.4.3)."""
    return bool({name, f"*.{name.partition('.')[2]}"} & set(names))


def both_forms(name: str) -> str:
    """Return a domain name, and its U-label if it has one: `xn--mller-kva.de (müller.de)`."""
    try:
        unicode = ".".join(idna.decode(label) if label.startswith("xn--") else label for label in name.split("."))
    except UnicodeError:
        return name
    return name if unicode == name else f"{name} ({unicode})"


def byte_count(digits: int) -> Callable[[str], int]:
    """Return a parser of numbers of bytes: 100000 or more, with so many digits at most."""
    parse_text = matching(re.compile(rf"[1-9][0-9]{{5,{digits - 1}}}\Z"))
    return lambda text: int(parse_text(text))


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of numbers from `least` to `most`, in decimal digits without leading zeros."""
    parse_text = matching(re.compile(r"(0|[1-9][0-9]{0,8})\Z"))

    def parse_number(text: str) -> int:
        if not least <= (parsed := int(parse_text(text))) <= most:
            raise ValueError(text)
        return parsed

    return parse_number


def host_address(text: str) -> Address:
    """Parse an IP address. One with an interface (fe80::1%eth0) is refused: no interface of the host is in the pod."""
    parsed = ip_address(text)
    if getattr(parsed, "scope_id", None):
        raise ValueError(text)
    return parsed


def forwarder(text: str) -> Forwarder:
    """Parse an IP address (plain DNS), or `tls://ADDRESS#NAME`, perhaps with a port: `tls://ADDRESS@PORT#NAME`."""
    if not text.startswith(_OVER_TLS):
        return Forwarder(host_address(text))
    where, _, name = text.removeprefix(_OVER_TLS).partition("#")
    address, at, port = where.partition("@")
    return Forwarder(host_address(address), number(1, 65535)(port) if at else DNS_OVER_TLS, domain_name()(name))


def words(parse_word: Callable[[str], T], *, may_be_empty: bool = False) -> Callable[[str], tuple[T, ...]]:
    """Return a parser of lists of words, separated by spaces. It raises WrongWordError for a word."""

    def parse_words(text: str) -> tuple[T, ...]:
        if not text and not may_be_empty:
            raise ValueError(text)
        values = []
        for word in text.split():
            try:
                values.append(parse_word(word))
            except ValueError as error:
                raise WrongWordError(word) from error
        return tuple(values)

    return parse_words


def distinct(parse_words: Callable[[str], tuple[T, ...]]) -> Callable[[str], tuple[T, ...]]:
    """Return a parser of the same lists, which raises WrongWordError for a word that stands there twice."""

    def parse_distinct(text: str) -> tuple[T, ...]:
        parsed = parse_words(text)
        for number_before, value in enumerate(parsed):
            if value in parsed[:number_before]:
                raise WrongWordError(as_text(value))
        return parsed

    return parse_distinct


def address_pair(text: str) -> tuple[Address, ...]:
    """Parse an IPv4 address, an IPv6 address, both in any order, or none. Raises WrongWordError for a word."""
    parsed = words(host_address, may_be_empty=True)(text)
    if len({address.version for address in parsed}) != len(parsed):
        raise ValueError(text)
    return parsed


def key_types(text: str) -> tuple[KeyType, ...]:
    """Parse one key type, or one of ECDSA and one of RSA: ECDSA comes first. Raises WrongWordError for a word."""
    parsed = sorted(words(KeyType)(text), key=lambda key_type: key_type.algorithm)
    if len({key_type.algorithm for key_type in parsed}) != len(parsed):
        raise ValueError(text)
    return tuple(parsed)


def yes_or_no(text: str) -> bool:
    """Parse `yes` or `no`."""
    if text not in {"yes", "no"}:
        raise ValueError(text)
    return text == "yes"


def path_or_none(text: str) -> Path | None:
    """Parse a path that begins with /, ~ or ./; an empty text is none."""
    if text and not text.startswith(("/", "~", "./")):
        raise ValueError(text)
    return Path(text) if text else None


def as_text(value: object) -> str:
    """Return a setting's value as the text that `Setting.parse` takes."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Enum():
            return str(value.value)
        case tuple():
            return " ".join(map(as_text, value))
        case Path():
            return str(value) if str(value).startswith(("/", "~")) else f"./{value}"
        case _:
            return str(value)
