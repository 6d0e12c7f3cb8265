"""`nox -s bench`: figures of speed, size and memory, each beside an alternative measured in the same run."""
