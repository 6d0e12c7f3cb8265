"""The pod's certificate: issued, obtained or imported, checked, put on the volume, and seen as clients see it."""

from podserve.certificates.clients import client_context

__all__ = ["client_context"]
