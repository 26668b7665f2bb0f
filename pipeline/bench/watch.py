"""What the machine does while a cell is measured: load of others, clock frequency, temperature, throttling, memory, energy.

    watch = Watch(Sensors(gpu=0))             # before a model is loaded
    with watch.round():
        timer.run_round(0.6, 20)
    watched = joined([watch, ...])            # of the rounds of a cell, each in a process of its own
    watched.summary(), watched.energy_j, watched.memory_peak_mib

Sensors are read before and after a round and never during it: a thread that looks in between would be in the samples. What counts
up (processor time, throttle events, joules) loses nothing by that; frequency and temperature are those of the ends of the rounds.
What a machine does not tell is None, never zero.

Linux tells most, by /proc and /sys; of macOS and Windows comes what psutil has, of NVIDIA GPUs what NVML has (pynvml). Neither
package must be there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bench import probe
from pipeline.bench.probe import read_number, read_text

_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal")
_CPU_ZONES = ("x86_pkg_temp", "cpu", "soc", "package")
_SANE_C = (-40.0, 150.0)

_PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_NOW = 0xF
"""Of a Raspberry Pi's flags those that hold now: under-voltage, frequency capped, throttled, soft temperature limit."""

_GPU_SLOWED = 0x08 | 0x20 | 0x40 | 0x80
"""Of NVML's reasons for a lower clock: hardware slowdown, heat by software and by hardware, power brake. Not its power cap
(0x04), within which a GPU at full load always runs."""


@dataclass(frozen=True)
class GpuReading:
    """`slowed`: at this moment. `slowed_ns`: by heat, counted up by the driver."""

    mhz: float | None = None
    temperature_c: float | None = None
    slowed: bool | None = None
    slowed_ns: int | None = None
    energy_j: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Reading:
    """The sensors at one moment.

    Attributes:
        busy_s, idle_s: time of all processors together since boot; what the hypervisor gave to other machines is busy.
        own_s: processor time of this process, all threads.
        cpu_mhz: of the fastest core that this process may use.
        throttle_events: how often cores and packages were slowed down since boot.
        energy_uj: name of a counter → (microjoules, where it wraps around).
    """

    busy_s: float | None
    idle_s: float | None
    own_s: float
    cpu_mhz: float | None = None
    temperature_c: float | None = None
    throttle_events: int | None = None
    slowed: bool | None = None
    energy_uj: dict[str, tuple[int, int]] = field(default_factory=dict)
    gpu: GpuReading = field(default_factory=GpuReading)


