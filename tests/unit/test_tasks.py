"""The tasks: each has a help text, refuses invalid arguments, and calls Podman as requested."""

import datetime as dt
import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import bcrypt
import pytest
from invoke import Collection, Task

import tasks
from podserve import rotation
from podserve.accounts import Accounts
from podserve.certificates.keypair import Certificate
from podserve.certificates.renewal import Renewal
from podserve.commands import ROOT
from podserve.folder import Folder
from tests.unit.helpers import FakePodman


def every_task(collection: Collection = tasks.namespace) -> Iterator[tuple[str, Task[Any]]]:
    """Yield each task with the name that a user types."""
    for name in collection.task_names:
        yield name, collection[name]


TASKS = dict(every_task())


def test_the_tasks_are_these() -> None:
    users = {"users.add", "users.list", "users.passwd", "users.remove", "users.disable", "users.enable", "users.quota"}
    users |= {"users.token", "users.tokens", "users.revoke"}
    users |= {"users.import", "users.log", "users.migrate", "users.show"}
    users |= {"aliases.add", "aliases.list", "aliases.remove"}
    repos = {"repos.add", "repos.list", "repos.publish", "repos.hide", "repos.head", "repos.remove"}
    locks = {"locks.list", "locks.break"}
    host = {"doctor", "install", "uninstall", "upgrade", "backup", "restore"}
    certs = {"certs.show", "certs.issue", "certs.renew", "certs.import", "certs.ca"}
    assert {"build", "up", "down", "restart", "status", "logs", *host, *users, *repos, *locks, *certs} <= set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_in_a_line_what_it_does(name: str) -> None:
    said = (TASKS[name].__doc__ or "").strip()
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 100


@pytest.mark.parametrize("name", TASKS)
def test_every_option_of_a_task_says_what_it_is_for(name: str) -> None:
    silent = [argument.name for argument in TASKS[name].get_arguments() if not argument.help]
    assert silent == []


def test_the_list_of_tasks_is_the_manual(fake_podman: FakePodman) -> None:
    listed = " ".join(fake_podman.invoke_here("--list").stdout.split())
    assert [name for name, task in TASKS.items() if f" {name} {task.__doc__}" not in listed] == []


@pytest.mark.parametrize(
    "words", ["users.add --help", "users.add -h", "--help users.add", "users.add alice --help", "users.add --json -h"]
)
def test_help_for_a_task_is_shown_wherever_it_is_asked_for(fake_podman: FakePodman, words: str) -> None:
    shown = fake_podman.invoke_here(*words.split())
    assert (shown.code, shown.stderr, fake_podman.calls) == (0, "", [])
    assert shown.stdout.startswith("Usage: inv[oke] [--core-opts] users.add ")
    assert "--password-stdin" in shown.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("staus", "'staus' is no task, and no option of one. Did you mean status?"),
        ("user.add alice", "'user.add' is no task, and no option of one. Did you mean users.add"),
        ("repos", "'repos' is no task, and no option of one. Did you mean repos.add or "),
        ("users.list --jsn", "'--jsn' is no task, and no option of one. Did you mean --json?"),
        ("--help staus", "'staus' is no task, and no option of one. Did you mean status?"),
        ("xyzzy", "'xyzzy' is no task, and no option of one."),
    ],
)
def test_a_name_that_does_not_exist_is_answered_by_those_that_may_be_meant(
    fake_podman: FakePodman, words: str, told: str
) -> None:
    ended = fake_podman.invoke_here(*words.split())
    assert (ended.code, ended.stdout, fake_podman.calls) == (1, "", [])
    assert ended.stderr.startswith(f"podserve: {told}")
    assert ended.stderr.endswith(" The tasks: invoke --list\n")


