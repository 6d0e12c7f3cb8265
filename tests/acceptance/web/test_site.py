"""Published files are served as they were uploaded: Apache parses and executes nothing that an account can write."""

import itertools
import os
import re
import time
import urllib.robotparser
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from podserve.commands import podman
from podserve.waiting import wait_until
from tests.acceptance.web.test_http import ask_as_written
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token
from tests.testbed.webdav import WWW_DATA, folder

PROGRAM = b'#!/bin/sh\necho "Content-Type: text/plain"\necho\nid\n<!--#echo var="DOMAIN" --><?php echo 1; ?><% id %>\n'
NAMES = [
    "page.shtml", "index.shtml", "page.stm", "page.shtm", "page.html", "page.html.shtml", "page.shtml.html", "page.cgi",
    "page.pl", "page.py", "page.sh", "page.php", "page.phtml", "page.fcgi", "page.lua", "page.asis", "page.var",
    "page.imap", "page.map", "page.rb", "x.so",
]  # fmt: skip
DEFAULT_PAGE = (Path(__file__).parent / "earlier" / "index.shtml").read_text()
"""The page that PodServe 0.1.0 copied onto the site's volume."""
EXECUTABLE = """<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:" xmlns:A="http://apache.org/dav/props/">
<D:set><D:prop><A:executable>T</A:executable></D:prop></D:set></D:propertyupdate>"""


@pytest.fixture
def site(test_pod: PodUnderTest, alice: Account) -> Iterator[httpx.Client]:
    """A client of alice in a new folder of the site."""
    with folder(test_pod.server, alice, "/webdav/site/") as client:
        yield client


