"""Malformed inputs, made from valid specimens by a source of chance that can be had again.

Our own few lines: radamsa is not in Debian, boofuzz wants each protocol described anew and brings a web server, and
Hypothesis looks for a function's smallest failing input, where here a seed must give the same bytes each time.
"""

import random
from collections.abc import Callable, Sequence

ODD = (b"\0", b"\xff", b"\r", b"\n", b"\r\n", b"%n%s%x", b"../", b"{999999999}\r\n", b"{-1}", b"\xc0\xaf", b"\xf8\x88",
       b"&#0;", b"]]>", b"<!ENTITY a 'b'>", b"(" * 300, b"<" * 300, b'"', b"\\", b"=", b"@" * 90, b"-1", b"4294967296",
       b"18446744073709551616")  # fmt: skip
"""What parsers trip over: ends, escapes, literals, overlong UTF-8, nesting, numbers that do not fit."""
LONG = 20_000
"""Bytes that a repeated part may grow to."""

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
    """Set two bytes to what a length should not be."""
    at = chance.randrange(len(text))
    return text[:at] + chance.choice((b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\1")) + text[at + 2 :]


MUTATIONS: tuple[Mutation, ...] = (_flip, _cut, _repeat, _insert, _overwrite, _length)


def malformed(specimens: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the specimens, changed one to four times."""
    text = chance.choice(specimens)
    for _ in range(chance.randint(1, 4)):
        text = chance.choice(MUTATIONS)(text, chance) or b"\0"
    return text
