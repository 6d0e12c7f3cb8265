"""What Kubernetes' documents mean: sizes, and documents that add to others."""

import copy
from typing import Any

Document = dict[str, Any]
_UNITS = {"Mi": 2**20, "Gi": 2**30}


def in_bytes(quantity: str) -> int:
    """Return a size of the documents (`10Gi`) as a number of bytes."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def remove_port(spec: Document, name: str) -> None:
    """Remove the port of this name from the containers of a pod's `spec`."""
    for container in spec["containers"]:
        container["ports"] = [port for port in container["ports"] if port["name"] != name]


def add_ports(spec: Document, more: Document) -> None:
    """Add the ports of the containers of `more` to the containers of the same names in `spec` (a pod's `spec`)."""
    containers = {container["name"]: container for container in spec["containers"]}
    for container in more["containers"]:
        containers[container["name"]]["ports"] += copy.deepcopy(container["ports"])
