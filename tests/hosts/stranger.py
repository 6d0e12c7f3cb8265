"""`python -m tests.hosts.stranger HOST DOMAIN`: use the pod from outside, as a client without a login."""

import http.client
import imaplib
import smtplib
import ssl
import sys

import dns.flags
import dns.message
import dns.query
import dns.rcode

from tests.testbed.server import PATIENCE


def main(host: str, domain: str) -> None:
    """Connect to all four daemons; raise AssertionError if one does not serve, or does not refuse, as it must."""
    trusting = ssl._create_unverified_context()  # noqa: S323,SLF001  # the server's identity does not matter here
    site = http.client.HTTPSConnection(host, 443, timeout=PATIENCE, context=trusting)
    site.request("GET", "/", headers={"Host": domain})
    assert site.getresponse().status == 200

    with smtplib.SMTP(host, timeout=PATIENCE) as client:
        client.ehlo("client.example.com")
        client.mail("someone@example.com")
        accepted, refused = client.rcpt(f"postmaster@{domain}"), client.rcpt("someone@example.net")
        assert accepted[0] == 250, accepted
        assert refused[0] == 554, refused

    with imaplib.IMAP4_SSL(host, timeout=PATIENCE, ssl_context=trusting) as mailbox:
        try:
            mailbox.login(f"nobody@{domain}", "wrong password")
        except imaplib.IMAP4.error:
            pass
        else:
            raise AssertionError("a login that does not exist was let in")

    question = dns.message.make_query("example.com", "A")
    for ask in (dns.query.udp, dns.query.tcp):
        answer = ask(question, host, timeout=PATIENCE)
        assert answer.rcode() == dns.rcode.REFUSED, answer
        assert not answer.flags & dns.flags.RA, answer


if __name__ == "__main__":
    main(*sys.argv[1:])
