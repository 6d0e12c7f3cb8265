"""`nox -s faults`: break a test pod on purpose, and count the losses."""
