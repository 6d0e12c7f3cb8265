"""Letters of many kinds, as people and machines send them; and signatures (DKIM, RFC 6376) of the tests' own.

The signatures are made by a few lines here, because a signer that is any good refuses to make most of them.
"""

import base64
import hashlib
import io
import random
import re
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.testbed.server import letter, token

WORDS = """
    the of and to in is that for it was on with as at by this from are be have or an which you one were her all she
    there would their we him been has when who will more no if out so said what up its about into than them can only
    other new some could time these two may then do first any my now such like our over man me even most made after
    also did many before must through back years where much your way well down should because each just those people
    house garden meeting project report price order train ticket school children weather kitchen letter window street
""".split()  # noqa: SIM905  # a list would be longer
"""Common words, of which `prose` is made."""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The test pattern of spam filters (https://spamassassin.apache.org/gtube/)."""
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def prose(words: int = 80) -> str:
    """Return a text of this many words, in lines of a usual length, without a meaning. Each call returns another."""
    chosen = random.choices(WORDS, k=words)  # noqa: S311  # no secret
    return "".join(f"{' '.join(chosen[start : start + 12]).capitalize()}.\n" for start in range(0, words, 12))


def _invoice(message: EmailMessage) -> None:
    message.set_content(f"Dear customer,\n\nplease find attached our invoice 2026-1187.\n\n{prose()}")
    message.add_attachment(_PDF, maintype="application", subtype="pdf", filename="invoice-2026-1187.pdf")


def _invitation(message: EmailMessage) -> None:
    event = (
        "BEGIN:VCALENDAR\r\nPRODID:-//Example//Calendar//EN\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n"
        f"UID:{token()}\r\nDTSTAMP:20261127T090000Z\r\nDTSTART:20261201T090000Z\r\nDTEND:20261201T100000Z\r\n"
        f"SUMMARY:Meeting\r\nORGANIZER:mailto:{message['From']}\r\nATTENDEE:mailto:{message['To']}\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    message.set_content(f"You are invited to a meeting.\n\n{prose(30)}")
    message.add_alternative(event, subtype="calendar", params={"method": "REQUEST"})


def _list(message: EmailMessage) -> None:
    message["List-Id"] = "Gardeners <gardeners.acme.example.com>"
    message["List-Post"] = "<mailto:gardeners@acme.example.com>"
    message["List-Unsubscribe"] = "<https://lists.acme.example.com/leave>"
    message["Precedence"] = "list"
    message.replace_header("Subject", f"[gardeners] {message['Subject']}")
    message.set_content(f"{prose()}\n_______________\ngardeners mailing list\nhttps://lists.acme.example.com/\n")


def _utf8(message: EmailMessage) -> None:
    message.replace_header("Subject", f"Grüße aus Łódź und 東京 {message['Subject']}")
    message.replace_header("From", f"Jürgen Müller <{message['From']}>")
    text = "Liebe Käthe,\n\nviele Grüße! Привет из Москвы. 今日は良い天気です。 Ça va très bien.\n"
    message.set_content(text, cte="base64")


def _forwarded(message: EmailMessage) -> None:
    inner = letter("anna@example.com", str(message["From"]), "Minutes", prose())
    message.replace_header("Subject", f"Fwd: {message['Subject']}")
    message.set_content(f"See below.\n\n{prose(20)}")
    message.add_attachment(inner)


def _newsletter(message: EmailMessage) -> None:
    message["List-Unsubscribe"] = f"<https://news.acme.example.com/leave/{token()}>, <mailto:leave@acme.example.com>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    text = prose()
    link = '<a href="https://news.acme.example.com/read">Read more</a>'
    image = '<img src="https://news.acme.example.com/logo.png" alt="Logo" width="120" height="40">'
    leave = '<a href="https://news.acme.example.com/leave">Unsubscribe</a>'
    page = f"<html><head><title>News</title></head><body>{image}<h1>News</h1><p>{text}</p><p>{link}</p>"
    message.set_content(f"News\n\n{text}\nhttps://news.acme.example.com/read\n")
    message.add_alternative(f"{page}<p>{leave}</p></body></html>\n", subtype="html")


def _reply(message: EmailMessage) -> None:
    message["In-Reply-To"] = message["References"] = make_msgid(domain="example.com")
    message.replace_header("Subject", f"Re: {message['Subject']}")
    quoted = "".join(f"> {line}\n" for line in prose().splitlines())
    message.set_content(f"{prose(30)}\nOn Monday you wrote:\n{quoted}\n-- \nAnna\n")


def _photo(message: EmailMessage) -> None:
    message.set_content("Look at this!\n")
    picture = _JPEG + random.randbytes(20_000)  # noqa: S311  # no secret
    message.add_attachment(picture, maintype="image", subtype="jpeg", filename="IMG_1187.JPG")


def _empty(message: EmailMessage) -> None:
    message.set_content("")


def _large(message: EmailMessage) -> None:
    message.set_content(f"Here is the film.\n\n{prose(30)}")
    message.add_attachment(random.randbytes(1000) * 22_000, maintype="video", subtype="mp4", filename="film.mp4")  # noqa: S311


KINDS: dict[str, Callable[[EmailMessage], None]] = {
    "mailing list": _list,
    "invoice": _invoice,
    "invitation": _invitation,
    "UTF-8": _utf8,
    "empty": _empty,
    "forwarded": _forwarded,
    "newsletter": _newsletter,
    "reply": _reply,
    "photo": _photo,
    "large": _large,
}
"""Ordinary letters: each function writes the content of a letter that has its headers. The large one has 30 MB."""


def of_kind(kind: str, sender: str, recipient: str, subject: str) -> EmailMessage:
    """Return a letter of one of KINDS."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=sender.partition("@")[2])
    KINDS[kind](message)
    return message


def phishing(sender: str, recipient: str, subject: str) -> EmailMessage:
    """Return a letter that claims to be from a bank: by its author's name, and by a link that leads elsewhere."""
    message = letter(f'"service@example.net" <{sender}>', recipient, subject, "Confirm your account.\n")
    link = '<a href="http://acme.example.com/login">https://www.example.net/login</a>'
    page = f"<p>Your account at the bank is locked. Confirm it within 24 hours:</p><p>{link}</p>"
    message.add_alternative(f"<html><body>{page}</body></html>\n", subtype="html")
    return message


def program(sender: str, recipient: str, subject: str, name: str) -> EmailMessage:
    """Return a letter with a program that has this file name."""
    message = letter(sender, recipient, subject, "Please open the attachment.\n")
    content = b"MZ" + random.randbytes(1000)  # noqa: S311  # no secret
    message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message


def wire(message: EmailMessage) -> bytes:
    """Return a message as SMTP carries it: its lines end with CRLF."""
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def key_record(key: rsa.RSAPrivateKey) -> str:
    """Return the text of the DKIM record of a key."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def signed(message: bytes, key: rsa.RSAPrivateKey, domain: str, selector: str, more: str = "") -> bytes:
    """Return a message (lines that end with CRLF) after its signature, with these tags and `more` ("l=5; x=9; ").

    It covers From and Subject, each in one line, and the body as it is (relaxed/simple).
    """
    head, _, body = message.partition(b"\r\n\r\n")
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    tags = f"v=1; a=rsa-sha256; c=relaxed/simple; d={domain}; s={selector}; {more}h=from:subject; bh={digest}; b="
    found = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
    covered = b"".join(b"%s:%s\r\n" % (name, re.sub(rb"\s+", b" ", found[name])) for name in (b"from", b"subject"))
    made = key.sign(covered + f"dkim-signature:{tags}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"DKIM-Signature: {tags}{base64.b64encode(made).decode()}\r\n".encode() + message


def zip_bomb() -> bytes:
    """Return an archive of 100 archives, each of one file of 64 MB. It has less than 10 kB."""
    made = bytes(2**26)
    for copies in (1, 100):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(copies):
                archive.writestr(f"{number}.zip", made)
        made = file.getvalue()
    return made
