"""Malformed inputs on every port: no daemon dies, memory is released, the next well-behaved client is served."""

import base64
import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import dns.message

from tests.faults.load import AFTER, Peak
from tests.faults.mutate import malformed
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server

SECTION = "fuzz"
INPUTS = 1000
"""Malformed inputs to each port."""
CLIENTS = 8
PATIENCE = 0.15
"""Seconds for which the reply to a malformed input is read. Its content does not matter."""
IMPLICIT_TLS = (443, 465, 993, 995)
LASTING = {
    "apache": ("s6-svscan", "s6-supervise", "apache2", "perl-fcgi-pm", "on-change"),
    "mail": ("s6-svscan", "s6-supervise", "master", "qmgr", "dovecot", "on-change"),
    "dns": ("named",),
}
"""Programs of each container whose processes must not change while it runs; of apache2 the parent only."""
DEATH = re.compile(
    r"killed by signal|exit signal|segfault|[Ss]egmentation|core dumped|[Pp]anic:|assertion failure|INSIST|REQUIRE\("
)

PROPFIND = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:" xmlns:x="urn:x"><prop><getetag/><x:p/></prop></propfind>'
)
LOCK = (
    b'<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype>'
    b"<owner><href>http://example.com/me</href></owner></lockinfo>"
)
HEADERS = b"\0\0\x05\x01\x05\0\0\0\x01\x82\x84\x87\x41\x80"
PATCH = b'<propertyupdate xmlns="DAV:"><set><prop><a xmlns="urn:x">b</a></prop></set></propertyupdate>'
IMAP = (
    b"a CAPABILITY\r\n",
    b"a LOGIN user@example.com {8+}\r\npassword\r\n",
    b"a AUTHENTICATE PLAIN AHVzZXIAcGFzcw==\r\n",
    b'a ID ("name" "x" "version" "1.0")\r\n',
    b'a LOGIN "user" "pass\\"word"\r\nb NOOP\r\nc LOGOUT\r\n',
    b"a STARTTLS\r\n",
)
SIEVE = (
    b"CAPABILITY\r\n",
    b'AUTHENTICATE "PLAIN" "AHVzZXIAcGFzcw=="\r\n',
    b'AUTHENTICATE "PLAIN" {16+}\r\nAHVzZXIAcGFzcw==\r\n',
    b'PUTSCRIPT "a" {8+}\r\ndiscard;\r\nNOOP "x"\r\nLOGOUT\r\n',
    b"STARTTLS\r\n",
)
SMTP = (
    b"EHLO example.com\r\nMAIL FROM:<a@example.com> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
    b"EHLO [IPv6:::1]\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<\xc3\xbc@example.com> NOTIFY=NEVER ORCPT=rfc822;a\r\n",
    b"HELO x\r\nVRFY a\r\nRSET\r\nNOOP x\r\nXCLIENT ADDR=1.2.3.4\r\nQUIT\r\n",
    b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<postmaster>\r\nBDAT 10 LAST\r\n0123456789",
    b"EHLO x\r\nSTARTTLS\r\n",
    b"EHLO x\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\n",
)
POP3 = b"CAPA\r\n", b"USER a@example.com\r\nPASS x\r\n", b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n", b"APOP a b\r\nQUIT\r\n"


def _hello(domain: str) -> bytes:
    """Return the TLS record of a ClientHello."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(coming, going, server_hostname=domain).do_handshake()
    return going.read()


def _http(test_pod: PodUnderTest, account: Account) -> list[bytes]:
    """Return requests for the site, for WebDAV with and without a login, and for git."""
    host = test_pod.server.domain.encode()
    login = b"Authorization: Basic " + base64.b64encode(f"{account.address}:{account.password}".encode())

    def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
        length = [b"Content-Length: %d" % len(body)] if body else []
        return b"\r\n".join([line + b" HTTP/1.1", b"Host: " + host, *headers, *length, b"", body])

    return [
        request(b"GET /?a=b%20c", b"Range: bytes=0-10,20-", b"Accept-Encoding: gzip;q=0.5", b"Cookie: a=b"),
        request(b"PROPFIND /webdav/", login, b"Depth: 1", b"Content-Type: text/xml", body=PROPFIND),
        request(b"LOCK /webdav/fuzz", login, b"Timeout: Second-1", b"If: (<opaquelocktoken:1>)", body=LOCK),
        request(b"PROPPATCH /webdav/", login, body=PATCH),
        request(b"PUT /webdav/fuzz", login, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        request(b"COPY /webdav/fuzz", login, b"Destination: https://" + host + b"/webdav/fuzz2", b"Overwrite: F"),
        request(b"GET /git/x.git/info/refs?service=git-upload-pack", b"Git-Protocol: version=2"),
        request(b"GET /git/?p=x.git;a=blob;f=a;hb=HEAD"),
        request(b"OPTIONS *", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        # HTTP/2: a SETTINGS frame, and the HEADERS frame of a request.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff" + HEADERS,
    ]


def _questions() -> list[bytes]:
    return [
        dns.message.make_query("www.google.com", "A", use_edns=0, payload=1232).to_wire(),
        dns.message.make_query("version.bind", "TXT", "CH").to_wire(),
        dns.message.make_query("example.com", "ANY", use_edns=0, want_dnssec=True).to_wire(),
        dns.message.make_query("xn--bcher-kva.example.com", "SRV").to_wire(),
    ]


def _send(server: Server, context: ssl.SSLContext | None, port: int, text: bytes, *, udp: bool) -> None:
    """Send an input (within TLS if there is a context) and read the reply. The server may close at any moment."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as plain:
        plain.settimeout(10)
        plain.connect((server.host, port))
        with context.wrap_socket(plain, server_hostname=server.domain) if context else plain as client:
            client.settimeout(PATIENCE)
            client.send(text[:65000]) if udp else client.sendall(text)
            while client.recv(65536) and not udp:
                pass


