"""One rule for devices, on machines that are feigned by what torch says of them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pipeline import devices, machine
from pipeline.errors import UsageError
from pipeline.runtimes import engine, pytorch
from pipeline.stage import Context
from pipeline.stages import evaluate, export, train

ROOT = Path(__file__).parents[2]


def feign(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, apple: bool = False, warning: str = "") -> None:
    import torch

    def available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=2)
        return gpus > 0

    monkeypatch.setattr(torch.cuda, "is_available", available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(machine, "gpu_names", lambda: [])


@pytest.mark.parametrize(
    ("gpus", "apple", "wanted", "measuring", "training"),
    [
        (0, False, "auto", "cpu", "cpu"),
        (2, False, "auto", "cuda:0", "cuda:0"),
        (0, True, "auto", "cpu", "mps"),
        (0, True, "mps", "mps", "mps"),
        (2, False, "cuda", "cuda:0", "cuda:0"),
        (2, False, "cuda:1", "cuda:1", "cuda:1"),
        (2, True, "cpu", "cpu", "cpu"),
    ],
)
def test_what_a_word_means(
    gpus: int, apple: bool, wanted: str, measuring: str, training: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feign(monkeypatch, gpus, apple)
    assert devices.pick(wanted) == measuring
    assert devices.pick(wanted, training=True) == training
    devices.require(wanted)


@pytest.mark.parametrize("wanted", ["cuda", "cuda:99", "mps"])
def test_what_is_not_there_is_a_mistake_of_usage_everywhere_before_anything_runs(
    wanted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feign(monkeypatch)
    context = Context(device=wanted, cache=tmp_path)
    askers = [
        lambda: devices.pick(wanted, training=True),
        lambda: devices.require(wanted),
        lambda: train.preflight(train.TrainParams(), context),
        lambda: evaluate.preflight(evaluate.Params(), context),
        lambda: export.preflight(export.Params(formats=["onnx"]), context),
    ]
    for ask in askers:
        with pytest.raises(UsageError, match=f"The device '{wanted}' is not there") as caught:
            ask()
        assert caught.value.exit_code == 2
        assert "device: auto" in caught.value.hint
        assert "this machine has cpu." in caught.value.hint


def test_a_word_that_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    feign(monkeypatch, gpus=1)
    with pytest.raises(UsageError, match="'gpu' is no device") as caught:
        devices.pick("gpu")
    assert caught.value.hint == "Devices here: auto, cpu, cuda:0."


def test_the_reason_is_told_where_it_is_known(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    import torch

    feign(monkeypatch, warning="The NVIDIA driver on your system is too old.")
    with pytest.raises(UsageError, match=r"is not there: PyTorch says: The NVIDIA driver on your system is too old\."):
        devices.pick("cuda")
    assert devices.pick("auto") == "cpu"
    assert not recwarn.list, "the terminal is not for torch's warnings"
    feign(monkeypatch)
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA H100"])
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match="this machine has NVIDIA H100, but its PyTorch is a build for CPUs"):
        devices.pick("cuda")


def test_an_engine_runs_on_an_nvidia_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    feign(monkeypatch, gpus=2)
    assert [engine.place(device) for device in ("auto", "cuda", "cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    for device in ("cpu", "mps"):
        with pytest.raises(UsageError, match=f"needs an NVIDIA GPU, and the device is '{device}'"):
            engine.place(device)


def test_an_engine_that_could_not_be_judged_is_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feign(monkeypatch, gpus=1)
    monkeypatch.setattr(engine, "unavailable", lambda: "")
    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: [])
    with pytest.raises(UsageError, match=r"export\.formats: A TensorRT engine needs an NVIDIA GPU") as caught:
        export.preflight(export.Params(formats=["engine"]), Context(device="cpu", cache=tmp_path))
    assert caught.value.hint == "Set `device: auto`, or take engine out."
    export.preflight(export.Params(formats=["engine"]), Context(device="auto", cache=tmp_path))


def test_a_checkpoint_asks_before_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.runtimes import LoadOptions
    from tests import tiny_model

    feign(monkeypatch)
    path = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    with pytest.raises(UsageError, match="'cuda' is not there"):
        pytorch.load(path, "cuda", LoadOptions(cache=tmp_path / "cache"))


def test_the_cpu_and_auto_are_settled_without_loading_torch() -> None:
    code = (
        "import sys; from pipeline import devices; devices.require('auto'); devices.require('cpu'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
