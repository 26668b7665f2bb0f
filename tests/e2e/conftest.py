from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.project import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the starting weights `start.pt`: random ones, so that neither a network nor a package is needed."""
    from pipeline.yolo import ultralytics

    base = tmp_path_factory.mktemp("base")
    ultralytics(base / "cache")
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    torch.save({"model": DetectionModel("yolo11n.yaml", nc=2, verbose=False), "epoch": -1}, base / "start.pt")
    return base
