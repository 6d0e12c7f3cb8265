"""The names by which the kill tests distinguish the processes of a container."""

import pytest

from tests.testbed.victims import program


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/lib/postfix/sbin/master", "-s", ""], "master"),
        (["lmtp", "-t", "unix", "-u", ""], "lmtp"),
        (["dovecot/lmtp", ""], "dovecot/lmtp"),
        (["dovecot/imap-login [1 connections]", ""], "dovecot/imap-login"),
        (["s6-supervise", "postfix", ""], "s6-supervise postfix"),
        (["perl-fcgi", ""], "perl-fcgi"),
        (["/bin/bash", "/usr/local/bin/on-change", "/data/state/accounts", "mailboxes", ""], "on-change"),
        (["/usr/lib/git-core/git", "index-pack", "--stdin", ""], "git index-pack"),
    ],
)
def test_a_process_is_told_from_others_by_its_command_line(words: list[str], name: str) -> None:
    assert program(words) == name


@pytest.mark.parametrize("words", [[""], ["runc", "init", ""], ["runc:[2:INIT]", ""]])
def test_what_is_not_the_containers_own_or_is_no_more_has_no_name(words: list[str]) -> None:
    assert not program(words)
