"""The page at /account/: what a person changes there, and what nobody else does. It is off by default."""

import contextlib
import datetime as dt
import json
import os
import plistlib
import re
import signal
import smtplib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from imapclient.exceptions import LoginError
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By

from podserve.accounts import Accounts, random_password
from podserve.commands import podman, run
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.acceptance.mail.test_open_sessions import ended_by_the_server, wait_in_idle, wait_until_ended
from tests.testbed.account_page import PAGE, Visitor, knock, said, visitor
from tests.testbed.browser import WINDOWS, Browser, browser_of
from tests.testbed.mail import arrived
from tests.testbed.memory import pss_of
from tests.testbed.pod import PodUnderTest, play_test_pod, processes_of
from tests.testbed.server import SUBMISSIONS, Account, letter, token
from tests.testbed.vantage import stranger_to

TRIES = 20
"""Wrong passwords after which the door and Apache refuse more (door, conf-available/clients.conf)."""
LOGGED = 2**20
"""Bytes of the log of changes at most (door, podserve/history.py)."""
IDLE = 50.0
"""Seconds after which a page that nobody visits has given its memory back (account-page)."""
OWN_RULES = "rules"
PARTS = re.compile(rb"account-page|profile")
"""What the command lines of the page's processes have in Apache's container, those of their supervisors among them."""
REFUSED_PASSWORDS = {
    "too short": "seven c",
    "too long": "x" * 73,
    "too long in UTF-8": "ä" * 37,
    "a line break": "long enough\nbut two lines",
}
GUESS = """
import json, sys
import httpx
from podserve.certificates import client_context
host, domain, files, authority, name, password, key, tries = json.loads(sys.argv[1])
transport = httpx.HTTPTransport(verify=client_context(domain, authority))
headers = {"Host": files, "Origin": f"https://{files}"}
with httpx.Client(transport=transport, base_url=f"https://{host}", headers=headers, auth=(name, password)) as client:
    form = {"key": key, "new": "another password", "again": "another password"}
    guesses = [client.post("/account/password", data={**form, "present": f"guess {n}"}) for n in range(tries)]
    after = client.get("/account/")
print(json.dumps([[a.status_code for a in guesses], after.status_code]))
"""

TRYING = """<!DOCTYPE html><title>A page of the site</title><body><script>
const seen = [], opened = open("THERE"), frame = document.createElement("iframe")
const form = Object.assign(document.createElement("form"), {method: "post", action: "THEREpassword", target: "sent"})
const add = (name, value) => form.append(Object.assign(document.createElement("input"), {name, value}))
const fields = {key: "0".repeat(64), present: "x", new: "another password", again: "another password"}
const read = there => { try { seen.push(there().body.textContent) } catch (refused) { seen.push(refused.name) } }
Object.entries(fields).forEach(([name, value]) => add(name, value))
frame.src = "THERE"
document.body.append(frame, form)
fetch("THERE", {credentials: "include"}).then(answer => answer.text(), refused => refused.name).then(text => {
    seen.push(text)
    form.submit()
    setTimeout(() => {
        read(() => opened.document)
        read(() => frame.contentDocument)
        window.seen = seen
    }, 2000)
})
</script>"""


@pytest.fixture(scope="module")
def pod() -> Iterator[PodUnderTest]:
    """A pod with the page."""
    with play_test_pod("-account", account_page="yes") as made:
        yield made


@pytest.fixture
def person(pod: PodUnderTest) -> Account:
    """A new account of the pod with the page."""
    return pod.new_account()


@pytest.fixture
def at_the_page(pod: PodUnderTest, person: Account) -> Iterator[Visitor]:
    """The person at the page."""
    with visitor(pod, person) as made:
        yield made


def hash_of(pod: PodUnderTest, account: Account) -> str:
    """Return what the accounts file has for an account."""
    return Accounts(Folder.at(pod.folder("accounts"))).hashes()[account.address]


def is_login(pod: PodUnderTest, account: Account, password: str) -> bool:
    """Return whether Apache accepts a password."""
    with visitor(pod, Account(account.address, password)) as client:
        return client.get().status_code == 200


def test_a_pod_without_the_page_has_no_process_no_container_and_no_address_for_it(
    test_pod: PodUnderTest, alice: Account
) -> None:
    assert "door" not in test_pod.pod.containers
    assert not test_pod.exec("apache", "pgrep", "-f", "account-page|s6-ipcserverd", check=False).ok
    assert not (test_pod.exec("apache", "apache2ctl", "-M", check=False).stdout.count("proxy_http_module"))
    with visitor(test_pod, alice) as client:
        assert client.get().headers["Location"] == f"https://{test_pod.server.domain}{PAGE}"
        assert client.get(Host=test_pod.server.domain).status_code == 404
    with visitor(test_pod, None) as client:
        assert client.get(Host=test_pod.server.domain).status_code == 404


