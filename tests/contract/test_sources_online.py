"""Every source that has a service behind it, against the real one: `pytest -m online`. Skipped where a network or key is missing.

The same sources run against servers of this machine in tests/unit; here it is seen whether the services still are as those say.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli

pytestmark = pytest.mark.online

RAW, UNIVERSE = "https://raw.githubusercontent.com", "https://universe.roboflow.com"

CASES: dict[str, tuple[str, str, str, list[str]]] = {
    # what: (host, variable with a key, source, options)
    "coco": ("images.cocodataset.org", "", "coco", ["--classes", "dog", "--limit", "4"]),
    "openimages": ("storage.googleapis.com", "", "openimages", ["--classes", "Dog", "--limit", "4"]),
    "github": ("github.com", "", "https://github.com/Shenggan/BCCD_Dataset", []),
    "url": (
        "raw.githubusercontent.com",
        "",
        f"{RAW}/ultralytics/ultralytics/main/ultralytics/assets/bus.jpg",
        [],
    ),
    "huggingface": ("huggingface.co", "", "https://huggingface.co/datasets/rishitdagli/cppe-5", ["--limit", "20"]),
    "kaggle": ("www.kaggle.com", "KAGGLE_KEY", "https://www.kaggle.com/datasets/andrewmvd/road-sign-detection", []),
    "roboflow": (
        "api.roboflow.com",
        "ROBOFLOW_API_KEY",
        f"{UNIVERSE}/wolfodorpythontests/sharks-tiny-q9lmf/dataset/774",
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_real_service(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    host, variable, source, options = CASES[name]
    if variable and not os.environ.get(variable):
        pytest.skip(f"online: needs a key in {variable}")
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        pytest.skip(f"online: {host} cannot be reached")
    assert cli.main(["init", str(tmp_path / "project")]) == 0
    monkeypatch.chdir(tmp_path / "project")
    assert cli.main(["collect", source, *options]) == 0, capsys.readouterr().err
    manifest: dict[str, Any] = json.loads(Path("datasets/collect/v1/manifest.json").read_text(encoding="utf-8"))
    assert manifest["summary"]["images"] > 0
    assert cli.main(["verify", "collect"]) == 0
    if variable:
        secret = os.environ[variable]
        assert not [path for path in Path().rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
