"""Find the envelopes that a server accepts on port 25.

This module is also a script that uses only the standard library: Vantage.python runs its text in another network
namespace.
"""

import json
import smtplib
import sys
from typing import NamedTuple

PATIENCE = 10.0
"""Seconds to wait for one answer."""


class Envelope(NamedTuple):
    """The commands before a message: HELO, MAIL and RCPT. The addresses are exactly the text between < and >."""

    sender: str
    recipient: str
    helo: str = "client.example.com"


def answer(client: smtplib.SMTP, sender: str, recipient: str) -> int:
    """Return the reply code to MAIL or, if MAIL is accepted, to RCPT.

    The addresses are sent unchanged: smtplib's own mail() and rcpt() would normalise an odd address.
    """
    code, _ = client.docmd("MAIL", f"FROM:<{sender}>")
    if code == 250:
        code, _ = client.docmd("RCPT", f"TO:<{recipient}>")
    return code


def not_refused(host: str, envelopes: list[Envelope]) -> list[Envelope]:
    """Return the envelopes without a permanent refusal (5xx). Each is tried in its own session."""
    left = []
    for envelope in envelopes:
        with smtplib.SMTP(host, 25, timeout=PATIENCE, local_hostname=envelope.helo) as client:
            client.ehlo()
            if answer(client, envelope.sender, envelope.recipient) // 100 != 5:
                left.append(envelope)
    return left


if __name__ == "__main__":
    print(json.dumps(not_refused(sys.argv[1], [Envelope(*words) for words in json.loads(sys.argv[2])])))
