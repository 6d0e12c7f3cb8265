"""Make the next archive, with this checkout: python -m tests.acceptance.kept.make NAME (README.md says when)."""

import datetime as dt
import shutil
import sys
import tempfile
from pathlib import Path

from podserve import volumes
from podserve.certificates import authority
from podserve.certificates.keypair import to_pem
from podserve.choices import KeyType
from podserve.folder import Folder
from podserve.waiting import NotYet, wait_until
from tests.acceptance.kept import clients
from tests.testbed.git import Git
from tests.testbed.pod import PodUnderTest, play_test_pod
from tests.testbed.server import Account, Server, letter
from tests.testbed.webdav import EXCLUSIVE

HERE = Path(__file__).parent
EARLIER_PAGE = HERE.parent / "web" / "earlier" / "index.shtml"
DOMAIN = "kept.example.org"
ELSEWHERE = "far.acme.example.com"
"""A domain whose address the tests define. No mail server answers there while the archive is made."""
LARGEST = 200_000
"""The largest size of an archive in bytes. Each clone of the repository contains all archives."""
FOREVER = dt.timedelta(days=36500)
"""The lifetime of the certificates, so long that no test fails because one has expired."""
STRANGER = "stranger@example.com"
SEPARATOR = "/"
"""The separator of nested folders (IMAP's hierarchy delimiter)."""
FOLDERS = ("INBOX", "Sent", "v1.5", "Archive", "Archive/2026", "Archive/2026/Nov", "Grüße & 日本", "Grüße & 日本/Öl")
FLAGS = ((), (r"\Seen",), (r"\Flagged", "$Label1"), (r"\Answered", r"\Deleted"), (r"\Draft", r"\Seen", "later"))
PAINT = """<propertyupdate xmlns="DAV:"><set><prop>
<colour xmlns="urn:podserve:test">{}</colour><note xmlns="urn:podserve:other">Grüße &amp; {}</note>
</prop></set></propertyupdate>"""


def _accounts(test_pod: PodUnderTest) -> list[Account]:
    """Add three accounts and return them. Their passwords are no secret, and say so."""
    people = [Account(f"{name}@{DOMAIN}", f"for-tests-alone-{name}") for name in ("alice", "bob", "carol.o")]
    for account in people:
        test_pod.invoke("users.add", account.address, "--password-stdin", stdin=f"{account.password}\n")
        test_pod.wait_until_known(account)
    return people


def _mail(server: Server, account: Account) -> None:
    """Put messages with all kinds of flags into nested folders. Expunged messages leave gaps in the UIDs."""
    with server.imap(account) as client:
        for folder in FOLDERS:
            if not client.folder_exists(folder):
                client.create_folder(folder)
            for number, flags in enumerate(FLAGS):
                message = letter(STRANGER, account.address, f"{folder} {number}", "Grüße\n")
                when = dt.datetime(2026, 11, 1 + number, 12, 30, tzinfo=dt.UTC)
                client.append(folder, message.as_bytes(), flags, when)
            client.select_folder(folder)
            client.expunge()
        client.subscribe_folder(FOLDERS[-1])
    with server.smtp() as stranger:
        stranger.send_message(letter(STRANGER, account.address, "From elsewhere", "Hello.\n"))


def _files(server: Server, people: list[Account]) -> list[clients.Seen]:
    """Put files and folders with properties into all places. Return the locks on some: path, token and account."""
    first, locks = people[0], []
    places = [
        (first, "/webdav/shared/"),
        (first, "/webdav/site/"),
        *((p, f"/webdav/home/{p.local_part}/") for p in people),
    ]
    for account, place in places:
        with server.http(account) as client:
            client.request("MKCOL", place)
            client.request("MKCOL", f"{place}deep ü/").raise_for_status()
            for name in ("file ü.txt", "locked.txt", "deep ü/inner.txt"):
                client.put(place + name, content=f"{place}{name}\n").raise_for_status()
            for name in ("file ü.txt", "deep ü/", "deep ü/inner.txt"):
                painted = client.request("PROPPATCH", place + name, content=PAINT.format(name, place).encode())
                assert "200 OK" in painted.text, painted.text
            locked = client.request("LOCK", f"{place}locked.txt", content=EXCLUSIVE, headers={"Timeout": "Infinite"})
            token = locked.raise_for_status().headers["Lock-Token"]
            locks.append({"path": f"{place}locked.txt", "token": token, "account": account.address})
    with server.http(first) as client:
        client.put("/webdav/site/index.html", content="<p>Published").raise_for_status()
        client.put("/webdav/site/index.shtml", content=f"{EARLIER_PAGE.read_text()}<p>Mine").raise_for_status()
    return locks