def test_the_page_is_at_the_origin_without_pages_of_accounts_only(pod: PodUnderTest, person: Account) -> None:
    there = f"https://{pod.settings.files_host}{PAGE}"
    with visitor(pod, person) as client:
        for path in ("/account", PAGE, f"{PAGE}password"):
            answer = client.get(path, Host=pod.server.domain)
            assert (answer.status_code, answer.headers["Location"]) == (302, there)
        assert client.get(Host="other.example").status_code in {302, 421}
        assert client.get("/account").headers["Location"] == there


def test_nobody_sees_the_page_without_a_login(pod: PodUnderTest, person: Account) -> None:
    for account in (None, Account(person.address, "a wrong password"), Account(f"{token()}@example.com", "x" * 9)):
        with visitor(pod, account) as client:
            assert client.get().status_code == 401
            assert client.get(f"{PAGE}mail.mobileconfig").status_code == 401
            assert client.post("password", {"key": "0" * 64}).status_code == 401


def test_a_person_changes_the_password(pod: PodUnderTest, person: Account, at_the_page: Visitor, since: float) -> None:
    new = f"neues Paßwort {token()}"
    answer = at_the_page.change_password(person.password, new)
    assert (answer.status_code, "is changed" in said(answer)) == (200, True)
    assert not is_login(pod, person, person.password)
    assert is_login(pod, person, new)
    assert knock(pod, ["check", person.address, new], ["check", person.address, person.password]) == ["ok", "wrong"]
    with pytest.raises(smtplib.SMTPAuthenticationError), pod.server.submission(person):
        pass
    assert re.fullmatch(r"\$2y\$10\$[./A-Za-z0-9]{53}", hash_of(pod, person))
    status = (pod.folder("accounts") / "passwd").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 0, 5002)
    pod.wait_for_log("door", f"door: password of {person.address}: ok", since)


def test_a_person_makes_and_revokes_an_app_password(pod: PodUnderTest, person: Account, at_the_page: Visitor) -> None:
    present = {"present": person.password}
    answer = at_the_page.post("token", {**present, "label": " Phone-1 "})
    assert answer.status_code == 200
    [secret] = re.findall(r'<code class="secret">([a-z2-9-]{31})</code>', answer.text)
    assert f"<strong>phone-1</strong>, made on {dt.datetime.now(dt.UTC):%Y-%m-%d}" in at_the_page.get().text
    assert secret not in at_the_page.get().text
    phone = Account(person.address, secret)

    def accepted() -> None:
        try:
            with pod.server.imap(phone):
                pass
        except LoginError as error:
            raise NotYet(str(error)) from error

    wait_until(accepted, 4, "the app password to be accepted")
    with visitor(pod, phone) as device:
        assert device.get().status_code == 403
        assert device.client.get("/webdav/").status_code == 200
    listed = pod.invoke("users.tokens", person.address).stdout
    assert listed.startswith("phone-1: made ")
    kept = (pod.folder("accounts") / "tokens").stat()
    assert (kept.st_mode & 0o777, kept.st_uid, kept.st_gid) == (0o640, 0, 5002)

    assert at_the_page.post("revoke", {**present, "label": "phone-1"}).status_code == 200
    with visitor(pod, phone) as device:
        assert device.client.get("/webdav/").status_code == 401
    assert "phone-1" not in at_the_page.get().text
    changes = pod.invoke("users.log", "--name", person.address).stdout.splitlines()
    made = [f" {person.address} account.{verb} {person.address} phone-1" for verb in ("token", "revoke")]
    assert [change[20:] for change in changes if " account." in change] == made


