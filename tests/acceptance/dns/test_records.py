"""The DNS records that the server needs: printed, published at a DNS provider, and checked there."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from podserve.commands import Result
from tests.testbed.pod import PodUnderTest

PUBLIC = "203.0.113.7"
"""The public address in these tests. The upstream servers have its PTR record."""


def task(test_pod: PodUnderTest, *argv: str, public: str = PUBLIC, check: bool = True) -> Result:
    """Run a task with a public address."""
    return test_pod.invoke(*argv, INVOKE_PUBLIC_ADDRESS=public, check=check)


def states(test_pod: PodUnderTest, *argv: str) -> dict[str, dict[str, Any]]:
    """Return what `dns.check` says of each record, by the whole name and the type of the record, as `NAME TYPE`."""
    told = json.loads(task(test_pod, "dns.check", "--json", *argv, check=False).stdout)
    return {f"{record['name']} {record['kind']}": record for record in told["records"]}


@pytest.fixture(scope="module")
def records(test_pod: PodUnderTest) -> Iterator[str]:
    """The records that the task prints."""
    yield task(test_pod, "dns.records").stdout
    test_pod.publish("")


@pytest.mark.parametrize("which", [0, 1])
def test_the_printed_records_are_taken_by_another_name_server_and_are_right_there(
    test_pod: PodUnderTest, records: str, which: int
) -> None:
    test_pod.publish(records)
    resolver = test_pod.upstreams[which]
    seen = task(test_pod, "dns.check", "--resolver", resolver.address)
    assert f"records are right, at {resolver.address}" in seen.stdout


def test_each_kind_of_record_is_printed(records: str) -> None:
    kinds = set(re.findall(r"^\S+ IN (\S+) ", records, re.MULTILINE))
    assert kinds == {"A", "MX", "TXT", "TLSA", "SRV"}


CHANGES = {
    "the address of the domain": (r"^@ IN A .*", "@ IN A 192.0.2.99", "lab.sethlakowske.com A"),
    "a second address": (r"^mail IN A .*", r"\g<0>\nmail IN A 192.0.2.99", "mail.lab.sethlakowske.com A"),
    "the mail exchanger": (r"^@ IN MX .*", "@ IN MX 10 mx.elsewhere.example.", "lab.sethlakowske.com MX"),
    "a second SPF record": (r'^@ IN TXT "v=spf1.*', r'\g<0>\n@ IN TXT "v=spf1 -all"', "lab.sethlakowske.com TXT"),
    "SPF of another server": (r"^@ IN TXT .*", '@ IN TXT "v=spf1 ip4:192.0.2.1 -all"', "lab.sethlakowske.com TXT"),
    "a malformed policy": (r"^_dmarc IN .*", '_dmarc IN TXT "v=DMARC1; pct=5"', "_dmarc.lab.sethlakowske.com TXT"),
    "a service elsewhere": (
        r"^_imaps._tcp IN .*", "_imaps._tcp IN SRV 0 1 993 old.example.", "_imaps._tcp.lab.sethlakowske.com SRV"
    ),
}  # fmt: skip
"""What a person may enter wrongly: a pattern of the printed line, what stands there instead, the name and type."""


@pytest.mark.parametrize(("line", "instead", "which"), CHANGES.values(), ids=CHANGES)
def test_a_different_record_is_named_with_what_was_found_and_what_to_type(
    test_pod: PodUnderTest, records: str, line: str, instead: str, which: str
) -> None:
    changed, times = re.subn(line, instead, records, count=1, flags=re.MULTILINE)
    assert times == 1
    test_pod.publish(changed)
    said = states(test_pod)[which]
    assert said["state"] == "different"
    assert said["found"]
    assert "At the DNS provider of lab.sethlakowske.com, change: name " in said["advice"]
    shown = task(test_pod, "dns.check", check=False)
    assert shown.code == 1
    assert f"different {which}" in shown.stdout
    assert said["advice"] in shown.stdout


@pytest.mark.parametrize(("line", "_instead", "which"), CHANGES.values(), ids=CHANGES)
def test_a_missing_record_is_named_with_what_to_type(
    test_pod: PodUnderTest, records: str, line: str, _instead: str, which: str
) -> None:
    test_pod.publish(re.sub(line, "", records, flags=re.MULTILINE))
    said = states(test_pod)[which]
    assert (said["state"], said["found"]) == ("missing", [])
    name, kind = which.split()
    relative = name.removesuffix(".lab.sethlakowske.com") if name != "lab.sethlakowske.com" else "@"
    assert f"add: name {relative}, type {kind}, data " in said["advice"]


def test_other_spf_and_dmarc_records_are_right_if_mail_of_the_server_passes(
    test_pod: PodUnderTest, records: str
) -> None:
    spf = '@ IN TXT "v=spf1 include:more.lab.sethlakowske.com ip4:203.0.113.0/24 ~all"\n@ IN TXT "another text"\n'
    spf += 'more IN TXT "v=spf1 -all"'
    other = re.sub(r"^@ IN TXT .*", spf, records, flags=re.MULTILINE)
    policy = '_dmarc IN TXT "v=DMARC1; p=none; rua=mailto:a@b.example;"'
    test_pod.publish(re.sub(r"^_dmarc IN .*", policy, other, flags=re.MULTILINE))
    assert task(test_pod, "dns.check").code == 0


def test_a_missing_reverse_name_is_a_problem_with_the_one_to_ask(test_pod: PodUnderTest, records: str) -> None:
    test_pod.publish(records.replace(PUBLIC, "203.0.113.9"))
    told = task(test_pod, "dns.check", public="203.0.113.9", check=False)
    assert told.code == 1
    assert "missing 9.113.0.203.in-addr.arpa PTR mail.lab.sethlakowske.com." in told.stdout
    assert "Ask the provider of your internet line or server to set the reverse DNS" in told.stdout


def test_tlsa_records_are_not_asked_of_a_zone_that_is_not_signed(test_pod: PodUnderTest, records: str) -> None:
    test_pod.publish(re.sub(r"^\S+ IN TLSA .*", "", records, flags=re.MULTILINE))
    told = states(test_pod)
    assert told["_25._tcp.mail.lab.sethlakowske.com TLSA"]["state"] == "unused"
    assert told["lab.sethlakowske.com DS"]["state"] == "unused"
    assert task(test_pod, "dns.check").code == 0


def test_status_and_doctor_tell_whether_the_records_are_right(test_pod: PodUnderTest, records: str) -> None:
    test_pod.publish(records)
    assert "are right" in json.loads(task(test_pod, "status", "--json").stdout)["records"]["said"]
    test_pod.publish("")
    wrong = task(test_pod, "status", check=False)
    assert wrong.code == 1
    assert "lab.sethlakowske.com A is missing" in wrong.stdout
    findings = json.loads(task(test_pod, "doctor", "--json", check=False).stdout)["findings"]
    (finding,) = [finding for finding in findings if finding["check"] == "dns records"]
    assert (finding["state"], finding["fix"]) == ("warning", "invoke dns.check")


@pytest.mark.alone
def test_without_a_line_status_says_within_three_seconds_that_nothing_was_checked(test_pod: PodUnderTest) -> None:
    with ExitStack() as stack:
        for upstream in test_pod.upstreams:
            stack.enter_context(upstream.stopped())
        begin = time.monotonic()
        told = json.loads(task(test_pod, "status", "--json", check=False).stdout)
        taken = time.monotonic() - begin
        shown = task(test_pod, "dns.check", check=False)
    assert told["records"]["state"] == "unanswered"
    assert "no answer from" in told["records"]["said"]
    assert not [problem for problem in told["problems"] if "DNS" in problem]
    assert taken < 3
    assert shown.code == 1
    assert "✗ no answer from" in shown.stdout


def test_without_a_public_address_no_record_is_printed_and_status_says_so(test_pod: PodUnderTest) -> None:
    refused = test_pod.invoke("dns.records", check=False)
    assert refused.code == 1
    assert "public_address is not set: expected the address at which the internet reaches" in refused.stderr
    told = json.loads(test_pod.invoke("status", "--json").stdout)
    assert told["records"] == {"state": "unset", "said": "not checked: public_address is not set"}


@pytest.mark.parametrize("resolver", ["resolver.example", "192.0.2.300", "::1%lo"])
def test_a_resolver_that_is_no_address_is_refused(test_pod: PodUnderTest, resolver: str) -> None:
    refused = task(test_pod, "dns.check", "--resolver", resolver, check=False)
    assert refused.code == 1
    assert "is no resolver: expected an IP address" in refused.stderr


def test_the_records_of_another_domain_are_those_that_belong_there(test_pod: PodUnderTest) -> None:
    told = test_pod.invoke("dns.records", "--domain", "example.net", "--json", INVOKE_PUBLIC_ADDRESS=PUBLIC,
                           INVOKE_CERTIFICATE_NAMES="www.example.net")  # fmt: skip
    found = json.loads(told.stdout)["records"]
    assert [(record["relative"], record["type"], record["value"]) for record in found] == [("www", "A", PUBLIC)]
    refused = task(test_pod, "dns.records", "--domain", "example.edu", check=False)
    assert "needs no records in 'example.edu': expected one of lab.sethlakowske.com" in refused.stderr
