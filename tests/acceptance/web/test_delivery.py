"""How the site's files are served: compressed, revalidated, by their types; and the page for a wrong address."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from pathlib import Path

import httpx
import pytest

from podserve.commands import run
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server, token
from tests.testbed.webdav import folder

TEXT = b"".join(b"line %d of a text whose lines are nearly the same\n" % number for number in range(500))
LARGEST = 8 * 2**20
"""Bytes of the largest file that is compressed (site.conf)."""
REVALIDATED, FOR_EVER = "no-cache", "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Answer:
    """A response: its status, its headers, its decoded content, and the bytes of the content as they were sent."""

    status: int
    headers: Message
    content: bytes
    sent: int


@dataclass(frozen=True)
class Visitor:
    """A visitor of the site, curl: its paths begin in `path`. Answers are written to `folder`."""

    server: Server
    path: str
    folder: Path

    def get(self, name: str, accepts: str = "", **headers: str) -> Answer:
        """Request a file with this Accept-Encoding, and with other headers: _ in a name stands for a hyphen."""
        said, content = self.folder / "said", self.folder / "content"
        content.write_bytes(b"")
        options = [
            *("--silent", "--show-error", "--compressed", "--cacert", str(self.server.authority), "--path-as-is"),
            *("--resolve", f"{self.server.domain}:443:{self.server.host}", "--dump-header", str(said)),
            *("--output", str(content), "--write-out", "%{size_download}", "--header", f"Accept-Encoding: {accepts}"),
        ]
        for key, value in headers.items():
            options += ["--header", f"{key.replace('_', '-')}: {value}"]
        done = run(["curl", *options, f"https://{self.server.domain}{self.path}{name}"])
        first, _, rest = said.read_text().partition("\n")
        return Answer(int(first.split()[1]), message_from_string(rest), content.read_bytes(), int(done.stdout))


@pytest.fixture
def site(test_pod: PodUnderTest, alice: Account) -> Iterator[httpx.Client]:
    """A client of alice in a new folder of the site."""
    with folder(test_pod.server, alice, "/webdav/site/") as client:
        yield client


@pytest.fixture
def visitor(server: Server, site: httpx.Client, tmp_path: Path) -> Visitor:
    """A visitor of that folder."""
    return Visitor(server, site.base_url.path.removeprefix("/webdav/site"), tmp_path)


@pytest.mark.parametrize("accepts", ["br", "gzip", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.8"])
@pytest.mark.parametrize("name", ["page.html", "a.css", "a.js", "a.mjs", "a.txt", "a.md", "a.svg", "a.json", "a.wasm"])
def test_text_is_compressed_for_those_who_accept_it(
    site: httpx.Client, visitor: Visitor, name: str, accepts: str
) -> None:
    site.put(name, content=TEXT)
    answer = visitor.get(name, accepts)
    assert (answer.status, answer.content) == (200, TEXT)
    assert answer.headers["Content-Encoding"] == ("br" if "br" in accepts else "gzip")
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert answer.sent < len(TEXT) / 5


@pytest.mark.parametrize("accepts", ["", "identity", "zstd", "gzip;q=0", "br;q=0, gzip;q=0.0"])
def test_text_is_as_it_is_for_others(site: httpx.Client, visitor: Visitor, accepts: str) -> None:
    site.put("page.html", content=TEXT)
    answer = visitor.get("page.html", accepts)
    assert (answer.content, answer.sent, answer.headers["Content-Encoding"]) == (TEXT, len(TEXT), None)
    assert "Accept-Encoding" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.webp", "a.avif", "a.mp4", "a.woff2", "a.zip", "a.tar.gz", "a.pdf"]
)
def test_what_is_compressed_by_its_format_is_served_as_it_is(site: httpx.Client, visitor: Visitor, name: str) -> None:
    site.put(name, content=TEXT)
    answer = visitor.get(name, "br, gzip")
    assert (answer.content, answer.sent, answer.headers["Content-Encoding"]) == (TEXT, len(TEXT), None)


def test_a_file_that_would_take_long_to_compress_is_served_as_it_is(site: httpx.Client, visitor: Visitor) -> None:
    for size, encoding in ((LARGEST - 1, "br"), (LARGEST, None)):
        site.put("large.txt", content=b"x" * size)
        answer = visitor.get("large.txt", "br")
        assert (len(answer.content), answer.headers["Content-Encoding"]) == (size, encoding)


@pytest.mark.parametrize(("accepts", "encoding"), [("br", "br"), ("gzip", "gzip"), ("br, gzip", "br"), ("", None)])
def test_a_compressed_file_beside_a_file_is_served_instead(
    site: httpx.Client, visitor: Visitor, accepts: str, encoding: str | None
) -> None:
    kept = {
        "a.css": b"/* the file */",
        "a.css.br": run_brotli(b"/* by brotli */"),
        "a.css.gz": gzip.compress(b"/* by gzip */"),
    }
    for name, content in kept.items():
        site.put(name, content=content)
    answer = visitor.get("a.css", accepts)
    content = {None: b"/* the file */", "br": b"/* by brotli */", "gzip": b"/* by gzip */"}[encoding]
    assert (answer.content, answer.headers["Content-Encoding"]) == (content, encoding)
    assert answer.headers["Content-Type"] == "text/css"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert answer.headers["Cache-Control"] == REVALIDATED
    again = visitor.get("a.css", accepts, If_None_Match=answer.headers["ETag"])
    assert again.status == 304


def run_brotli(content: bytes) -> bytes:
    """Return the content in brotli's format (RFC 7932, section 9.2): an uncompressed meta-block, and an empty one."""
    return (len(content) - 1 << 4 | 1 << 20).to_bytes(3, "little") + content + b"\x03"


