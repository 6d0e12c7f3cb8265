"""The pod's certificate: issued, obtained or imported, checked, written to the volume, and verified as a client."""

from podserve.certificates.clients import client_context

__all__ = ["client_context"]
