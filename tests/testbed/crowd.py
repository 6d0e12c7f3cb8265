"""Many connections of one client: count how many the server serves at once, or hold them and say nothing or little.

This module is also a script that uses only the standard library: Vantage.python runs its text in another network
namespace.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import sys

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE
"""The TLS context of a client that accepts any certificate. It loads no trusted roots."""
PATIENCE = 10.0
"""Seconds to wait for one answer."""


def _open(stack: contextlib.ExitStack, host: str, port: int, source: str) -> bool:
    """Open one more connection, and return whether the first reply accepts it (SMTP 220, HTTP 200)."""
    own = (source, 0) if source else None
    client = stack.enter_context(socket.create_connection((host, port), timeout=PATIENCE, source_address=own))
    if port in {443, 465}:
        client = stack.enter_context(CONTEXT.wrap_socket(client))
    if port == 443:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(100).startswith((b"220 ", b"HTTP/1.1 200"))


def served(host: str, port: int, many: int, *sources: str) -> list[int]:
    """Open `many` connections from each source address, keep them open, and return how many of each are served."""
    counts = []
    with contextlib.ExitStack() as stack:
        for source in sources or ("",):
            counts.append(0)
            for _ in range(many):
                with contextlib.suppress(OSError):
                    counts[-1] += _open(stack, host, port, source)
    return counts


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)
"""The beginning of a ClientHello of TLS."""
WORDS = {80: b"GET / HTTP/1.1\r\nX: " + b"x" * 64, 443: HELLO, 465: HELLO, 993: HELLO, 995: HELLO}
"""The beginning of what a client says, by port, if it is no line of text."""


async def _hold(host: str, port: int, source: str, end: asyncio.Event, *, trickles: bool) -> bool:
    """Hold a connection; open a new one when the server closes it. Return whether one is open at the end.

    The client is silent, or it trickles: it sends a byte each second. On ports 80 and 443 a silent one sends one byte,
    because Linux passes no connection without a byte to Apache (TCP_DEFER_ACCEPT).
    """
    while not end.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
            words = iter(WORDS.get(port, b"x" * 64))
            left, over = asyncio.ensure_future(reader.read()), asyncio.ensure_future(end.wait())
            silent = port not in {80, 443}
            while not (left.done() or over.done()):
                if not silent:
                    writer.write(bytes([next(words)]))
                silent = not trickles
                await asyncio.wait((left, over), timeout=1 if trickles else None, return_when=asyncio.FIRST_COMPLETED)
            for task in (left, over):
                task.cancel()
            writer.transport.abort()
            if end.is_set():
                return True
        await asyncio.sleep(0.5)
    return False


async def held(host: str, crowds: list[tuple[int, str, int]], seconds: float) -> list[int]:
    """Hold `many` connections for each (port, source, many) for `seconds`; return how many are open then.

    Every second client is silent, and the others trickle.
    """
    end = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, end.set)

    async def crowd(port: int, source: str, many: int) -> int:
        each = (_hold(host, port, source, end, trickles=bool(number % 2)) for number in range(many))
        return sum(await asyncio.gather(*each))

    return await asyncio.gather(*(crowd(*each) for each in crowds))


if __name__ == "__main__":
    if sys.argv[2].isdecimal():
        print(json.dumps(served(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])))
    else:
        print(json.dumps(asyncio.run(held(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])))))
