"""Each public function and class of the package has a unique name."""

import ast
from collections import defaultdict

from podserve.commands import ROOT

PACKAGE = ROOT / "podserve"


def test_no_two_public_functions_or_classes_share_a_name() -> None:
    places = defaultdict[str, list[str]](list)
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                places[node.name].append(str(file.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