def test_a_full_log_of_changes_drops_its_oldest_lines_and_stops_nobody(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    log, line = pod.folder("accounts") / "log" / "changes", "2026-11-27T00:00:00Z eve users.add x@example.org\n"
    before = log.read_text()
    full = line * (LOGGED // len(line) + 1)
    log.write_text(full[len(full) - LOGGED :])
    try:
        new = random_password()
        assert at_the_page.change_password(person.password, new).status_code == 200
        assert log.stat().st_size <= LOGGED
        assert (log.stat().st_mode & 0o777, log.stat().st_uid) == (0o600, 0)
        changes = pod.invoke("users.log", "--name", person.address).stdout.splitlines()
        assert [change[20:] for change in changes] == [f" {person.address} account.password {person.address}"]
        pod.invoke("users.disable", person.address)
        assert log.stat().st_size <= LOGGED
    finally:
        log.write_text(before)


@pytest.mark.parametrize(
    ("form", "fields", "status"),
    [
        ("token", {"label": ""}, 400),
        ("token", {"label": "a b"}, 400),
        ("token", {"label": "x/y:z"}, 400),
        ("token", {"label": "x" * 33}, 400),
        ("token", {"label": "known"}, 400),
        ("token", {"label": "new", "present": "a wrong password"}, 403),
        ("token", {"label": "new", "key": "0" * 64}, 403),
        ("revoke", {"label": "unknown"}, 400),
        ("revoke", {"label": ""}, 400),
        ("revoke", {"label": "known", "present": "a wrong password"}, 403),
        ("revoke", {"label": "known", "key": "0" * 64}, 403),
    ],
)
def test_an_app_password_that_cannot_be_made_or_revoked_changes_nothing(  # noqa: PLR0913,PLR0917  # three vary
    pod: PodUnderTest, person: Account, at_the_page: Visitor, form: str, fields: dict[str, str], status: int
) -> None:
    other = pod.new_account()
    for account, label in ((person, "known"), (other, "unknown")):
        pod.invoke("users.token", account.address, label)
    before = (pod.folder("accounts") / "tokens").read_text()
    answer = at_the_page.post(form, {"present": person.password, **fields})
    assert (answer.status_code, "Nothing was changed" in said(answer)) == (status, True)
    assert (pod.folder("accounts") / "tokens").read_text() == before


def test_dovecot_knows_the_last_of_two_passwords_that_were_set_within_a_second(
    pod: PodUnderTest, person: Account
) -> None:
    first, second = random_password(), random_password()
    requests = ["password", person.address, person.password, first], ["password", person.address, first, second]
    assert knock(pod, *requests) == ["ok", "ok"]

    def known() -> None:
        try:
            with pod.server.imap(Account(person.address, second)):
                pass
        except LoginError as error:
            raise NotYet(str(error)) from error

    wait_until(known, 10, "the second password to be accepted")
    with pytest.raises(LoginError), pod.server.imap(Account(person.address, first)):
        pass


def test_a_changed_password_ends_the_open_sessions(pod: PodUnderTest, person: Account, at_the_page: Visitor) -> None:
    bystander = pod.new_account()
    imap, idle = pod.server.imap(person), pod.server.imap(person)
    with pod.server.imap(bystander) as other, ended_by_the_server(imap) as reads, ended_by_the_server(idle) as waits:
        wait_in_idle(waits)
        assert at_the_page.change_password(person.password, random_password()).status_code == 200
        wait_until_ended(lambda: waits.idle_check(timeout=0.05))
        wait_until_ended(reads.noop)
        assert other.noop()


@pytest.mark.parametrize("new", REFUSED_PASSWORDS.values(), ids=REFUSED_PASSWORDS)
def test_a_password_that_users_add_refuses_is_refused(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, new: str
) -> None:
    before = hash_of(pod, person)
    assert at_the_page.change_password(person.password, new).status_code == 400
    if "\n" not in new:  # the task reads a line
        assert not pod.invoke("users.passwd", person.address, "--password-stdin", stdin=f"{new}\n", check=False).ok
    assert hash_of(pod, person) == before


def test_a_wrong_present_password_and_a_new_one_with_a_slip_change_nothing(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    before, new = hash_of(pod, person), random_password()
    for present in ("a wrong password", "", f"{person.password}x"):
        answer = at_the_page.change_password(present, new)
        assert answer.status_code in {400, 403}
        assert "Nothing was changed" in said(answer)
    assert at_the_page.change_password(person.password, new, f"{new}x").status_code == 400
    assert hash_of(pod, person) == before


def test_a_form_needs_the_key_that_was_made_for_this_login(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    before = hash_of(pod, person)
    fields = {"present": person.password, "new": "another password", "again": "another password"}
    with visitor(pod, pod.new_account()) as other:
        foreign = other.key()
    for key in ("", "0" * 64, foreign, at_the_page.key()[:-1]):
        answer = at_the_page.post("password", {**fields, "key": key})
        assert (answer.status_code, "not made for you" in said(answer)) == (403, True)
        rules = at_the_page.post("rules", {"present": person.password, "forward": "a@example.com", "key": key})
        assert rules.status_code == 403
    assert hash_of(pod, person) == before
    with pod.server.rules(person) as client:
        assert client.listscripts() == (None, [])


def test_a_form_that_another_origin_sends_is_refused(pod: PodUnderTest, person: Account, at_the_page: Visitor) -> None:
    before, key = hash_of(pod, person), at_the_page.key()
    fields = {"present": person.password, "new": "another password", "again": "another password", "key": key}
    own = pod.settings.files_host
    for origin in (
        "",
        "null",
        "https://evil.example",
        f"https://{pod.server.domain}",
        f"http://{own}",
        f"https://{own}.x",
    ):
        assert at_the_page.post("password", fields, Origin=origin).status_code == 403, origin
    for dest in ("iframe", "empty", "script"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": dest}
        assert at_the_page.post("password", fields, **headers).status_code == 403, dest
        assert at_the_page.get(**headers).status_code == 403, dest
    assert hash_of(pod, person) == before


def test_nothing_is_changed_by_get_and_other_methods_are_refused(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    before = hash_of(pod, person)
    query = httpx.QueryParams(key=at_the_page.key(), present=person.password, new="x" * 9, again="x" * 9)
    for form in ("password", "rules"):
        assert at_the_page.get(f"{PAGE}{form}?{query}").status_code == 404
    for method in ("PUT", "DELETE", "PATCH", "PROPFIND", "OPTIONS"):
        headers = {"Host": at_the_page.files_host, "Origin": at_the_page.origin}
        assert at_the_page.client.request(method, f"{PAGE}password", headers=headers).status_code == 405, method
    assert hash_of(pod, person) == before


def test_a_large_request_is_refused(at_the_page: Visitor) -> None:
    assert at_the_page.post("rules", {"key": "0" * 64, "text": "x" * 30_000}).status_code == 413


def test_nobody_reaches_another_account(pod: PodUnderTest, person: Account, at_the_page: Visitor) -> None:
    victim = pod.new_account()
    before = hash_of(pod, victim)
    assert victim.address not in at_the_page.get(Login=victim.address).text
    new = random_password()
    fields = {"present": person.password, "new": new, "again": new, "username": victim.address, "login": victim.address}
    assert at_the_page.post("password", fields, Login=victim.address).status_code == 200
    assert is_login(pod, person, new)
    assert hash_of(pod, victim) == before


def test_every_answer_forbids_scripts_frames_and_caches(at_the_page: Visitor) -> None:
    answers = [
        at_the_page.get(),
        at_the_page.get(f"{PAGE}nothing"),
        at_the_page.post("password", {"key": ""}),
        at_the_page.post("password", {"key": ""}, Origin="https://evil.example"),
    ]
    for answer in answers:
        policy = answer.headers.get_list("Content-Security-Policy")
        assert len(policy) == 1
        assert {"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"} <= set(policy[0].split("; "))
        assert "unsafe" not in policy[0]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Set-Cookie" not in answer.headers
        assert "<script" not in answer.text


def test_guesses_at_the_present_password_are_as_few_as_logins(pod: PodUnderTest, person: Account) -> None:
    with visitor(pod, person) as client:
        key = client.key()
    server = pod.server
    what = (pod.address, server.domain, pod.settings.files_host, server.authority, *(person.address, person.password))
    with stranger_to(pod.name) as place:
        guesses, after = json.loads(place.python(GUESS, json.dumps((*what, key, TRIES + 3))))
        assert guesses[: TRIES - 1] == [403] * (TRIES - 1)
        assert set(guesses[TRIES + 1 :]) == {429}
        assert after == 429


def test_the_door_itself_limits_guesses_at_a_login_wherever_they_come_from(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    for number in range(TRIES):
        assert at_the_page.change_password(f"guess {number}", "another password").status_code == 403
    answer = at_the_page.change_password(person.password, "another password")
    assert (answer.status_code, "Too many" in said(answer), answer.headers["Retry-After"]) == (429, True, "600")
    other = pod.new_account()
    assert knock(pod, ["check", other.address, other.password]) == ["ok"]


def test_a_hole_in_the_page_changes_nothing_for_those_whose_password_it_does_not_know(
    pod: PodUnderTest, person: Account
) -> None:
    victim = pod.new_account()
    before, own = hash_of(pod, victim), person.password
    disabled = pod.new_account()
    pod.invoke("users.disable", disabled.address)
    answers = knock(
        pod,
        ["check", person.address, own],
        ["password", victim.address, own, "another password"],
        ["password", victim.address, "", "another password"],
        ["password", f"{person.address}\n{victim.address}", own, "another password"],
        ["password", "../passwd", own, "another password"],
        ["password", ".*", own, "another password"],
        ["tokens", victim.address, own],
        ["token", victim.address, own, "phone"],
        ["revoke", victim.address, own, "phone"],
        ["check", disabled.address, disabled.password],
        ["check", disabled.address, f"{disabled.password}!"],
        ["remove", person.address, own],
        ["", person.address, own],
        ["password", person.address],
        ["password", person.address, own],
        ["password", person.address, own, f"another:password\n{victim.address}:x"],
        ["password", person.address, own, "x" * 10_000],
        ["check", person.address, own],
    )
    assert [answer.split()[0].rstrip(":") for answer in answers] == ["ok", *["wrong"] * 10, *["refused"] * 6, "ok"]
    assert hash_of(pod, victim) == before


def test_nobody_but_the_page_may_use_the_door(pod: PodUnderTest, person: Account) -> None:
    for user in ("www-data", "root", "nobody"):
        assert knock(pod, ["check", person.address, person.password], user=user) == ["refused: not the page"]


def test_a_client_that_says_nothing_keeps_the_door_for_two_seconds_only(pod: PodUnderTest, person: Account) -> None:
    begin = time.monotonic()
    assert knock(pod, ["check", person.address, person.password], silent=1) == ["ok"]
    assert 2 <= time.monotonic() - begin < 5


def test_the_page_has_a_user_of_its_own_that_reads_neither_hashes_nor_keys(pod: PodUnderTest, person: Account) -> None:
    with visitor(pod, person) as client:
        client.get()
    page = [
        process for process in processes_of(pod.container("apache")) if b"/account-page\0" in _command_line(process)
    ]
    assert {(process / "status").read_text().split("Uid:")[1].split()[1] for process in page} == {"5007"}
    for path in ("/data/state/accounts/passwd", "/data/state/accounts/aliases", "/run/tls/tls.key", "/run/tls/alt.key"):
        reading = ["podman", "exec", "--user", "account-page", pod.container("apache"), "cat", path]
        assert not run(reading, check=False).ok, path
    writing = ["podman", "exec", "--user", "account-page", pod.container("apache"), "touch", "/data/web/site/x"]
    assert not run(writing, check=False).ok


def _command_line(process: Path) -> bytes:
    """Return the words of a process, each ended by a NUL; nothing if it has ended."""
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def test_the_door_has_no_capability_and_root_elsewhere_cannot_write_the_accounts(pod: PodUnderTest) -> None:
    for process in processes_of(pod.container("door")):
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [0, 0, 0]
        assert status["NoNewPrivs"].strip() == "1"
    for service in ("apache", "mail"):
        assert not pod.exec(service, "touch", "/data/state/accounts/written", check=False).ok
    assert not pod.exec("apache", "touch", "/data/door/written", check=False).ok
    assert not pod.exec("door", "touch", "/etc/written", check=False).ok
    mounted = pod.exec("door", "cat", "/proc/mounts").stdout
    assert "/data/state/accounts" in mounted
    assert "/data/web" not in mounted
    assert "certificates" not in mounted


def test_changes_by_the_door_and_by_tasks_at_once_lose_nothing(pod: PodUnderTest) -> None:
    there = Accounts(Folder.at(pod.folder("accounts")))
    changed, added = ([f"{token()}@{pod.settings.domain}" for _ in range(50)] for _ in range(2))
    old, new = ({address: random_password() for address in changed} for _ in range(2))
    for address, password in old.items():
        there.add(address, password)
    with ThreadPoolExecutor() as pool:
        adding = [pool.submit(there.add, address, random_password()) for address in added]
        assert knock(pod, *(["password", address, old[address], new[address]] for address in changed)) == ["ok"] * 50
        for each in adding:
            each.result()
    assert set(added) <= there.hashes().keys()
    assert knock(pod, *(["check", address, password] for address, password in new.items())) == ["ok"] * 50


@pytest.mark.parametrize("name", ["door", "account-page", "mail-profile"])
def test_each_part_that_is_killed_is_back_at_once(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, name: str
) -> None:
    service = "door" if name == "door" else "apache"
    words = b"s6-ipcserverd" if name == "mail-profile" else f"/{name}\0".encode()
    assert at_the_page.get().status_code == 200
    for process in [each for each in processes_of(pod.container(service)) if words in _command_line(each)]:
        os.kill(int(process.name), signal.SIGKILL)

    def back() -> None:
        try:
            profile = at_the_page.get(f"{PAGE}mail.mobileconfig")
        except httpx.TransportError as error:  # Apache lets a client repeat a request that the page has not answered
            raise NotYet(str(error)) from error
        if profile.status_code != 200:
            raise NotYet("there is no page, or no profile")
        answer = at_the_page.post("rules", {"present": person.password})
        if answer.status_code != 200:
            raise NotYet(said(answer))

    wait_until(back, 5, f"{name} to be back")


def test_the_page_is_turned_off_without_a_trace_and_status_watches_the_door() -> None:
    with play_test_pod("-turned", account_page="yes") as own:
        assert f"{own.container('door')}" in own.invoke("status", check=False).stdout
        status = json.loads(own.invoke("status", "--json", check=False).stdout)
        assert {each["name"]: each["healthy"] for each in status["containers"]}[own.container("door")] is True
        own.invoke("restart")
        account = own.new_account()
        with visitor(own, account) as client:
            assert client.get().status_code == 200
            own.invoke("up", INVOKE_ACCOUNT_PAGE="no")
            assert client.get(Host=own.server.domain).status_code == 404
        there = podman("ps", "--all", "--format", "{{.Names}}").stdout.split()
        volumes = podman("volume", "ls", "--format", "{{.Name}}").stdout.split()
        assert f"{own.name}-apache" in there
        assert not [name for name in (*there, *volumes) if name == f"{own.name}-door"]


def test_the_quota_and_what_is_used_are_shown(pod: PodUnderTest, person: Account, at_the_page: Visitor) -> None:
    assert "no limit" in at_the_page.get().text
    pod.invoke("users.quota", person.address, "10M")
    with pod.server.imap(person) as client:
        client.append("INBOX", b"Subject: large\r\n\r\n" + b"x" * 2**20)

    def shown() -> None:
        if "1.0 MB of 10 MB" not in at_the_page.get().text:
            raise NotYet("the quota is not shown")

    wait_until(shown, 3, "the page to show the quota")


def test_a_password_is_changed_while_the_mail_service_is_away_and_the_page_says_what_is_not(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    pod.exec("mail", "s6-svc", "-wd", "-d", "/run/s6/dovecot")
    try:
        assert "the mail service does not answer" in at_the_page.get().text
        key = at_the_page.key()
        rules = at_the_page.post("rules", {"present": person.password, "forward": "a@example.com", "key": key})
        assert (rules.status_code, "a@example.com" in rules.text) == (503, True)
        new = random_password()
        assert at_the_page.change_password(person.password, new).status_code == 200
    finally:
        pod.exec("mail", "s6-svc", "-u", "/run/s6/dovecot")
    assert is_login(pod, person, new)


def test_a_pod_without_managesieve_and_465_offers_neither() -> None:
    with play_test_pod("-closed", account_page="yes", managesieve="no", submissions="no") as own:
        account = own.new_account()
        with visitor(own, account) as client:
            page = client.get().text
            assert "Forwarding" not in page
            assert "4190" not in page
            assert "465" not in page
            assert client.post("rules", {"present": account.password}).status_code == 404
            profile = client.get(f"{PAGE}mail.mobileconfig").content
        assert b"<integer>587</integer>" in profile
        assert b"<integer>465</integer>" not in profile


def test_what_a_person_writes_is_shown_as_text(person: Account, at_the_page: Visitor) -> None:
    nasty = '"><script>alert(1)</script> %= 1 <%= $ENV{PAGE_KEY} %> &amp; \\" ";\nstop; # ä'
    fields = {"away": "1", "subject": nasty, "text": nasty, "forward": "", "present": person.password}
    answer = at_the_page.post("rules", fields)
    assert (answer.status_code, said(answer)) == (200, "Saved.")
    for shown in (answer, at_the_page.get(), at_the_page.post("rules", {**fields, "forward": f"<b>{token()}"})):
        assert "<script" not in shown.text
        assert "<b>" not in shown.text
        assert (
            "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt; %= 1 &lt;%= $ENV{PAGE_KEY} %&gt; &amp;amp;" in shown.text
        )


def send_from(pod: PodUnderTest, sender: Account, recipient: Account, subject: str) -> None:
    """Send a letter from an account to another one."""
    with pod.server.submission(sender) as client:
        client.send_message(letter(sender.address, recipient.address, subject))


def save(at_the_page: Visitor, person: Account, **fields: str) -> None:
    """Save the form of mail rules."""
    answer = at_the_page.post("rules", {"present": person.password, **fields})
    assert (answer.status_code, said(answer)) == (200, "Saved."), answer.text[:3000]


def test_mail_is_answered_while_a_person_is_away_and_no_longer_afterwards(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    writer, subject, text = pod.new_account(), token(), f"Back in May. {token()}"
    save(at_the_page, person, away="1", subject=subject, text=f'{text}\r\n.\r\n"Grüße"', first="2020-01-01")
    send_from(pod, writer, person, token())
    answer = arrived(pod.server, writer, subject)
    assert text.encode() in answer
    save(at_the_page, person, subject=subject, text=text)
    other = pod.new_account()
    sent = token()
    send_from(pod, other, person, sent)
    arrived(pod.server, person, sent)
    with pod.server.imap(other) as client:
        client.select_folder("INBOX")
        assert client.search(["SUBJECT", subject]) == []
    with pod.server.rules(person) as client:
        assert client.listscripts() == (None, [])


@pytest.mark.parametrize(("first", "last"), [("2999-01-01", ""), ("", "2020-01-01"), ("2020-01-01", "2020-02-01")])
def test_mail_is_not_answered_outside_the_days(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, first: str, last: str
) -> None:
    writer, subject, sent = pod.new_account(), token(), token()
    save(at_the_page, person, away="1", subject=subject, text="Away.", first=first, last=last)
    send_from(pod, writer, person, sent)
    arrived(pod.server, person, sent)
    with pod.server.imap(writer) as client:
        client.select_folder("INBOX")
        assert client.search(["SUBJECT", subject]) == []


@pytest.mark.parametrize("copy", ["1", ""])
def test_mail_is_sent_on_with_or_without_a_copy(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, copy: str
) -> None:
    first, second, subject = pod.new_account(), pod.new_account(), token()
    save(at_the_page, person, forward=f"{first.address}\r\n{second.address}", **({"copy": copy} if copy else {}))
    send_from(pod, pod.new_account(), person, subject)
    for recipient in (first, second):
        arrived(pod.server, recipient, subject)
    with pod.server.imap(person) as client:
        client.select_folder("INBOX")
        assert len(client.search(["SUBJECT", subject])) == (1 if copy else 0)
    shown = at_the_page.get().text
    assert f"{first.address}\n{second.address}" in shown


@pytest.mark.parametrize(
    "fields",
    [
        {"forward": "no address"},
        {"forward": "a@b"},
        {"forward": '"x"; stop; "@example.com'},
        {"forward": " ".join(f"a{n}@example.com" for n in range(5))},
        {"away": "1", "text": ""},
        {"away": "1", "text": "x", "first": "tomorrow"},
        {"away": "1", "text": "x", "first": "2027-01-02", "last": "2027-01-01"},
        {"away": "1", "text": "x" * 6000},
        {"forward": "OWN"},
        {"away": "1", "text": "x", "present": "a wrong password"},
    ],
)
def test_rules_that_cannot_be_meant_are_refused_and_shown_again(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, fields: dict[str, str]
) -> None:
    fields = {name: text.replace("OWN", person.address) for name, text in fields.items()}
    answer = at_the_page.post("rules", {"present": person.password, **fields})
    assert answer.status_code in {400, 403}
    assert "Nothing was changed" in said(answer)
    with pod.server.rules(person) as client:
        assert client.listscripts() == (None, [])


def test_the_script_of_a_mail_program_stays_and_runs_after_the_pages(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    folder, subject, target = token(), token(), pod.new_account()
    script = f'require ["fileinto", "mailbox"];\r\nfileinto :create "{folder}";\r\n'
    with pod.server.rules(person) as client:
        assert client.putscript(OWN_RULES, script)
        assert client.setactive(OWN_RULES)
    save(at_the_page, person, forward=target.address, copy="1")
    assert f"“{OWN_RULES}”" in at_the_page.get().text
    send_from(pod, pod.new_account(), person, subject)
    arrived(pod.server, target, subject)

    def filed() -> None:
        with pod.server.imap(person) as client:
            if not client.folder_exists(folder):
                raise NotYet("the folder is not there")
            client.select_folder(folder)
            if not client.search(["SUBJECT", subject]):
                raise NotYet("the message is not there")

    wait_until(filed, 10, "the message to be filed by the person's own script")
    with pod.server.rules(person) as client:
        assert client.getscript(OWN_RULES).split() == script.split()
    save(at_the_page, person, forward="", text="kept no longer")
    with pod.server.rules(person) as client:
        assert client.listscripts() == (OWN_RULES, [])
        assert client.getscript(OWN_RULES).split() == script.split()


def test_a_script_of_the_pages_name_that_the_page_has_not_written_is_left_alone(
    pod: PodUnderTest, person: Account, at_the_page: Visitor
) -> None:
    with pod.server.rules(person) as client:
        assert client.putscript("Account page", "keep;\r\n")
    assert "another name" in at_the_page.get().text
    answer = at_the_page.post("rules", {"present": person.password, "forward": "a@example.com"})
    assert answer.status_code == 400
    with pod.server.rules(person) as client:
        assert client.getscript("Account page").strip() == "keep;"


def test_a_profile_for_ios_and_macos_is_signed_by_the_pod_and_its_settings_work(
    pod: PodUnderTest, person: Account, at_the_page: Visitor, tmp_path: Path
) -> None:
    answer = at_the_page.get(f"{PAGE}mail.mobileconfig")
    assert answer.headers["Content-Type"] == "application/x-apple-aspen-config"
    profile, signer = tmp_path / "profile", tmp_path / "signer.pem"
    profile.write_bytes(answer.content)
    verify = [
        "openssl",
        "cms",
        "-verify",
        "-inform",
        "DER",
        "-in",
        str(profile),
        "-purpose",
        "any",
        "-signer",
        str(signer),
    ]
    verify += ["-CAfile", str(pod.server.authority), "-no_check_time"]
    shown = run(verify).stdout
    certificates = pod.folder("certificates") / "current"
    assert signer.read_text().strip() == (certificates / "alt.crt").read_text().split("-----END")[0] + (
        "-----END CERTIFICATE-----"
    )
    document = plistlib.loads(shown.encode())
    (account,) = document["PayloadContent"]
    assert account["PayloadType"] == "com.apple.mail.managed"
    assert account["EmailAddress"] == account["IncomingMailServerUsername"] == person.address
    assert account["OutgoingMailServerUsername"] == person.address
    assert len({document["PayloadUUID"], account["PayloadUUID"]}) == 2
    assert account["IncomingMailServerHostName"] == account["OutgoingMailServerHostName"] == pod.settings.mail_host
    assert (account["IncomingMailServerPortNumber"], account["OutgoingMailServerPortNumber"]) == (993, SUBMISSIONS)
    assert account["IncomingMailServerUseSSL"] is account["OutgoingMailServerUseSSL"] is True
    login = Account(account["EmailAddress"], person.password)
    with pod.server.imap(login), pod.server.submission(login, account["OutgoingMailServerPortNumber"]):
        pass
    assert person.password not in shown
    at = answer.content.index(person.local_part.encode())
    profile.write_bytes(answer.content[:at] + b"x" + answer.content[at + 1 :])
    assert not run(verify, check=False).ok
    again = at_the_page.get(f"{PAGE}mail.mobileconfig?login=postmaster", Login=f"postmaster@{pod.server.domain}")
    assert b"postmaster" not in again.content
    assert document["PayloadUUID"].encode() in again.content


def test_nobody_but_the_page_lets_a_profile_be_signed_and_it_only_for_accounts_of_the_domain(pod: PodUnderTest) -> None:
    ask = (
        'use IO::Socket::UNIX; my $to = IO::Socket::UNIX->new("/run/apache2/profile") or print("refused"), exit;'
        "print $to $ARGV[0]; $to->shutdown(1); local $/; print length(<$to> // '');"
    )
    words = ["podman", "exec", "--user"]

    def size(user: str, login: str) -> str:
        return run([*words, user, pod.container("apache"), "perl", "-e", ask, login]).stdout

    good = f"alice@{pod.settings.domain}\n"
    assert int(size("account-page", good)) > 1000
    assert size("www-data", good) == size("root", good) == size("nobody", good) == "refused"
    for login in (
        "alice@example.com\n",
        "a/b@DOMAIN\n",
        "<x>@DOMAIN\n",
        "a&b@DOMAIN\n",
        "@DOMAIN\n",
        "\n",
        "a\n@DOMAIN\n",
    ):
        assert size("account-page", login.replace("DOMAIN", pod.settings.domain)) == "0", login


def test_the_page_takes_little_memory_and_gives_it_back(pod: PodUnderTest, person: Account) -> None:
    with visitor(pod, person) as client:
        assert client.get().status_code == 200

    def page() -> float:
        own = [process for process in processes_of(pod.container("apache")) if PARTS.search(_command_line(process))]
        return sum(map(_pss, own))

    visited, door = page(), pss_of(pod.container("door"))

    def idle() -> float:
        if (now := page()) > visited / 2:
            raise NotYet(f"{now:.1f} MB")
        return now

    left = wait_until(idle, IDLE, "the page to give its memory back")
    print(f"visited: {visited:.1f} MB, idle: {left:.1f} MB; the door: {door:.1f} MB")
    assert visited + door <= 60
    assert left + door <= 25
    with visitor(pod, person) as client:
        assert client.get().status_code == 200


def _pss(process: Path) -> float:
    with contextlib.suppress(OSError):
        rollup = (process / "smaps_rollup").read_text()
        return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))) * 1024 / 1e6
    return 0.0


@pytest.fixture
def browser(pod: PodUnderTest, tmp_path: Path) -> Iterator[Browser]:
    """A new browser for the pod with the page."""
    with browser_of(pod, tmp_path) as made:
        yield made


def fill(browser: Browser, form: str, **fields: str) -> None:
    """Fill in a form of the page, send it, and wait until the page that answers is shown."""
    there = browser.driver.find_element(By.CSS_SELECTOR, f'form[action$="{form}"]')
    for name, text in fields.items():
        field = there.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)
    there.find_element(By.TAG_NAME, "button").click()

    def answered() -> None:
        with contextlib.suppress(StaleElementReferenceException):
            there.is_enabled()
            raise NotYet("the page with the form is still shown")
        try:
            browser.text()
        except NoSuchElementException as error:
            raise NotYet("the next page is not there yet") from error

    wait_until(answered, 10, f"the answer to {form}")


def test_a_person_uses_the_page_in_a_browser_without_scripts(
    pod: PodUnderTest, person: Account, browser: Browser
) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    pod.invoke("users.quota", person.address, "10M")
    browser.open("/")
    way = browser.driver.find_element(By.PARTIAL_LINK_TEXT, "Your account").get_attribute("href") or ""
    assert way == f"https://{browser.files}{PAGE}"
    browser.open(PAGE, person)
    for label in ("phone", "laptop-2"):
        fill(browser, "token", label=label, present=person.password)
        assert "It is not shown again" in browser.text()
    browser.whole_picture("account-token-light")
    browser.open(PAGE, person)
    for window in WINDOWS:
        browser.become(window)
        browser.driver.refresh()
        browser.whole_picture(f"account-{window}")
    text = f"I am back on Monday. {token()}"
    browser.driver.find_element(By.NAME, "away").click()
    fill(browser, "rules", subject="Away", text=text, present=person.password)
    assert "Saved." in browser.text()
    browser.whole_picture("account-saved-phone")
    assert browser.driver.find_element(By.NAME, "text").get_attribute("value") == text
    new = random_password()
    fill(browser, "password", present=person.password, new=new, again=new)
    assert "Your password is changed" in browser.text()
    assert not browser.complaints()
    browser.whole_picture("account-changed-phone")
    assert is_login(pod, person, new)
    browser.open(PAGE, Account(person.address, new))
    fill(browser, "password", present="a wrong password", new=new, again=new)
    assert "The present password is wrong" in browser.text()
    browser.become("dark")
    browser.whole_picture("account-wrong-dark")


def test_the_page_fits_each_window(person: Account, browser: Browser) -> None:
    browser.open(PAGE, person)
    for window, (width, _) in WINDOWS.items():
        browser.become(window)
        browser.driver.refresh()
        assert "Mail programs" in browser.text()
        assert browser.driver.execute_script("return window.innerWidth") == width
        assert not browser.overflows(), window
    assert not browser.complaints()


def test_a_page_of_the_site_neither_reads_nor_sends_the_forms(
    pod: PodUnderTest, person: Account, browser: Browser
) -> None:
    """A script at DOMAIN that opens the page, frames it, fetches it and sends a form."""
    name = f"{token()}.html"
    there = f"https://{pod.settings.files_host}{PAGE}"
    script = TRYING.replace("THERE", there)
    with pod.server.http(person) as client:
        assert client.put(f"/webdav/site/{name}", content=script).status_code == 201
    browser.open(PAGE, person)
    assert person.address in browser.text()
    before = hash_of(pod, person)
    browser.driver.get(f"https://{browser.domain}/{name}")

    def done() -> list[str]:
        found: list[str] = browser.driver.execute_script("return window.seen") or []
        if not found:
            raise NotYet("the page is still trying")
        return found

    fetched, opened, framed = wait_until(done, 20, "a page of the site to have tried")
    assert fetched == "TypeError"
    assert opened in {"SecurityError", "TypeError"}
    assert framed in {"SecurityError", "TypeError"}
    assert person.address not in f"{fetched}{opened}{framed}"
    assert hash_of(pod, person) == before
