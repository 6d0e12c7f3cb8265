"""What a newcomer does, done on pristine hosts: privileged containers of Debian in which nothing is installed."""
