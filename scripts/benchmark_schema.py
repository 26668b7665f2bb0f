"""Write docs/benchmark-record.schema.json, the JSON Schema of a benchmark record, from the one that records are read by.

    python scripts/benchmark_schema.py

A test fails when the file is not up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.bench.record_schema import SCHEMA  # noqa: E402

PAGE = ROOT / "docs" / "benchmark-record.schema.json"


def page() -> str:
    return json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
