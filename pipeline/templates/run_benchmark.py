#!/usr/bin/env python3
"""Measures how fast the models beside this file are on this machine: python run_benchmark.py --help

It needs Python 3.11, numpy and one runtime (onnxruntime, openvino, tensorrt). It is one file: the source of yolo-pipeline lies in
it, zipped, in base64; `--source FOLDER` writes it out. Licence: AGPL-3.0.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs it may have an old one, which must be able to parse this
    sys.exit("Python 3.11 or newer is needed, and this is Python %d.%d." % sys.version_info[:2])  # noqa: UP031

import base64
import io
import tempfile
import zipfile
from importlib import util
from pathlib import Path

SOURCE = """
@SOURCE@
"""


def main() -> int:
    if util.find_spec("numpy") is None:
        sys.exit(f"numpy is missing. Install it: {sys.executable} -m pip install numpy")
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-", ignore_cleanup_errors=True) as folder:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(SOURCE))) as archive:
            archive.extractall(folder)
        sys.path.insert(0, folder)  # the processes that measure are given it too
        from pipeline.bench import run_pack

        return run_pack.main(Path(__file__).resolve().parent, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
