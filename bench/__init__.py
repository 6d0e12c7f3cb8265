"""How fast, how big, how lean: figures, each beside its alternative measured in the same run. `nox -s bench`."""
