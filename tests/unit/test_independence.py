"""The results of the unit tests do not depend on the host."""

import os
import socket
import sys
from pathlib import Path

from podserve.commands import run
from tests.testbed.network import own_network
from tests.unit.conftest import OF_THE_HOST
from tests.unit.helpers import pod_with

BIND = "tests/unit/test_doctor.py::test_up_where_a_port_is_taken_makes_nothing"


def test_the_tests_see_no_network_and_no_variable_of_the_host() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert [name for name in os.environ if name.startswith(OF_THE_HOST)] == []


def test_a_network_is_left_again() -> None:
    mine = Path("/proc/thread-self/ns/net")
    before = mine.readlink()
    with own_network():
        assert mine.readlink() != before
        with socket.create_server(("127.0.0.1", 995)):
            pass
    assert mine.readlink() == before


def test_tests_that_bind_ports_pass_beside_a_pod_and_its_variables(tmp_path: Path) -> None:
    variables = {"INVOKE_DOMAIN": "nonsense", "INVOKE_FOO": "1", "CONTAINERS_CONF": "/nowhere"}
    with own_network():
        numbers = {port.number for port in pod_with().ports.values()}
        held = [socket.create_server(("0.0.0.0", number)) for number in numbers]
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/run", BIND]
        ended = run(words, check=False, timeout=60, env={**os.environ, **variables})
        for listener in held:
            listener.close()
    assert ended.ok, ended
    assert "1 passed" in ended.stdout
