"""HTTP and HTTPS: redirection, TLS, the paths that are served, and the rules for browsers."""

import contextlib
import http.client
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from podserve.certificates import client_context
from podserve.commands import run
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import PATIENCE, Account, Server, token

CHALLENGES = Path("acme/.well-known/acme-challenge")
"""The folder on the web volume in which an ACME client answers challenges (RFC 8555, section 8.3)."""
GOOD_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
WEAK_CIPHERS = (
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-NULL-SHA",
)
"""Ciphers without forward secrecy, with CBC, or without encryption. Most use ECDSA, as does the pod's certificate."""


@contextmanager
def tls(server: Server, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """Yield a connection to port 443 after the handshake."""
    with socket.create_connection((server.host, 443), PATIENCE) as plain, context.wrap_socket(plain) as wrapped:
        yield wrapped


def ask_as_written(server: Server, path: str, account: Account | None = None) -> http.client.HTTPResponse:
    """Return the response to a path that is sent unchanged. httpx and browsers would resolve its dots first."""
    connection = http.client.HTTPSConnection(server.literal, timeout=PATIENCE, context=server.context())
    headers = {"Host": server.domain, "Connection": "close"}
    if account:
        headers["Authorization"] = "Basic " + b64encode(f"{account.address}:{account.password}".encode()).decode()
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


@pytest.mark.parametrize("rest", ["/", "/{}", "/{}/a%20b/?q=1&r=%2F", "/webdav/{}", "/git/?p={}"])
def test_plain_http_leads_to_the_same_page_by_https(server: Server, rest: str) -> None:
    path = rest.format(token())
    with server.http(port=80) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}{path}")


