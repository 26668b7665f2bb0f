"""The machine in a record: made-up Linux, macOS and Windows machines, GPUs, and nothing that tells whose machine it is."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.bench import probe, system


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What commands print, by the beginning of their command line; the longest that fits."""
    prints: dict[str, str] = {}

    def output(*command: str) -> str:
        line = " ".join(command)
        return prints.get(max((start for start in prints if line.startswith(start)), key=len, default=""), "")

    monkeypatch.setattr(probe, "output", output)
    return prints


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n", encoding="utf-8")


def keys(value: Any, prefix: str = "") -> set[str]:
    if not isinstance(value, dict) or prefix == ".cpu.caches_kib":
        return {prefix}
    return set().union(*(keys(inner, f"{prefix}.{key}") for key, inner in value.items()))


LAPTOP = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7-1260P\nflags\t\t: fpu avx2 fma avx_vnni f16c\n\n"
    "processor\t: 1\nmodel name\t: another",
    "proc/meminfo": "MemTotal:       32594468 kB",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"',
    "sys/class/dmi/id/product_name": "ThinkPad T14",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0",
    "sys/devices/system/cpu/cpu0/topology/core_id": "0",
    "sys/devices/system/cpu/cpu1/topology/physical_package_id": "0",
    "sys/devices/system/cpu/cpu1/topology/core_id": "0",
    "sys/devices/system/cpu/cpu2/topology/physical_package_id": "0",
    "sys/devices/system/cpu/cpu2/topology/core_id": "4",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "4700000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K",
    "sys/devices/system/cpu/cpu0/cache/index3/level": "3",
    "sys/devices/system/cpu/cpu0/cache/index3/type": "Unified",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "18M",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0",
    "sys/firmware/acpi/platform_profile": "balanced",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/AC/online": "0",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/drm/card0/device/vendor": "0x8086",
    "sys/class/drm/card0/device/device": "0x46a6",
    "sys/class/drm/card0/device/uevent": "DRIVER=i915\nPCI_ID=8086:46A6",
}


def test_a_linux_laptop(tmp_path: Path) -> None:
    write(tmp_path, LAPTOP)
    found = system.machine(tmp_path, "linux")
    cpu = found["cpu"]
    assert (found["model"], found["os"]["name"], found["memory_gib"]) == ("ThinkPad T14", "Ubuntu 24.04.1 LTS", 31.1)
    assert (cpu["name"], cpu["sockets"], cpu["cores"]) == ("Intel(R) Core(TM) i7-1260P", 1, 2)
    assert cpu["flags"] == ["avx2", "avx_vnni", "f16c", "fma"]
    assert cpu["caches_kib"] == {"L1d": 48, "L3": 18 * 1024}
    assert (cpu["max_mhz"], cpu["governor"], cpu["turbo"]) == (4700, "powersave", True)
    assert found["power"] == {"plan": "balanced", "on_battery": True}
    assert [(gpu["name"], gpu["driver"]) for gpu in found["gpus"]] == [("Intel PCI 8086:46a6", "i915")]
    assert found["virtual"] == {"vm": "", "container": ""}
    assert found["limits"] == {"cpus": None, "memory_gib": None}


def test_a_machine_without_power_supplies_does_not_tell_what_it_runs_on(tmp_path: Path) -> None:
    assert system.machine(tmp_path, "linux")["power"]["on_battery"] is None


def test_the_battery_of_a_mouse_is_not_the_machines(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/power_supply/AC/type": "Mains"})
    mouse = {"type": "Battery", "status": "Discharging", "scope": "Device"}
    write(tmp_path, {f"sys/class/power_supply/hidpp_battery_0/{name}": text for name, text in mouse.items()})
    assert system.machine(tmp_path, "linux")["power"]["on_battery"] is False


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000", "sys/fs/cgroup/memory.max": "2147483648"}, (1.5, 2.0)),
        ({"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}, (None, None)),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            (None, None),
        ),
    ],
    ids=["version 2", "no limit", "version 1"],
)
def test_the_limits_of_a_container(tmp_path: Path, files: dict[str, str], expected: tuple[float, float]) -> None:
    write(tmp_path, files)
    assert tuple(system.machine(tmp_path, "linux")["limits"].values()) == expected


