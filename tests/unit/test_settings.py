"""The settings: valid values, and the errors for all others."""

import re
from pathlib import Path

import pytest
import yaml

from podserve.choices import CertificateSource, KeyType
from podserve.commands import ROOT, run
from podserve.configuration import load
from podserve.declaration import Setting
from podserve.errors import Problem
from podserve.manifests import KUBE, defaults
from podserve.settings import SETTINGS
from podserve.values import both_forms
from tests.testbed.network import own_network
from tests.unit.helpers import chosen, pod_with

LONG_LABEL, LONG_NAME, LONG_DOMAIN = "a" * 63, f"{'a' * 58}.exam", ".".join(["a" * 49] * 5 + ["aaa"])
GOOD = [
    *(("pod", text) for text in ("a", "podserve-simple", "7", "a--b", "a" * 42)),
    *(("bind", text) for text in ("0.0.0.0", "127.0.0.1", "192.0.2.10", "::1", "2001:db8::1")),
    *(("domain", text) for text in ("example.org", "xn--bcher-kva.example", "a.b", "1.example", f"{LONG_NAME}a")),
    *(
        ("mail_host", text)
        for text in ("mx.example.org", "mail.lab.sethlakowske.com", f"{LONG_LABEL}.org", LONG_DOMAIN)
    ),
    *(("files_host", text) for text in ("files.example.org", "lab.sethlakowske.com", LONG_DOMAIN)),
    *(("postmaster", text) for text in ("alice", "a", "1", "a.b_c-d", "a" * 64)),
    *(("message_size_limit", text) for text in ("100000", "52428800", "9999999999")),
    *(("imap_sessions", text) for text in ("1", "50", "1024")),
    *(("push_size_limit", text) for text in ("100000", "1073741824", "999999999999")),
    *(("relay_host", text) for text in ("", "smtp.example.net", "smtp.example.net:465", f"{LONG_DOMAIN}:65535")),
    *(("relay_user", text) for text in ("", "apikey", "you@example.org", "AKIA/x+y=_%-")),
    *(("relay_password_file", text) for text in ("", "/etc/podserve.relay", "~/relay", "./relay")),
    *(("relay_domains", text) for text in ("", "gmail.com", "gmail.com outlook.com")),
    *(("mta_sts", text) for text in ("", "off", "none", "testing")),
    *(("mta_sts_max_age", text) for text in ("86400", "604800", "31557600")),
    *(("filter", text) for text in ("on", "off")),
    *(("quota", text) for text in ("none", "500M", "5G", "1T", "999999T")),
    *(("quota_days", text) for text in ("0", "3", "365")),
    *(("queue_hours", text) for text in ("0", "6", "120")),
    *(("recipients_per_hour", text) for text in ("1", "200", "1000000")),
    *(("recipients_per_day", text) for text in ("1", "1000", "1000000")),
    *(("mail_domains", text) for text in ("", "example.net", "example.net lists.lab.sethlakowske.com")),
    *(("blocklists", text) for text in ("", "zen.spamhaus.org", "a.example b.example")),
    *(("forwarders", text) for text in ("9.9.9.9", "8.8.8.8 8.8.4.4", "2001:db8::53 192.0.2.53")),
    *(("forwarders", text) for text in ("tls://9.9.9.9#dns.quad9.net", "tls://2620:fe::fe@8853#dns.quad9.net 9.9.9.9")),
    *(("forwarders_root", text) for text in ("", "/etc/ssl/root.pem", "~/root.pem", "./root.pem")),
    *(("zone", text) for text in ("off", "lan")),
    *(("lan_address", text) for text in ("", "192.168.7.2", "fd00::2", "fd00::2 192.168.7.2")),
    *(("public_address", text) for text in ("", "203.0.113.7", "2001:db8::7", "203.0.113.7 2001:db8::7")),
    *(("nameservers", text) for text in ("", "ns.lab.sethlakowske.com", "ns1.example.org ns2.example.net")),
    *(("secondaries", text) for text in ("", "192.0.2.53", "192.0.2.53 2001:db8::53")),
    *(
        (name, text)
        for name in ("dnssec", "dns_over_tls", "dns_over_https", "submissions", "managesieve", "account_page")
        for text in ("yes", "no")
    ),
    *(("blocklist", text) for text in ("", "/etc/hosts", "~/list", "./list")),
    *(("certificate_source", text) for text in ("authority", "import")),
    *(("certificate_names", text) for text in ("", "www.example.org", "www.example.org *.example.org")),
    *(("acme_directory", text) for text in ("https://ca.example/directory", "https://127.0.0.1:14000/dir")),
    *(("acme_email", text) for text in ("", "you@example.org", "you+acme@mail.example.org")),
    *(("acme_root", text) for text in ("", "/etc/ssl/root.pem", "~/root.pem", "./root.pem")),
    *(("acme_challenge", text) for text in ("http", "dns")),
    *(("acme_dns_provider", text) for text in ("", "rfc2136", "acme-dns", "hetzner")),
    *(("acme_dns_file", text) for text in ("", "/etc/podserve.dns", "~/provider", "./provider")),
    *(("key_type", text) for text in ("ec256", "ec384", "rsa2048", "rsa4096", "ec256 rsa2048", "ec384 rsa4096")),
]
PATHS = {"acme_root", "acme_dns_file", "forwarders_root", "blocklist", "relay_password_file"}
MAY_BE_EMPTY = {"mail_host", "files_host", "lan_address", "public_address", "certificate_names", "nameservers"}
MAY_BE_EMPTY |= {"secondaries", "acme_email", "acme_dns_provider", "relay_host", "relay_user", "relay_domains"}
MAY_BE_EMPTY |= {"mta_sts", "blocklists", "mail_domains"} | PATHS
WITH_NO_MEANING = ["a\nb.example", "a b", "a;b", "'", "${HOME}", "\x00", "-", "."]
BAD = [
    *((name, text) for name in defaults() if name not in MAY_BE_EMPTY for text in ("", " ", "\n")),
    *((name, text) for name in defaults() if name not in PATHS for text in WITH_NO_MEANING),
    *(("pod", text) for text in ("Pod", "-a", "a-", "a_b", "a.b", "a/b", "../a", "a" * 43)),
    *(("bind", text) for text in ("localhost", "192.0.2.10:80", "192.0.2", "192.0.2.256", "[::1]", "fe80::1%eth0")),
    *(("domain", text) for text in ("localhost", "Example.org", "example.org.", ".org", "a..b", "a_b.org", "-a.org")),
    *(("domain", text) for text in ("a-.org", "192.0.2.1", f"{LONG_LABEL}a.org", f"{LONG_NAME}ab", "x@y.org")),
    *(("mail_host", text) for text in ("mail", "Mail.example.org", "mail.example.org.", f"a{LONG_DOMAIN}")),
    *(("files_host", text) for text in ("files", "Files.example.org", "files.example.org:443", "192.0.2.1")),
    *(
        ("postmaster", text)
        for text in ("Alice", "alice@example.org", "a+b", "a:b", "a/b", ".a", "a.", "a..b", "a" * 65)
    ),
    *(("message_size_limit", text) for text in ("0", "99999", "10000000000", "0100000", "-100000", "1e6", "50 MB")),
    *(("message_size_limit", text) for text in ("100_000", "1234567.0", "١٢٣٤٥٦٧")),  # int() or float() accepts these
    *(("imap_sessions", text) for text in ("0", "1025", "050", "-1", "+5", "5.0", "1_0", "٤٢", "10000000000")),
    *(("push_size_limit", text) for text in ("0", "99999", "1000000000000", "0100000", "-100000", "1g", "1e9")),
    *(
        ("relay_host", text)
        for text in ("smtp", "Smtp.example.net", "192.0.2.25", "[smtp.example.net]", "a.b:", "a.b:0")
    ),
    *(("relay_host", text) for text in ("a.b:65536", "a.b:+1", "a.b:25:25", "smtp://a.b", ":25")),
    *(("relay_user", text) for text in ("you:me", "@you", "müller", "$you")),
    *(("relay_password_file", text) for text in ("relay", "hunter2hunter2")),
    *(("mta_sts", text) for text in ("on", "Enforce", "testing enforce")),
    *(("mta_sts_max_age", text) for text in ("0", "86399", "31557601", "1w", "-1")),
    *(("relay_domains", text) for text in ("com", "gmail.com, outlook.com", "@gmail.com", "*.gmail.com")),
    *(("mail_domains", text) for text in ("example", "a.b, c.d", "@a.b", "*.a.b", "A.b", "192.0.2.1", "a.b c.d a.b")),
    *(("filter", text) for text in ("yes", "no", "On", "1")),
    *(("quota", text) for text in ("", "off", "None", "0", "0G", "5", "5g", "5GB", "5 G", "1.5G", "-1G", "05G")),
    *(("quota", text) for text in ("1000000M", "5K", "G", "none 5G")),
    *(("quota_days", text) for text in ("", "-1", "366", "3d", "03")),
    *(("queue_hours", text) for text in ("", "-1", "121", "6h", "06")),
    *(("recipients_per_hour", text) for text in ("0", "1000001", "-1", "1e3", "many")),
    *(("recipients_per_day", text) for text in ("0", "1000001", "-1", "1e3", "many")),
    *(("blocklists", text) for text in ("zen", "192.0.2.1", "a.example, b.example", "https://a.example")),
    *(("forwarders", text) for text in ("8.8.8.8:53", "8.8.8.8, 8.8.4.4", "dns.google", "8.8.8.8 nonsense")),
    *(("forwarders", text) for text in ("8.8.8", "fe80::1%eth0", "fe80::1%;};", "[2001:db8::1]")),
    *(("forwarders", text) for text in ("tls://9.9.9.9", "tls://9.9.9.9#", "tls://#dns.quad9.net", "tls://a.b#a.b")),
    *(("forwarders", text) for text in ("tls://9.9.9.9:853#a.b", "tls://9.9.9.9@0#a.b", "tls://9.9.9.9@65536#a.b")),
    *(("forwarders", text) for text in ("tls://9.9.9.9@#a.b", "https://9.9.9.9#a.b", "9.9.9.9#a.b", 'tls://::1#a".b')),
    *(("forwarders_root", text) for text in ("root.pem", "https://example.org/root.pem")),
    *(("zone", text) for text in ("Lan", "on", "yes", "public lan")),
    *(("lan_address", text) for text in ("192.168.7.2 192.168.7.3", "192.168.7.0/24", "router.lan", "fe80::1%eth0")),
    *(("public_address", text) for text in ("203.0.113.7 203.0.113.8", "203.0.113.0/24", "host.example.org", "::1%lo")),
    *(("nameservers", text) for text in ("ns", "192.0.2.53", "ns.example.org.", "ns.example.org, ns.example.net")),
    *(("secondaries", text) for text in ("ns.example.org", "192.0.2.53:53", "192.0.2.0/24", "fe80::1%eth0")),
    *(
        (name, text)
        for name in ("dnssec", "dns_over_tls", "dns_over_https", "submissions", "managesieve", "account_page")
        for text in ("true", "Yes", "on", "1", "auto")
    ),
    *(("blocklist", text) for text in ("list", "https://example.org/list")),
    *(("certificate_source", text) for text in ("Authority", "letsencrypt", "self-signed")),
    *(("certificate_names", text) for text in ("*", "*.org", "*.*.example.org", "a.*.example.org", "a*.example.org")),
    *(("certificate_names", text) for text in ("www.example.org, ftp.example.org", "192.0.2.1")),
    *(
        ("acme_directory", text)
        for text in ("http://ca.example/directory", "ca.example", "https://a@b/", "https://a b")
    ),
    *(("acme_email", text) for text in ("you", "you@", "@example.org", "--help@example.org", "you@example.org x")),
    *(("acme_root", text) for text in ("root.pem", "-----BEGIN CERTIFICATE-----")),
    *(("acme_challenge", text) for text in ("HTTP", "dns-01", "tls")),
    *(("acme_dns_provider", text) for text in ("Hetzner", "-v", "rfc2136 --debug", "a;b")),
    *(("acme_dns_file", text) for text in ("provider", "HETZNER_API_KEY=1")),
    *(("key_type", text) for text in ("ed25519", "EC256", "rsa1024", "ecdsa", "ec256 ed25519", "ec256, rsa2048")),
    *(("key_type", text) for text in ("ec256 ec384", "rsa2048 rsa4096", "ec256 ec256", "ec256 rsa2048 ec384")),
]


