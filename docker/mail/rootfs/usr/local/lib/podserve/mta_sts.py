"""Answers Postfix's queries for TLS policies (RFC 8461), by Debian's postfix-mta-sts-resolver.

The standard input is the listening socket, a socketmap (socketmap_table(5)). Postfix's clients stay connected for 100 s
after their last query (max_idle). When none has been there for IDLE seconds, this process becomes start-on-demand
again, which holds the socket in a tenth of the memory.

An MTA-STS policy must not override a failing DANE validation (RFC 8461, section 2). Postfix does not look at TLSA
records where a policy says `secure`, so a domain with both gets `dane-only`.
"""

import asyncio
import logging
import os
import socket
import sqlite3
import sys
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.resolver
from postfix_mta_sts_resolver import netstring, utils
from postfix_mta_sts_resolver.responder import STSSocketmapResponder

CACHE = Path("/var/mail/vhosts/.mta-sts/policies")
"""The policies, which are valid for weeks: an attacker who blocks the network must not make them forgotten."""
IDLE = 2.0
TIMEOUT = 4
"""Seconds for the DNS record, for the policy, and for the lookups of DANE: the resolver's own default."""


class Responder(STSSocketmapResponder):
    """The responder of the package, on a socket that exists, with DANE before MTA-STS."""

    def __init__(self, settings: dict, cache: object) -> None:
        """Take the package's settings and its cache."""
        super().__init__(settings, asyncio.get_running_loop(), cache)
        self._loop, self._clients, self._served = asyncio.get_running_loop(), 0, 0
        self._resolver = dns.asyncresolver.Resolver()
        self._resolver.use_edns(0, dns.flags.DO, 1232)
        self._resolver.flags = dns.flags.RD | dns.flags.AD
        self._resolver.lifetime = TIMEOUT

    async def start(self) -> None:
        """Accept clients from now on."""
        self._server = await asyncio.start_unix_server(self.handler, sock=socket.socket(fileno=0))
        self._loop.call_later(IDLE, self._rest, 0)

    async def handler(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client to its end."""
        self._clients += 1
        try:
            await super().handler(reader, writer)
        finally:
            self._clients, self._served = self._clients - 1, self._served + 1
            self._loop.call_later(IDLE, self._rest, self._served)

    def _rest(self, served: int) -> None:
        """Become start-on-demand, if no client has come since that number of them was served."""
        if not self._clients and self._served == served:
            # A client that connects now waits in the queue of the socket, which stays open.
            os.execvp("start-on-demand", ["start-on-demand", *sys.orig_argv])

    async def process_request(self, raw_req: bytes) -> bytes:
        """Return the answer to a query, `NAME DOMAIN`."""
        answer = await super().process_request(raw_req)
        if os.environ["DNSSEC"] != "yes" or b"OK secure" not in answer:
            return answer
        domain = utils.filter_domain(raw_req.decode().partition(" ")[2])
        try:
            return netstring.encode(b"OK dane-only") if await self._has_dane(domain) else answer
        except dns.exception.DNSException as error:
            return netstring.encode(f"TEMP the TLSA records of {domain} cannot be looked up: {error}".encode())

    async def _secure(self, name: str, kind: str) -> list | None:
        """Return the records of a name, if the pod's resolver has validated that these are all; None if it has not."""
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            response, records = next(iter(error.responses().values())), []
        else:
            response, records = answer.response, list(answer.rrset or [])
        return records if response.flags & dns.flags.AD else None

    async def _has_dane(self, domain: str) -> bool:
        """Return whether a mail server of a domain has a TLSA record (RFC 7672, section 2.2)."""
        found = await self._secure(domain, "MX")
        if found is None:
            return False
        for host in [record.exchange.to_text() for record in found] or [f"{domain}."]:
            # Where the address is not signed no TLSA record counts, and some name servers answer no query for one.
            if await self._secure(host, "A") is not None and await self._secure(f"_25._tcp.{host}", "TLSA"):
                return True
        return False


async def open_cache() -> object:
    """Return the cache; a damaged one is replaced by an empty one. Raises OperationalError, such as for a full disk."""
    try:
        cache = utils.create_cache("sqlite", {"filename": str(CACHE), "threads": 1})
        await cache.setup()
        await cache.get("example.org")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        logging.getLogger(__name__).warning("%s is replaced by an empty cache: %s", CACHE, error)
        for file in CACHE.parent.glob(f"{CACHE.name}*"):
            file.unlink()
        cache = utils.create_cache("sqlite", {"filename": str(CACHE), "threads": 1})
        await cache.setup()
    return cache


async def main() -> None:
    """Serve until no client is there any more."""
    settings = utils.populate_cfg_defaults({"path": "standard input", "default_zone": {"timeout": TIMEOUT}})
    responder = Responder(settings, await open_cache())
    await responder.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="mta-sts: %(message)s")
    asyncio.run(main())
