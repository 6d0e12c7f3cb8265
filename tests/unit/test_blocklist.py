"""Blocklists: hosts files and lists of names, what is no list, and the policy zone."""

import pytest

from podserve.blocklist import names_in, zone
from podserve.errors import Problem


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ads.example\nTracker.Example. # comment\n\n# comment\n", {"ads.example", "tracker.example"}),
        ("127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 a.example b.example\n:: c.example", {"a.example", "b.example",
                                                                                         "c.example"}),
        ("*.ads.example\r\n_dmarc.ads.example\r\n", {"ads.example", "_dmarc.ads.example"}),
    ],
)  # fmt: skip
def test_a_hosts_file_and_a_list_of_names_are_read(text: str, names: set[str]) -> None:
    assert names_in(text, "list") == (names, 0)


def test_a_few_entries_that_are_not_understood_are_counted() -> None:
    names, wrong = names_in("\n".join([*(f"ad{number}.example" for number in range(20)), "||ads.example^"]), "list")
    assert (len(names), wrong) == (20, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "localhost\n",
        "<html>\n<p>Not Found</p>\nads.example\n",
        "\0\xff\n",
        'a.example";\nb;.example\n',
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(Problem, match=r"list is no blocklist: .* Expected a name on each line"):
        names_in(text, "list")


def test_a_name_below_another_is_left_out_and_an_allowed_one_passes() -> None:
    lines = zone({"ads.example", "x.ads.example", "good.example", "y.good.example"}, ["good.example"], 7).splitlines()
    assert [line for line in lines if line.endswith("CNAME .")] == ["ads.example CNAME .", "*.ads.example CNAME ."]
    assert "good.example CNAME rpz-passthru." in lines
    assert "*.good.example CNAME rpz-passthru." in lines
    assert " 7 1d" in lines[1]