def _repositories(test_pod: PodUnderTest, account: Account, folder: Path) -> dict[str, str]:
    """Make a public and a private repository; return their descriptions, by name."""
    made = {"open.git": "What everybody may see", "closed.git": "What accounts alone may see"}
    for name, description in made.items():
        test_pod.invoke("repos.add", name, "--description", description, *(["--public"] if name == "open.git" else []))
        git, work = Git(test_pod.server, account), folder / name
        for number in range(3):
            git.commit(work, f"Say {number}", {"file ü.txt": f"{name} {number}\n".encode()})
        git.run("-C", str(work), "tag", "--annotate", "v1", "--message", "The first")
        git.run("-C", str(work), "branch", "side", "HEAD~1")
        git.run("-C", str(work), "push", "--quiet", git.url(name), "main", "side", "v1")
    return made


def _letter(test_pod: PodUnderTest, sender: Account) -> clients.Seen:
    """Send a message that stays in the queue, and return its recipient and subject.

    It is on hold, because Postfix returns a message that it could not send for five days.
    """
    test_pod.name_addresses({ELSEWHERE: "192.0.2.25"})
    to, subject = f"somebody@{ELSEWHERE}", "It waits"
    with test_pod.server.submission(sender) as client:
        client.send_message(letter(sender.address, to, subject, "Grüße\n"))

    def held() -> None:
        test_pod.exec("mail", "postsuper", "-h", "ALL")
        if [one["queue"] for one in clients.queue(test_pod)] != ["hold"]:
            raise NotYet("the letter is not on hold")

    wait_until(held, 10, "a letter on hold")
    return {"recipient": to, "subject": subject}


def _certificates(test_pod: PodUnderTest, folder: Path) -> clients.Seen:
    """Issue a certificate of the pod's authority, then import one of another authority; both authorities are new.

    Return the two root certificates (PEM), and the imported certificate's SHA-256 (hexadecimal).
    """
    authority.AUTHORITY_LIFETIME = authority.LIFETIME = FOREVER
    authority._CLOCKS_APART = dt.timedelta(days=3650)  # noqa: SLF001  # valid also on a host whose clock is late
    brought = authority.issue_for(Folder.at(folder), (f"mail.{DOMAIN}", DOMAIN), KeyType.EC256)
    its_own = volumes.folder(test_pod.pod.volumes["authority"].name)
    its_own.clear()
    root = to_pem(authority.issue_for(its_own, (DOMAIN,), KeyType.EC256).roots).decode()
    test_pod.invoke("certs.issue")
    (folder / "tls.crt").write_bytes(to_pem([*brought.chain, *brought.roots]))
    (folder / "tls.key").write_bytes(brought.key.pem)
    test_pod.invoke("certs.import", str(folder / "tls.crt"), str(folder / "tls.key"))
    return {"authority": root, "imported": to_pem(brought.roots).decode(),
            "fingerprint": brought.certificate.fingerprint}  # fmt: skip


def make(name: str) -> None:
    """Fill a new pod with a little of everything, and write its backup and what clients saw (`name` without suffixes).

    Raises AssertionError if the archive is larger than LARGEST.
    """
    archive, told = HERE / f"{name}.tar.zst", HERE / f"{name}.json"
    with play_test_pod("-keeps", domain=DOMAIN) as test_pod, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        certificates = _certificates(test_pod, folder)
        people = _accounts(test_pod)
        for account in people:
            _mail(test_pod.server, account)
        locks = _files(test_pod.server, people)
        repositories = _repositories(test_pod, people[0], folder)
        waiting = _letter(test_pod, people[0])
        test_pod.invoke("backup", "--to", str(folder / "archive"))
        seen = clients.seen(test_pod, test_pod.server, people, list(repositories))
        clients.write(told, {
            "domain": DOMAIN,
            "accounts": {account.address: account.password for account in people},
            "certificates": certificates,
            "locks": locks,
            "repositories": repositories,
            "letter": waiting,
            "separator": SEPARATOR,
            "seen": seen,
        })  # fmt: skip
        shutil.copyfile(folder / "archive", archive)
    size = archive.stat().st_size
    print(f"{archive}: {size} bytes, of {LARGEST} at most")
    assert size <= LARGEST


if __name__ == "__main__":
    make(sys.argv[1])
