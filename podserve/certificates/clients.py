"""TLS clients: one verifies a name at any address, the other accepts any certificate to read it."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _NamedContext(ssl.SSLContext):
    """A client context that asks for and verifies one name, at any address."""

    name: str

    def wrap_socket(self, sock, **options):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN003,ANN202
        return super().wrap_socket(sock, **{**options, "server_hostname": self.name})


def client_context(name: str, authority: Path | str | None) -> ssl.SSLContext:
    """Return a TLS client's context that expects a server certificate for `name`.

    It trusts the authority in that PEM file, or without one what the host trusts.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = name
    if authority:
        context.load_verify_locations(authority)
    else:
        context.load_default_certs()
    return context


def unverified_context(name: str) -> ssl.SSLContext:
    """Return the context of a TLS client that asks for `name` and accepts any certificate."""
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = name
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _file_in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file with that content. It is never on a disk, and no other user can open it."""
    number = os.memfd_create("keypair")
    try:
        os.write(number, content)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def distrust(name: str, chain: bytes, key: bytes, roots: bytes = b"") -> str:
    """Return why a client of `name` refuses a server that has this chain and key (PEM), or an empty text.

    The client trusts what this host trusts, and `roots` (PEM). Raises ssl.SSLError if OpenSSL cannot use the key pair.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _file_in_memory(key + chain) as file:
        server_context.load_cert_chain(file)
    trusting = ssl.create_default_context()
    # Python 3.13 verifies strictly by default. Browsers and mail clients accept certificates without key identifiers.
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if roots:
        trusting.load_verify_locations(cadata=roots.decode("ascii"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for end in (client, server, client):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""
