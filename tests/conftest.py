"""What all tests share: a test that fails shows the commands that podserve ran in this process."""

import logging

logging.getLogger("podserve").setLevel(logging.DEBUG)
