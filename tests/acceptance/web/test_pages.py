"""The pages in a real browser: Debian's Chromium, which has imported the pod's authority."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver.common.by import By

from podserve.commands import run
from podserve.waiting import NotYet, wait_until
from tests.testbed.browser import WINDOWS, Browser, browser_of
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, token
from tests.testbed.webdav import folder


@pytest.fixture(scope="module")
def repository(test_pod: PodUnderTest, alice: Account, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A public repository with two commits of a Python file."""
    name, work, server = token(), tmp_path_factory.mktemp("work"), test_pod.server
    test_pod.invoke("repos.add", name, "--public", "--description", "A repository to look at")
    git = ["git", "-C", str(work), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    git += ["-c", f"http.sslCAInfo={server.authority}", "-c", f"http.curloptResolve={server.domain}:443:{server.host}"]
    environment = {name: value for name, value in os.environ.items() if name != "GIT_SSL_CAINFO"}
    run([*git, "init", "--quiet", "--initial-branch=main"])
    for number in (1, 2):
        (work / "answer.py").write_text(
            f'"""The answer."""\n\n\ndef answer() -> int:\n    return {number}  # for now\n'
        )
        run([*git, "add", "answer.py"])
        run([*git, "commit", "--quiet", "--message", f"Answer {number}"])
    login = f"{quote(alice.address)}:{quote(alice.password)}"
    run([*git, "push", "--quiet", f"https://{login}@{server.domain}/git/{name}.git", "main"], env=environment)
    return name


@pytest.fixture(scope="module")
def stranger(test_pod: PodUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that never logs in: Chromium takes seconds to start."""
    with browser_of(test_pod, tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    """A browser for the pod under test, without a cache, a window's size or errors of earlier tests."""
    for command in ("Network.clearBrowserCache", "Emulation.clearDeviceMetricsOverride"):
        stranger.driver.execute_cdp_cmd(command, {})
    stranger.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    stranger.complaints()
    return stranger


@pytest.fixture
def new_browser(test_pod: PodUnderTest, tmp_path: Path) -> Iterator[Browser]:
    """A new browser for the pod under test. A login stays in it."""
    with browser_of(test_pod, tmp_path) as made:
        yield made


def pages(repository: str) -> dict[str, tuple[str, str]]:
    """Return the path of each page and a text that it must show, by the name of its screenshot."""
    there = f"/git/{repository}.git"
    return {
        "landing": ("/", "IMAP"),
        "list": ("/git/", repository),
        "summary": (there, "A repository to look at"),
        "commit": (f"{there}/commit/HEAD", "Answer 2"),
        "diff": (f"{there}/commitdiff/HEAD", "return 2"),
        "blob": (f"{there}/blob/HEAD:/answer.py", "def answer()"),
        "blame": (f"{there}/blame/HEAD:/answer.py", "def answer()"),
    }


@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_is_whole_and_fits(browser: Browser, repository: str, window: str) -> None:
    browser.become(window)
    for name, (path, shown) in pages(repository).items():
        browser.open(path)
        browser.picture(f"{name}-{window}")
        assert shown in browser.text(), path
        assert not browser.complaints(), path
        assert browser.driver.execute_script("return window.innerWidth") == WINDOWS[window][0], path
        assert not browser.overflows(), path


def test_dark_is_dark_and_light_is_light(browser: Browser) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.open("/git/")
        script = "return getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"
        colours[scheme] = sum(browser.driver.execute_script(script))
    assert colours["dark"] < colours["light"]


def test_a_summary_links_its_clone_address(browser: Browser, repository: str) -> None:
    browser.open(f"/git/{repository}.git")
    address = f"https://{browser.domain}/git/{repository}.git"
    assert browser.driver.find_element(By.LINK_TEXT, address).get_attribute("href") == address


def test_source_is_highlighted(browser: Browser, repository: str) -> None:
    browser.open(f"/git/{repository}.git/blob/HEAD:/answer.py")
    assert browser.driver.find_elements(By.CSS_SELECTOR, ".pre .kwa, .pre .str, .pre .com")


def test_login_leads_back_to_the_page_it_began_at(
    new_browser: Browser, repository: str, test_pod: PodUnderTest, alice: Account
) -> None:
    private = token()
    test_pod.invoke("repos.add", private)
    new_browser.open(f"/git/{repository}.git/log")
    way_in = new_browser.driver.find_element(By.LINK_TEXT, "log in").get_attribute("href") or ""
    new_browser.open(way_in.partition(new_browser.files)[2], alice)
    assert new_browser.driver.current_url.endswith(f"/git/{repository}.git/log")
    new_browser.open("/git/")
    assert private in new_browser.text()
    assert not new_browser.complaints()
    new_browser.picture("list-logged-in")


READER = """<!DOCTYPE html><body><script type="speculationrules">
{"prefetch": [{"source": "list", "urls": PATHS, "eagerness": "immediate"}]}
</script><script>
// What can be read of each path: fetched, out of the cache as well, as part of this page, and in a window of its own.
const paths = PATHS, look = path => new Promise(done => {
    const opened = open(path), timer = setInterval(() => {
        try {
            if (opened.location.href == "about:blank" || opened.document.readyState != "complete") return
            done(opened.document.body.textContent)
        } catch (refused) { done(refused.name) }
        clearInterval(timer)
        opened.close()
    }, 50)
})
const get = cache => path => fetch(path, {cache}).then(
    answer => answer.text().then(text => `${answer.status} ${text}`), String)
const part = kind => path => new Promise(done => {
    const made = document.createElement(kind)
    made.onload = () => done("loaded")
    made.onerror = () => done("refused")
    document.body.append(made)
    made[kind == "link" ? "href" : "src"] = path
    made.rel = "stylesheet"
})
const all = async (way, ...more) => { for (const path of paths) seen.push(await way(path)) }, seen = []
all(look).then(() => all(get("default"))).then(() => all(get("force-cache"))).then(() => all(part("script")))
    .then(() => all(part("link"))).then(() => { window.seen = seen })
</script>"""
WAYS = ("window", "fetch", "cache", "script", "style")


def _seen_by_a_page(
    test_pod: PodUnderTest, browser: Browser, secrets: Sequence[str], bait: Sequence[str]
) -> dict[str, list[str]]:
    """Open a published page that tries to read each address of `bait`; return its results by the ways it tries (WAYS).

    Fails if a result has one of `secrets` in it.
    """
    with folder(test_pod.server, test_pod.new_account(), "/webdav/site/") as site:
        site.put("page.html", content=READER.replace("PATHS", json.dumps(bait)))
        browser.open(f"{site.base_url.path.removeprefix('/webdav/site')}page.html")
        seen: list[str] = []

        def read() -> None:
            seen[:] = browser.driver.execute_script("return window.seen") or []
            if not seen:
                raise NotYet("the page is still reading")

        wait_until(read, 20, "a page to have read what it can")
    assert not [text for text in seen if any(secret in text for secret in secrets)]
    return {way: seen[number * len(bait) : (number + 1) * len(bait)] for number, way in enumerate(WAYS)}


@pytest.mark.parametrize("apart", [True, False])
def test_a_page_of_the_site_reads_nothing_by_its_visitors_login(
    test_pod: PodUnderTest, tmp_path: Path, *, apart: bool
) -> None:
    with ExitStack() as stack:
        pod = test_pod if apart else stack.enter_context(play_test_pod("-one", files_host=test_pod.server.domain))
        browser, victim = stack.enter_context(browser_of(pod, tmp_path)), pod.new_account()
        secret, private = token(), token()
        pod.invoke("repos.add", private, "--description", secret)
        home = f"/webdav/home/{victim.local_part}/"
        mine = [f"{home}{private}.html", home, f"/git/{private}.git"]
        with pod.server.http(victim) as client:
            client.put(mine[0], content=f"<!DOCTYPE html><body>{secret}<script>document.body.append(' acts')</script>")
        for path in mine:
            browser.open(path, victim)
            assert (secret if path != home else private) in browser.text()
            assert "acts" not in browser.text()
        files = pod.settings.files_host
        bait = [*mine, *(f"https://{files}{path}" for path in mine if apart), "/"]
        seen = _seen_by_a_page(pod, browser, (secret, private), bait)
    own_page = {way: told.pop() for way, told in seen.items()}
    assert set(seen["window"]) == {"SecurityError"}
    refused = "TypeError: Failed to fetch" if apart else "403"
    assert {text[: len(refused)] for text in seen["fetch"] + seen["cache"]} == {refused}
    assert set(seen["script"] + seen["style"]) == {"refused"}
    assert "IMAP" in own_page["window"]
    assert own_page["fetch"].startswith("200")


def test_the_authority_can_be_downloaded_from_the_landing_page(browser: Browser, test_pod: PodUnderTest) -> None:
    browser.open("/")
    link = browser.driver.find_element(By.LINK_TEXT, "its certificate").get_attribute("href") or ""
    with test_pod.server.http() as client:
        answer = client.get(link.partition(browser.domain)[2])
    assert answer.text == (test_pod.folder("certificates") / "current" / "ca.crt").read_text()
    assert answer.headers["Content-Type"] == "application/x-x509-ca-cert"


def test_files_are_listed_for_a_login(new_browser: Browser, test_pod: PodUnderTest, alice: Account) -> None:
    name = f"{token()}.txt"
    with test_pod.server.http(alice) as client:
        client.put(f"/webdav/{name}", content="hello")
    # The login is opened first: a page whose own URL has a login would request its style with this URL's login, which
    # the sandbox forbids.
    new_browser.open("/git/login", alice)
    new_browser.open("/webdav/")
    assert name in new_browser.text()
    assert not new_browser.complaints()
    new_browser.picture("files")
