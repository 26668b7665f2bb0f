"""`python -m pipeline`."""

from __future__ import annotations

import gc
import sys

from pipeline.cli import main

# Worker processes import this module anew; only the command itself may run it.
if __name__ == "__main__":
    # numpy and pandas make some 100,000 objects that stay: looking among them for garbage at every 700th takes a tenth of the
    # time of a short command.
    gc.set_threshold(50_000, 20, 50)
    sys.exit(main())
