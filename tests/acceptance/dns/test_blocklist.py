"""The blocklist: its names do not exist for clients, and a wrong list changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from podserve.commands import Result
from podserve.waiting import NotYet, wait_until
from tests.testbed.pod import PodUnderTest
from tests.testbed.resolver import started_resolver
from tests.testbed.server import PATIENCE, token

FOLDER = "once.example.com"
"""Every name below it has an address at the test upstreams."""


def code(host: str, name: str, *, validating: bool = False) -> str:
    """Return the code of the answer to a query for an address."""
    query = dns.message.make_query(name, "A", want_dnssec=validating)
    return dns.rcode.to_text(dns.query.udp(query, host, timeout=PATIENCE).rcode())


class List:
    """A list for the pod under test, and the task that takes it."""

    def __init__(self, test_pod: PodUnderTest, file: Path) -> None:
        """Take the pod, and the path of the file."""
        self.test_pod, self.file = test_pod, file

    def take(self, *options: str, text: str | None = None, check: bool = True) -> Result:
        """Write the file, if there is a text, and run `dns.blocklist`."""
        if text is not None:
            self.file.write_text(text)
        return self.test_pod.invoke("dns.blocklist", *options, check=check, INVOKE_BLOCKLIST=str(self.file))

    def wait(self, name: str, expected: str) -> None:
        """Wait until a query for a name is answered with this code. Raises Problem after 10 s."""

        def answered() -> None:
            if (seen := code(self.test_pod.server.host, name)) != expected:
                raise NotYet(seen)

        wait_until(answered, 10, f"{name} to be answered with {expected}")


@pytest.fixture
def blocked(test_pod: PodUnderTest, tmp_path: Path) -> Iterator[List]:
    """A list that is no longer used after the test."""
    yield List(test_pod, tmp_path / "list")
    test_pod.invoke("up")


def test_names_of_the_list_and_below_them_do_not_exist_until_they_are_allowed(
    test_pod: PodUnderTest, blocked: List
) -> None:
    bad, good = f"{token()}.{FOLDER}", f"{token()}.{FOLDER}"
    taken = blocked.take(text=f"0.0.0.0 {bad}\n")
    assert f"1 names of {blocked.file} are blocked" in taken.stdout
    blocked.wait(bad, "NXDOMAIN")
    assert code(test_pod.server.host, f"below.{bad}") == "NXDOMAIN"
    assert code(test_pod.server.host, bad, validating=True) == "NXDOMAIN"
    assert code(test_pod.server.host, good) == "NOERROR"
    new = f"{token()}.{bad}"
    assert code(test_pod.server.host, new) == "NXDOMAIN"
    assert not any(upstream.questions(new) for upstream in test_pod.upstreams)
    # Mail to a blocked name is still delivered: the pod's own processes are not filtered.
    assert test_pod.exec("mail", "getent", "ahostsv4", bad).stdout.startswith("192.0.2.90 ")

    broken = blocked.take(text="<html>\n<p>404 Not Found</p>\n", check=False)
    assert broken.code == 1
    assert "is no blocklist: line 1 is '<html>'" in " ".join(broken.stderr.split())
    warned = test_pod.invoke("up", INVOKE_BLOCKLIST=str(blocked.file))
    assert "is no blocklist" in " ".join(warned.stdout.split())
    assert code(test_pod.server.host, bad) == "NXDOMAIN"

    allowed = blocked.take("--allow", f"below.{bad}", text=f"{bad}\n")
    assert f"allowed: below.{bad}" in allowed.stdout
    blocked.wait(f"below.{bad}", "NOERROR")
    assert code(test_pod.server.host, bad) == "NXDOMAIN"
    blocked.take("--block", f"below.{bad}")
    blocked.wait(f"below.{bad}", "NXDOMAIN")


def test_without_a_file_nothing_is_blocked_and_the_task_says_what_to_set(test_pod: PodUnderTest) -> None:
    refused = test_pod.invoke("dns.blocklist", check=False)
    assert refused.code == 1
    assert "blocklist names no file: set it in invoke.yaml" in refused.stderr


def test_a_broken_zone_does_not_stop_named(test_pod: PodUnderTest, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "blocklist.zone").write_text("nonsense\n")
    settings = {"FORWARDERS": test_pod.upstreams[0].address}
    with started_resolver(f"{test_pod.name}-broken", test_pod.name, tmp_path, settings) as own:
        assert code(own.address, f"{token()}.{FOLDER}") == "NOERROR"
