"""`python -m pipeline`."""

from __future__ import annotations

import sys

from pipeline.cli import main

# Worker processes import this module anew; only the command itself may run it.
if __name__ == "__main__":
    sys.exit(main())