def test_bash_completes_the_names_of_tasks_and_of_their_options(fake_podman: FakePodman) -> None:
    script = """
PATH=${0%/*}:$PATH
source <(invoke --print-completion-script bash)
for words in 'invoke users.a' 'invoke users.list --js'; do
    COMP_WORDS=($words)
    _complete_invoke invoke "${words##* }"
    echo "${COMPREPLY[@]}"
done
"""
    shown = fake_podman.run("bash", "-c", script, sys.executable)
    assert (shown.stdout, shown.stderr) == ("users.add\n--json\n", "")


@pytest.mark.parametrize("folder", ["docs", "tests", "tests/acceptance/dns", "docker/mail/rootfs/etc/dovecot"])
def test_the_tasks_are_found_from_a_folder_below_the_checkout(
    fake_podman: FakePodman, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(ROOT / folder)
    assert " users.add " in fake_podman.invoke_below("--list").stdout


def test_wrong_settings_are_told_all_at_once_and_nothing_is_made(fake_podman: FakePodman) -> None:
    wrong = {"INVOKE_DOMAIN": "bad_domain", "INVOKE_FORWARDERS": "nonsense", "INVOKE_FOO": "1"}
    ended = fake_podman.invoke_here("up", **wrong, INVOKE_POD="podserve-unit")
    assert (ended.code, ended.stdout) == (1, "")
    first, *lines = ended.stderr.splitlines()
    assert first == "podserve: these settings (invoke.yaml, INVOKE_… or -f FILE) cannot be used:"
    assert [line.split()[0] for line in lines] == ["INVOKE_FOO", "domain", "forwarders"]
    assert fake_podman.calls == []
    assert list((ROOT / ".podserve").glob("podserve-unit*")) == []


@pytest.mark.parametrize("volumes", ["--volumes", "-v"])
def test_volumes_are_not_removed_without_a_terminal_to_ask(fake_podman: FakePodman, volumes: str) -> None:
    ended = fake_podman.invoke_here("down", volumes, stdin="podserve-simple\n")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == "podserve: there is no terminal for the question: give --yes to skip it\n"
    assert fake_podman.calls == []


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("--follow",), "logs --follow --names podserve-simple-apache podserve-simple-mail podserve-simple-dns"),
        (("--service", "mail", "--follow"), "logs --follow --names podserve-simple-mail"),
        (("--follow", "--since", "7d", "--service", "dns"), "logs --since 168h --follow --names podserve-simple-dns"),
    ],
)
def test_logs_are_podmans(fake_podman: FakePodman, words: tuple[str, ...], call: str) -> None:
    assert fake_podman.invoke("logs", *words).code == 0
    assert fake_podman.calls == [call]


def test_debug_shows_each_command_and_only_debug_does(fake_podman: FakePodman) -> None:
    shown = fake_podman.invoke("--debug", "users.list")
    assert shown.code == 0
    (line,) = (line for line in shown.stderr.splitlines() if "podman volume ls" in line)
    assert line.startswith("podserve.commands.commands.run: podman volume ls ")
    assert "exit code 0 after" in line
    assert fake_podman.invoke("users.list").stderr == ""


def test_logs_of_a_service_that_is_none_are_refused_with_those_there_are(fake_podman: FakePodman) -> None:
    ended = fake_podman.invoke_here("logs", "--service", "web")
    assert (ended.code, fake_podman.calls) == (1, [])
    assert ended.stderr == "podserve: there is no service 'web': expected one of apache, mail, dns\n"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("correct horse\n", "correct horse\n", "alice@lab.sethlakowske.com can log in\n"),
        ("correct horse\n", "battery staple\n", "podserve: the two passwords differ: nothing was changed\n"),
        ("correct horse\n", "\4", "podserve: there was no answer: nothing was changed. Run the same command again"),
    ],
    ids=["the same twice", "two that differ", "Ctrl-D"],
)
def test_a_password_is_asked_for_twice_and_not_shown(
    fake_podman: FakePodman, first: str, second: str, told: str
) -> None:
    questions = ("Password for alice@lab.sethlakowske.com: ", first), ("Repeat the password: ", second)
    ended = fake_podman.invoke_on_terminal("users.add", "alice", answers=questions)
    added = "can log in" in told
    assert ended.code == int(not added), ended
    assert told in ended.stdout
    assert "Traceback" not in ended.stdout
    assert "correct horse" not in ended.stdout
    assert ("alice@lab.sethlakowske.com" in Accounts(Folder.at(fake_podman.folder)).hashes()) == added


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("podserve-simple\n", "removed: "),
        ("yes\n", "podserve: nothing was removed\n"),
        ("\4", "podserve: there was no answer: nothing was changed. Run the same command again"),
    ],
    ids=["its name", "another word", "Ctrl-D"],
)
def test_volumes_are_removed_when_the_pods_name_is_typed(fake_podman: FakePodman, typed: str, told: str) -> None:
    question = "Type podserve-simple to continue: ", typed
    ended = fake_podman.invoke_on_terminal("down", "--volumes", answers=[question])
    removed = told == "removed: "
    assert ended.code == int(not removed), ended
    assert told in ended.stdout
    assert "Traceback" not in ended.stdout
    assert any(call.startswith("volume rm") for call in fake_podman.calls) == removed


