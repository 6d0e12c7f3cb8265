"""Rude clients: many connections from one address, and the result of each.

This script uses only the standard library: Vantage.python runs its text in another network namespace.
"""

import asyncio
import contextlib
import json
import resource
import ssl
import sys
import time

SAID = {25: b"EHLO ", 53: b"\0\xff", 80: b"GET / HTTP/1.1\r\nX-A: ", 143: b"a LOGIN ", 443: b"GET / HTTP/1.1\r\nX-A: ",
        465: b"EHLO ", 587: b"EHLO ", 993: b"a LOGIN ", 995: b"USER ", 4190: b"NOOP "}  # fmt: skip
"""The first bytes of a client that never ends its request, by port."""
DNS = 53
"""The port of DNS. Its stream has no lines: an endless stream is a series of queries."""
IMPLICIT_TLS = (443, 465, 993, 995)
CHUNK = b"a" * 65536
PATIENCE = 30.0
"""Seconds to wait for a connection and its TLS handshake."""


async def _drip(writer: asyncio.StreamWriter, port: int) -> None:
    for number in range(10**6):
        begin = SAID[port]
        writer.write(begin[number : number + 1] or b"a")
        await writer.drain()
        await asyncio.sleep(0.5)


async def _flood(writer: asyncio.StreamWriter, port: int) -> None:
    writer.write(SAID[port])
    while True:
        writer.write(CHUNK)
        await writer.drain()
        await asyncio.sleep(0)  # drain() alone does not yield while the server reads as fast


async def _heard(reader: asyncio.StreamReader) -> bytes:
    """Return the first data that the server sent, after it has closed the connection."""
    first = b""
    with contextlib.suppress(OSError):
        while more := await reader.read(65536):
            first = first or more
    return first


async def _be(kind: str, host: str, port: int, hold: float) -> tuple[str, float]:
    """Open one rude connection; return `not let in`, `refused`, `cut off` or `held`, and the seconds until then."""
    begin, tls = time.monotonic(), None
    if kind != "silent" and port in IMPLICIT_TLS:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    except (OSError, TimeoutError):
        return "not let in", time.monotonic() - begin
    act = {"drip": _drip, "flood": _flood}.get(kind)
    acting = asyncio.ensure_future(act(writer, port)) if act else None
    try:
        async with asyncio.timeout(hold):
            first = await _heard(reader)
        return "refused" if first.startswith(b"421") else "cut off", time.monotonic() - begin
    except TimeoutError:
        return "held", hold
    finally:
        if acting:
            acting.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await acting
        writer.transport.abort()


async def _be_all(kind: str, host: str, ports: list[int], many: int, hold: float) -> dict[int, list[tuple[str, float]]]:
    ports = [port for port in ports if kind != "flood" or port != DNS]

    async def at(port: int) -> list[tuple[str, float]]:
        return await asyncio.gather(*(_be(kind, host, port, hold) for _ in range(many)))

    return dict(zip(ports, await asyncio.gather(*map(at, ports)), strict=True))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(json.dumps(asyncio.run(_be_all(*json.loads(sys.argv[1])))))