def test_the_first_page_of_a_folder_may_be_compressed_beside_it(site: httpx.Client, visitor: Visitor) -> None:
    site.put("index.html", content=b"plain")
    site.put("index.html.gz", content=gzip.compress(b"packed"))
    assert [visitor.get("", accepts).content for accepts in ("", "gzip")] == [b"plain", b"packed"]
    assert visitor.get("", "gzip").headers["Content-Type"] == "text/html"


@pytest.mark.parametrize("accepts", ["", "gzip", "br"])
def test_a_copy_is_asked_for_by_its_tag_or_time_and_a_changed_file_is_sent(
    site: httpx.Client, visitor: Visitor, accepts: str
) -> None:
    site.put("page.html", content=TEXT)
    first = visitor.get("page.html", accepts)
    assert first.headers["Cache-Control"] == REVALIDATED
    assert visitor.get("page.html", accepts, If_None_Match=first.headers["ETag"]).status == 304
    assert visitor.get("page.html", accepts, If_Modified_Since=first.headers["Last-Modified"]).status == 304
    assert visitor.get("page.html", accepts, If_None_Match=f'"x", {first.headers["ETag"]}').status == 304
    assert visitor.get("page.html", accepts, If_None_Match='"other"').status == 200
    site.put("page.html", content=TEXT[::-1])
    changed = visitor.get("page.html", accepts, If_None_Match=first.headers["ETag"])
    assert (changed.status, changed.content) == (200, TEXT[::-1])


def test_each_encoding_has_a_tag_of_its_own(site: httpx.Client, visitor: Visitor) -> None:
    site.put("page.html", content=TEXT)
    assert len({visitor.get("page.html", accepts).headers["ETag"] for accepts in ("", "gzip", "br")}) == 3


