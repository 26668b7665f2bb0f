"""Every check and every test, in the order in which they are cheap. `scripts/bootstrap.py test` runs it inside .venv.

    python scripts/check.py                    ruff, mypy, then all three tiers of tests; what CI runs
    python scripts/check.py tests/unit -k box  pytest alone, with these arguments

The tests that train and export share out the cores themselves, so they run one after the other; the quick ones run side by side.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `online` tests talk to real services and need keys: only when asked for by name.
PYTEST = ("-m", "pytest", "-m", "not online", "--durations=5", "--durations-min=2")
SIDE_BY_SIDE = ("-n", str(min(os.cpu_count() or 1, 4)), "--dist", "worksteal")

CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff check", ("-m", "ruff", "check", "--quiet", ".")),
    ("ruff format", ("-m", "ruff", "format", "--check", "--quiet", ".")),
    ("mypy --strict", ("-m", "mypy", "--strict")),
    ("unit and contract tests", (*PYTEST, *SIDE_BY_SIDE, "tests/unit", "tests/contract")),
    ("end-to-end tests", (*PYTEST, "tests/e2e")),
)


def main(arguments: list[str]) -> int:
    os.chdir(ROOT)
    if arguments:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments])
    failed = []
    for number, (name, command) in enumerate(CHECKS, start=1):
        print(f"== [{number}/{len(CHECKS)}] {name}", flush=True)
        started = time.monotonic()
        code = subprocess.call([sys.executable, *command])
        if code:
            failed.append(name)
        if code or "pytest" not in command:  # pytest's own closing line says it better, and is to be the last
            print(f"   {name}: {'failed' if code else 'ok'}, {time.monotonic() - started:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
