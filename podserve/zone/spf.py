"""Judges an SPF record as a receiving server does (RFC 7208): whether mail from an address passes.

No library does this here: checkdmarc needs 29 packages on every server, and pyspf has had no release since 2020.
"""

import re
from collections.abc import Callable
from ipaddress import ip_network

from podserve.values import Address
from podserve.zone.record import kind_of, unquoted

LOOKUPS = 10
"""The terms of a record that may need DNS (RFC 7208, section 4.6.4). One more is an error, and mail may be lost."""
_MODIFIER = re.compile(r"[a-z][a-z0-9_.-]*=")
_TERM = re.compile(r"(?P<sign>[-+~?]?)(?P<word>[a-z0-9]+)(?::(?P<name>[^/]+))?(?:/(?P<v4>\d+))?(?://(?P<v6>\d+))?\Z")
_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}

Ask = Callable[[str, str], tuple[str, ...]]


class SpfError(ValueError):
    """A record that receivers cannot evaluate (permerror). The text says why."""


def records_in(texts: tuple[str, ...]) -> list[str]:
    """Return the SPF records among the TXT records of a name, without quotes."""
    return [text for text in map(unquoted, texts) if text.lower().split(" ")[0] == "v=spf1"]


def result(domain: str, address: Address, ask: Ask) -> str:
    """Return what receivers find for mail of a domain from an address: pass, fail, softfail or neutral.

    Macros and the terms `exists` and `ptr` count as lookups, and match nothing. Raises SpfError, and what `ask` raises.
    """
    return _RESULTS[_Evaluation(address, ask).evaluate(domain)]


class _Evaluation:
    def __init__(self, address: Address, ask: Ask) -> None:
        self._address, self._ask, self._left = address, ask, LOOKUPS

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SpfError(f"it needs more than {LOOKUPS} DNS lookups (RFC 7208, section 4.6.4)")

    def evaluate(self, domain: str) -> str:
        """Return the sign of the first term that matches."""
        found = records_in(self._ask(domain, "TXT"))
        if len(found) != 1:
            raise SpfError(f"{domain} has {len(found)} SPF records: expected one")
        redirect = ""
        for term in found[0].split()[1:]:
            if _MODIFIER.match(term.lower()):
                redirect = term.partition("=")[2] if term.lower().startswith("redirect=") else redirect
                continue
            if not (parts := _TERM.match(term.lower())) and not term.lower().lstrip("-+~?").startswith("ip6:"):
                raise SpfError(f"its term {term!r} is malformed")
            if self._matches(term.lower().lstrip("-+~?"), parts, domain):
                return term[0] if term[0] in _RESULTS else "+"
        if redirect:
            self._spend()
            return self.evaluate(redirect)
        return "?"

    def _matches(self, term: str, parts: re.Match[str] | None, domain: str) -> bool:
        word, _, value = term.partition(":")
        if word in {"ip4", "ip6"}:
            try:
                return self._address in ip_network(value, strict=False)
            except ValueError as error:
                raise SpfError(f"its term {term!r} holds no address or network") from error
        assert parts  # noqa: S101  # for the type checker: only ip6 has none
        name, word = parts["name"] or domain, parts["word"]
        if word == "all":
            return True
        if word not in {"a", "mx", "include", "exists", "ptr"}:
            raise SpfError(f"its term {term!r} is unknown")
        self._spend()
        if word in {"exists", "ptr"} or "%" in name:
            return False
        if word == "include":
            return self.evaluate(name) == "+"
        hosts = [name] if word == "a" else [data.split()[1].rstrip(".") for data in self._ask(name, "MX")]
        return any(self._is_at(host, parts) for host in hosts)

    def _is_at(self, host: str, parts: re.Match[str]) -> bool:
        longest = self._address.max_prefixlen
        prefix = int(parts[f"v{self._address.version}"] or longest)
        if prefix > longest:
            raise SpfError(f"its term {parts[0]!r} has a prefix of more than {longest} bits")
        found = self._ask(host, kind_of(self._address))
        return any(self._address in ip_network(f"{address}/{prefix}", strict=False) for address in found)
