"""What the tests of remote folders serve, and how they read it."""

BLOCK = 4096
SIZE = 5 * BLOCK + 123
NAME = "a 1#%é.tar"  # what a slide may be called, and a URL must escape
QUICK = {"block_bytes": BLOCK, "backoff_seconds": 0.01, "read_seconds": 10.0}
IMPATIENT = {**QUICK, "read_seconds": 0.3}