def test_an_account_is_added_with_the_password_from_standard_input(fake_podman: FakePodman) -> None:
    added = fake_podman.invoke_here("users.add", "Alice", "--password-stdin", stdin="correct horse\n")
    assert (added.code, added.stdout, added.stderr) == (0, "alice@lab.sethlakowske.com can log in\n", "")
    ((account, hashed),) = Accounts(Folder.at(fake_podman.folder)).hashes().items()
    assert account == "alice@lab.sethlakowske.com"
    assert bcrypt.checkpw(b"correct horse", hashed.encode())


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (("alice",), "correct horse\n", "there is no terminal to ask for a password: give one with --password-stdin"),
        (("alice", "--password-stdin"), "", "this password cannot be used: expected at least 8 characters"),
        (("alice@example.com", "--password-stdin"), "correct horse\n", "cannot be an account of lab.sethlakowske.com"),
    ],
    ids=["no terminal", "no password", "another domain"],
)
def test_an_account_is_not_added(fake_podman: FakePodman, words: tuple[str, ...], stdin: str, told: str) -> None:
    ended = fake_podman.invoke_here("users.add", *words, stdin=stdin)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("podserve: ")
    assert told in ended.stderr
    assert Accounts(Folder.at(fake_podman.folder)).hashes() == {}


@pytest.mark.parametrize("task", ["users.remove", "users.disable"])
def test_the_account_of_the_postmaster_stays_until_another_has_become_it(fake_podman: FakePodman, task: str) -> None:
    there, name = Accounts(Folder.at(fake_podman.folder)), "postmaster@lab.sethlakowske.com"
    there.add(name, "correct horse")
    before = there.hashes()
    ended = fake_podman.invoke_here(task, "postmaster")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"podserve: {name} gets the mail to postmaster@ and abuse@. Set postmaster to ")
    assert there.hashes() == before
    assert fake_podman.invoke_here(task, "postmaster", INVOKE_POSTMASTER="alice").code == 0
    assert there.hashes() != before


def test_a_disabled_account_gets_another_password_and_the_task_says_that_it_is_still_disabled(
    fake_podman: FakePodman,
) -> None:
    Accounts(Folder.at(fake_podman.folder)).add(name := "alice@lab.sethlakowske.com", "correct horse")
    change = "users.passwd", "alice", "--password-stdin"
    assert fake_podman.invoke_here("users.disable", "alice").stdout == (
        f"{name} cannot log in; mail is still delivered. To accept its logins: invoke users.enable {name}\n"
    )
    assert fake_podman.invoke_here(*change, stdin="battery staple\n").stdout == (
        f"{name} has a new password, and is still disabled: invoke users.enable {name}\n"
    )
    assert fake_podman.invoke_here("users.enable", "alice").stdout == f"{name} can log in with its password\n"
    assert fake_podman.invoke_here(*change, stdin="correct horse\n").stdout == f"{name} has a new password\n"


