"""A person at https://DOMAIN/account/, and the door behind the page."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape

import httpx

from podserve.commands import podman
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account

PAGE = "/account/"
_KNOCK = """
use IO::Socket::UNIX; use JSON::PP; $/ = undef; $SIG{PIPE} = "IGNORE";
my @silent = map { IO::Socket::UNIX->new("/data/door/socket") or die $! } 1 .. $ARGV[0];
for my $words (@{decode_json(<STDIN>)}) {
    my $door = IO::Socket::UNIX->new("/data/door/socket") or die $!;
    utf8::encode($_) for @$words;
    print $door map { "$_\\0" } @$words;
    $door->flush;
    $door->shutdown(1);
    print <$door>;
}
"""


@dataclass(frozen=True)
class Visitor:
    """A client of the page with an account's login, as a browser would be one."""

    client: httpx.Client
    files_host: str

    @property
    def origin(self) -> str:
        """The origin of the page."""
        return f"https://{self.files_host}"

    def get(self, path: str = PAGE, **headers: str) -> httpx.Response:
        """Open a page."""
        return self.client.get(path, headers={"Host": self.files_host, **headers})

    def key(self) -> str:
        """Return the key of the page's forms."""
        found = re.search(r'name="key" value="([0-9a-f]{64})"', self.get().text)
        assert found
        return found[1]

    def post(self, form: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """Send one of the page's forms, with its key and its origin unless they are given."""
        data, given = {"key": "", **fields}, {"Host": self.files_host, "Origin": self.origin, **headers}
        if "key" not in fields:
            data["key"] = self.key()
        return self.client.post(
            f"{PAGE}{form}", data=data, headers={name: text for name, text in given.items() if text}
        )

    def change_password(self, present: str, new: str, again: str | None = None) -> httpx.Response:
        """Send the form of the password."""
        return self.post("password", {"present": present, "new": new, "again": new if again is None else again})


@contextmanager
def visitor(pod: PodUnderTest, account: Account | None) -> Iterator[Visitor]:
    """Yield a client of the page, with the login of an account if one is given."""
    with pod.server.http(account) as client:
        yield Visitor(client, pod.settings.files_host)


def said(answer: httpx.Response) -> str:
    """Return what the page says of a form."""
    found = re.search(r'<p class="said[^>]*>(.*?)</p>', answer.text, re.DOTALL)
    return unescape(found[1]) if found else ""


def knock(pod: PodUnderTest, *requests: list[str], user: str = "account-page", silent: int = 0) -> list[str]:
    """Send these requests to the door as a user of Apache's container, and return the answers.

    Before that, `silent` connections are made that say nothing.
    """
    words = ("exec", "--interactive", "--user", user, pod.container("apache"), "perl", "-e", _KNOCK, str(silent))
    return podman(*words, stdin=json.dumps(requests), timeout=60).stdout.splitlines()