@pytest.mark.parametrize("made_up", ["evil.example", "evil.example:8080", "192.0.2.1"])
def test_a_made_up_host_is_led_to_the_servers_own_domain(server: Server, made_up: str) -> None:
    with server.http(port=80) as client:
        answer = client.get("/page", headers={"Host": made_up})
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{server.domain}/page")


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/@evil.example/"])
def test_a_made_up_path_leads_to_no_other_host(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection(server.literal, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": server.domain, "Connection": "close"})
    answer = connection.getresponse()
    assert answer.status == 301
    assert (answer.getheader("Location") or "").startswith(f"https://{server.domain}/")


def test_a_certificate_challenge_is_answered_on_plain_http(test_pod: PodUnderTest, server: Server) -> None:
    name, content = token(), token()
    challenges = test_pod.folder("web") / CHALLENGES
    challenges.mkdir(parents=True, exist_ok=True)
    (challenges / name).write_text(content)
    with server.http(port=80) as client:
        answer = client.get(f"/.well-known/acme-challenge/{name}")
    assert (answer.status_code, answer.text) == (200, content)


def test_a_challenge_that_is_not_there_is_not_found(server: Server) -> None:
    with server.http(port=80) as client:
        assert client.get(f"/.well-known/acme-challenge/{token()}").status_code == 404
        assert client.get("/.well-known/acme-challenge/").status_code in {403, 404}  # 403 if the folder exists


@pytest.mark.parametrize("path", ["/", "/webdav/", "/.well-known/acme-challenge/x"])
def test_the_health_check_answers_nobody_from_outside(server: Server, path: str) -> None:
    with server.http(port=80) as client:
        assert client.get(path, headers={"Host": "localhost"}).status_code == 403


def test_the_health_check_passes_in_the_container_in_a_tenth_of_a_second(test_pod: PodUnderTest) -> None:
    # Bash measures the time inside, because `podman exec` takes as long again. The fastest of ten tries counts: other
    # load delays some of them, and a delay in the check itself would be in all.
    timed = test_pod.exec("apache", "bash", "-ec", "TIMEFORMAT=%R; for try in {1..10}; do time healthcheck http; done")
    assert min(float(word) for word in timed.stderr.split() if word[:1].isdigit()) < 0.1, timed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_spoken(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    context.minimum_version = context.maximum_version = version
    with tls(server, context) as connection:
        assert connection.version() == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused(server: Server, version: ssl.TLSVersion) -> None:
    context = server.context()
    # At a higher security level, the client's own OpenSSL would refuse.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = version
        context.maximum_version = version
    with pytest.raises(ssl.SSLError) as refusal, tls(server, context):
        pass
    assert refusal.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def _with_ciphers(server: Server, ciphers: str) -> ssl.SSLContext:
    context = server.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    return context


def test_a_cipher_with_forward_secrecy_and_authenticated_encryption_is_accepted(server: Server) -> None:
    with tls(server, _with_ciphers(server, GOOD_CIPHERS)) as connection:
        cipher = connection.cipher()
    assert cipher
    assert cipher[0] in GOOD_CIPHERS.split(":")


@pytest.mark.parametrize("cipher", WEAK_CIPHERS)
def test_a_weak_cipher_is_refused(server: Server, cipher: str) -> None:
    with pytest.raises(ssl.SSLError) as refusal, tls(server, _with_ciphers(server, cipher)):
        pass
    assert refusal.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_the_certificate_bears_the_domain_and_the_mail_host_and_nothing_else(
    test_pod: PodUnderTest, server: Server
) -> None:
    with tls(server, server.context()) as connection:
        certificate = connection.getpeercert()
    assert certificate
    settings = test_pod.settings
    assert certificate["subjectAltName"] == (("DNS", settings.domain), ("DNS", settings.mail_host))


def test_the_certificate_is_verified_by_the_pods_authority_for_each_name(
    test_pod: PodUnderTest, server: Server
) -> None:
    for name in (test_pod.settings.domain, test_pod.settings.mail_host):
        with tls(server, client_context(name, server.authority)) as connection:
            assert connection.server_hostname == name


def test_the_certificate_is_not_verified_by_the_hosts_authorities(test_pod: PodUnderTest) -> None:
    with (
        pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"),
        tls(test_pod.server, client_context(test_pod.server.domain, None)),
    ):
        pass


def test_the_certificate_is_not_verified_for_another_name(server: Server) -> None:
    context = client_context("other.example", server.authority)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"), tls(server, context):
        pass


@pytest.mark.parametrize(("http2", "spoken"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
def test_a_client_gets_the_http_that_it_offers(server: Server, http2: bool, spoken: str) -> None:  # noqa: FBT001
    with server.http(http2=http2) as client:
        assert client.get("/").http_version == spoken


def test_plain_http_is_not_upgraded_to_http2(server: Server) -> None:
    address = f"http://{server.literal}/.well-known/acme-challenge/{token()}"
    asked = run(["curl", "--silent", "--http2", "--max-time", "10", "--output", "/dev/null", "--write-out",
                 "%{http_version}", address])  # fmt: skip
    assert asked.stdout == "1.1"


@pytest.mark.parametrize("path", ["/", "/not-there", "/webdav/", "/git/"])
def test_every_answer_tells_browsers_to_take_care(server: Server, path: str) -> None:
    with server.http() as client:
        headers = client.get(path).headers
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/not-there"])
@pytest.mark.parametrize("port", [80, 443])
def test_no_answer_tells_a_version(server: Server, port: int, path: str) -> None:
    with server.http(port=port) as client:
        answer = client.get(path)
    assert answer.headers["Server"] == "Apache"
    assert "Apache/" not in answer.text


def test_trace_is_refused(server: Server, alice: Account) -> None:
    for path, status in (("/", 405), ("/webdav/", 403)):
        with server.http(alice) as client:
            answer = client.request("TRACE", path, headers={"X-Secret": (secret := token())})
        assert answer.status_code == status
        assert secret not in answer.text


def test_the_site_is_read_and_not_written(server: Server) -> None:
    path = f"/{token()}"
    with server.http() as client:
        assert client.put(path, content=b"x").status_code == 405
        assert client.get(path).status_code == 404


def test_the_first_page_is_served(server: Server) -> None:
    with server.http() as client:
        assert client.get("/").status_code < 500


def test_the_landing_page_names_the_domain(test_pod: PodUnderTest) -> None:
    with test_pod.server.http() as client:
        page, style = client.get("/"), client.get("/podserve/landing.css")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert f"<h1>{test_pod.server.domain}</h1>" in page.text
    assert test_pod.settings.mail_host in page.text
    assert "<!--#" not in page.text, "an include was served as it stands"
    assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css")


def test_what_is_put_on_the_volume_is_served_and_what_is_not_there_is_not_found(test_pod: PodUnderTest) -> None:
    name, content = f"{token()}.html", token()
    (test_pod.folder("web") / "site" / name).write_text(content)
    with test_pod.server.http() as client:
        found, missing = client.get(f"/{name}"), client.get(f"/{token()}.html")
    assert (found.status_code, found.text) == (200, content)
    assert missing.status_code == 404


def test_a_folder_is_not_listed(test_pod: PodUnderTest) -> None:
    folder, name = token(), token()
    (test_pod.folder("web") / "site" / folder).mkdir()
    (test_pod.folder("web") / "site" / folder / name).write_text("there")
    with test_pod.server.http() as client:
        listing, file = client.get(f"/{folder}/"), client.get(f"/{folder}/{name}")
    assert file.text == "there"
    assert listing.status_code == 403
    assert name not in listing.text


@pytest.mark.parametrize("way", ["/{}", "//{}", "/../{}", "/%2e%2e/{}", "/..%2f{}", "/.%2e/{}", "/%252e%252e/{}",
                                 "/podserve/../../{}", "/webdav/../{}", "/webdav/%2e%2e/{}",
                                 "/git/static/../../{}"])  # fmt: skip
@pytest.mark.parametrize("folder", ["git", ".lock", "acme", "dav", "home", "site"])
def test_no_path_leads_to_the_other_folders_of_the_volume(
    test_pod: PodUnderTest, alice: Account, folder: str, way: str
) -> None:
    name, secret = token(), token()
    (test_pod.folder("web") / folder / name).write_text(secret)
    path = way.format(f"{folder}/{name}")
    refused = ask_as_written(test_pod.server, path)
    if refused.status == 301:  # an address of a repository without .git, whether there is one or not
        path = f"/git/{name}.git"
        assert refused.headers["Location"].endswith(path)
        refused = ask_as_written(test_pod.server, path)
    assert 400 <= refused.status < 500
    # GitWeb answers an unknown path with its list of repositories.
    answer = ask_as_written(test_pod.server, path, alice)
    assert answer.status in ({200, 400, 404} if "git" in path else {400, 404})
    assert secret not in answer.read().decode()


def test_a_link_that_leads_out_of_the_site_is_not_followed(test_pod: PodUnderTest) -> None:
    name, secret = token(), token()
    target, link = test_pod.folder("web") / "acme" / name, test_pod.folder("web") / "site" / name
    target.write_text(secret)
    link.symlink_to(f"/data/web/acme/{name}")
    for file in (target, link):
        os.chown(file, 33, 33, follow_symlinks=False)
    with test_pod.server.http() as client:
        answer = client.get(f"/{name}")
    assert answer.status_code == 403
    assert secret not in answer.text


@pytest.mark.parametrize(("port", "status"), [(80, 301), (443, 404)])
def test_each_request_is_logged(test_pod: PodUnderTest, since: float, port: int, status: int) -> None:
    path = f"/{token()}"
    with test_pod.server.http(port=port) as client:
        client.get(path, headers={"User-Agent": "a-test"})
    line = test_pod.wait_for_log("apache", path, since)
    assert f'"GET {path} HTTP/1.1" {status} ' in line
    assert line.endswith('"a-test"')


def test_what_a_client_says_of_itself_is_logged_in_a_few_hundred_bytes(test_pod: PodUnderTest, since: float) -> None:
    path, long = f"/{token()}", b"\xff" * 8000
    with test_pod.server.http() as client:
        client.get(path, headers={b"User-Agent": long, b"Referer": long})
    assert len(test_pod.wait_for_log("apache", path, since)) < 2000


BEHIND_A_LOGIN = ("/webdav/", "/webdav//", "/%77ebdav/", "/webdav/home/{}/", "/git/", "/git//", "/git", "/webdav")
"""Paths of files and repositories. {} is the name of an account, for its own folder."""


def _led_on(path: str) -> bool:
    return path in {"/git", "/webdav"}


@pytest.mark.parametrize(("site", "destination", "refused"), [
    *(("same-origin", kind, True) for kind in ("empty", "iframe", "script", "image", "style", "video", "worker")),
    *(("same-site", kind, True) for kind in ("empty", "iframe", "script", "image", "style", "video", "object")),
    *(("cross-site", kind, True) for kind in ("empty", "iframe", "script", "image", "style", "video", "embed")),
    *((kind, "document", False) for kind in ("none", "same-origin", "same-site", "cross-site")),
])  # fmt: skip
def test_a_browser_is_refused_what_a_page_wants_to_read(
    test_pod: PodUnderTest, alice: Account, site: str, destination: str, *, refused: bool
) -> None:
    files = test_pod.settings.files_host
    headers = {"Host": files, "Sec-Fetch-Site": site, "Sec-Fetch-Dest": destination}
    with test_pod.server.http(alice) as client:
        for path in BEHIND_A_LOGIN:
            answer = client.get(path.format(alice.local_part), headers=headers)
            # The redirection to the address with the slash has no private content.
            assert answer.status_code == (301 if _led_on(path) else 403 if refused else 200), path
        for path in ("/podserve/list.css", "/git/static/gitweb.js", "/ca.crt"):
            assert client.get(path, headers=headers).status_code == 200, path


def test_a_strangers_page_may_show_what_is_public(test_pod: PodUnderTest) -> None:
    name = token()
    test_pod.invoke("repos.add", name, "--public")
    headers = {
        "Host": test_pod.settings.files_host,
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Dest": "image",
    }
    with test_pod.server.http() as client:
        assert client.get(f"/git/{name}.git", headers=headers).status_code == 200
        assert client.get(f"/git/{token()}.git", headers=headers).status_code == 401


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose", "X-Moz"])
@pytest.mark.parametrize("value", ["prefetch", "prefetch;prerender"])
def test_nothing_behind_a_login_is_fetched_ahead_of_a_click(
    test_pod: PodUnderTest, alice: Account, header: str, value: str
) -> None:
    with test_pod.server.http(alice) as client:
        for host in (test_pod.server.domain, test_pod.settings.files_host):
            for path in BEHIND_A_LOGIN:
                answer = client.get(path.format(alice.local_part), headers={"Host": host, header: value})
                assert answer.status_code == (301 if _led_on(path) else 403), path


@pytest.mark.parametrize("site", ["same-origin", "same-site", "cross-site", "none"])
def test_a_browser_sees_files_and_repositories_at_a_name_apart_from_the_sites(
    test_pod: PodUnderTest, site: str
) -> None:
    files = test_pod.settings.files_host
    assert files != test_pod.server.domain
    with test_pod.server.http() as client:
        for path in ("/webdav/", "/webdav/home/a%3Fb/", "/git/", "/git/?p=a.git;a=blob;f=x%3Fy", "/git", "/webdav"):
            answer = client.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "document"})
            assert (answer.status_code, answer.headers["Location"]) == (307, f"https://{files}{path}")
            assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/index.html", "/a%20b/?q=1"])
def test_the_site_is_not_served_where_browsers_log_in(test_pod: PodUnderTest, path: str) -> None:
    with test_pod.server.http() as client:
        answer = client.get(path, headers={"Host": test_pod.settings.files_host})
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{test_pod.server.domain}{path}")


@pytest.mark.parametrize("host", ["www.{}", "evil.example", "{}.evil.example", "x{}", "mail.mail.{}", "127.0.0.1"])
def test_files_and_repositories_are_served_at_no_other_name(test_pod: PodUnderTest, alice: Account, host: str) -> None:
    headers = {"Host": host.format(test_pod.server.domain)}
    with test_pod.server.http(alice) as client:
        for path in BEHIND_A_LOGIN:
            answer = client.get(path.format(alice.local_part), headers=headers)
            assert answer.status_code == (301 if _led_on(path) else 421), path
            assert not _led_on(path) or answer.headers["Location"] == f"https://{test_pod.server.domain}{path}/"
        assert client.get("/", headers=headers).status_code == 200


def test_an_answer_to_a_login_is_kept_in_no_cache(test_pod: PodUnderTest, alice: Account) -> None:
    name = token()
    test_pod.invoke("repos.add", name)
    with test_pod.server.http(alice) as client:
        home = f"/webdav/home/{alice.local_part}/"
        assert client.put(f"{home}{name}.txt", content=b"hers").status_code == 201
        for path in ("/webdav/", home, f"{home}{name}.txt", f"{home}not-there", "/git/", f"/git/{name}.git",
                     f"/git/{name}.git/info/refs?service=git-upload-pack"):  # fmt: skip
            for host in (test_pod.server.domain, test_pod.settings.files_host):
                headers = client.get(path, headers={"Host": host}).headers
                assert "no-store" in headers["Cache-Control"], path
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        client.delete(f"{home}{name}.txt")


def test_no_browser_asks_with_a_login_by_a_websocket(test_pod: PodUnderTest, alice: Account) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    with test_pod.server.http(alice) as client, test_pod.server.http() as stranger:
        for host in (test_pod.server.domain, test_pod.settings.files_host):
            for path in ("/", "/webdav/", "/git/"):
                for visitor in (client, stranger):
                    assert visitor.get(path, headers={**headers, "Host": host}).status_code == 403


def test_no_page_leaves_a_script_that_answers_for_the_server(server: Server) -> None:
    with server.http() as client:
        for path in ("/", "/podserve/list.css"):
            assert client.get(path, headers={"Service-Worker": "script"}).status_code == 403
            assert client.get(path).status_code == 200


def _raw(server: Server, request: str, port: int = 443) -> bytes:
    """Send a request as it is written, with the server's own Host unless it has one, and return the response."""
    if "Host:" not in request:
        request += f"\r\nHost: {server.domain}"
    with contextlib.ExitStack() as stack:
        connection: socket.socket
        if port == 443:
            connection = stack.enter_context(tls(server, server.context()))
        else:
            connection = stack.enter_context(socket.create_connection((server.host, port), PATIENCE))
        connection.sendall(f"{request}\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("host", ["127.0.0.1:143", "localhost", "198.51.100.1", "evil.example"])
def test_a_request_for_another_host_is_passed_on_to_nobody(test_pod: PodUnderTest, port: int, host: str) -> None:
    path = f"/{token()}"
    for scheme in ("http", "https", "ftp"):
        answer = _raw(test_pod.server, f"GET {scheme}://{host}{path} HTTP/1.1", port).decode()
        status = answer.split()[1]
        # The host localhost on port 80 is the health check's, which is refused to clients outside.
        assert status in ({"301", "403", "400"} if port == 80 else {"404", "400"}), answer
        assert "Dovecot" not in answer
        assert host not in answer.partition("\r\n\r\n")[0], "no redirection leads there, either"
    for target in (host, f"{host}:25"):
        answer = _raw(test_pod.server, f"CONNECT {target} HTTP/1.1", port).decode()
        assert answer.split()[1] in {"400", "405"}, answer


@pytest.mark.parametrize("first", ["GET / HTTP/1.1\r\nHost: a\r\nHost: b", "GET / HTTP/1.1\r\nHost: a b",
                                   "GET / HTTP/1.1\r\nHost: a/b"])  # fmt: skip
def test_a_request_for_two_hosts_or_for_none_is_refused(server: Server, first: str) -> None:
    assert _raw(server, first).split()[1] == b"400"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://{}"])
def test_no_page_of_another_origin_may_read_an_answer(test_pod: PodUnderTest, alice: Account, origin: str) -> None:
    settings = test_pod.settings
    wish = {"Origin": origin.format(settings.domain), "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    paths = ("/", "/ca.crt", "/webdav/", f"/webdav/home/{alice.local_part}/", "/git/", "/git/static/gitweb.js",
             "/podserve/list.css", "/not-there")  # fmt: skip
    for account in (None, alice):
        with test_pod.server.http(account) as client:
            for host in (settings.domain, settings.files_host):
                for method in ("GET", "HEAD", "OPTIONS"):
                    for path in paths:
                        headers = client.request(method, path, headers={**wish, "Host": host}).headers
                        assert not [name for name in headers if name.lower().startswith("access-control-")], path


@pytest.mark.parametrize("path", [
    "/server-status", "/server-status?auto", "/server-info", "/balancer-manager", "/qos", "/qos-viewer", "/status",
    "/ldap-status", "/md-status", "/.httpd/certificate-status", "/cgi-bin/", "/icons/", "/icons/apache_pb.png",
    "/icons/README", "/manual/", "/gitweb.cgi", "/cgi-bin/gitweb.cgi", "/~www-data/", "/~root/", "/perl-status",
    "/dav-status",
])  # fmt: skip
def test_no_page_tells_of_the_server_itself(test_pod: PodUnderTest, alice: Account, path: str) -> None:
    for account in (None, alice):
        with test_pod.server.http(account) as client:
            assert client.get(path).status_code == 404
        with test_pod.server.http(account, port=80) as client:
            assert client.get(path).status_code == 301


def test_no_page_tells_of_the_server_itself_to_its_own_host(test_pod: PodUnderTest) -> None:
    for path in ("/server-status", "/server-info", "/qos"):
        for host in ("localhost", test_pod.server.domain):
            asked = test_pod.exec("apache", "curl", "--silent", "--insecure", "--include", "--header", f"Host: {host}",
                                  f"http://127.0.0.1{path}", f"https://127.0.0.1{path}")  # fmt: skip
            statuses = [line.split()[1] for line in asked.stdout.splitlines() if line.startswith("HTTP/")]
            assert statuses == ["204" if host == "localhost" else "301", "404"], asked