def published(test_pod: PodUnderTest, site: httpx.Client, name: str, login: Account | None = None) -> httpx.Response:
    """Return the response to a visitor who requests a file in this folder, with a login if one is given."""
    with test_pod.server.http(login) as client:
        return client.get(site.base_url.path.removeprefix("/webdav/site") + name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_is_served_as_it_was_uploaded(test_pod: PodUnderTest, site: httpx.Client, name: str) -> None:
    site.put(name, content=PROGRAM)
    # mod_dav_fs lets every client make a file executable: https://httpd.apache.org/docs/2.4/mod/mod_dav_fs.html
    assert site.request("PROPPATCH", name, content=EXECUTABLE).status_code == 207
    for content in (published(test_pod, site, name).content, site.get(name).content):
        assert content == PROGRAM


HIDDEN = [
    ".git/config", ".env", ".htaccess", ".htpasswd", ".DS_Store", "._page.html", "sub/.git/HEAD", "sub/.env",
    "%2egit/config", "sub/%2eenv", ".well-known-not/x", ".well-known/.env", ".user.ini",
]  # fmt: skip


@pytest.mark.parametrize("path", HIDDEN)
def test_a_hidden_file_of_the_site_is_stored_and_shown_to_no_visitor(
    test_pod: PodUnderTest, site: httpx.Client, alice: Account, path: str
) -> None:
    for place in itertools.accumulate(path.split("/")[:-1], "{}/{}".format):
        site.request("MKCOL", f"{place}/")
    assert site.put(path, content=(secret := token())).status_code == 201
    assert site.get(path).text == secret, "its owner reads it by WebDAV"
    for visitor in (None, alice):
        answer = published(test_pod, site, path, visitor)
        assert (answer.status_code, secret in answer.text) == (404, False)


def test_hidden_files_at_the_top_of_the_site_are_not_shown_and_well_known_ones_are(
    test_pod: PodUnderTest, alice: Account
) -> None:
    name, mark = token(), token()
    with test_pod.server.http(alice) as client, test_pod.server.http() as visitor:
        client.request("MKCOL", "/webdav/site/.well-known/")
        for path, status in ((f".{name}", 404), (f".well-known/{name}", 200), (f"{name}.txt", 200)):
            assert client.put(f"/webdav/site/{path}", content=mark).status_code == 201
            answer = visitor.get(f"/{path}")
            assert (answer.status_code, answer.text == mark) == (status, status == 200), path
            assert ask_as_written(test_pod.server, f"//{path}").status == status
            assert client.delete(f"/webdav/site/{path}").status_code == 204


ENVIRONMENT = {
    "GIT_TRACE": "/data/web/dav/{}",
    "GIT_TRACE_SETUP": "/data/web/dav/{}",
    "LD_DEBUG_OUTPUT": "/data/web/dav/{}",
}


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_no_page_sets_the_environment_of_a_program(test_pod: PodUnderTest, site: httpx.Client, variable: str) -> None:
    repository, mark = token(), token()
    test_pod.invoke("repos.add", repository, "--public")
    page = [
        f'<!--#set var="{variable}" value="{ENVIRONMENT[variable].format(mark)}" -->',
        '<!--#set var="LD_DEBUG" value="files" -->',
        f'<!--#include virtual="/git/{repository}.git/info/refs?service=git-upload-pack" -->',
    ]
    site.put("page.shtml", content="".join(page))
    assert published(test_pod, site, "page.shtml").text == "".join(page)
    assert not list((test_pod.folder("web") / "dav").glob(f"{mark}*"))


def test_no_page_reads_what_its_visitor_may_not(test_pod: PodUnderTest, site: httpx.Client, bob: Account) -> None:
    secret, private = token(), token()
    test_pod.invoke("repos.add", private, "--description", secret)
    with folder(test_pod.server, bob, f"/webdav/home/{bob.local_part}/") as client:
        client.put("file", content=secret)
        hers = f'<!--#include virtual="{client.base_url.path}file" -->'
        pages = {
            "listing.shtml": f'<!--#set var="listing" value="1" -->{hers}',
            "user.shtml": '<!--#set var="REMOTE_USER" value="x" -->'
            f'<!--#include virtual="/git/?p={private}.git;a=summary" -->',
            "plain.shtml": hers,
        }
        for name, page in pages.items():
            site.put(name, content=page)
            for visitor in (None, bob):
                assert published(test_pod, site, name, visitor).text == page


def test_no_page_learns_its_visitors_password(test_pod: PodUnderTest, site: httpx.Client, bob: Account) -> None:
    page = "<!--#if expr='v(\"HTTP_AUTHORIZATION\") =~ /^Basic/' -->sent<!--#endif --><!--#printenv -->"
    site.put("page.shtml", content=page)
    assert published(test_pod, site, "page.shtml", bob).text == page


def test_a_folders_own_rules_are_not_obeyed(test_pod: PodUnderTest, site: httpx.Client) -> None:
    rules = "Options +Indexes +ExecCGI +Includes\nAddHandler cgi-script .txt\nErrorDocument 404 /podserve/list.css\n"
    site.put(".htaccess", content=rules)
    site.put("page.txt", content=PROGRAM)
    assert site.request("PROPPATCH", "page.txt", content=EXECUTABLE).status_code == 207
    assert published(test_pod, site, "page.txt").content == PROGRAM
    assert published(test_pod, site, "").status_code == 403, "the folder is not listed"
    assert "font" not in published(test_pod, site, token()).text
    assert published(test_pod, site, ".htaccess").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/not-there", "/podserve/list.css", "/ca.crt", "/webdav", "/git", "/webdavx", "/gitx"]
)
def test_nothing_but_files_and_repositories_looks_at_a_login_or_asks_for_one(
    test_pod: PodUnderTest, bob: Account, path: str
) -> None:
    with test_pod.server.http() as stranger, test_pod.server.http(Account(bob.address, "guess")) as guesser:
        expected = stranger.get(path)
        assert expected.status_code in {200, 301, 404}
        assert "WWW-Authenticate" not in expected.headers
        for _ in range(25):  # more than the 20 wrong logins after which an address is blocked
            answer = guesser.get(path)
            assert (answer.status_code, answer.content) == (expected.status_code, expected.content)


