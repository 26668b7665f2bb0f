"""What a record says of the machine and its software: everything that a speed depends on, nothing that tells whose machine it is.

No host name, user name, path or serial number: every field is chosen by name, and nothing is copied wholesale. The keys are the
same on every system; what a system does not tell is None, "" or empty.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform as platforms
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.bench import probe
from pipeline.bench.probe import read_number, read_text

JSON = dict[str, Any]

WSL = "WSL"
"""Linux in Windows: a virtual machine on a machine of one's own."""

PACKAGES = (
    "ai-edge-litert coremltools mnn ncnn numpy nvidia-cublas nvidia-cublas-cu12 nvidia-cudnn-cu12 nvidia-cudnn-cu13 onnxruntime "
    "onnxruntime-directml onnxruntime-gpu onnxruntime-openvino opencv-python opencv-python-headless openvino pillow tensorrt "
    "tensorrt-cu12 tensorrt-cu13 tflite-runtime torch torchvision ultralytics"
)
"""Distributions that compute, or decode pictures."""

VARIABLES = (
    "CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_VISIBLE_DEVICES GOMP_CPU_AFFINITY KMP_AFFINITY KMP_BLOCKTIME LD_PRELOAD "
    "MALLOC_ARENA_MAX MKL_NUM_THREADS NVIDIA_TF32_OVERRIDE OMP_DYNAMIC OMP_NUM_THREADS OMP_PLACES OMP_PROC_BIND OMP_WAIT_POLICY "
    "ONEDNN_MAX_CPU_ISA OPENBLAS_NUM_THREADS OPENCV_FOR_THREADS_NUM PYTORCH_CUDA_ALLOC_CONF TF_NUM_INTRAOP_THREADS "
    "VECLIB_MAXIMUM_THREADS"
)
"""Environment variables that change speed."""

FLAGS = (
    "sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "asimd asimdhp asimddp i8mm bf16 sve sve2 sme sse4.2 avx1.0 "
    "feat_dotprod feat_fp16 feat_i8mm feat_bf16 feat_sme feat_sme2"
)
"""Instructions that inference uses, by the names of Linux and macOS."""