@pytest.mark.parametrize(
    ("files", "vm", "container"),
    [
        ({"proc/cpuinfo": "flags : fpu hypervisor", "sys/class/dmi/id/sys_vendor": "QEMU", ".dockerenv": ""}, "QEMU", "docker"),
        ({"proc/cpuinfo": "flags : fpu hypervisor", "run/.containerenv": ""}, "unknown hypervisor", "podman"),
        ({"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}, "WSL", ""),
        ({"proc/1/cgroup": "0::/kubepods/besteffort/pod1"}, "", "kubepods"),
    ],
)
def test_machines_inside_machines(tmp_path: Path, files: dict[str, str], vm: str, container: str) -> None:
    write(tmp_path, files)
    assert system.machine(tmp_path, "linux")["virtual"] == {"vm": vm, "container": container}


def test_an_arm_board_has_its_names_elsewhere(tmp_path: Path, commands: dict[str, str]) -> None:
    write(tmp_path, {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp crc32\nCPU part : 0xd0b"})
    write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    commands["lscpu"] = "Architecture:   aarch64\nModel name:     Cortex-A76\n"
    found = system.machine(tmp_path, "linux")
    assert (found["cpu"]["name"], found["cpu"]["flags"]) == ("Cortex-A76", ["asimd", "asimddp"])
    assert found["model"].startswith("Raspberry Pi 5")


def test_a_mac(commands: dict[str, str]) -> None:
    commands["sysctl"] = (
        "hw.model: Mac14,2\nhw.packages: 1\nhw.physicalcpu: 8\nhw.memsize: 17179869184\nhw.l1dcachesize: 65536\n"
        "hw.perflevel0.l1dcachesize: 131072\nhw.l2cachesize: 4194304\nhw.optional.arm.FEAT_DotProd: 1\n"
        "hw.optional.arm.FEAT_SME: 0\nmachdep.cpu.brand_string: Apple M2\nkern.hv_vmm_present: 0\n"
    )
    commands["system_profiler"] = json.dumps({"SPDisplaysDataType": [{"sppci_model": "Apple M2", "spdisplays_ndrvs": [{}]}]})
    commands["pmset -g"] = "System-wide power settings:\nCurrently in use:\n lowpowermode         1\n sleep 1 (by someone)\n"
    commands["pmset -g batt"] = "Now drawing from 'Battery Power'\n"
    found = system.machine(platform="darwin")
    assert (found["model"], found["memory_gib"], found["cpu"]["name"], found["cpu"]["cores"]) == ("Mac14,2", 16, "Apple M2", 8)
    assert found["cpu"]["caches_kib"] == {"L1d": 128, "L2": 4096}
    assert found["cpu"]["flags"] == ["feat_dotprod"]
    assert [gpu["name"] for gpu in found["gpus"]] == ["Apple M2"]
    assert found["power"] == {"plan": "low power", "on_battery": True}


def test_a_windows_workstation(commands: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = {"Name": "AMD Ryzen 9 7950X  ", "NumberOfCores": 16, "MaxClockSpeed": 4501, "L2CacheSize": 16384, "L3CacheSize": 65536}
    commands["powershell"] = json.dumps(
        {
            "cpu": [cpu],
            "system": [{"Model": "MS-7D78", "TotalPhysicalMemory": 68719476736}],
            "gpus": [{"Name": "AMD Radeon(TM) Graphics", "DriverVersion": "31.0.1"}, {"Name": "NVIDIA GeForce RTX 4090"}],
        }
    )
    commands["powercfg"] = "Power Scheme GUID: 381b4222-f694-41f0-9685-ff5bb260df2e  (Balanced)\n"
    commands["nvidia-smi"] = "| NVIDIA-SMI 560.94    Driver Version: 560.94    CUDA Version: 12.6     |\n"
    commands["nvidia-smi --query-gpu"] = "NVIDIA GeForce RTX 4090, 24564, 560.94, 8.9, 450.00\n"
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(sensors_battery=lambda: None))
    found = system.machine(platform="win32")
    assert (found["cpu"]["name"], found["cpu"]["sockets"], found["cpu"]["cores"]) == ("AMD Ryzen 9 7950X", 1, 16)
    assert (found["cpu"]["caches_kib"], found["memory_gib"]) == ({"L2": 16384, "L3": 65536}, 64)
    assert found["power"] == {"plan": "Balanced", "on_battery": None}
    assert [gpu["name"] for gpu in found["gpus"]] == ["NVIDIA GeForce RTX 4090", "AMD Radeon(TM) Graphics"]
    assert found["gpus"][0] == {
        "name": "NVIDIA GeForce RTX 4090",
        "memory_mib": 24564,
        "driver": "560.94",
        "cuda": "12.6",
        "compute_capability": "8.9",
        "power_limit_w": 450,
    }


@pytest.mark.parametrize("garbage", ["", "not json", "[1]", "null"])
def test_a_system_that_answers_nonsense_is_a_machine_with_unknown_fields(
    commands: dict[str, str], tmp_path: Path, garbage: str
) -> None:
    commands.update(dict.fromkeys(("powershell", "system_profiler", "sysctl", "pmset", "lscpu", "powercfg"), garbage))
    shapes = [keys(system.machine(tmp_path, platform)) for platform in ("linux", "darwin", "win32", "freebsd")]
    assert all(shape == shapes[0] for shape in shapes)


def test_a_gpu_that_does_not_tell_its_power_has_none(commands: dict[str, str], tmp_path: Path) -> None:
    commands["nvidia-smi --query-gpu"] = "Orin (nvgpu), [N/A], 540.3.0, 8.7, [N/A]\n"
    gpu = system.machine(tmp_path, "linux")["gpus"][0]
    assert (gpu["name"], gpu["memory_mib"], gpu["power_limit_w"], gpu["cuda"]) == ("Orin (nvgpu)", None, None, "")


def test_software_has_versions_and_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("LD_PRELOAD", "/home/someone/libjemalloc.so")
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    found = system.software()
    assert found["packages"]["numpy"]
    assert found["environment"]["OMP_NUM_THREADS"] == "2"
    assert found["environment"]["LD_PRELOAD"] == "set"
    assert not {"hush", "someone"} & set(json.dumps(found).replace("/", '"').split('"'))


@pytest.mark.parametrize(
    ("value", "told"),
    [("0,2", "0,2"), ("-1", "-1"), ("", ""), ("GPU-8932f937-d72c", "set"), ("MIG-1", "set")],
)
def test_a_gpu_chosen_by_its_serial_number_is_only_set(monkeypatch: pytest.MonkeyPatch, value: str, told: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert system.software()["environment"]["CUDA_VISIBLE_DEVICES"] == told


def test_of_several_builds_of_a_runtime_the_record_has_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"onnxruntime": "1.20", "onnxruntime-gpu": "1.22", "numpy": "2.4"}

    def version(name: str) -> str:
        if name not in known:
            raise system.metadata.PackageNotFoundError
        return known[name]

    modules = {
        "onnxruntime": SimpleNamespace(__version__="1.22"),
        "onnxruntime.capi.build_and_package_info": SimpleNamespace(package_name="onnxruntime-gpu"),
        "tensorrt": SimpleNamespace(__version__="10.3.0"),  # as a board has it
    }
    monkeypatch.setattr(system.metadata, "version", version)
    monkeypatch.setattr(probe, "optional", modules.get)
    assert system.software()["packages"] == {"numpy": "2.4", "onnxruntime-gpu": "1.22", "tensorrt": "10.3.0"}


def test_this_machine_is_described_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real commands
    text = json.dumps([system.machine(), system.software()])
    names = {socket.gethostname(), socket.getfqdn(), os.path.expanduser("~")}  # noqa: PTH111
    if len(getpass.getuser()) > 4:  # "root" may be a part of a word
        names.add(getpass.getuser())
    assert not [name for name in names if len(name) > 4 and name in text]