def test_the_landing_page_is_no_file_of_the_site(test_pod: PodUnderTest, alice: Account) -> None:
    with test_pod.server.http() as stranger, test_pod.server.http(alice) as client:
        landing = stranger.get("/").text
        assert f"<h1>{test_pod.server.domain}</h1>" in landing
        assert client.request("PROPFIND", "/webdav/site/index.shtml", headers={"Depth": "0"}).status_code == 404
        assert client.put("/webdav/site/index.html", content="<p>Mine").status_code == 201
        try:
            assert stranger.get("/").text == "<p>Mine"
        finally:
            client.delete("/webdav/site/index.html")
        assert stranger.get("/").text == landing


def _restart(test_pod: PodUnderTest) -> str:
    """Restart the apache container, wait until Apache answers, and return the pod's logs since the restart."""
    begin = time.time()
    podman("restart", "--time", "3", test_pod.container("apache"))
    wait_until(test_pod.server.answers, 10, "Apache to answer")
    return test_pod.logs(since=begin)


def test_the_default_page_of_earlier_versions_goes_and_a_changed_one_is_named(test_pod: PodUnderTest) -> None:
    page = test_pod.folder("web") / "site" / "index.shtml"
    for content, named in ((DEFAULT_PAGE, False), (f"{DEFAULT_PAGE}<p>Mine", True)):
        page.write_text(content)
        os.chown(page, WWW_DATA, WWW_DATA)
        try:
            assert ("site/index.shtml is no longer shown" in _restart(test_pod)) is named
            assert page.exists() is named
            told = test_pod.invoke("up")
            assert ("site/index.shtml is no longer shown" in told.stdout + told.stderr) is named
            with test_pod.server.http() as stranger:
                assert "Mine" not in stranger.get("/").text
        finally:
            page.unlink(missing_ok=True)


def crawled(rules: str, path: str) -> bool:
    """Return whether rules for all crawlers allow a path: the longest match decides (RFC 9309)."""
    matches = [(0, True)]
    for line in rules.splitlines():
        verb, _, pattern = line.partition(": ")
        wanted = re.escape(pattern).replace(r"\*", ".*").replace(r"\$", "$")
        if verb in {"Allow", "Disallow"} and re.match(wanted, path):
            matches.append((len(pattern), verb == "Allow"))
    return max(matches)[1]


def test_crawlers_are_kept_off_files_and_costly_pages_unless_the_site_says_otherwise(
    test_pod: PodUnderTest, alice: Account
) -> None:
    with test_pod.server.http() as stranger, test_pod.server.http(alice) as login:
        hosts = {"Host": test_pod.server.domain}, {"Host": test_pod.settings.files_host}
        for answer in (stranger.get("/robots.txt", headers=host) for host in hosts):
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain")
            allowed = ("/", "/page.html", "/git/", "/git/a.git")
            costly = ("/webdav/", "/webdav/site/x", "/git/?p=a.git;a=blame", "/git/a.git/blame/main:/x",
                      "/git/a.git/log", "/git/a.git/snapshot/HEAD.tar.gz", "/git/a.git/search?s=x",
                      "/git/a.git?a=blame")  # fmt: skip
            assert {path: crawled(answer.text, path) for path in (*allowed, *costly)} == {
                **dict.fromkeys(allowed, True),
                **dict.fromkeys(costly, False),
            }
            # Some crawlers know no patterns, and the first rule that matches decides for them.
            simple = urllib.robotparser.RobotFileParser()
            simple.parse(answer.text.splitlines())
            assert simple.can_fetch("crawler", "/page.html")
            assert not any(simple.can_fetch("crawler", path) for path in costly)
        own = "User-agent: *\nDisallow:\n"
        try:
            assert login.put("/webdav/site/robots.txt", content=own).status_code == 201
            assert stranger.get("/robots.txt").text == own
            assert stranger.get("/robots.txt", headers=hosts[1]).text != own
        finally:
            login.delete("/webdav/site/robots.txt")
