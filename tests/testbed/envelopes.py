"""Which envelopes a server takes on port 25.

It is a script, too, that needs the standard library alone: Vantage.python is given its text, to try from elsewhere.
"""

import json
import smtplib
import sys
from typing import NamedTuple

PATIENCE = 10.0
"""Seconds to wait for one answer."""


class Envelope(NamedTuple):
    """What an SMTP client says before it sends a message; the addresses as they stand between < and >."""

    sender: str
    recipient: str
    helo: str = "client.example.com"


def answer(client: smtplib.SMTP, sender: str, recipient: str) -> int:
    """Return the code that a server answers MAIL with or, where that is accepted, RCPT.

    Word for word as given: smtplib's own mail() and rcpt() would tidy an odd address.
    """
    code, _ = client.docmd("MAIL", f"FROM:<{sender}>")
    if code == 250:
        code, _ = client.docmd("RCPT", f"TO:<{recipient}>")
    return code


def not_refused(host: str, envelopes: list[Envelope]) -> list[Envelope]:
    """Return those envelopes that are not refused for good, each tried in a session of its own."""
    left = []
    for envelope in envelopes:
        with smtplib.SMTP(host, 25, timeout=PATIENCE, local_hostname=envelope.helo) as client:
            client.ehlo()
            if answer(client, envelope.sender, envelope.recipient) // 100 != 5:
                left.append(envelope)
    return left


if __name__ == "__main__":
    print(json.dumps(not_refused(sys.argv[1], [Envelope(*words) for words in json.loads(sys.argv[2])])))
