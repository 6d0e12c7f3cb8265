"""A stub resolver: the DNS client of a program, which asks again."""

import dns.exception
import dns.message
import dns.query

from podserve.waiting import NotYet, wait_until

AGAIN = 1.0
"""Seconds after which a query over UDP is repeated."""
LONGEST = 20.0
"""Seconds for all tries. A stranger who has used up his responses (rate-limit in named.conf) gets one within 15 s."""


def ask_until_answered(host: str, question: dns.message.Message, transport: str) -> dns.message.Message:
    """Return the response over `udp` or `tcp`. The pod drops queries that strangers repeat too often over UDP.

    Raises Problem without a response within LONGEST seconds.
    """

    def ask() -> dns.message.Message:
        try:
            return exchange(question, host, timeout=AGAIN)
        except dns.exception.Timeout as error:
            raise NotYet(str(error)) from error

    exchange = dns.query.tcp if transport == "tcp" else dns.query.udp
    return wait_until(ask, LONGEST, "a response")
