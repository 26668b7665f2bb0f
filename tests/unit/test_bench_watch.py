"""What is read of a machine while it measures: a made-up /proc and /sys, a stand-in for NVML, and this machine's own memory."""

from __future__ import annotations

import mmap
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.bench import probe, watch
from pipeline.bench.watch import Sensors, Watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names in /sys have colons")

TICKS = watch._ticks_per_s()


class Machine:
    """The files of a Linux machine with two cores, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cores(busy_s=100, idle_s=300)

    def write(self, path: str, text: object) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{text}\n", encoding="utf-8")

    def cores(self, busy_s: float, idle_s: float, steal_s: float = 0) -> None:
        user, idle, steal = (round(seconds * TICKS) for seconds in (busy_s, idle_s, steal_s))
        self.write("proc/stat", f"cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10")

    def mhz(self, *per_core: int) -> None:
        for core, value in enumerate(per_core):
            self.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", value * 1000)

    def throttle_counts(self, core: int, package: int) -> None:
        self.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", core)
        self.write("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", package)

    def energy(self, microjoules: int) -> None:
        for name, folder in (("package-0", "intel-rapl:0"), ("core", "intel-rapl:0:0"), ("package-0", "intel-rapl-mmio:0")):
            self.write(f"sys/class/powercap/{folder}/name", name)
            self.write(f"sys/class/powercap/{folder}/energy_uj", microjoules)
            self.write(f"sys/class/powercap/{folder}/max_energy_range_uj", 1_000_000_000)

    def sensors(self, gpu: int | str | None = None, platform: str = "linux") -> Sensors:
        return Sensors(gpu, self.root, platform)


class OwnTime:
    """Processor time of this process, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 5.0
        monkeypatch.setattr(time, "process_time", lambda: self.seconds)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    return Machine(tmp_path)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    return OwnTime(monkeypatch)


# ---- load ----


def test_background_load_is_what_others_took_of_all_processors(machine: Machine, own: OwnTime) -> None:
    watched = Watch(machine.sensors())
    with watched.round():  # 2 cores for 1 s: 1.0 s ours, 0.5 s others', 0.5 s idle
        own.seconds += 1.0
        machine.cores(busy_s=101.5, idle_s=300.5)
    assert watched.background_load == pytest.approx(0.25)
    with watched.round():  # 1 s more, all ours
        own.seconds += 2.0
        machine.cores(busy_s=103.5, idle_s=300.5)
    assert watched.background_load == pytest.approx(0.125)


def test_what_the_hypervisor_gave_away_is_background_load(machine: Machine, own: OwnTime) -> None:
    watched = Watch(machine.sensors())
    with watched.round():
        own.seconds += 1.0
        machine.cores(busy_s=101, idle_s=300, steal_s=1)
    assert watched.background_load == pytest.approx(0.5)


def test_clocks_that_tick_differently_make_no_negative_load(machine: Machine, own: OwnTime) -> None:
    watched = Watch(machine.sensors())
    with watched.round():
        own.seconds += 1.01
        machine.cores(busy_s=101, idle_s=301)
    assert watched.background_load == 0


def test_a_round_that_fails_is_not_counted(machine: Machine, own: OwnTime) -> None:
    watched = Watch(machine.sensors())
    with pytest.raises(MemoryError), watched.round():
        machine.cores(busy_s=900, idle_s=300)
        raise MemoryError
    assert watched.background_load is None
    with watched.round():
        own.seconds += 1
        machine.cores(busy_s=901, idle_s=300)
    assert watched.background_load == 0


def test_other_systems_are_asked_by_psutil(machine: Machine, own: OwnTime, monkeypatch: pytest.MonkeyPatch) -> None:
    times = SimpleNamespace(user=10.0, system=4.0, idle=50.0, interrupt=1.0)
    stand_in = SimpleNamespace(cpu_times=lambda: times, cpu_freq=lambda: SimpleNamespace(current=2400.0))
    monkeypatch.setitem(sys.modules, "psutil", stand_in)
    watched = Watch(machine.sensors(platform="win32"))
    with watched.round():
        times = SimpleNamespace(user=11.0, system=5.0, idle=52.0, interrupt=1.0)
        own.seconds += 1
    assert watched.background_load == pytest.approx(0.25)
    assert watched.summary()["cpu_mhz"] == [2400, 2400]


def test_without_psutil_other_systems_tell_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    watched = Watch(machine.sensors(platform="win32"))
    with watched.round():
        pass
    assert watched.summary() == {
        "background_load": None,
        "cpu_mhz": None,
        "temperature_c": None,
        "throttled": None,
        "gpu_mhz": None,
        "gpu_temperature_c": None,
        "energy_of": [],
    }
    assert watched.energy_j is None
    assert watched.gpu_memory_peak_mib is None


# ---- frequency, temperature, throttling ----


