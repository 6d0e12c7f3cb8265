"""COPY and MOVE: an account writes only where it may, however the destination is spelled."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, token
from tests.testbed.webdav import lock

METHODS = ("COPY", "MOVE")
SPELLINGS = (
    "https://{domain}/webdav/home/{bob}/{path}",
    "https://{domain}/webdav/home//{bob}/{path}",
    "https://{domain}//webdav/home/./{bob}/{path}",
    "https://{domain}/webdav/home/{alice}/../{bob}/{path}",
    "https://{domain}/webdav/home/{alice}/%2e%2e/{bob}/{path}",
    "https://{domain}/webdav/home/{coded}/{path}",
    "https://{domain}/%77ebdav/%68ome/{bob}/{path}",
    "https://{domain}/webdav/site/../home/{bob}/{path}",
    "https://{domain}/webdav/home/{bob}/x/../{path}",
    "https://{domain}/webdav/home/{bob_in_capitals}/{path}",
    "https://{domain}/WEBDAV/home/{bob}/{path}",
    "https://{domain_in_capitals}/webdav/home/{bob}/{path}",
    "https://{domain}:443/webdav/home/{bob}/{path}",
    "https://{domain}:80/webdav/home/{bob}/{path}",
    "http://{domain}/webdav/home/{bob}/{path}",
    "https://{mail_host}/webdav/home/{bob}/{path}",
    "https://other.example/webdav/home/{bob}/{path}",
    "/webdav/home/{bob}/{path}",
)
TARGETS = ("file", "new", "docs/", "docs", "docs/new", "", ".DAV/file")
FEW = 3
"""The first spelling is tried with all sources and targets. The others take every third source and three targets."""


@dataclass(frozen=True)
class Household:
    """Two accounts, the paths that alice tries to copy or move, and the path of bob's home on this host."""

    alice: Account
    bob: Account
    sources: tuple[str, ...]
    disk: Path

    def his(self) -> dict[str, bytes]:
        """Return the content of each file in bob's home, by its path; a folder has an empty content."""
        return {
            str(path.relative_to(self.disk)): path.read_bytes() if path.is_file() else b""
            for path in self.disk.rglob("*")
        }


@pytest.fixture(scope="module")
def household(test_pod: PodUnderTest) -> Iterator[Household]:
    """Two accounts, with a file and folders in each place that one of them may write to."""
    alice, bob = test_pod.new_account(), test_pod.new_account()
    shared = f"/webdav/{token()}"
    hers, his = (f"/webdav/home/{account.local_part}" for account in (alice, bob))
    site = f"/webdav/site/{token()}"
    with test_pod.server.http(alice) as client, test_pod.server.http(bob) as other:
        for place, owner in ((hers, client), (his, other), (shared, client), (site, client)):
            if place in (shared, site):
                assert owner.request("MKCOL", f"{place}/").status_code == 201
            assert owner.put(f"{place}/file", content=place).status_code == 201
            assert owner.request("MKCOL", f"{place}/docs/").status_code == 201
            assert owner.put(f"{place}/docs/letter", content=place).status_code == 201
            assert owner.request("MKCOL", f"{place}/empty/").status_code == 201
        sources = [f"{place}/{name}" for place in (hers, shared, site) for name in ("file", "docs/", "empty/")]
        sources += [
            f"{his}/file",
            f"{his}/docs/",
            "/git/",
            f"{hers}/.DAV/file",
            "/",
            "/index.html",
            f"{hers}/not-there",
        ]
        yield Household(alice, bob, tuple(sources), test_pod.folder("web") / "home" / bob.local_part)
        for place in (shared, site):
            client.delete(f"{place}/")


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_put_into_anothers_home(
    test_pod: PodUnderTest, household: Household, method: str, *, http2: bool
) -> None:
    before, answered = household.his(), dict[tuple[str, ...], int]()
    alice, bob, domain = household.alice.local_part, household.bob.local_part, test_pod.server.domain
    names = {
        "domain": domain,
        "domain_in_capitals": domain.upper(),
        "mail_host": test_pod.settings.mail_host,
        "alice": alice,
        "bob": bob,
        "bob_in_capitals": bob.upper(),
        "coded": f"%{ord(bob[0]):x}{bob[1:]}",
    }
    ways = itertools.chain(
        itertools.product(household.sources, SPELLINGS[:1], TARGETS, ("T", "F"), ("0", "infinity")),
        itertools.product(household.sources[::FEW], SPELLINGS[1:], TARGETS[:FEW], ("T", "F"), ("infinity",)),
    )
    with test_pod.server.http(household.alice, http2=http2) as client:
        for source, spelling, target, overwrite, depth in ways:
            if (method, depth) == ("MOVE", "0"):
                continue  # MOVE takes a folder only as a whole: https://www.rfc-editor.org/rfc/rfc4918#section-9.9.2
            destination = spelling.format(path=target, **names)
            headers = {"Destination": destination, "Overwrite": overwrite, "Depth": depth}
            status = client.request(method, source, headers=headers).status_code
            if status < 400:
                answered[source, destination, overwrite, depth] = status
        assert not answered
        assert household.his() == before
        for place in ("file", "docs/letter"):
            assert client.get(f"/webdav/home/{alice}/{place}").status_code == 200, "nothing is moved away, either"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_ones_own_or_shared_goes_wherever_one_may_write(
    test_pod: PodUnderTest, household: Household, method: str
) -> None:
    alice = household.alice
    with test_pod.server.http(alice) as client, ExitStack() as gone:
        places = (f"/webdav/home/{alice.local_part}/", "/webdav/", "/webdav/site/")
        for begin, end in itertools.product(places, places):
            source, destination = f"{begin}{token()}", f"{end}{token()}"
            assert client.put(source, content=source).status_code == 201
            gone.callback(client.delete, source)
            headers = {"Destination": f"https://{test_pod.server.domain}{destination}"}
            assert client.request(method, source, headers=headers).status_code == 201, (source, destination)
            gone.callback(client.delete, destination)
            assert client.get(destination).text == source
            assert client.get(source).status_code == (200 if method == "COPY" else 404)


@pytest.mark.parametrize("method", METHODS)
def test_a_lock_of_anothers_opens_nothing(test_pod: PodUnderTest, household: Household, method: str) -> None:
    with test_pod.server.http(household.alice) as client, test_pod.server.http(household.bob) as other:
        his = f"/webdav/home/{household.bob.local_part}/file"
        before, key = household.his(), lock(other, his)
        source = f"/webdav/home/{household.alice.local_part}/file"
        for token_list in (f"(<{key.strip('<>')}>)", f"<https://{test_pod.server.domain}{his}> ({key})"):
            headers = {"Destination": f"https://{test_pod.server.domain}{his}", "If": token_list}
            assert client.request(method, source, headers=headers).status_code in {403, 412, 423}
        other.request("UNLOCK", his, headers={"Lock-Token": key})
        assert household.his() == before


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_that_is_copied_takes_nothing_of_anothers_along(
    test_pod: PodUnderTest, household: Household, method: str
) -> None:
    with test_pod.server.http(household.alice) as client:
        for source in ("/webdav/home/", "/webdav/home", "/webdav/", f"/webdav/home/{household.bob.local_part}/"):
            headers = {"Destination": f"https://{test_pod.server.domain}/webdav/{token()}/", "Depth": "infinity"}
            assert client.request(method, source, headers=headers).status_code == 403, source
