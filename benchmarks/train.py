"""Our train stage against plain ultralytics: seconds, and mAP on images that neither has seen.

    python benchmarks/train.py ../shared/data/bccd-voc --seeds 0 1 2

The data are a folder in Pascal VOC layout with its own splits (blood cells: https://github.com/Shenggan/BCCD_Dataset). Both
sides start from the same weights, with the same number of torch threads (ultralytics' own default is one fewer), each in a fresh
process, one after the other. Both best.pt are then measured by ultralytics on the test split. Other programs on the machine make
the seconds worthless; the ratio suffers less, since the two sides take turns.

`loop_s` is the epochs with their validation, `call_s` all that it takes from weights to best.pt (plots and the last validation
of ultralytics are its defaults), `process_s` the whole process with its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import files, machine, weights  # noqa: E402

SPLITS = ("train", "val", "test")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds Annotations, ImageSets and JPEGImages, or one above it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--weights", default="yolo11n.pt", help="as train.model")
    parser.add_argument("--precision", default="auto", help="as train.precision, for our side")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        work = Path(temporary).resolve()
        start = weights.resolve(options.weights, options.cache.resolve(), Path.cwd())
        convert(find_voc(options.data.resolve()), work)
        records = measure(options, start.path, work)
    report(records, options, start)
    if options.out:
        files.write_text(options.out, json.dumps(records, indent=1) + "\n")


def find_voc(folder: Path) -> Path:
    found = [path.parent for path in (folder, *folder.rglob("Annotations")) if path.name == "Annotations"]
    if not found:
        sys.exit(f"{folder} holds no folder 'Annotations'")
    return found[0]


def convert(voc: Path, work: Path) -> None:
    """The same images and boxes twice: `work/yolo` for ultralytics, `work/dataset` for the train stage."""
    from pipeline.boxes import to_cxcywhn
    from pipeline.dataset import Dataset

    rows, boxes, names = [], [], set()
    parsed = []
    for split in SPLITS:
        for stem in (voc / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8").split():
            root = ET.parse(voc / "Annotations" / f"{stem}.xml").getroot()
            size = [int(root.findtext(f"size/{side}", "0")) for side in ("width", "height")]
            objects = [
                (item.findtext("name", ""), [float(item.findtext(f"bndbox/{edge}", "0")) for edge in EDGES])
                for item in root.iter("object")
            ]
            # The two boxes of BCCD without an area are left out for both sides, and so is a box that stands there twice.
            kept = list(dict.fromkeys((name, *edges) for name, edges in objects if edges[2] > edges[0] and edges[3] > edges[1]))
            names |= {row[0] for row in kept}
            parsed.append((stem, split, size, kept))
    class_names = tuple(sorted(names))
    for number, (stem, split, (width, height), kept) in enumerate(parsed):
        rows.append({"path": f"{stem}.jpg", "width": width, "height": height, "split": split})
        boxes += [(number, class_names.index(name), *edges) for name, *edges in kept]
        image = voc / "JPEGImages" / f"{stem}.jpg"
        files.copy(image, work / "dataset" / "images" / f"{stem}.jpg")
        files.copy(image, work / "yolo" / "images" / split / f"{stem}.jpg")
    dataset = Dataset.from_rows(class_names, rows, boxes)
    dataset.save(work / "dataset")
    for number, (stem, split, (width, height), _) in enumerate(parsed):
        edges, class_ids = dataset.edges_of(number)
        lines = [
            f"{class_id} " + " ".join(f"{value:.8f}" for value in row) + "\n"
            for class_id, row in zip(class_ids, to_cxcywhn(edges, width, height), strict=True)
        ]
        files.write_text(work / "yolo" / "labels" / split / f"{stem}.txt", "".join(lines))
    folders = {"path": str(work / "yolo"), **{split: f"images/{split}" for split in SPLITS}}
    files.write_text(work / "data.yaml", json.dumps({**folders, "names": list(class_names)}))
    print(f"{len(parsed)} images, {len(boxes)} boxes, classes {', '.join(class_names)}", flush=True)


def measure(options: argparse.Namespace, start: Path, work: Path) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for turn, seed in enumerate(options.seeds):
        for side in ("ultralytics", "pipeline") if turn % 2 == 0 else ("pipeline", "ultralytics"):
            job = {
                "side": side,
                "seed": seed,
                "work": str(work),
                "out": str(work / f"{side}-{seed}"),
                "weights": str(start),
                "cache": str(options.cache.resolve()),
                **{key: getattr(options, key) for key in ("epochs", "imgsz", "batch", "threads", "precision")},
            }
            before = time.perf_counter()
            record = child("train", job)
            record["process_s"] = time.perf_counter() - before
            record |= child("test", job | {"best": record["best"]})
            records.append({"side": side, "seed": seed, **record})
            seconds = ", ".join(f"{name} {record[f'{name}_s']:.1f} s" for name in ("loop", "call", "process"))
            quality = f"test mAP50 {record['map50']:.4f}, mAP50-95 {record['map50_95']:.4f}"
            print(f"seed {seed} {side:12} {seconds}, peak memory {record['peak_mib']:.0f} MiB, {quality}", flush=True)
    return records


def child(task: str, job: dict[str, object]) -> dict[str, object]:
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "YOLO_CONFIG_DIR": str(job["work"])}
    environment |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    command = [sys.executable, str(Path(__file__).resolve()), f"--child={task}", json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{task} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def train_plain(job: dict[str, object]) -> dict[str, object]:
    import torch
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    model = YOLO(job["weights"])
    model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(job["threads"]))
    before = time.perf_counter()
    model.train(
        data=str(Path(str(job["work"])) / "data.yaml"),
        project=job["work"],
        name=Path(str(job["out"])).name,
        device="cpu",
        **{key: job[key] for key in ("epochs", "imgsz", "batch", "seed")},
    )
    return trained(Path(str(job["out"])), time.perf_counter() - before)


def train_ours(job: dict[str, object]) -> dict[str, object]:
    from pipeline.stage import Context
    from pipeline.stages import train

    out = Path(str(job["out"]))
    out.mkdir()
    params = train.TrainParams(
        model=str(job["weights"]), **{key: job[key] for key in ("epochs", "imgsz", "batch", "seed", "precision")}
    )
    context = Context(cache=Path(str(job["cache"])), device="cpu")
    before = time.perf_counter()
    train.STAGE.run({"augment": Path(str(job["work"])) / "dataset"}, params, out, context)
    return trained(out, time.perf_counter() - before)


def trained(out: Path, call_s: float) -> dict[str, object]:
    import csv
    import resource

    with (out / "results.csv").open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"best": str(out / "weights" / "best.pt"), "call_s": call_s, "loop_s": float(last["time"]), "peak_mib": peak}


def test(job: dict[str, object]) -> dict[str, object]:
    from ultralytics import YOLO

    data = str(Path(str(job["work"])) / "data.yaml")
    metrics = YOLO(job["best"]).val(
        data=data, split="test", imgsz=job["imgsz"], device="cpu", plots=False, project=job["work"], name="test", exist_ok=True
    )
    return {"map50": float(metrics.box.map50), "map50_95": float(metrics.box.map)}


def report(records: list[dict[str, object]], options: argparse.Namespace, start: weights.Weights) -> None:
    def values(side: str, key: str) -> list[float]:
        return [float(str(record[key])) for record in records if record["side"] == side]

    print(f"\n{start.name} ({start.origin}), imgsz {options.imgsz}, {options.epochs} epochs, batch {options.batch}, "
          f"{options.threads} threads, seeds {options.seeds}")  # fmt: skip
    print(f"{'mean (lowest to highest)':26} {'ultralytics':>26} {'pipeline':>26} {'ratio or difference':>20}")
    for key, digits in (("loop_s", 1), ("call_s", 1), ("process_s", 1), ("peak_mib", 0), ("map50", 4), ("map50_95", 4)):
        plain, ours = values("ultralytics", key), values("pipeline", key)
        cells = [
            f"{statistics.mean(each):.{digits}f} ({min(each):.{digits}f} to {max(each):.{digits}f})" for each in (plain, ours)
        ]
        if key.startswith("map"):
            compared = f"{statistics.mean(ours) - statistics.mean(plain):+.4f}"
        else:
            compared = f"x {statistics.mean(ours) / statistics.mean(plain):.2f}"
        print(f"{key:26} {cells[0]:>26} {cells[1]:>26} {compared:>20}")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].startswith("--child="):
        request = json.loads(sys.argv[2])
        tasks = {"ultralytics": train_plain, "pipeline": train_ours}
        answer = test(request) if sys.argv[1] == "--child=test" else tasks[request["side"]](request)
        print(json.dumps(answer))
    else:
        main()
