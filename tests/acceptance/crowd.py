"""How many connections of one client are served at once.

It is a script, too, that needs the standard library alone: Vantage.python is given its text, to try from elsewhere.
"""

import contextlib
import socket
import ssl
import sys

PATIENCE = 10.0
"""Seconds to wait for one answer."""


def _open(stack: contextlib.ExitStack, host: str, port: int) -> bool:
    """Open one more connection, and return whether something is said on it that is no refusal."""
    client = stack.enter_context(socket.create_connection((host, port), timeout=PATIENCE))
    if port == 443:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = stack.enter_context(context.wrap_socket(client))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(100).startswith((b"220 ", b"HTTP/1.1 200"))


def served(host: str, port: int, many: int) -> int:
    """Open so many connections, keep them all, and return how many are served."""
    count = 0
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            with contextlib.suppress(OSError):
                count += _open(stack, host, port)
    return count


if __name__ == "__main__":
    print(served(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
