"""Reports as other mail servers send them: DMARC aggregate reports (RFC 7489) and TLS reports (RFC 8460)."""

import gzip
import io
import json
import zipfile
from email.message import EmailMessage


def dmarc_report(domain: str, identifier: str, rows: list[tuple[str, int, str, str]]) -> bytes:
    """Return a report by example.net. A row is an address, a number of messages, the result and the disposition."""
    records = "".join(
        f"<record><row><source_ip>{address}</source_ip><count>{number}</count><policy_evaluated>"
        f"<disposition>{done}</disposition><dkim>fail</dkim><spf>{result}</spf></policy_evaluated></row></record>"
        for address, number, result, done in rows
    )
    return (
        f'<?xml version="1.0"?>\n<feedback><report_metadata><org_name>example.net</org_name><report_id>{identifier}'
        f"</report_id></report_metadata><policy_published><domain>{domain}</domain></policy_published>{records}"
        "</feedback>"
    ).encode()


def tls_report(domain: str, identifier: str, sessions: int, failures: dict[str, int]) -> bytes:
    """Return a report by example.com: sessions with TLS, and failed ones by reason."""
    details = [{"result-type": reason, "failed-session-count": number} for reason, number in failures.items()]
    summary = {"total-successful-session-count": sessions, "total-failure-session-count": sum(failures.values())}
    policy = {"policy": {"policy-type": "sts", "policy-domain": domain}, "summary": summary, "failure-details": details}
    report = {"organization-name": "example.com", "report-id": identifier, "policies": [policy]}
    return json.dumps(report).encode()


def zipped(content: bytes) -> bytes:
    """Return a zip archive of one file."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("report.xml", content)
        return file.getvalue()


def report_letter(recipient: str, subject: str, content: bytes, kind: str = "") -> EmailMessage:
    """Return a message with a packed report: a zip archive as it is, anything else compressed with gzip."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "reports@example.com", recipient, subject
    message.set_content("A report is attached.\n")
    if kind == "zip":
        message.add_attachment(zipped(content), "application", "zip", filename="report.zip")
    else:
        message.add_attachment(gzip.compress(content), "application", kind or "gzip", filename="report.gz")
    return message
