"""Earlier names, for the acceptance tests until they use the new ones."""

from podserve.certificates.keypair import Certificate
from podserve.certificates.keypair import KeyPair as Pair
from podserve.certificates.keypair import to_pem as pem

__all__ = ["Certificate", "Pair", "pem"]
