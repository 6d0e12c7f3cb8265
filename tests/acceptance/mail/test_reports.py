"""Reports of other mail servers to postmaster@."""

import json

from tests.testbed.mail import arrived
from tests.testbed.pod import PodUnderTest
from tests.testbed.reports import dmarc_report, report_letter, tls_report
from tests.testbed.server import Server, token


def test_reports_to_postmaster_are_summed_up_and_status_says_what_needs_attention(
    server: Server, test_pod: PodUnderTest
) -> None:
    domain, address = server.domain, f"192.0.2.{int(token()[-4:], 16) % 250 + 1}"
    reports = {
        "zip": dmarc_report(domain, token(), [(address, 7, "fail", "quarantine"), ("192.0.2.1", 2, "pass", "none")]),
        "tlsrpt+gzip": tls_report(domain, token(), 5, {"certificate-host-mismatch": 4}),
    }
    for kind, content in reports.items():
        subject = token()
        with server.smtp() as client:
            client.send_message(report_letter(f"postmaster@{domain}", subject, content, kind), "reports@example.com")
        arrived(server, test_pod.postmaster, subject)
    seen = json.loads(test_pod.invoke("mail.reports", "--json").stdout)
    assert [address, 7] in [[sender["address"], sender["messages"]] for sender in seen["failed"]]
    assert seen["tls_failures"]["certificate-host-mismatch"] == 4
    assert f"7 messages from {address} did not pass: quarantine" in test_pod.invoke("mail.reports").stdout
    said = json.loads(test_pod.invoke("status", "--json", check=False).stdout)
    assert "claimed to be from this domain; 4 connections failed" in said["reports"]
    assert not [problem for problem in said["problems"] if "reports" in problem]