def test_accounts_are_listed_with_those_that_cannot_log_in(fake_podman: FakePodman) -> None:
    there = Accounts(Folder.at(fake_podman.folder))
    for name in ("alice@lab.sethlakowske.com", "bob@other.org", "carol@lab.sethlakowske.com"):
        there.add(name, "correct horse")
    there.disable("carol@lab.sethlakowske.com")
    lines = [
        "alice@lab.sethlakowske.com",
        "bob@other.org cannot log in: this pod serves lab.sethlakowske.com",
        "carol@lab.sethlakowske.com is disabled",
    ]
    assert fake_podman.invoke_here("users.list").stdout.splitlines() == lines
    no_quota = {"quota": None, "used": None}
    assert json.loads(fake_podman.invoke_here("users.list", "--json").stdout) == {
        "domain": "lab.sethlakowske.com",
        "accounts": [
            {"address": "alice@lab.sethlakowske.com", "can_log_in": True, "disabled": False, **no_quota},
            {"address": "bob@other.org", "can_log_in": False, "disabled": False, **no_quota},
            {"address": "carol@lab.sethlakowske.com", "can_log_in": False, "disabled": True, **no_quota},
        ],
    }


def test_accounts_of_two_domains_are_apart_and_a_third_domain_is_refused(fake_podman: FakePodman) -> None:
    here = partial(fake_podman.invoke_here, INVOKE_MAIL_DOMAINS="other.org")
    for name in ("alice", "alice@Other.org"):
        assert here("users.add", name, "--password-stdin", stdin="correct horse\n").code == 0
    assert here("users.list").stdout.splitlines() == ["alice@lab.sethlakowske.com", "alice@other.org"]
    assert sorted(path.name for path in (fake_podman.folder / "home").iterdir()) == ["alice", "alice@other.org"]
    assert "cannot be an account" in here("users.add", "alice@example.net", "--password-stdin", stdin="x").stderr
    assert "there is no account bob@other.org" in here("users.disable", "bob@other.org").stderr
    assert here("users.remove", "alice@other.org").code == 0
    assert here("users.list").stdout.splitlines() == ["alice@lab.sethlakowske.com"]


def test_a_target_at_one_of_the_domains_must_exist(fake_podman: FakePodman) -> None:
    here = partial(fake_podman.invoke_here, INVOKE_MAIL_DOMAINS="other.org")
    refused = here("aliases.add", "info", "bob@other.org")
    assert "bob@other.org cannot be a target: there is no such account or alias" in refused.stderr
    here("users.add", "bob@other.org", "--password-stdin", stdin="correct horse\n")
    assert here("aliases.add", "info", "bob@other.org").code == 0
    assert here("aliases.add", "@other.org", "info").code == 0
    assert {one["address"]: one["in_use"] for one in json.loads(here("aliases.list", "--json").stdout)["aliases"]} == {
        "info@lab.sethlakowske.com": True,
        "@other.org": True,
    }
    assert "@other.org: info@lab.sethlakowske.com is not in use" in fake_podman.invoke_here("aliases.list").stdout


def test_a_quota_is_set_shown_and_given_up(fake_podman: FakePodman) -> None:
    Accounts(Folder.at(fake_podman.folder)).add(name := "alice@lab.sethlakowske.com", "correct horse")

    def listed(**settings: str) -> list[object]:
        (account,) = json.loads(fake_podman.invoke_here("users.list", "--json", **settings).stdout)["accounts"]
        return [account["quota"], fake_podman.invoke_here("users.list", **settings).stdout.strip()]

    assert listed() == [None, name]
    assert listed(INVOKE_QUOTA="5G") == [5 * 2**30, f"{name} has a quota of 5G"]
    said = fake_podman.invoke_here("users.quota", "alice", "2048M").stdout
    assert said == f"the mailbox of {name} has a quota of 2048M\n"
    assert listed(INVOKE_QUOTA="5G") == [2 * 2**30, f"{name} has a quota of 2G"]
    fake_podman.invoke_here("users.quota", "alice", "none")
    assert listed(INVOKE_QUOTA="5G") == [None, name]
    fake_podman.invoke_here("users.quota", "alice", "default")
    assert listed(INVOKE_QUOTA="5G") == [5 * 2**30, f"{name} has a quota of 5G"]


