"""The only package that imports ultralytics.

Third-party training code is hostile I/O: it installs packages, phones home, writes settings to the home folder, rewrites images
in place, unpickles whatever it is given and reads `datasets` relative to its own settings. `ultralytics()` imports it with all of
that switched off or pointed at a folder of ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

from pipeline import machine
from pipeline.errors import MissingDependency, how_to_install

# Integrations that are on as soon as their package is installed; tracking is the user's explicit choice, never a side effect.
_INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def ultralytics(cache: Path) -> ModuleType:
    """Import ultralytics with its settings in `cache`, offline, without telemetry, trackers or automatic installs.

    Must come before any other import of it in the process, since it reads its environment once.

    Raises:
        MissingDependency: it is not installed.
    """
    if "ultralytics" in sys.modules:
        return sys.modules["ultralytics"]
    config = cache / "ultralytics"
    config.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        YOLO_CONFIG_DIR=str(config),
        YOLO_AUTOINSTALL="false",
        YOLO_OFFLINE="1",
        YOLO_VERBOSE="false",
        ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1",
        # A .pt file is a pickle and can run any code when it is loaded: build only classes that ultralytics and torch define.
        ULTRALYTICS_SAFE_LOAD="1",
    )
    # It sets OMP_NUM_THREADS=1 when unset, which would leave all cores but one idle in everything that follows.
    os.environ.setdefault("OMP_NUM_THREADS", str(machine.usable_cores()))
    from PIL import Image

    open_image = Image.open
    try:
        import ultralytics
    except ImportError as error:
        raise MissingDependency(f"ultralytics cannot be imported: {error}", how_to_install("train")) from error
    finally:
        # It puts its own function there, which asks for another package instead of saying that a file is no image.
        Image.open = open_image
    settings = ultralytics.settings
    settings.update({key: False for key in _INTEGRATIONS if key in settings})
    return sys.modules["ultralytics"]
