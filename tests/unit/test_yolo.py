from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CODE = """
import os, sys
from pathlib import Path
from PIL import Image
before = Image.open
from pipeline import images
from pipeline.yolo import ultralytics
module = ultralytics(Path(sys.argv[1]))
assert Image.open is before
try:
    images.read_header(Path(sys.argv[2]))
except images.UnreadableImage as error:
    assert error.reason == "not_an_image"
else:
    raise AssertionError
assert module.settings["sync"] is False and module.settings["mlflow"] is False
assert os.environ["YOLO_AUTOINSTALL"] == "false" and os.environ["YOLO_CONFIG_DIR"].startswith(sys.argv[1])
"""


def test_importing_ultralytics_changes_nothing_for_the_rest_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "USERPROFILE": str(home)}
    command = [sys.executable, "-c", CODE, str(tmp_path / "cache"), str(tmp_path / "text.jpg")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path for path in home.rglob("*") if "ltralytics" in path.name]