def test_the_quota_of_a_removed_account_is_gone(fake_podman: FakePodman) -> None:
    there = Accounts(Folder.at(fake_podman.folder))
    there.add(name := "alice@lab.sethlakowske.com", "correct horse")
    fake_podman.invoke_here("users.quota", "alice", "2G")
    assert fake_podman.invoke_here("users.remove", "alice").code == 0
    there.add(name, "correct horse")
    assert fake_podman.invoke_here("users.list").stdout == f"{name}\n"


@pytest.mark.parametrize("words", [("alice", "2GB"), ("alice", "1.5G"), ("alice", ""), ("bob", "2G")])
def test_a_wrong_quota_and_one_of_no_account_are_refused(fake_podman: FakePodman, words: tuple[str, ...]) -> None:
    Accounts(Folder.at(fake_podman.folder)).add("alice@lab.sethlakowske.com", "correct horse")
    ended = fake_podman.invoke_here("users.quota", *words)
    assert (ended.code, ended.stdout) == (1, "")
    assert re.match("podserve: ('.*' cannot be a quota: expected a size|there is no account bob@)", ended.stderr)
    assert not (fake_podman.folder / "quotas").exists()


def test_a_list_without_entries_is_valid_json(fake_podman: FakePodman) -> None:
    assert json.loads(fake_podman.invoke_here("users.list", "--json").stdout)["accounts"] == []
    assert json.loads(fake_podman.invoke_here("repos.list", "--json").stdout) == {"repositories": []}


@pytest.mark.parametrize(("name", "postmaster"), [("abuse", "postmaster"), ("Abuse", "alice"), ("postmaster", "alice")])
def test_a_name_whose_mail_goes_to_the_postmaster_is_refused(
    fake_podman: FakePodman, name: str, postmaster: str
) -> None:
    words = "users.add", name, "--password-stdin"
    ended = fake_podman.invoke_here(*words, stdin="correct horse\n", INVOKE_POSTMASTER=postmaster)
    assert (ended.code, ended.stdout) == (1, "")
    domain = "lab.sethlakowske.com"
    expected = f"podserve: {name.lower()}@{domain} cannot be an account: mail to this address goes to {postmaster}@"
    assert ended.stderr.startswith(expected)
    assert Accounts(Folder.at(fake_podman.folder)).hashes() == {}
    assert fake_podman.invoke_here(*words, stdin="correct horse\n", INVOKE_POSTMASTER=name.lower()).code == 0


def test_accounts_need_a_pod_that_was_up_before(fake_podman: FakePodman) -> None:
    ended = fake_podman.invoke_here("users.list", INVOKE_POD="podserve-unit")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == "podserve: there is no volume podserve-unit-accounts yet: invoke up makes it\n"


@pytest.mark.parametrize("option", ["--second-key", "--second-certificate"])
def test_half_of_a_second_key_pair_is_refused(fake_podman: FakePodman, option: str) -> None:
    ended = fake_podman.invoke_here("certs.import", "cert.pem", "key.pem", option, "other.pem")
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr == (
        "podserve: --second-certificate and --second-key belong together: expected both or none of them\n"
    )


def test_what_a_renewal_warns_of_reaches_cron_which_drops_the_rest(
    fake_podman: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime.now(dt.UTC)
    there = Certificate("import", ("example.org",), "", now, now, "1", "", "ec256")
    monkeypatch.setattr(rotation, "swap", lambda *_: Renewal((there,), warnings=["it ends soon"]))
    renewed = fake_podman.invoke_here("certs.renew")
    assert "nothing was changed" in renewed.stdout
    assert "it ends soon" not in renewed.stdout
    assert renewed.stderr.strip() == "Warning: it ends soon"