def test_the_frequency_is_that_of_the_fastest_usable_core(machine: Machine) -> None:
    machine.mhz(800, 2400, 9999)  # core 2 is not ours
    watched = Watch(machine.sensors())
    with watched.round():
        machine.mhz(3100, 900, 9999)
    assert watched.summary()["cpu_mhz"] == [2400, 3100]


def test_a_machine_without_cpufreq_has_the_frequency_in_cpuinfo(machine: Machine) -> None:
    machine.write("proc/cpuinfo", "processor : 0\ncpu MHz\t\t: 2596.122\nprocessor : 1\ncpu MHz\t\t: 2600.5")
    assert machine.sensors().read().cpu_mhz == 2600.5


def test_the_temperature_is_the_hottest_of_the_processors_own_sensors(machine: Machine) -> None:
    for number, (name, value) in enumerate([("nvme", 80_000), ("coretemp", 51_000), ("coretemp", 66_000), ("k10temp", 255_000)]):
        machine.write(f"sys/class/hwmon/hwmon{number}/name", name)
        machine.write(f"sys/class/hwmon/hwmon{number}/temp1_input", value)
    assert machine.sensors().read().temperature_c == 66


def test_a_board_without_hwmon_has_thermal_zones(machine: Machine) -> None:
    for number, (name, value) in enumerate([("battery", 30_000), ("cpu-thermal", 48_500)]):
        machine.write(f"sys/class/thermal/thermal_zone{number}/type", name)
        machine.write(f"sys/class/thermal/thermal_zone{number}/temp", value)
    assert machine.sensors().read().temperature_c == 48.5


@pytest.mark.parametrize(("core", "package", "expected"), [(7, 3, False), (8, 3, True), (7, 4, True)])
def test_a_count_of_throttle_events_that_rises_is_throttling(machine: Machine, core: int, package: int, expected: bool) -> None:
    machine.throttle_counts(7, 3)
    watched = Watch(machine.sensors())
    with watched.round():
        machine.throttle_counts(core, package)
    assert watched.throttled is expected


@pytest.mark.parametrize(("flags", "expected"), [("0", False), ("50000", False), ("50005", True)])
def test_a_raspberry_pi_says_whether_it_is_slowed_down_now(machine: Machine, flags: str, expected: bool) -> None:
    machine.write("sys/devices/platform/soc/soc:firmware/get_throttled", flags)
    assert machine.sensors().read().slowed is expected


@pytest.mark.parametrize(("limit", "expected"), [(100, False), (70, True)])
def test_a_mac_says_its_speed_limit(machine: Machine, monkeypatch: pytest.MonkeyPatch, limit: int, expected: bool) -> None:
    monkeypatch.setattr(
        probe, "output", lambda *command: f"CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= {limit}\n"
    )
    assert machine.sensors(platform="darwin").read().slowed is expected


# ---- energy ----


def test_energy_is_that_of_the_package_once(machine: Machine) -> None:
    machine.energy(5_000_000)
    watched = Watch(machine.sensors())
    with watched.round():
        machine.energy(17_500_000)
    assert watched.energy_j == pytest.approx(12.5)
    assert watched.summary()["energy_of"] == ["cpu package"]


def test_an_energy_counter_may_wrap_around(machine: Machine) -> None:
    machine.energy(999_000_000)
    watched = Watch(machine.sensors())
    with watched.round():
        machine.energy(1_000_000)
    assert watched.energy_j == pytest.approx(2.0)


# ---- memory ----


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the count anew")
def test_the_memory_peak_is_that_of_the_rounds(machine: Machine) -> None:
    def take(mebibytes: int) -> None:
        with mmap.mmap(-1, mebibytes << 20) as block:  # never memory that the process has already
            for start in range(0, len(block), mmap.PAGESIZE):
                block[start] = 1

    take(64)
    quiet, hungry = Watch(machine.sensors()), Watch(machine.sensors())
    with quiet.round():
        pass
    with hungry.round():
        take(48)
    assert quiet.memory_peak_mib is not None
    assert hungry.memory_peak_mib is not None
    assert 40 < hungry.memory_peak_mib - quiet.memory_peak_mib < 60


def test_other_systems_have_the_peak_since_the_start(tmp_path: Path) -> None:
    assert not watch.reset_memory_peak(tmp_path / "nothing")
    assert (watch.memory_peak_mib(tmp_path / "nothing") or 0) > 10


def test_the_rounds_of_several_processes_are_one_watch() -> None:
    idle, busy = watch.Reading(busy_s=0, idle_s=0, own_s=0), watch.Reading(busy_s=3, idle_s=1, own_s=2)
    first = watch.Watched([(idle, busy)], memory_peak_mib=100, loaded_mib=900)
    second = watch.Watched([(idle, watch.Reading(busy_s=1, idle_s=3, own_s=1))], memory_peak_mib=120)
    found = watch.joined([first, second])
    assert found.background_load == pytest.approx(1 / 8)
    assert (found.memory_peak_mib, found.gpu_memory_peak_mib) == (120, 900)
    assert watch.joined([watch.Watched()]).memory_peak_mib is None


