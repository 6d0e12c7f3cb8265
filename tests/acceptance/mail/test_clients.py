"""Mail clients that set themselves up by the address of an account alone: Thunderbird and Outlook."""

import imaplib
import poplib
import re
import smtplib
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Account, Server

THUNDERBIRD = "/.well-known/autoconfig/mail/config-v1.1.xml"
OUTLOOK = "/autodiscover/autodiscover.xml"
REQUEST = """<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
<Request><EMailAddress>{}</EMailAddress>
<AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
</Request></Autodiscover>"""
"""What Outlook sends: MS-OXDSCLI, section 4.1."""
ROOT = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"
ANSWER = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"


def log_in(server: Server, login: Account, kind: str, port: str, security: str) -> None:
    """Log in as a client does that was given these settings."""
    context, host = server.context(), server.host
    context.check_hostname = False  # the name is the one of the settings, and the address is the test bed's
    if kind == "imap":
        with imaplib.IMAP4_SSL(host, int(port), ssl_context=context, timeout=PATIENCE) as mailbox:
            mailbox.login(login.address, login.password)
    elif kind == "pop3":
        letters = poplib.POP3_SSL(host, int(port), context=context, timeout=PATIENCE)
        letters.user(login.address)
        letters.pass_(login.password)
        letters.quit()
    elif security == "SSL":
        with smtplib.SMTP_SSL(host, int(port), context=context, timeout=PATIENCE) as sender:
            sender.login(login.address, login.password)
    else:
        with smtplib.SMTP(host, int(port), timeout=PATIENCE) as sender:
            sender.starttls(context=context)
            sender.login(login.address, login.password)


def texts(element: ET.Element) -> dict[str, str]:
    """Return the texts of an element's children, by their names without a namespace, in their order."""
    return {re.sub("{.*}", "", child.tag): child.text or "" for child in element}


def test_thunderbird_finds_settings_with_which_it_can_log_in(
    server: Server, alice: Account, test_pod: PodUnderTest
) -> None:
    with server.http() as client:
        found = client.get(THUNDERBIRD, params={"emailaddress": alice.address})
    assert (found.status_code, found.headers["Content-Type"]) == (200, "application/xml")
    config = ET.fromstring(found.text)  # noqa: S314
    assert (config.tag, config.attrib) == ("clientConfig", {"version": "1.1"})
    (provider,) = config
    assert (provider.tag, provider.attrib) == ("emailProvider", {"id": server.domain})
    assert provider.findtext("domain") == server.domain
    servers = [one for one in provider if one.tag in {"incomingServer", "outgoingServer"}]
    offered = []
    for one in servers:
        settings = texts(one)
        assert list(settings) == ["hostname", "port", "socketType", "authentication", "username"]
        assert settings["hostname"] == test_pod.settings.mail_host
        assert settings["authentication"] == "password-cleartext"
        user = settings["username"].replace("%EMAILADDRESS%", alice.address)
        log_in(server, replace(alice, address=user), one.attrib["type"], settings["port"], settings["socketType"])
        offered.append((one.attrib["type"], settings["port"], settings["socketType"]))
    assert offered == [
        ("imap", "993", "SSL"),
        ("pop3", "995", "SSL"),
        ("smtp", "465", "SSL"),
        ("smtp", "587", "STARTTLS"),
    ]


def asked(client: httpx.Client, address: str, path: str = OUTLOOK) -> httpx.Response:
    return client.post(path, content=REQUEST.format(address), headers={"Content-Type": "text/xml; charset=utf-8"})


