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


def add_parts(spec: Document, more: Document) -> None:
    """Add what `more` has to a pod's `spec`: containers and volumes, and ports and mounts to containers of a name."""
    containers = {container["name"]: container for container in spec["containers"]}
    for container in copy.deepcopy(more["containers"]):
        if there := containers.get(container["name"]):
            for kind in ("ports", "volumeMounts"):
                there[kind] += container.get(kind, [])
        else:
            spec["containers"].append(container)
    spec["volumes"] += copy.deepcopy(more.get("volumes", []))
