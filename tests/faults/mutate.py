"""Malformed inputs, made from valid specimens with a seeded random generator.

No library fits. radamsa is not in Debian. boofuzz needs a description of each protocol and brings a web server.
Hypothesis searches for the smallest failing input of a function; here a seed must give the same bytes each time.
"""

import random
from collections.abc import Callable, Sequence

ODD = (b"\0", b"\xff", b"\r", b"\n", b"\r\n", b"%n%s%x", b"../", b"{999999999}\r\n", b"{-1}", b"\xc0\xaf", b"\xf8\x88",
       b"&#0;", b"]]>", b"<!ENTITY a 'b'>", b"(" * 300, b"<" * 300, b'"', b"\\", b"=", b"@" * 90, b"-1", b"4294967296",
       b"18446744073709551616")  # fmt: skip
"""Input that parsers often mishandle: line ends, escapes, literals, overlong UTF-8, nesting, numbers out of range."""
LONG = 20_000
"""The maximum length of a repeated part, in bytes."""

Mutation = Callable[[bytes, random.Random], bytes]


def _flip(text: bytes, chance: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(text: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(text))
    return text[:begin] + text[begin + chance.randint(1, 1 + len(text) // 2) :]


def _repeat(text: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(text))
    part = text[begin : begin + chance.randint(1, 16)]
    times = chance.choice((2, 20, 600, LONG)) // len(part) + 1
    return text[:begin] + part * times + text[begin:]


def _insert(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(ODD) + text[at:]


def _overwrite(text: bytes, chance: random.Random) -> bytes:
    at, noise = chance.randrange(len(text)), chance.randbytes(chance.randint(1, 12))
    return text[:at] + noise + text[at + len(noise) :]


def _length(text: bytes, chance: random.Random) -> bytes:
    """Replace two bytes by an unlikely length."""
    at = chance.randrange(len(text))
    return text[:at] + chance.choice((b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\1")) + text[at + 2 :]


MUTATIONS: tuple[Mutation, ...] = (_flip, _cut, _repeat, _insert, _overwrite, _length)


def malformed(specimens: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the specimens with one to four random changes; never empty."""
    text = chance.choice(specimens)
    for _ in range(chance.randint(1, 4)):
        text = chance.choice(MUTATIONS)(text, chance) or b"\0"
    return text
