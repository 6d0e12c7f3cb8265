"""Asks resolvers for records, within a budget of time."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.nameserver
import dns.resolver

from podserve.values import Forwarder

_TRY = 0.9
"""Seconds until the next resolver is asked, and a lost datagram is repeated."""


class UnansweredError(Exception):
    """No resolver answered a question, or all failed. The text says which."""


@dataclass(frozen=True)
class Resolvers:
    """Resolvers, and the seconds that all questions together may take from now on.

    `root` is the file of the root certificates that verify those over TLS; by default this host's.
    """

    servers: tuple[Forwarder, ...]
    budget: float
    root: Path | None = None
    _begin: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        """Return them as in the setting `forwarders`."""
        return ", ".join(map(str, self.servers))

    def _nameserver(self, server: Forwarder) -> dns.nameserver.Nameserver:
        if not server.name:
            return dns.nameserver.Do53Nameserver(str(server.address), server.port)
        verify = str(self.root.expanduser()) if self.root else True
        return dns.nameserver.DoTNameserver(str(server.address), server.port, server.name, verify)

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        """Return the data of the records of a name, sorted, as a zone file writes them; none if there is no such name.

        An alias is followed. Several threads may ask at once. Raises UnansweredError.
        """
        asking = dns.resolver.Resolver(configure=False)
        asking.nameservers, asking.timeout = list(map(self._nameserver, self.servers)), _TRY
        asking.lifetime = max(0.1, self.budget - (time.monotonic() - self._begin))
        asking.flags = dns.flags.RD | dns.flags.CD  # a resolver that validates shows wrong DNSSEC records, too
        asking.use_edns(0, 0, 1232)  # https://www.dnsflagday.net/2020
        try:
            answer = asking.resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except dns.resolver.LifetimeTimeout as error:
            raise UnansweredError(f"no answer from {self} within {self.budget:g} s") from error
        except dns.exception.DNSException as error:
            raise UnansweredError(f"{self} could not resolve {name} ({kind}): {error}") from error
        return tuple(sorted(record.to_text() for record in answer.rrset or ()))
