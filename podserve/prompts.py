"""The questions that tasks ask a user on a terminal."""

import getpass
import sys

from podserve.errors import Problem


def new_password(account: str, *, from_stdin: bool) -> str:
    """Return a new password: the first line of standard input, or what is typed twice at a prompt.

    Raises Problem without a terminal, or if the two differ.
    """
    first = present_password(account, from_stdin=from_stdin)
    if not from_stdin and getpass.getpass("Repeat the password: ") != first:
        raise Problem("the two passwords differ: nothing was changed")
    return first


def present_password(account: str, *, from_stdin: bool) -> str:
    """Return a password: the first line of standard input, or what is typed at a prompt.

    Raises Problem without a terminal.
    """
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Problem("there is no terminal to ask for a password: give one with --password-stdin")
    return getpass.getpass(f"Password for {account}: ")


def confirm(question: str, answer: str) -> None:
    """Return only if the answer is typed. Raises Problem without a terminal, or for any other answer."""
    if not sys.stdin.isatty():
        raise Problem("there is no terminal for the question: give --yes to skip it")
    if input(f"{question} Type {answer} to continue: ").strip() != answer:
        raise Problem("nothing was removed")