def _lasting(test_pod: PodUnderTest) -> dict[str, set[int]]:
    """Return the ids of the processes that must not change, by service."""
    found = {}
    for service, names in LASTING.items():
        processes = {int(path.name): path for path in test_pod.processes(service)}
        said = {number: (path / "stat").read_text() for number, path in processes.items() if path.exists()}
        named = {number for number, stat in said.items() if stat[stat.index("(") + 1 : stat.rindex(")")] in names}
        # Apache replaces its workers, but not their parent.
        parents = {number: int(said[number].rpartition(")")[2].split()[1]) for number in named}
        found[service] = {number for number in named if parents[number] not in named or service != "apache"}
    return found


def _specimens(test_pod: PodUnderTest) -> dict[tuple[int, bool, bool], Sequence[bytes]]:
    """Return valid inputs. The keys are port, within TLS or not, by UDP or not."""
    hello, http, questions = [_hello(test_pod.server.domain)], _http(test_pod, test_pod.postmaster), _questions()
    framed = [len(question).to_bytes(2, "big") + question for question in questions]
    return {
        (25, False, False): SMTP, (587, False, False): SMTP, (465, True, False): SMTP, (465, False, False): hello,
         (143, False, False): IMAP, (80, False, False): http,
        (443, True, False): http, (443, False, False): hello, (993, True, False): IMAP, (993, False, False): hello,
        (995, True, False): POP3, (995, False, False): hello, (4190, False, False): SIEVE,
         (53, False, True): questions, (53, False, False): framed,
    }  # fmt: skip


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Send malformed inputs to one port after another."""
    chance, specimens, server = scale.random(SECTION), _specimens(test_pod), test_pod.server
    context = server.context()
    names = {(port.number, port.protocol == "UDP"): port.name for port in test_pod.pod.ports.values()}
    for (number, udp), name in sorted(names.items()):
        kinds = [(tls, texts) for (port, tls, by_udp), texts in specimens.items() if (port, by_udp) == (number, udp)]
        count, since, lasting = scale.count(INPUTS), time.time(), _lasting(test_pod)
        inputs = [(tls, malformed(texts, chance)) for tls, texts in (chance.choice(kinds) for _ in range(count))]
        with Peak(test_pod) as peak, ThreadPoolExecutor(CLIENTS) as pool:
            sent = [pool.submit(_send, server, context if tls else None, number, text, udp=udp) for tls, text in inputs]
            for one in sent:
                one.result()
        begin, fault = time.monotonic(), ""
        try:
            test_pod.exchange(name)
        except Exception as error:  # noqa: BLE001  # each client has errors of its own
            fault = f"the next proper client: {type(error).__name__}: {error}"
        seconds, left = time.monotonic() - begin, peak.left()
        now, died = _lasting(test_pod), [line for line in test_pod.logs(since - 1).splitlines() if DEATH.search(line)]
        if now != lasting:
            fault = f"processes were {lasting} and are {now}"
        elif died:
            fault = f"{len(died)} died: {died[0]}"
        elif left > AFTER:
            fault = f"{left:.0f} MB more than before: expected {AFTER:.0f}"
        size = sum(len(text) for _, text in inputs) / 1e6
        figures = {"sent": count, "sent MB": size, "died": len(died), "peak MB": peak.most, "left MB": left,
                   "next client s": seconds}  # fmt: skip
        yield Outcome(SECTION, name, figures, fault)