class Sensors:
    """Everything that is read; looks once where it is.

    Args:
        gpu: NVML index or UUID ("GPU-…") of the GPU that is measured on; CUDA may number GPUs otherwise, its UUIDs are the same.
        root: of the file system that has proc/ and sys/.
    """

    def __init__(self, gpu: int | str | None = None, root: Path = Path("/"), platform: str = sys.platform) -> None:
        self._root = root
        self._platform = platform
        cores = os.sched_getaffinity(0) if platform == "linux" and hasattr(os, "sched_getaffinity") else set()
        cpus = [root / f"sys/devices/system/cpu/cpu{core}" for core in sorted(cores)]
        self._frequencies = _readable(cpu / "cpufreq/scaling_cur_freq" for cpu in cpus)
        self._throttle_counts = _readable(
            cpu / "thermal_throttle" / name for cpu in cpus for name in ("core_throttle_count", "package_throttle_count")
        )
        self._temperatures = self._find_temperatures()
        zones = sorted((root / "sys/class/powercap").glob("*-rapl:*"))
        self._packages = [
            zone for zone in zones if read_text(zone / "name").startswith("package") and read_text(zone / "energy_uj")
        ]
        self._gpu = None if gpu is None else Nvml.open(gpu)

    def read(self) -> Reading:
        busy_s, idle_s = self._processor_times()
        return Reading(
            busy_s=busy_s,
            idle_s=idle_s,
            own_s=time.process_time(),
            cpu_mhz=self._cpu_mhz(),
            temperature_c=_hottest(self._temperatures),
            throttle_events=sum(map(read_number, self._throttle_counts)) if self._throttle_counts else None,
            slowed=self._slowed(),
            energy_uj={
                zone.name: (read_number(zone / "energy_uj"), read_number(zone / "max_energy_range_uj")) for zone in self._packages
            },
            gpu=GpuReading() if self._gpu is None else self._gpu.read(),
        )

    def gpu_memory_used_mib(self) -> float | None:
        """Of the whole GPU, whoever took it."""
        return None if self._gpu is None else self._gpu.memory_used_mib()

    def _find_temperatures(self) -> list[Path]:
        chips = sorted((self._root / "sys/class/hwmon").glob("hwmon*"))
        found = [path for chip in chips if read_text(chip / "name") in _CPU_SENSORS for path in sorted(chip.glob("temp*_input"))]
        if not found:
            zones = sorted((self._root / "sys/class/thermal").glob("thermal_zone*"))
            found = [zone / "temp" for zone in zones if any(word in read_text(zone / "type").lower() for word in _CPU_ZONES)]
        return _readable(found)

    def _processor_times(self) -> tuple[float | None, float | None]:
        line = read_text(self._root / "proc/stat").partition("\n")[0].split()
        if self._platform == "linux" and len(line) >= 9:
            user, nice, system, idle, iowait, irq, softirq, steal = (int(part) / _ticks_per_s() for part in line[1:9])
            return user + nice + system + irq + softirq + steal, idle + iowait
        psutil = probe.optional("psutil")
        if psutil is None:
            return None, None
        times = psutil.cpu_times()
        return times.user + times.system + getattr(times, "nice", 0.0), times.idle

    def _cpu_mhz(self) -> float | None:
        if self._frequencies:
            return max(map(read_number, self._frequencies)) / 1000 or None
        if self._platform == "linux":
            lines = read_text(self._root / "proc/cpuinfo").splitlines()
            return max((float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")), default=None)
        psutil = probe.optional("psutil")
        try:
            return None if psutil is None else float(psutil.cpu_freq().current) or None
        except (AttributeError, OSError, RuntimeError, NotImplementedError):  # psutil has no such sensor on some machines
            return None

    def _slowed(self) -> bool | None:
        """Whether the processor is slowed down right now; for systems without a counter of such events."""
        if flags := read_text(self._root / _PI_THROTTLED):
            return bool(int(flags, 16) & _PI_NOW)
        if self._platform == "darwin":
            for line in probe.output("pmset", "-g", "therm").splitlines():
                name, _, value = line.partition("=")
                if name.strip() == "CPU_Speed_Limit" and value.strip().isdigit():
                    return int(value) < 100
        return None


class Nvml:
    """One NVIDIA GPU, by NVML. What a GPU does not support is None."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def open(cls, gpu: int | str) -> Nvml | None:
        """None without pynvml, driver or that GPU."""
        nvml = probe.optional("pynvml")
        if nvml is None:
            return None
        try:
            nvml.nvmlInit()
            by_index = isinstance(gpu, int)
            return cls(nvml, nvml.nvmlDeviceGetHandleByIndex(gpu) if by_index else nvml.nvmlDeviceGetHandleByUUID(gpu))
        except nvml.NVMLError:
            return None

    def read(self) -> GpuReading:
        nvml = self._nvml
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        millijoules = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        return GpuReading(
            mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            slowed=None if reasons is None else bool(reasons & _GPU_SLOWED),
            slowed_ns=self._slowed_ns(),
            energy_j=None if millijoules is None else millijoules / 1000,
            memory_mib=self.own_memory_mib(),
        )

    def _slowed_ns(self) -> int | None:
        # Not its counters of power and voltage, which bound the clock of every GPU at full load.
        heat = getattr(self._nvml, "NVML_PERF_POLICY_THERMAL", None)
        told = None if heat is None else self._ask(self._nvml.nvmlDeviceGetViolationStatus, heat)
        return None if told is None else int(told.violationTime)

    def own_memory_mib(self) -> float | None:
        """Of this process; None where the driver does not list it: containers number processes otherwise."""
        for process in self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses) or ():
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return float(process.usedGpuMemory) / 2**20
        return None

    def memory_used_mib(self) -> float | None:
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo)
        return None if memory is None else float(memory.used) / 2**20

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None


@dataclass
class Watched:
    """What was seen in some rounds.

    Attributes:
        rounds: the readings before and after each.
        memory_peak_mib: the most that the process held.
        loaded_mib: what the GPU's memory held more of after the model was loaded.
    """

    rounds: list[tuple[Reading, Reading]] = field(default_factory=list)
    memory_peak_mib: float | None = None
    loaded_mib: float | None = None

    def summary(self) -> dict[str, Any]:
        """For the record:

        - `background_load`: share of all processor time that others took (machines on the same host, too), over all rounds
        - `cpu_mhz`, `temperature_c`, `gpu_mhz`, `gpu_temperature_c`: [lowest, highest] reading
        - `throttled`: whether processor or GPU were slowed down for heat or power in any round
        - `energy_of`: what `energy_j` adds up, "cpu package", "gpu"
        """
        return {
            "background_load": self.background_load,
            "cpu_mhz": _range(reading.cpu_mhz for reading in self._readings()),
            "temperature_c": _range(reading.temperature_c for reading in self._readings()),
            "throttled": self.throttled,
            "gpu_mhz": _range(reading.gpu.mhz for reading in self._readings()),
            "gpu_temperature_c": _range(reading.gpu.temperature_c for reading in self._readings()),
            "energy_of": [name for name, joules in self._joules().items() if joules is not None],
        }

    @property
    def background_load(self) -> float | None:
        busy_s = idle_s = own_s = 0.0
        for before, after in self.rounds:
            if None in (before.busy_s, before.idle_s, after.busy_s, after.idle_s):
                return None
            busy_s += (after.busy_s or 0) - (before.busy_s or 0)
            idle_s += (after.idle_s or 0) - (before.idle_s or 0)
            own_s += after.own_s - before.own_s
        # The two clocks tick differently: on an idle machine this process can seem to take more than all together.
        return min(1.0, max(0.0, busy_s - own_s) / (busy_s + idle_s)) if busy_s + idle_s > 0 else None

    @property
    def throttled(self) -> bool | None:
        told: list[bool | None] = [slowed for reading in self._readings() for slowed in (reading.slowed, reading.gpu.slowed)]
        for before, after in self.rounds:
            for earlier, later in (
                (before.throttle_events, after.throttle_events),
                (before.gpu.slowed_ns, after.gpu.slowed_ns),
            ):
                if earlier is not None and later is not None:
                    told.append(later > earlier)
        known = [one for one in told if one is not None]
        return any(known) if known else None

    @property
    def energy_j(self) -> float | None:
        """Joules over all rounds: the whole processor package and the GPU, whoever used them; None where neither tells."""
        known = [joules for joules in self._joules().values() if joules is not None]
        return sum(known) if known else None

    @property
    def gpu_memory_peak_mib(self) -> float | None:
        """The most at the end of a round. Runtimes keep what they once took, so that is close to the peak. Where nothing lists
        the process, what came when its model was loaded."""
        listed = [reading.gpu.memory_mib for reading in self._readings() if reading.gpu.memory_mib is not None]
        return max(listed, default=self.loaded_mib)

    def _readings(self) -> Iterator[Reading]:
        return (reading for pair in self.rounds for reading in pair)

    def _joules(self) -> dict[str, float | None]:
        package = gpu = None
        for before, after in self.rounds:
            for zone, (microjoules, wraps_at) in after.energy_uj.items():
                used = microjoules - before.energy_uj[zone][0]
                package = (package or 0.0) + (used if used >= 0 else used + wraps_at) / 1e6
            if before.gpu.energy_j is not None and after.gpu.energy_j is not None:
                gpu = (gpu or 0.0) + after.gpu.energy_j - before.gpu.energy_j
        return {"cpu package": package, "gpu": gpu}


class Watch(Watched):
    """Sees rounds. One that fails is not counted: its samples are not, either."""

    def __init__(self, sensors: Sensors) -> None:
        super().__init__()
        self._sensors = sensors

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Around the loading and the first calls of the model. No other cell is at work: what came meanwhile is its own."""
        before = self._sensors.gpu_memory_used_mib()
        yield
        after = self._sensors.gpu_memory_used_mib()
        if before is not None and after is not None:
            self.loaded_mib = max(0.0, after - before)

    @contextmanager
    def round(self) -> Iterator[None]:
        reset_memory_peak()
        before = self._sensors.read()
        yield
        self.rounds.append((before, self._sensors.read()))
        self.memory_peak_mib = max(filter(None, (self.memory_peak_mib, memory_peak_mib())), default=None)


def joined(parts: Sequence[Watched]) -> Watched:
    """All rounds, and of memory the most."""
    return Watched(
        [pair for part in parts for pair in part.rounds],
        max((part.memory_peak_mib for part in parts if part.memory_peak_mib is not None), default=None),
        max((part.loaded_mib for part in parts if part.loaded_mib is not None), default=None),
    )


def reset_memory_peak(root: Path = Path("/")) -> bool:
    """Let `memory_peak_mib` count from now; False where the system cannot (anything but Linux)."""
    try:
        (root / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def memory_peak_mib(root: Path = Path("/"), platform: str = sys.platform) -> float | None:
    """The most resident memory of this process: since `reset_memory_peak` on Linux, since its
    start on macOS and Windows."""
    for line in read_text(root / "proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    if platform == "win32":
        psutil = probe.optional("psutil")
        return None if psutil is None else psutil.Process().memory_info().peak_wset / 2**20
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kibibytes elsewhere
    return peak / (2**20 if platform == "darwin" else 1024)


def _range(values: Iterable[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None


def _hottest(paths: list[Path]) -> float | None:
    celsius = (read_number(path) / 1000 for path in paths)
    return max((value for value in celsius if value and _SANE_C[0] < value < _SANE_C[1]), default=None)


def _readable(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if read_text(path)]


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
