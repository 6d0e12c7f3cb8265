"""`nox -s faults`: break a pod of its own on purpose, and count the losses."""
