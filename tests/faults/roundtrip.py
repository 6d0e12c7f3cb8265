"""A backup while mail arrives, the removal of everything, and a restore; also damaged archives."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from podserve.waiting import NotYet, wait_until
from tests.faults.line import RETRY, elsewhere
from tests.testbed.household import FOLDERS, Size, arriving, mailbox, settle
from tests.testbed.mail import wait_until_left
from tests.testbed.outcome import Outcome, Scale
from tests.testbed.pod import PodUnderTest

SECTION = "roundtrip"
ACCOUNTS, MESSAGES, FILES, REPOSITORIES = 10, 500, 200, 5
IN_TIME = 20
"""The minimum number of messages accepted before the backup begins."""
CUT, CHANGED = 10, 20
"""The number of positions at which an archive is cut off, and at which one byte is changed."""


def _at_least(subjects: list[str], count: int) -> int:
    if len(subjects) < count:
        raise NotYet(f"{len(subjects)}")
    return len(subjects)


def _damaged(test_pod: PodUnderTest, scale: Scale, file: Path) -> Iterator[Outcome]:
    """Try to restore damaged archives: `restore` must refuse each."""
    chance, whole, bad = scale.random(SECTION), file.read_bytes(), file.with_name("damaged")
    for what, count in (("cut off", CUT), ("with a byte changed", CHANGED)):
        places = chance.sample(range(len(whole)), scale.count(count))
        refused = 0
        for place in places:
            other = bytes([whole[place] ^ chance.randrange(1, 256)])
            bad.write_bytes(whole[:place] + (b"" if what == "cut off" else other + whole[place + 1 :]))
            said = test_pod.invoke("restore", str(bad), "--yes", check=False)
            refused += not said.ok and "Nothing was changed" in said.stderr and "Traceback" not in said.stderr
        fault = "" if refused == len(places) else f"{len(places) - refused} were not refused"
        yield Outcome(SECTION, f"archives {what}", {"tried": len(places), "refused": refused}, fault)


def run(test_pod: PodUnderTest, scale: Scale) -> Iterator[Outcome]:
    """Fill the pod, back it up, damage the archive, remove everything, restore it, and compare over the protocols."""
    accounts = scale.count(ACCOUNTS)
    each = max(1, scale.count(MESSAGES) // accounts // len(FOLDERS))
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "backup"
        household = settle(test_pod, folder, Size(accounts, each, scale.count(FILES), scale.count(REPOSITORIES)))
        before, receiver = household.seen(test_pod), test_pod.new_account()
        with arriving(test_pod.server, receiver) as subjects:
            in_time = wait_until(lambda: _at_least(subjects, IN_TIME), 30, f"{IN_TIME} messages to be taken")
            test_pod.invoke("backup", "--to", str(file))
        yield from _damaged(test_pod, scale, file)
        same = household.seen(test_pod) == before
        yield Outcome(SECTION, "untouched by them", {}, "" if same else "something was changed")
        test_pod.invoke("down", "--volumes", "--yes")
        test_pod.invoke("restore", str(file))
        after = household.seen(test_pod)
        differ = [what for what in before if after.get(what) != before[what]]
        figures: dict[str, str | float] = {
            "accounts": accounts,
            "messages": each * len(FOLDERS) * accounts,
            "files": len(household.files),
            "repositories": len(household.repositories),
            "archive MB": file.stat().st_size / 1e6,
        }
        yield Outcome(SECTION, "restored", figures, f"differ: {', '.join(differ)}" if differ else "")
        kept = b"".join(message for _, _, message in mailbox(test_pod.server, receiver)["INBOX"][1].values())
        lost = [subject for subject in subjects[:in_time] if subject.encode() not in kept]
        figures = {"sent meanwhile": len(subjects), "before it": in_time, "of these lost": len(lost)}
        yield Outcome(SECTION, "mail that arrived", figures, f"{len(lost)} lost" if lost else "")
        yield _delivered(test_pod, household.elsewhere)


def _delivered(test_pod: PodUnderTest, address: str) -> Outcome:
    """Start a mail server for the domain of the queued mail; return whether the mail leaves."""
    with elsewhere(test_pod) as server:
        test_pod.name_addresses({address.partition("@")[2]: server})
        test_pod.exec("mail", "postqueue", "-f")
        try:
            wait_until_left(test_pod, address, RETRY, "queued mail to be delivered")
        except Exception as error:  # noqa: BLE001  # the row of the table shows it
            return Outcome(SECTION, "queued mail", {}, str(error))
    return Outcome(SECTION, "queued mail", {"delivered": 1})