_WINDOWS_FLAGS = {38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f", 43: "asimddp"}
"""PF_… of IsProcessorFeaturePresent."""

_WINDOWS_QUERY = (
    "@{cpu=@(Get-CimInstance Win32_Processor|"
    "select Name,NumberOfCores,NumberOfLogicalProcessors,MaxClockSpeed,L2CacheSize,L3CacheSize);"
    "system=@(Get-CimInstance Win32_ComputerSystem|select Model,TotalPhysicalMemory);"
    "gpus=@(Get-CimInstance Win32_VideoController|select Name,DriverVersion)}|ConvertTo-Json -Depth 3"
)
_DRM_VENDORS = {"0x8086": "Intel", "0x1002": "AMD", "0x10de": "NVIDIA"}
_NO_MEMORY_LIMIT = 1 << 60


def machine(root: Path = Path("/"), platform: str = sys.platform) -> JSON:
    """The machine, see `_nothing_known` for the keys. Takes up to some seconds on Windows and macOS.

    Args:
        root: of the file system that has proc/, sys/ and etc/.
        platform: as sys.platform has it.
    """
    found = _nothing_known(platform)
    look = {"linux": lambda: _linux(root, found), "darwin": lambda: _macos(found), "win32": lambda: _windows(found)}
    look.get(platform, lambda: None)()
    if nvidia := _nvidia_gpus():
        found["gpus"] = nvidia + [gpu for gpu in found["gpus"] if not gpu["name"].startswith("NVIDIA")]
    return found


def software() -> JSON:
    """`python`, `implementation`, `packages` {distribution: version} and `environment` {variable: value} as far as they are
    there. A value that names a file is given as "set", and so is a GPU by its serial number."""
    packages: dict[str, str] = {}
    for name in PACKAGES.split():
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    packages = _that_run(packages)
    found = {name: os.environ[name] for name in VARIABLES.split() if name in os.environ}
    return {
        "python": platforms.python_version(),
        "implementation": platforms.python_implementation(),
        "packages": packages,
        "environment": {name: "set" if _names_something(name, value) else value for name, value in found.items()},
    }


def _that_run(packages: dict[str, str]) -> dict[str, str]:
    """Packages as Python imports them: several builds of ONNX Runtime can be installed over each other, of which the last one
    runs; TensorRT comes without a distribution on boards and in NVIDIA's containers."""
    onnxruntime = probe.optional("onnxruntime") if any(name.startswith("onnxruntime") for name in packages) else None
    build = getattr(probe.optional("onnxruntime.capi.build_and_package_info") if onnxruntime else None, "package_name", "")
    if build:
        packages = {name: version for name, version in packages.items() if not name.startswith("onnxruntime")}
        packages[build] = str(getattr(onnxruntime, "__version__", ""))
    if not any(name.startswith("tensorrt") for name in packages):
        version = str(getattr(probe.optional("tensorrt"), "__version__", ""))
        packages |= {"tensorrt": version} if version else {}
    return packages


def _names_something(variable: str, value: str) -> bool:
    if variable == "CUDA_VISIBLE_DEVICES":
        return not re.fullmatch(r"[\d\s,-]*", value)
    return "/" in value or "\\" in value


def _nothing_known(platform: str) -> JSON:
    affinity = platform == "linux" and hasattr(os, "sched_getaffinity")
    return {
        "model": "",
        "os": {"name": platforms.system(), "release": platforms.release(), "architecture": platforms.machine()},
        "cpu": {
            "name": platforms.processor() or platforms.machine(),
            "sockets": None,
            "cores": None,
            "threads": os.cpu_count(),
            "usable_threads": len(os.sched_getaffinity(0)) if affinity else os.cpu_count(),
            "max_mhz": None,
            "caches_kib": {},  # of one core, or of those that share it
            "flags": [],
            "governor": "",
            "turbo": None,
        },
        "memory_gib": None,
        "limits": {"cpus": None, "memory_gib": None},  # of the container
        "gpus": [],
        "power": {"plan": "", "on_battery": None},
        "virtual": {"vm": "", "container": ""},
    }


# ---- Linux ----


def _linux(root: Path, found: JSON) -> None:
    described = dict(_pairs(read_text(root / "proc/cpuinfo"), ":"))
    cpus, cpu = root / "sys/devices/system/cpu", found["cpu"]
    release = dict(_pairs(read_text(root / "etc/os-release"), "="))
    found["os"]["name"] = release.get("PRETTY_NAME", "Linux").strip('"')
    found["model"] = read_text(root / "sys/class/dmi/id/product_name") or read_text(root / "proc/device-tree/model")
    cpu["name"] = described.get("model name") or dict(_pairs(probe.output("lscpu"), ":")).get("Model name") or cpu["name"]
    cpu["flags"] = _known_flags((described.get("flags") or described.get("Features", "")).split())
    cores = {
        (read_text(folder / "physical_package_id"), read_text(folder / "core_id")) for folder in cpus.glob("cpu[0-9]*/topology")
    }
    if cores:
        cpu["sockets"], cpu["cores"] = len({socket for socket, _ in cores}), len(cores)
    if kilohertz := read_number(cpus / "cpu0/cpufreq/cpuinfo_max_freq"):
        cpu["max_mhz"] = kilohertz / 1000
    for cache in sorted((cpus / "cpu0/cache").glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(read_text(cache / "type"), "")
        if size := re.fullmatch(r"(\d+)([KM])", read_text(cache / "size")):
            name = f"L{read_text(cache / 'level')}{kind}"
            cpu["caches_kib"][name] = int(size[1]) * (1024 if size[2] == "M" else 1)
    cpu["governor"] = read_text(cpus / "cpu0/cpufreq/scaling_governor")
    if text := read_text(cpus / "intel_pstate/no_turbo"):
        cpu["turbo"] = text == "0"
    elif text := read_text(cpus / "cpufreq/boost"):
        cpu["turbo"] = text == "1"
    if kib := re.search(r"MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo")):
        found["memory_gib"] = round(int(kib[1]) / 2**20, 1)
    found["limits"] = _cgroup_limits(root / "sys/fs/cgroup")
    found["gpus"] = _drm_gpus(root)
    found["power"] = _linux_power(root)
    found["virtual"] = {"vm": _linux_vm(root, described, found), "container": _container(root)}


def _cgroup_limits(cgroup: Path) -> JSON:
    """Version 2, or 1 where that is mounted; without a limit None."""
    quota, _, period = read_text(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = read_text(cgroup / "cpu/cpu.cfs_quota_us"), read_text(cgroup / "cpu/cpu.cfs_period_us")
    limit = read_number(cgroup / "memory.max") or read_number(cgroup / "memory/memory.limit_in_bytes")
    return {
        "cpus": round(int(quota) / int(period), 2) if quota.isdigit() and period.isdigit() and int(period) else None,
        "memory_gib": round(limit / 2**30, 1) if 0 < limit < _NO_MEMORY_LIMIT else None,
    }


def _linux_power(root: Path) -> JSON:
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    # Mice and headsets have batteries too; the machine's own have no scope, or "System".
    own = [supply for supply in supplies if read_text(supply / "scope") in ("", "System")]
    if not own:
        return {"plan": read_text(root / "sys/firmware/acpi/platform_profile"), "on_battery": None}
    discharging = any(read_text(supply / "status") == "Discharging" for supply in own if read_text(supply / "type") == "Battery")
    return {"plan": read_text(root / "sys/firmware/acpi/platform_profile"), "on_battery": discharging}


def _linux_vm(root: Path, described: dict[str, str], found: JSON) -> str:
    if "microsoft" in read_text(root / "proc/sys/kernel/osrelease").lower():
        return WSL
    if "hypervisor" not in described.get("flags", "").split() and not read_text(root / "sys/hypervisor/type"):
        return ""
    return f"{read_text(root / 'sys/class/dmi/id/sys_vendor')} {found['model']}".strip() or "unknown hypervisor"


def _container(root: Path) -> str:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = read_text(root / "proc/1/cgroup")
    return next((name for name in ("kubepods", "docker", "containerd", "lxc") if name in groups), "")


def _drm_gpus(root: Path) -> list[JSON]:
    """GPUs that have no tool of their own, by the numbers that PCI gives them."""
    found = []
    for device in sorted((root / "sys/class/drm").glob("card[0-9]/device")):
        vendor, number = read_text(device / "vendor"), read_text(device / "device")
        driver = dict(_pairs(read_text(device / "uevent"), "=")).get("DRIVER", "")
        if vendor in _DRM_VENDORS:
            found.append(_gpu(f"{_DRM_VENDORS[vendor]} PCI {vendor[2:]}:{number[2:]}", driver=driver))
    return found


# ---- macOS ----


def _macos(found: JSON) -> None:
    told = dict(_pairs(probe.output("sysctl", "hw", "machdep.cpu", "kern.hv_vmm_present"), ":"))
    cpu = found["cpu"]

    def number(*names: str) -> int | None:
        return next((int(told[name]) for name in names if told.get(name, "").isdigit() and told[name] != "0"), None)

    found["os"]["name"] = f"macOS {platforms.mac_ver()[0]}".strip()
    found["model"] = told.get("hw.model", "")
    cpu["name"] = told.get("machdep.cpu.brand_string") or cpu["name"]
    cpu["sockets"], cpu["cores"] = number("hw.packages"), number("hw.physicalcpu")
    caches = {"L1d": "l1dcachesize", "L1i": "l1icachesize", "L2": "l2cachesize", "L3": "l3cachesize"}
    sizes = {name: number(f"hw.perflevel0.{key}", f"hw.{key}") for name, key in caches.items()}
    cpu["caches_kib"] = {name: size // 1024 for name, size in sizes.items() if size}
    of_intel = f"{told.get('machdep.cpu.features', '')} {told.get('machdep.cpu.leaf7_features', '')}".lower().split()
    of_apple = [key.rpartition(".")[2].lower() for key, value in told.items() if key.startswith("hw.optional") and value == "1"]
    cpu["flags"] = _known_flags(of_intel + of_apple)
    if size := number("hw.memsize"):
        found["memory_gib"] = round(size / 2**30, 1)
    displays = _json(probe.output("system_profiler", "-json", "SPDisplaysDataType")).get("SPDisplaysDataType", [])
    found["gpus"] = [_gpu(str(gpu["sppci_model"])) for gpu in displays if isinstance(gpu, dict) and "sppci_model" in gpu]
    saving = dict(_pairs(probe.output("pmset", "-g"), " ")).get("lowpowermode", "")
    source = probe.output("pmset", "-g", "batt")
    found["power"] = {
        "plan": {"0": "normal", "1": "low power"}.get(saving, ""),
        "on_battery": "'Battery Power'" in source if source else None,
    }
    found["virtual"]["vm"] = "unknown hypervisor" if told.get("kern.hv_vmm_present") == "1" else ""


# ---- Windows ----


def _windows(found: JSON) -> None:
    told = _json(probe.output("powershell", "-NoProfile", "-NonInteractive", "-Command", _WINDOWS_QUERY))
    cpus, systems = told.get("cpu") or [{}], told.get("system") or [{}]
    cpu = found["cpu"]
    found["os"]["name"] = f"Windows {platforms.version()}".strip()
    found["model"] = str(systems[0].get("Model") or "")
    cpu["name"] = str(cpus[0].get("Name") or cpu["name"]).strip()
    if told:
        cpu["sockets"], cpu["cores"] = len(cpus), sum(one.get("NumberOfCores") or 0 for one in cpus) or None
    cpu["max_mhz"] = cpus[0].get("MaxClockSpeed")
    cpu["caches_kib"] = {name: cpus[0][key] for name, key in (("L2", "L2CacheSize"), ("L3", "L3CacheSize")) if cpus[0].get(key)}
    if hasattr(ctypes, "windll"):
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        cpu["flags"] = [name for number, name in _WINDOWS_FLAGS.items() if present(number)]
    if size := systems[0].get("TotalPhysicalMemory"):
        found["memory_gib"] = round(int(size) / 2**30, 1)
    names = [(str(gpu.get("Name") or ""), str(gpu.get("DriverVersion") or "")) for gpu in told.get("gpus") or []]
    found["gpus"] = [_gpu(name, driver=driver) for name, driver in names if name]
    plan = re.search(r"\((.+)\)\s*$", probe.output("powercfg", "/getactivescheme"))
    psutil = probe.optional("psutil")
    battery = psutil.sensors_battery() if psutil else None
    found["power"] = {"plan": plan[1] if plan else "", "on_battery": None if battery is None else not battery.power_plugged}
    machines = ("virtual", "vmware", "kvm", "qemu", "hvm domu", "parallels")
    found["virtual"]["vm"] = found["model"] if any(word in found["model"].lower() for word in machines) else ""


# ---- all ----


def _nvidia_gpus() -> list[JSON]:
    fields = "name,memory.total,driver_version,compute_cap,power.limit"
    rows = probe.output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits").splitlines()
    cuda = re.search(r"CUDA (?:UMD )?Version\s*:\s*([\d.]+)", probe.output("nvidia-smi")) if rows else None
    found = []
    for row in rows:
        name, memory, driver, capability, watts = ([part.strip() for part in row.split(",")] + [""] * 5)[:5]
        found.append(_gpu(name, _float(memory), driver, cuda[1] if cuda else "", capability, _float(watts)))
    return found


def _gpu(
    name: str,
    memory_mib: float | None = None,
    driver: str = "",
    cuda: str = "",
    compute_capability: str = "",
    power_limit_w: float | None = None,
) -> JSON:
    """`cuda`: the newest that the driver supports, not the one that a runtime was built with."""
    return dict(locals())


def _known_flags(flags: list[str]) -> list[str]:
    return sorted(set(FLAGS.split()).intersection(flags))


def _pairs(text: str, separator: str) -> list[tuple[str, str]]:
    """(key, value) of every line that has both; of equal keys the last counts in a dict, so the first is put last."""
    parts = (line.strip().partition(separator) for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in parts if key and value.strip()][::-1]


def _json(text: str) -> JSON:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