@pytest.mark.parametrize("accepts", ["", "gzip", "br, gzip"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_part_of_a_file_is_a_part_of_the_file_itself(
    site: httpx.Client, visitor: Visitor, accepts: str, *, beside: bool
) -> None:
    site.put("page.html", content=TEXT)
    if beside:
        site.put("page.html.gz", content=gzip.compress(TEXT))
    part = visitor.get("page.html", accepts, Range="bytes=1000-1999")
    assert (part.status, part.content, part.headers["Content-Encoding"]) == (206, TEXT[1000:2000], None)
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(TEXT)}"


@pytest.mark.parametrize(
    ("name", "lifetime"),
    [
        *((name, REVALIDATED) for name in ("a.html", "a.jpg", "style.css", "app-settings.js", "jquery-3.7.1.min.js")),
        *((name, REVALIDATED) for name in ("photo-20261127.jpg", "trip-Summer26.jpg", "a-12345678.js", "deadbeef.js")),
        *(
            (name, FOR_EVER)
            for name in ("app.3f9a1c2b.js", "main.3f9a1c2b.chunk.css", "index-BkX3f_9a.js", "a.0123456789abcdef.png")
        ),
    ],
)
def test_only_a_name_with_a_hash_is_kept_unasked(
    site: httpx.Client, visitor: Visitor, name: str, lifetime: str
) -> None:
    site.put(name, content=TEXT)
    for accepts in ("", "br"):
        assert visitor.get(name, accepts).headers["Cache-Control"] == lifetime
    assert visitor.get("missing.3f9a1c2b.js").headers["Cache-Control"] is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.webp", "image/webp"), ("a.avif", "image/avif"), ("a.jxl", "image/jxl"), ("a.svg", "image/svg+xml"),
        ("a.mjs", "text/javascript"), ("a.js", "text/javascript"), ("a.wasm", "application/wasm"),
        ("a.md", "text/markdown"), ("a.woff2", "font/woff2"), ("a.json", "application/json"),
        ("a.webmanifest", "application/manifest+json"), ("a.mp4", "video/mp4"), ("a.webm", "video/webm"),
        ("a.opus", "audio/ogg"), ("a.ico", "image/vnd.microsoft.icon"), ("a.ics", "text/calendar"),
        ("a.epub", "application/epub+zip"), ("a.tar.gz", "application/gzip"), ("a.txt.gz", "text/plain"),
    ],
)  # fmt: skip
def test_a_file_has_the_type_of_its_name(site: httpx.Client, visitor: Visitor, name: str, kind: str) -> None:
    site.put(name, content=b"x")
    answer = visitor.get(name)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Encoding"] == ("gzip" if name == "a.txt.gz" else None)


def test_the_sites_own_page_is_shown_for_a_wrong_address(
    test_pod: PodUnderTest, visitor: Visitor, alice: Account
) -> None:
    address = f"{token()}/{token()}"
    ours = visitor.get(address, "br")
    assert (ours.status, ours.headers["Content-Type"]) == (404, "text/html")
    assert b"There is no page at this address" in ours.content
    with test_pod.server.http(alice) as client:
        try:
            client.put("/webdav/site/404.html", content=(said := token()))
            theirs = visitor.get(address, "br")
            assert (theirs.status, theirs.content) == (404, said.encode())
            assert client.get(f"/webdav/{token()}").status_code == 404
            assert said not in client.get(f"/webdav/{token()}").text
        finally:
            client.delete("/webdav/site/404.html")
    assert b"There is no page at this address" in visitor.get(address).content


def test_a_folder_may_begin_with_index_htm(site: httpx.Client, visitor: Visitor) -> None:
    site.put("index.htm", content=b"the older name")
    assert visitor.get("").content == b"the older name"
    site.put("index.html", content=b"the newer name")
    assert visitor.get("").content == b"the newer name"


def test_nothing_behind_a_login_is_compressed(test_pod: PodUnderTest, alice: Account) -> None:
    with folder(test_pod.server, alice) as client:
        client.put("page.html", content=TEXT)
        client.put("page.html.gz", content=gzip.compress(b"other"))
        for path in ("", "page.html", client.base_url.join("/git/")):
            answer = client.get(path, headers={"Accept-Encoding": "gzip, br"})
            assert answer.is_success
            assert "Content-Encoding" not in answer.headers
        assert client.get("page.html", headers={"Accept-Encoding": "gzip"}).content == TEXT
        listed = client.request("PROPFIND", "", headers={"Accept-Encoding": "gzip, br", "Depth": "1"})
        assert "Content-Encoding" not in listed.headers


def test_no_compressed_file_of_the_site_is_served_in_the_place_of_a_page_behind_a_login(
    test_pod: PodUnderTest, alice: Account
) -> None:
    name = f"{token()}.html"
    with test_pod.server.http(alice) as client, test_pod.server.http() as visitor:
        for parent in ("git", "webdav"):
            client.request("MKCOL", f"/webdav/site/{parent}/")
            client.put(f"/webdav/site/{parent}/{name}.gz", content=gzip.compress(b"foreign"))
            for each in (client, visitor):
                answer = each.get(f"/{parent}/{name}", headers={"Accept-Encoding": "gzip"})
                assert b"foreign" not in answer.content
            client.delete(f"/webdav/site/{parent}/")
