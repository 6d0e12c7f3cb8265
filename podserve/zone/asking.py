"""Asks resolvers for records, within a budget of time."""

import time
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.resolver

_TRY = 0.9
"""Seconds until the next resolver is asked, and a lost datagram is repeated."""


class UnansweredError(Exception):
    """No resolver answered a question, or all failed. The text says which."""


@dataclass(frozen=True)
class Resolvers:
    """Resolvers, by their addresses, and the seconds that all questions together may take from now on."""

    addresses: tuple[str, ...]
    budget: float
    _begin: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        """Return the addresses."""
        return ", ".join(self.addresses)

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        """Return the data of the records of a name, sorted, as a zone file writes them; none if there is no such name.

        An alias is followed. Several threads may ask at once. Raises UnansweredError.
        """
        asking = dns.resolver.Resolver(configure=False)
        asking.nameservers, asking.timeout = list(self.addresses), _TRY
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
