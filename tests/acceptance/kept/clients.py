"""What clients of a pod see, read over the protocols and returned as JSON values, which can be compared later."""

import datetime as dt
import hashlib
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx

from tests.testbed.git import Git
from tests.testbed.pod import PodUnderTest
from tests.testbed.server import Account, Server
from tests.testbed.webdav import tree

Seen = dict[str, Any]
"""A JSON object."""
_ALL = '<propfind xmlns="DAV:"><allprop/></propfind>'


def certificates(server: Server, account: Account) -> Seen:
    """Return the SHA-256 (hexadecimal) of the certificate that each TLS port serves. The clients verify it."""
    found: dict[str, bytes | None] = {}
    with server.http() as web, web.stream("GET", "/") as answer:
        found["https"] = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)  # noqa: FBT003  # the parameter binary_form
    for port in (25, 587):
        with server.smtp(port=port) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            found[str(port)] = client.sock.getpeercert(binary_form=True)
    for implicit in (True, False):
        with server.imap(account, implicit_tls=implicit) as mailbox:
            found["imaps" if implicit else "imap"] = mailbox.socket().getpeercert(binary_form=True)
    with server.pop3(account) as maildrop:
        assert isinstance(maildrop.sock, ssl.SSLSocket)
        found["pop3s"] = maildrop.sock.getpeercert(binary_form=True)
    return {name: hashlib.sha256(shown or b"").hexdigest() for name, shown in found.items()}


def folders(server: Server, account: Account) -> Seen:
    """Return each folder's UIDVALIDITY, subscription and messages, read over IMAPS.

    The messages are by UID, with flags, date (ISO 8601, UTC) and text.
    """
    found: Seen = {}
    with server.imap(account) as client:
        client.normalise_times = False
        subscribed = {name for _, _, name in client.list_sub_folders()}
        for _, _, name in client.list_folders():
            validity = client.select_folder(name, readonly=True)[b"UIDVALIDITY"]
            uids = client.search()
            messages = client.fetch(uids, ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"]) if uids else {}
            found[name] = {
                "uidvalidity": validity,
                "subscribed": name in subscribed,
                "messages": {
                    str(uid): {
                        "flags": sorted({flag.decode() for flag in message[b"FLAGS"]} - {r"\Recent"}),
                        "date": message[b"INTERNALDATE"].astimezone(dt.UTC).isoformat(),
                        "text": message[b"BODY[]"].decode(),
                    }
                    for uid, message in sorted(messages.items())
                },
            }
    return found


def maildrop(server: Server, account: Account) -> Seen:
    """Return the text of each message by its unique id (UIDL), read over POP3S."""
    with server.pop3(account) as client:
        ids = [line.decode().split() for line in client.uidl()[1]]
        # TOP, because RETR marks a message as seen. No message here has as many as 1,000 lines.
        return {name: b"".join(line + b"\r\n" for line in client.top(int(number), 1000)[1]).decode()
                for number, name in ids}  # fmt: skip


def _entry(client: httpx.Client, response: ET.Element) -> Seen:
    href = response.findtext("{DAV:}href", "")
    (found,) = (status for status in response.findall("{DAV:}propstat")
                if "200" in status.findtext("{DAV:}status", ""))  # fmt: skip
    properties = {one.tag: "".join(one.itertext()) for one in found.iterfind("{DAV:}prop/*")}
    dead = {name: text for name, text in properties.items() if not name.startswith(("{DAV:}", "{http://apache.org/"))}
    locks = [token.findtext("{DAV:}href", "") for token in found.iter("{DAV:}locktoken")]
    if href.endswith("/"):
        return {"properties": dead, "locks": locks}
    return {
        "changed": properties["{DAV:}getlastmodified"],
        "content": client.get(href).raise_for_status().text,
        "properties": dead,
        "locks": locks,
    }


def files(server: Server, account: Account, top: str) -> Seen:
    """Return the properties and locks of `top` and everything below, by path; for files also the date and content."""
    found: Seen = {}
    with server.http(account) as client:
        waiting = [top]
        while waiting:
            answer = client.request("PROPFIND", path := waiting.pop(), headers={"Depth": "1"}, content=_ALL)
            assert answer.status_code == 207, answer.text
            for response in tree(answer).findall("{DAV:}response"):
                href = response.findtext("{DAV:}href", "")
                found[href] = _entry(client, response)
                waiting += [href] if href.endswith("/") and href != path else []
    return dict(sorted(found.items()))


def repository(server: Server, account: Account, name: str) -> Seen:
    """Return a repository's branches and tags, its objects after a check, and whether a stranger may clone it."""
    git, stranger = Git(server, account), Git(server)
    with tempfile.TemporaryDirectory() as folder:
        git.run("clone", "--quiet", "--mirror", git.url(name), f"{folder}/hers")
        git.run("-C", f"{folder}/hers", "fsck", "--strict")
        objects = git.run("-C", f"{folder}/hers", "cat-file", "--batch-check", "--batch-all-objects").stdout
        public = stranger.run("clone", "--quiet", "--mirror", stranger.url(name), f"{folder}/theirs", check=False).ok
    return {
        "references": git.run("ls-remote", "--symref", git.url(name)).stdout.splitlines(),
        "objects": objects.splitlines(),
        "public": public,
    }


def queue(test_pod: PodUnderTest) -> list[Seen]:
    """Return the messages in Postfix's queue, as postqueue and postcat show them. No client sees the queue."""
    found = []
    for line in test_pod.exec("mail", "postqueue", "-j").stdout.splitlines():
        letter = json.loads(line)
        found.append({
            "queue": letter["queue_name"],
            "sender": letter["sender"],
            "recipients": [recipient["address"] for recipient in letter["recipients"]],
            "text": test_pod.exec("mail", "postcat", "-qhb", letter["queue_id"]).stdout,
        })  # fmt: skip
    return found


def seen(test_pod: PodUnderTest, server: Server, accounts: list[Account], repositories: list[str]) -> Seen:
    """Return the results of all functions above, and of pages that strangers see.

    Clients verify certificates by `server.authority`. The first account reads what the accounts share.
    """
    first = accounts[0]
    with server.http() as stranger:
        page, gitweb = (stranger.get(path).raise_for_status().text for path in ("/", "/git/"))
    return {
        "folders": {account.address: folders(server, account) for account in accounts},
        "maildrops": {account.address: maildrop(server, account) for account in accounts},
        "files": files(server, first, "/webdav/") | files(server, first, "/webdav/site/"),
        "homes": {a.address: files(server, a, f"/webdav/home/{a.local_part}/") for a in accounts},
        "page": page,
        "repositories": {name: repository(server, first, name) for name in repositories},
        "shown to strangers": {name: name in gitweb for name in repositories},
        "queue": queue(test_pod),
        "certificates": certificates(server, first),
    }


def write(file: Path, told: Seen) -> None:
    """Write values to a JSON file, one value a line."""
    file.write_text(json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