def complaints(given: dict[str, object], environment: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the error for these settings, without the first, which names their source."""
    with pytest.raises(Problem) as refused:
        load(given, defaults(), environment or {})
    return [line.strip() for line in refused.value.text.splitlines()[1:]]


@pytest.mark.parametrize(("name", "text"), GOOD)
def test_a_good_value_is_taken_as_it_is(name: str, text: str) -> None:
    assert chosen(**{name: text}).texts()[name] == text


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_is_refused_by_name_with_what_was_expected(name: str, text: str) -> None:
    (line,) = complaints({name: text})
    expected = line.removeprefix(f"{name} is {' '.join(text.split())!r}: expected ")
    assert line != expected != ""


@pytest.mark.parametrize("name", defaults())
def test_each_setting_has_good_and_bad_examples_here(name: str) -> None:
    assert name in dict(GOOD)
    assert name in dict(BAD)


def test_two_key_types_may_be_in_any_order() -> None:
    assert chosen(key_type="rsa2048 ec384").key_type == (KeyType.EC384, KeyType.RSA2048)


@pytest.mark.parametrize("text", [" example.org", "example.org\n", "\texample.org "])
def test_spaces_around_a_value_do_not_count(text: str) -> None:
    assert chosen(domain=text).domain == "example.org"


@pytest.mark.parametrize("text", ["192.0.2.1  192.0.2.2", "192.0.2.1\n192.0.2.2\n", "192.0.2.1\t192.0.2.2"])
def test_forwarders_may_stand_on_lines_of_their_own(text: str) -> None:
    assert chosen(forwarders=text).texts()["forwarders"] == "192.0.2.1 192.0.2.2"


def test_the_forwarder_that_is_no_address_is_named() -> None:
    (line,) = complaints({"forwarders": "192.0.2.1 nonsense 192.0.2.2"})
    assert line.endswith("(wrong: 'nonsense')")


def test_the_page_of_accounts_needs_an_origin_without_pages_of_accounts() -> None:
    (line,) = complaints({"account_page": "yes", "domain": "example.org", "files_host": "example.org"})
    assert line.startswith("files_host is 'example.org': expected another name than domain")
    assert chosen(account_page="yes", domain="example.org").files_host == "mail.example.org"


def test_a_number_from_yaml_is_taken() -> None:
    assert chosen(message_size_limit=1000000).message_size_limit == 1000000


@pytest.mark.parametrize("value", [False, True, None, 1.5, ["8.8.8.8", "8.8.4.4"], {"a": "b"}])
@pytest.mark.parametrize("name", ["dnssec", "forwarders", "mail_host"])
def test_what_yaml_does_not_read_as_text_is_refused_with_a_hint_to_quote(name: str, value: object) -> None:
    assert complaints({name: value}) == [f"{name} is {value!r}: expected text; put it in quotes"]


@pytest.mark.parametrize(
    ("given", "environment", "unknown"),
    [
        ({"colour": "red"}, {}, "colour"),
        ({"DOMAIN": "example.org"}, {}, "DOMAIN"),
        ({"podserve": {"domain": "example.org"}}, {}, "podserve"),
        ({}, {"INVOKE_COLOUR": "red"}, "INVOKE_COLOUR"),
        ({}, {"INVOKE_Domain": "example.org"}, "INVOKE_Domain"),
        ({}, {"INVOKE_PODSERVE_DOMAIN": "example.org"}, "INVOKE_PODSERVE_DOMAIN"),
        ({}, {"INVOKE_": ""}, "INVOKE_"),
    ],
)
def test_a_name_that_is_no_setting_is_refused(
    given: dict[str, object], environment: dict[str, str], unknown: str
) -> None:
    assert complaints(given, environment) == [f"{unknown} is not a setting: expected one of {', '.join(defaults())}"]


@pytest.mark.parametrize(
    "name",
    ["INVOKE_RUN_ECHO", "INVOKE_TASKS_DEDUPE", "INVOKE_DEBUG", "INVOKE_RUNTIME_CONFIG", "INVOKE_DOMAIN", "DOMAIN"],
)
def test_variables_of_invoke_and_of_others_are_let_be(name: str) -> None:
    assert load({}, defaults(), {name: "1"}) == chosen()


@pytest.mark.parametrize("name", ["run", "runners", "sudo", "tasks", "timeouts"])
def test_invokes_own_configuration_is_let_be(name: str) -> None:
    assert chosen(**{name: {"echo": True}}) == chosen()


def test_acme_needs_an_address_for_its_account() -> None:
    (line,) = complaints({"certificate_source": "acme"})
    assert line.startswith("acme_email is '': expected an address for the ACME account")
    assert chosen(certificate_source="acme", acme_email="you@example.org").certificate_source is CertificateSource.ACME


def test_a_wildcard_by_acme_needs_dns() -> None:
    acme: dict[str, object] = {
        "certificate_source": "acme",
        "acme_email": "you@example.org",
        "certificate_names": "*.example.org",
    }
    assert complaints(acme) == ["acme_challenge is 'http': expected dns, because certificate_names has *.example.org"]
    dns: dict[str, object] = {**acme, "acme_challenge": "dns"}
    provider, file = complaints(dns)
    assert provider.startswith("acme_dns_provider is '': expected lego's code for the DNS provider")
    assert file.startswith("acme_dns_file is '': expected the path of a file with lego's variables")
    assert chosen(**dns, acme_dns_provider="hetzner", acme_dns_file="./provider")
    public = {**dns, "domain": "example.org", "zone": "public", "public_address": "203.0.113.7"}
    assert chosen(**public)
    (line,) = complaints({**public, "mail_host": "mx.example.net"})
    assert line == "acme_dns_provider is '': expected one for mx.example.net, which the zone of domain does not have"
    assert chosen(certificate_names="*.example.org").certificate_names == ("*.example.org",)


def test_no_domain_is_named_twice_in_either_form() -> None:
    (line,) = complaints({"mail_domains": "xn--mller-kva.de example.net müller.de"})
    assert line.endswith("besides domain, each once, separated by spaces, or none (wrong: 'xn--mller-kva.de')")
    (line,) = complaints({"domain": "müller.de", "mail_domains": "example.net xn--mller-kva.de"})
    assert line == "mail_domains has xn--mller-kva.de, which is domain: expected the other domains only"
    assert chosen(domain="example.org", mail_domains="müller.de").domains == ("example.org", "xn--mller-kva.de")


def test_the_policy_of_a_further_domain_is_served_where_the_certificate_has_its_name() -> None:
    given = {"domain": "example.org", "mta_sts": "testing", "mail_domains": "a.example b.example c.example"}
    found = chosen(**given, certificate_names="mta-sts.b.example *.c.example")
    assert found.policy_hosts == ("mta-sts.example.org", "mta-sts.b.example", "mta-sts.c.example")
    assert "mta-sts.a.example" not in found.certified_names
    assert not chosen(**{**given, "mta_sts": "off"}, certificate_names="mta-sts.b.example").policy_hosts


def test_a_login_at_the_relay_host_needs_all_its_settings() -> None:
    host, password, user = {"relay_host": "a.b"}, {"relay_password_file": "./relay"}, {"relay_user": "you"}
    (line,) = complaints({**host, **user})
    assert line == "relay_password_file is '': expected the path of a file; relay_user needs it"
    (line,) = complaints({**host, **password})
    assert line.startswith("relay_user is '': expected a user name")
    assert chosen(**host, **user, **password, relay_domains="gmail.com").relay_domains == ("gmail.com",)
    assert chosen(**user).relay_user == "you"  # without a relay host it has no effect
    assert chosen(relay_host="müller.de").relay_host == "xn--mller-kva.de"


def test_other_servers_do_not_send_by_an_enforced_policy_to_a_certificate_that_they_do_not_know() -> None:
    (line,) = complaints({"mta_sts": "enforce"})
    assert line.startswith("certificate_source is 'authority': expected acme or import, because mta_sts is 'enforce'")
    assert chosen(mta_sts="enforce", certificate_source="import").policy_hosts == ("mta-sts.lab.sethlakowske.com",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "off"),
        ({"zone": "public", "public_address": "203.0.113.7"}, "off"),
        ({"certificate_source": "acme", "acme_email": "you@example.org"}, "off"),
        ({"certificate_source": "acme", "acme_email": "you@example.org", "mta_sts": "enforce"}, "enforce"),
        ({"zone": "public", "public_address": "203.0.113.7", "certificate_source": "acme", "acme_email": "a@b.org"},
         "testing"),
        ({"zone": "public", "public_address": "203.0.113.7", "certificate_source": "acme", "acme_email": "a@b.org",
          "mta_sts": "off"}, "off"),
    ],
)  # fmt: skip
def test_a_policy_is_published_where_nobody_need_do_anything_for_it(given: dict[str, str], expected: str) -> None:
    pod = pod_with(**given)
    assert pod.manifests.config["data"]["MTA_STS"] == expected
    assert ("mta-sts.lab.sethlakowske.com" in pod.settings.certified_names) == (expected != "off")


def test_a_wildcard_is_the_name_of_no_host() -> None:
    settings = chosen(domain="example.org", certificate_names="*.example.org www.example.net")
    assert settings.certified_names == ("example.org", "mail.example.org", "*.example.org", "www.example.net")
    assert settings.host_names == ("example.org", "mail.example.org", "www.example.net")
    assert chosen(domain="müller.de", certificate_names="*.müller.de").certificate_names == ("*.xn--mller-kva.de",)


def test_a_public_zone_needs_a_public_address() -> None:
    (line,) = complaints({"zone": "public"})
    assert line.startswith("public_address is '': expected an IPv4 address, an IPv6 address, or both")
    assert chosen(zone="public", public_address="203.0.113.7").zone_servers == ("ns.lab.sethlakowske.com",)


def test_the_certificate_is_for_each_name_once() -> None:
    names = chosen(
        domain="example.org", certificate_names="www.example.org example.org www.example.org"
    ).certified_names
    assert names == ("example.org", "mail.example.org", "www.example.org")


@pytest.mark.parametrize("text", ["müller.de", "Müller.DE", "mu\u0308ller.de", "müller。de", "xn--mller-kva.de"])
def test_a_domain_outside_ascii_is_taken_as_its_a_label(text: str) -> None:
    settings = chosen(domain=text, certificate_names=f"www.{text}")
    assert settings.certified_names == ("xn--mller-kva.de", "mail.xn--mller-kva.de", "www.xn--mller-kva.de")
    assert chosen(**settings.texts()) == settings


@pytest.mark.parametrize("text", ["☃.example", "a\u200db.example", "-ä.example", "ä-.example", f"{'ä' * 60}.example"])
def test_a_domain_that_no_registry_takes_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="domain is"):
        chosen(domain=text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("xn--mller-kva.de", "xn--mller-kva.de (müller.de)"),
        ("example.org", "example.org"),
        ("a--b.example.org", "a--b.example.org"),
        ("xn--zzzzzzzz99.de", "xn--zzzzzzzz99.de"),
    ],
)
def test_a_domain_outside_ascii_is_shown_in_both_forms(name: str, shown: str) -> None:
    assert both_forms(name) == shown


def test_all_complaints_come_at_once() -> None:
    given = {"domain": "bad_domain", "forwarders": "nonsense", "dnssec": True, "colour": "red"}
    said = complaints(given, {"INVOKE_FOO": "1"})
    assert [line.split()[0] for line in said] == ["colour", "INVOKE_FOO", "dnssec", "domain", "forwarders"]


def test_the_mail_host_is_of_the_domain() -> None:
    assert chosen(domain="example.org").mail_host == "mail.example.org"


def test_browsers_see_files_at_the_mail_host_unless_another_name_is_given() -> None:
    assert chosen(domain="example.org", mail_host="mx.example.org").files_host == "mx.example.org"
    assert chosen(domain="example.org").certified_names == ("example.org", "mail.example.org")
    assert chosen(domain="example.org", files_host="example.org").files_host == "example.org"
    named = chosen(domain="example.org", files_host="files.example.org")
    assert named.certified_names == ("example.org", "mail.example.org", "files.example.org")


@pytest.mark.parametrize("mail_host", ["mx.example.org", "mail.lab.sethlakowske.com"])
def test_a_mail_host_that_is_given_stays(mail_host: str) -> None:
    assert chosen(domain="example.org", mail_host=mail_host).mail_host == mail_host


def test_without_settings_all_is_as_kube_says() -> None:
    assert chosen().texts() == defaults()


def test_the_environment_of_the_services_is_in_capitals() -> None:
    assert chosen(domain="example.org").environment()["MAIL_HOST"] == "mail.example.org"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bind": "192.168.7.2"}, "192.168.7.2"),
        ({"bind": "192.168.7.2", "lan_address": "192.168.7.3 fd00::3"}, "192.168.7.3 fd00::3"),
        ({"bind": "192.168.7.2", "zone": "off"}, ""),
        ({}, ""),  # the tests run without a default route
    ],
)
def test_the_local_network_reaches_the_pod_where_it_is_bound(given: dict[str, str], expected: str) -> None:
    assert pod_with(**given).settings.texts()["lan_address"] == expected


def test_the_local_network_reaches_the_pod_at_the_address_of_the_default_route() -> None:
    with own_network():
        run(["ip", "link", "add", "lan", "type", "veth", "peer", "name", "far"])
        run(["ip", "link", "set", "far", "up"])
        run(["ip", "address", "add", "192.168.7.4/24", "dev", "lan"])
        run(["ip", "link", "set", "lan", "up"])
        run(["ip", "route", "add", "default", "via", "192.168.7.1"])
        assert pod_with().settings.texts()["lan_address"] == "192.168.7.4"


@pytest.mark.parametrize(("bind", "local"), [("0.0.0.0", "127.0.0.1"), ("192.0.2.10", "192.0.2.10")])
def test_the_host_reaches_the_pod_where_it_is_bound(bind: str, local: str) -> None:
    assert str(chosen(bind=bind).local_address) == local


def test_the_postmasters_address_is_of_the_domain() -> None:
    assert chosen(domain="example.org", postmaster="alice").postmaster_address == "alice@example.org"


def test_invoke_yaml_shows_each_setting_with_its_default() -> None:
    lines = (ROOT / "invoke.yaml").read_text().splitlines()
    shown = yaml.safe_load("\n".join(line[1:] for line in lines if re.match(r"#[a-z_]+: \S", line)))
    set_here = yaml.safe_load("\n".join(lines)) or {}
    assert {**shown, **{name: defaults()[name] for name in set_here}} == defaults()


def comments(file: Path, name: str) -> dict[str, str]:
    """Return the comment above each key of a YAML file whose line matches `name`, on one line."""
    found = re.findall(rf"((?:^ *# .*\n)+)^{name}: ", file.read_text(), re.MULTILINE)
    return {key.lower(): " ".join(re.sub(r"^ *# ", "", above, flags=re.MULTILINE).split()) for above, key in found}


def derived(declared: Setting) -> str:
    """Return the default of a setting that is derived from others, as the documentation writes it: `mail.DOMAIN`."""
    return re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), declared.derived)


def test_the_comments_of_invoke_yaml_are_the_help_of_the_declarations() -> None:
    helps = {name: declared.help + (f" Default: {derived(declared)}." if declared.derived else "")
             for name, declared in SETTINGS.items()}  # fmt: skip
    assert comments(ROOT / "invoke.yaml", "#?([a-z_]+)") == helps


def test_the_comments_of_the_configmap_are_the_help_of_the_declarations() -> None:
    services = {name: declared.help for name, declared in SETTINGS.items() if declared.services}
    assert comments(KUBE / "config.yaml", " +([A-Z_]+)") == services


def test_the_table_in_the_readme_has_each_setting_with_its_default_and_its_help() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*?) ?\| (.*) \|$", section.replace("| |", "|  |"), re.MULTILINE)
    shown = {name: (default.strip("` "), text.replace("`", "")) for name, default, text in rows}
    assert shown == {
        name: (derived(declared) or defaults()[name], declared.help) for name, declared in SETTINGS.items()
    }
