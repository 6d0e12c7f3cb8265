"""Removes what a run made on a server that it does not own: everything with a word of `server.token` in its name."""

from dataclasses import dataclass

import httpx
from imapclient import IMAPClient

from tests.testbed.server import RUN, Account, Server
from tests.testbed.webdav import tree, unlock

_MARK = f"t{RUN}"
_LOCKS = '<propfind xmlns="DAV:"><prop><lockdiscovery/></prop></propfind>'


@dataclass(frozen=True)
class Removed:
    """The numbers of messages, mail folders, and files or folders of WebDAV that were removed."""

    messages: int
    mailboxes: int
    files: int

    def __str__(self) -> str:
        """Return them as a line for a person."""
        return f"removed from the target: {self.messages} messages, {self.mailboxes} mailboxes, {self.files} files"


def remove(server: Server, account: Account) -> Removed:
    """Remove what this run made in the account's mailboxes and in its folders of WebDAV."""
    with server.imap(account) as client:
        mailboxes = _remove_mailboxes(client)
        messages = sum(_remove_messages(client, name) for flags, _, name in client.list_folders()
                       if rb"\Noselect" not in flags)  # fmt: skip
    with server.http(account) as client:
        places = ("/webdav/", "/webdav/site/", f"/webdav/home/{account.local_part}/")
        files = sum(_remove_files(client, place) for place in places)
    return Removed(messages, mailboxes, files)


def _remove_mailboxes(client: IMAPClient) -> int:
    names = [name for _, _, name in client.list_folders() if _MARK in name]
    for name in sorted(names, key=len, reverse=True):  # a mailbox comes after those below it
        client.unsubscribe_folder(name)
        client.delete_folder(name)
    return len(names)


def _remove_messages(client: IMAPClient, name: str) -> int:
    client.select_folder(name)
    found = client.search(["TEXT", _MARK])
    if found:
        client.delete_messages(found)
        client.uid_expunge(found)
    return len(found)


def _remove_files(client: httpx.Client, place: str) -> int:
    answer = client.request("PROPFIND", place, headers={"Depth": "1"}, content=_LOCKS)
    found = [response for response in tree(answer).findall("{DAV:}response")
             if _MARK in response.findtext("{DAV:}href", "")]  # fmt: skip
    for response in found:
        path = response.findtext("{DAV:}href", "")
        for key in response.iterfind(".//{DAV:}locktoken/{DAV:}href"):
            unlock(client, path, f"<{key.text}>")
        client.delete(path).raise_for_status()
    return len(found)
