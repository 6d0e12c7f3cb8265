"""Which problems the postmaster is told about, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from podserve.telling import OFTEN, untold

NOW = datetime.now(UTC)
MISSING = "there is no certificate: invoke up makes one"
FULL = "1023 MiB are free for mail: expected 1024"
KNOWN = {"# MiB are free for mail: expected #": NOW}


@pytest.mark.parametrize(
    ("problems", "told", "hours", "due"),
    [
        ([MISSING, FULL], {}, 0, [MISSING, FULL]),
        ([MISSING, FULL], KNOWN, 23, [MISSING]),
        (["7 MiB are free for mail: expected 1024"], KNOWN, 23, []),
        (["7 MiB are free for web: expected 1024"], KNOWN, 23, ["7 MiB are free for web: expected 1024"]),
        ([FULL], KNOWN, 24, [FULL]),
        ([], KNOWN, 24, []),
    ],
    ids=["first", "another", "same with other numbers", "same elsewhere", "a day later", "none"],
)
def test_a_problem_is_told_once_a_day(
    problems: list[str], told: dict[str, datetime], hours: int, due: list[str]
) -> None:
    assert timedelta(days=1) == OFTEN
    assert untold(problems, told, NOW + timedelta(hours=hours)) == due