@pytest.mark.parametrize("path", [OUTLOOK, "/Autodiscover/Autodiscover.xml"])
def test_outlook_finds_settings_with_which_it_can_log_in(
    server: Server, alice: Account, test_pod: PodUnderTest, path: str
) -> None:
    with server.http() as client:
        found = asked(client, alice.address, path)
    assert (found.status_code, found.headers["Content-Type"]) == (200, "application/xml")
    assert found.headers["Cache-Control"] == "no-store"
    account = ET.fromstring(found.text).find(f"{ANSWER}Response/{ANSWER}Account")  # noqa: S314
    assert account is not None
    assert found.text.count(ROOT[1:-1]) == 1
    assert texts(account)["Action"] == "settings"
    offered = []
    for one in account.findall(f"{ANSWER}Protocol"):
        settings = texts(one)
        assert settings["Server"] == test_pod.settings.mail_host
        security = settings.get("Encryption", "SSL" if settings.get("SSL") == "on" else "none")
        user = settings["LoginName"]
        log_in(server, replace(alice, address=user), settings["Type"].lower(), settings["Port"], security)
        offered.append((settings["Type"], settings["Port"], security))
    assert offered == [("IMAP", "993", "SSL"), ("POP3", "995", "SSL"), ("SMTP", "465", "SSL")]


@pytest.mark.parametrize("content", [
    "", "no XML", REQUEST.format(""), REQUEST.format("alice"), REQUEST.format("<b>alice</b>@example.org"),
    REQUEST.format("a@b.example</EMailAddress><EMailAddress>\"'&x"[-40:]), REQUEST.format("alice@exa&amp;mple.org"),
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + REQUEST.format("&a;"),
    REQUEST.format("a" * 20_000 + "@b.example"),
], ids=["nothing", "words", "none", "no domain", "a tag", "quotes", "an entity", "a file", "too long"])  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(server: Server, content: str) -> None:
    with server.http() as client:
        refused = client.post(OUTLOOK, content=content)
    assert refused.status_code in {400, 413}
    assert "alice" not in refused.text
    assert "root:" not in refused.text


@pytest.mark.parametrize("method", ["GET", "PUT", "PROPFIND", "DELETE"])
def test_autodiscover_takes_post_alone(server: Server, alice: Account, method: str) -> None:
    with server.http() as client, server.http(alice) as member:
        for who in (client, member):
            assert who.request(method, OUTLOOK).status_code in {400, 403, 404, 405}
        assert asked(client, alice.address).status_code == 200


@pytest.fixture
def by_name(server: Server) -> Iterator[httpx.Client]:
    """Yield a client that asks for autoconfig.DOMAIN."""
    with server.http() as client:
        client.headers["Host"] = f"autoconfig.{server.domain}"
        yield client


def test_at_the_name_of_the_settings_nothing_else_is_served(by_name: httpx.Client, alice: Account) -> None:
    assert "<clientConfig" in by_name.get("/mail/config-v1.1.xml", params={"emailaddress": alice.address}).text
    assert asked(by_name, alice.address).status_code == 200
    for path in ("/", "/webdav/", "/git/", "/ca.crt", "/robots.txt", "/podserve/landing.html", "/.well-known/x"):
        assert by_name.get(path).status_code == 404, path


def test_thunderbird_is_led_to_the_settings_from_plain_http(server: Server) -> None:
    with server.http(port=80) as client:
        led = client.get("/mail/config-v1.1.xml?emailaddress=x", headers={"Host": f"autoconfig.{server.domain}"})
    assert led.status_code == 301
    assert led.headers["Location"] == f"https://{server.domain}{THUNDERBIRD}?emailaddress=x"


def test_without_port_465_clients_are_given_port_587(server: Server, alice: Account, test_pod: PodUnderTest) -> None:
    test_pod.exec("apache", "env", "SUBMISSIONS=no", "pages")
    try:
        with server.http() as client:
            thunderbird, outlook = client.get(THUNDERBIRD).text, asked(client, alice.address).text
            landing = client.get("/podserve/landing.html").text
    finally:
        test_pod.exec("apache", "pages")
    assert "465" not in thunderbird + outlook + landing
    assert all("587" in page for page in (thunderbird, outlook, landing))
    sender = ET.fromstring(outlook).findall(f".//{ANSWER}Protocol")[-1]  # noqa: S314
    assert texts(sender)["Encryption"] == "TLS"
