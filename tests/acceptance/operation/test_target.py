"""`nox -s acceptance -- --target`: anybody can test a server elsewhere, which keeps nothing of the tests."""

import re
import sys
from pathlib import Path

from podserve.commands import ROOT
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account
from tests.testbed.vantage import Vantage

AS_ON_A_LAPTOP = """
mount --bind /dev/null "$(command -v podman)" && mount --bind "$1" /etc/hosts && shift &&
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""
"""Runs a command without Podman and without root's capabilities, where a file of hosts applies."""
FEW = (
    "test_pop3 or test_the_resolver_tells or test_a_lock_is_seen or test_a_property_is_kept or test_a_folder_has_a_name"
)
"""Tests that leave messages, mailboxes, files and locks if nothing removes them, and questions to the resolver."""


def files(test_pod: PodUnderTest, account: Account) -> list[str]:
    """Return the names of files and folders that tests made, in the shared folder and in the account's home."""
    with test_pod.server.http(account) as client:
        places = "/webdav/", f"/webdav/home/{account.local_part}/"
        return [name for place in places for name in re.findall(r">(t[0-9a-f]{16})", client.get(place).text)]


def test_a_server_is_tested_by_its_name_from_outside_and_keeps_nothing_of_the_tests(
    test_pod: PodUnderTest, outsider: Vantage, new_account: Account, tmp_path: Path
) -> None:
    before = files(test_pod, new_account)
    hosts, secret = tmp_path / "hosts", tmp_path / "password"
    hosts.write_text(f"{test_pod.address} {test_pod.settings.domain}\n")
    secret.write_text(f"{new_account.password}\n")
    ended = outsider.run(
        "unshare", "--mount", "sh", "-c", AS_ON_A_LAPTOP, "sh", str(hosts),
        sys.executable, "-m", "pytest", "-q", "-k", FEW, "-p", "no:cacheprovider", f"--basetemp={tmp_path}/run",
        f"--target={test_pod.settings.domain}", f"--user={new_account.address}", f"--password-file={secret}",
        f"--ca={test_pod.server.authority}", f"{ROOT}/tests/acceptance", timeout=100,
    )  # fmt: skip
    assert ended.ok, ended
    assert re.search(r"left out: \d+ tests, which need", ended.stdout), ended
    assert re.search(r"removed from the target: [1-9]\d* messages", ended.stdout), ended
    with test_pod.server.imap(new_account) as client:
        names = [name for _, _, name in client.list_folders()]
        assert sum(client.select_folder(name)[b"EXISTS"] for name in names) == 0
    assert files(test_pod, new_account) == before