# ---- GPU ----


class StandIn(SimpleNamespace):
    """pynvml with one GPU, whose state the test sets; `missing` names what it does not support."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    state: dict[str, Any]
    missing: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        def function(handle: object = None, *arguments: object) -> Any:
            if name in self.missing:
                raise self.NVMLError("Not Supported")
            if name.startswith("nvmlDeviceGetHandleBy") and handle not in (0, "GPU-1"):
                raise self.NVMLError("Not Found")
            return self.state.get(name)

        return function


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(missing=frozenset(), state={})
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    gpu_state(stand_in)
    return stand_in


def gpu_state(
    nvml: StandIn, reasons: int = 0, millijoules: int = 0, used_mib: int = 500, pid: int = -1, own_mib: int = 0
) -> None:
    nvml.state = {
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetTemperature": 61,
        "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
        "nvmlDeviceGetTotalEnergyConsumption": millijoules,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=used_mib << 20),
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=pid, usedGpuMemory=own_mib << 20)],
    }


@pytest.mark.parametrize("gpu", [0, "GPU-1"])
def test_a_gpu_is_watched(machine: Machine, nvml: StandIn, gpu: int | str) -> None:
    machine.energy(0)
    watched = Watch(machine.sensors(gpu))
    with watched.round():
        machine.energy(1_000_000)
        gpu_state(nvml, millijoules=90_000, used_mib=1700)
    told = watched.summary()
    assert (told["gpu_mhz"], told["gpu_temperature_c"], told["throttled"]) == ([1980, 1980], [61, 61], False)
    assert told["energy_of"] == ["cpu package", "gpu"]
    assert watched.energy_j == pytest.approx(91)
    assert watched.gpu_memory_peak_mib is None  # this process is not listed, and nobody saw it load


def test_the_memory_of_a_process_that_is_not_listed_is_what_came_with_its_model(machine: Machine, nvml: StandIn) -> None:
    first, second = Watch(machine.sensors(0)), Watch(machine.sensors(0))
    with first.loading():
        gpu_state(nvml, used_mib=1000)
    with second.loading():
        gpu_state(nvml, used_mib=1800)
    for watched in (first, second):
        with watched.round():
            pass
    assert (first.gpu_memory_peak_mib, second.gpu_memory_peak_mib) == (500, 800)


@pytest.mark.parametrize(("before", "after", "expected"), [(7, 7, False), (7, 9, True)])
def test_a_gpu_that_was_slowed_down_between_two_looks_counts_it(
    machine: Machine, nvml: StandIn, before: int, after: int, expected: bool
) -> None:
    gpu_state(nvml)
    nvml.NVML_PERF_POLICY_THERMAL = 1
    nvml.state["nvmlDeviceGetViolationStatus"] = SimpleNamespace(violationTime=before)
    watched = Watch(machine.sensors(0))
    with watched.round():
        nvml.state["nvmlDeviceGetViolationStatus"] = SimpleNamespace(violationTime=after)
    assert watched.throttled is expected


def test_the_memory_of_this_process_is_told_from_others(machine: Machine, nvml: StandIn) -> None:
    gpu_state(nvml, used_mib=9000, pid=os.getpid(), own_mib=700)
    assert machine.sensors(0).read().gpu.memory_mib == 700


@pytest.mark.parametrize(
    ("reasons", "expected"), [(0x1, False), (0x4, False), (0x8, True), (0x20, True), (0x40, True), (0x84, True)]
)
def test_heat_slows_a_gpu_down_but_its_power_cap_is_normal(machine: Machine, nvml: StandIn, reasons: int, expected: bool) -> None:
    watched = Watch(machine.sensors(0))
    with watched.round():
        gpu_state(nvml, reasons=reasons)
    assert watched.throttled is expected


def test_what_a_gpu_does_not_support_is_none(machine: Machine, nvml: StandIn) -> None:
    nvml.missing = frozenset(nvml.state)
    assert machine.sensors(0).read().gpu == watch.GpuReading()


@pytest.mark.parametrize("gpu", [1, "GPU-2"])
def test_a_gpu_that_is_not_there_tells_nothing(machine: Machine, nvml: StandIn, gpu: int | str) -> None:
    assert machine.sensors(gpu).read().gpu == watch.GpuReading()


def test_without_pynvml_or_driver_a_gpu_tells_nothing(machine: Machine, nvml: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.missing = frozenset({"nvmlInit"})
    assert machine.sensors(0).read().gpu == watch.GpuReading()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.sensors(0).read().gpu == watch.GpuReading()
