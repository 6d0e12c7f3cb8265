"""`nox -s hosts`: run a newcomer's commands on pristine hosts, which are privileged containers of bare Debian."""
