"""A stub resolver: the DNS client of a program, which asks again."""

from collections.abc import Callable, Mapping

import dns.exception
import dns.message
import dns.query

from podserve.waiting import NotYet, wait_until

EXCHANGES: Mapping[str, Callable[..., dns.message.Message]] = {"udp": dns.query.udp, "tcp": dns.query.tcp}
"""What sends a query and returns the response, by transport."""
AGAIN = 1.0
"""Seconds after which a query over UDP is repeated."""
LONGEST = 20.0
"""Seconds for all tries. After too many queries a stranger gets a response within 15 s (rate-limit in named.conf)."""


def ask_until_answered(host: str, question: dns.message.Message, transport: str) -> dns.message.Message:
    """Return the response over `udp` or `tcp`. The pod drops queries that strangers repeat too often over UDP.

    Raises Problem without a response within LONGEST seconds.
    """

    def ask() -> dns.message.Message:
        try:
            return EXCHANGES[transport](question, host, timeout=AGAIN)
        except dns.exception.Timeout as error:
            raise NotYet(str(error)) from error

    return wait_until(ask, LONGEST, "a response")
