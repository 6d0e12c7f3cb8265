"""Connections of one address: so many at once and no more; of an address that many share, as many as there are."""

import inspect

import pytest

from tests.acceptance import crowd
from tests.acceptance.own_pod import OwnPod, Vantage

LIMIT = 50
"""Connections that an address may have at once (conf-available/clients.conf; Postfix's own default)."""
MANY = 60


@pytest.mark.parametrize("port", [25, 443, 587])
def test_an_address_outside_gets_so_many_connections_and_no_more(own: OwnPod, outsider: Vantage, port: int) -> None:
    # Each in a run of its own: what this one held has ended with it.
    served = outsider.python(inspect.getsource(crowd), own.address, str(port), str(MANY))
    assert int(served) == LIMIT


@pytest.mark.parametrize("port", [25, 443, 587])
def test_the_gateways_address_gets_more(own: OwnPod, port: int) -> None:
    assert crowd.served(own.server.host, port, MANY) == MANY
