"""What importing and converting labels costs, beside the least that could be done and beside other tools.

    python benchmarks/import.py [--images 5000] [--boxes 50000] [--rounds 3] [--peers /path/to/python] [--million]

A figure is that of a whole process: CPU seconds (user and system, all threads, start-up included) and peak memory, the median of
some rounds in which all take their turn, after one turn that does not count. Linux and macOS. A peak below 20 MB is not seen.

    voc      VOC to YOLO, one txt an image. floor: ElementTree and a loop over children, the standard library only.
    coco     COCO to YOLO, one txt an image. floor: orjson.
    dataset  COCO to a data set on disk: ours checks every box and writes parquet. floor: orjson, boxes as pixel edges grouped by
             image, one file of JSON lines; no numpy and no parquet, so that it pays for nothing but parsing and grouping.
    million  the same for 1,000,000 boxes of 100,000 images in one file, with --million.
    formats  the import of every format that can be written, from what its own writer made: labels only where the format tells the
             sizes of images, else with their headers. start: loads the modules and reads nothing.

Images are hard links to a JPEG of one colour, 640x480: whoever decodes has it easy here. The peers, each by the call that its
documentation names, writing labels only:

    labelformat  parses the XML or JSON and decodes nothing; COCO's category ids become YOLO's as they are
    datumaro     the same, to the YOLO of Darknet (its `yolo_ultralytics` wants a train and a val part); six decimals
    supervision  decodes every image, once for COCO and twice for VOC, where it also takes 1 px from left and top; five decimals
    ultralytics  COCO only; decodes nothing, but loads torch; six digits, no file for an image without boxes

They are looked for in the environment of --peers, then in this one, which has ultralytics. The others want one of their own:

    python -m venv peers && peers/bin/pip install labelformat datumaro supervision
"""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

CLASSES = ["bicycle", "bus", "car", "person", "train"]  # all of VOC's own, without which datumaro wants a file of its own
WIDTH, HEIGHT = 640, 480
PEERS = ("labelformat", "datumaro", "supervision", "ultralytics")
MEGABYTE = 1024 if sys.platform == "linux" else 1024 * 1024  # of ru_maxrss: kilobytes there, bytes on macOS


def make_rows(images: int, boxes: int) -> list[tuple[int, ...]]:
    """Image number, class number, left, top, width, height of every box, by image."""
    rng = random.Random(0)
    limits = ((0, len(CLASSES)), (1, WIDTH - 100), (1, HEIGHT - 100), (5, 100), (5, 100))
    return [(number * images // boxes, *(rng.randrange(*limit) for limit in limits)) for number in range(boxes)]


def make_images(folder: Path, images: int) -> None:
    """Links to a few equal files: no file system lets one file have any number of names."""
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(images):
        if number % 1000:
            os.link(folder / f"{number // 1000 * 1000:06}.jpg", folder / f"{number:06}.jpg")
        else:
            Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(folder / f"{number:06}.jpg")


def make_voc(folder: Path, images: int, boxes: int) -> None:
    """As in the challenge: `JPEGImages`, `Annotations`, `ImageSets/Main`."""
    make_images(folder / "JPEGImages", images)
    (folder / "Annotations").mkdir()
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("".join(f"{number:06}\n" for number in range(images)), encoding="utf-8")
    objects: list[str] = [""] * images
    for image, c, x, y, w, h in make_rows(images, boxes):
        objects[image] += (
            f"<object>\n<name>{CLASSES[c]}</name>\n<pose>Unspecified</pose>\n<truncated>0</truncated>\n<difficult>0</difficult>\n"
            f"<bndbox>\n<xmin>{x}</xmin>\n<ymin>{y}</ymin>\n<xmax>{x + w}</xmax>\n<ymax>{y + h}</ymax>\n</bndbox>\n</object>\n"
        )
    size = f"<size>\n<width>{WIDTH}</width>\n<height>{HEIGHT}</height>\n<depth>3</depth>\n</size>"
    for number, of_image in enumerate(objects):
        head = f"<folder>JPEGImages</folder>\n<filename>{number:06}.jpg</filename>\n{size}\n<segmented>0</segmented>"
        text = f"<annotation>\n{head}\n{of_image}</annotation>\n"
        (folder / "Annotations" / f"{number:06}.xml").write_text(text, encoding="utf-8")


def make_coco(folder: Path, images: int, boxes: int) -> None:
    make_images(folder / "images", images)
    make_coco_labels(folder, images, boxes)


def make_coco_labels(folder: Path, images: int, boxes: int) -> None:
    rest = {"iscrowd": 0, "segmentation": []}
    document = {
        "images": [{"id": n + 1, "file_name": f"{n:06}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(images)],
        "annotations": [
            {"id": n, "image_id": i + 1, "category_id": c + 1, "bbox": [x, y, w, h], "area": w * h, **rest}
            for n, (i, c, x, y, w, h) in enumerate(make_rows(images, boxes), start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }
    path = folder / "annotations/instances_train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def make_formats(folder: Path, images: int, boxes: int) -> None:
    """One folder a format, with images where their sizes stand nowhere else."""
    from pipeline import formats
    from pipeline.dataset import Dataset

    make_images(folder / "images", images)
    photos = [{"path": f"{number:06}.jpg", "width": WIDTH, "height": HEIGHT} for number in range(images)]
    edges = [(image, c, x, y, x + w, y + h) for image, c, x, y, w, h in make_rows(images, boxes)]
    dataset = Dataset.from_rows(CLASSES, photos, edges)
    for name in formats.writable_names():
        module = formats.load_writable(name)
        out = folder / ("labels" if "sizes" in module.HOLDS else "with_images") / name
        module.write(dataset, None if "sizes" in module.HOLDS else folder / "images", out)


# The functions from here to `with_ultralytics` run in processes of their own, as bare source text (see `call`): each imports
# what it needs, and pays for nothing that this script imports.


def floor_voc(source: str, target: str) -> None:
    import os
    import xml.etree.ElementTree as ET

    class_ids: dict[str, int] = {}
    os.makedirs(target)  # noqa: PTH103 - a floor does not pay for pathlib
    for entry in os.scandir(f"{source}/Annotations"):
        boxes, size = [], {}
        with open(entry.path, "rb") as stream:
            root = ET.fromstring(stream.read())
        for item in root:
            if item.tag == "size":
                size = {side.tag: float(side.text or "") for side in item}
            elif item.tag == "object":
                parts = {part.tag: part for part in item}
                box = {edge.tag: float(edge.text or "") for edge in parts["bndbox"]}
                boxes.append((class_ids.setdefault(parts["name"].text or "", len(class_ids)), box))
        w, h = size["width"], size["height"]
        lines = [
            f"{class_id} {(box['xmin'] + box['xmax']) / 2 / w} {(box['ymin'] + box['ymax']) / 2 / h} "
            f"{(box['xmax'] - box['xmin']) / w} {(box['ymax'] - box['ymin']) / h}\n"
            for class_id, box in boxes
        ]
        with open(f"{target}/{entry.name[:-4]}.txt", "w", encoding="utf-8") as stream:
            stream.write("".join(lines))


def floor_coco(source: str, target: str) -> None:
    import os

    import orjson

    with open(f"{source}/annotations/instances_train.json", "rb") as stream:
        document = orjson.loads(stream.read())
    images = {image["id"]: [image["file_name"], image["width"], image["height"], []] for image in document["images"]}
    class_ids = {category["id"]: number for number, category in enumerate(document["categories"])}
    for item in document["annotations"]:
        _, width, height, lines = images[item["image_id"]]
        x, y, w, h = item["bbox"]
        lines.append(f"{class_ids[item['category_id']]} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}\n")
    os.makedirs(target)  # noqa: PTH103 - a floor does not pay for pathlib
    for name, _, _, lines in images.values():
        with open(f"{target}/{name[:-4]}.txt", "w", encoding="utf-8") as stream:
            stream.write("".join(lines))


def floor_dataset(source: str, target: str) -> None:
    import os

    import orjson

    with open(f"{source}/annotations/instances_train.json", "rb") as stream:
        document = orjson.loads(stream.read())
    images = {image["id"]: [image["file_name"], image["width"], image["height"], []] for image in document["images"]}
    for item in document["annotations"]:
        x, y, w, h = item["bbox"]
        images[item["image_id"]][3].append((item["category_id"], x, y, x + w, y + h))
    os.makedirs(target)  # noqa: PTH103 - a floor does not pay for pathlib
    with open(f"{target}/images.jsonl", "wb") as stream:
        stream.writelines(orjson.dumps(image, option=orjson.OPT_APPEND_NEWLINE) for image in images.values())
    print(len(images), len(document["annotations"]))


def our_import(source: str, expected: str, images: str, target: str = "") -> None:
    from pathlib import Path

    from pipeline.labelling.fileset import FileSet
    from pipeline.labelling.import_steps import Policy
    from pipeline.labelling.merging import import_sources
    from pipeline.ledger import Ledger
    from pipeline.stage import Context

    policy = Policy(has_images=images == "with_images")
    (imported,) = import_sources(FileSet.scan(Path(source)), [policy], Ledger(), Context())
    if imported.format != expected:
        raise SystemExit(f"taken for {imported.format}: {imported.reason}")
    if target:
        Path(target).mkdir()
        imported.dataset.save(Path(target))
    print(*list(imported.dataset.counts().values())[:2])


def with_labelformat(step: str, source: str, target: str) -> None:
    from pathlib import Path

    from labelformat.formats import COCOObjectDetectionInput, PascalVOCObjectDetectionInput, YOLOv8ObjectDetectionOutput

    if step == "voc":
        labels = PascalVOCObjectDetectionInput(Path(source, "Annotations"), category_names="bicycle,bus,car,person,train")
    else:
        labels = COCOObjectDetectionInput(Path(source, "annotations/instances_train.json"))
    YOLOv8ObjectDetectionOutput(Path(target, "data.yaml"), output_split="train").save(labels)


def with_datumaro(step: str, source: str, target: str) -> None:
    from datumaro.components.dataset import Dataset

    Dataset.import_from(source, step).export(target, "yolo")


def with_supervision(step: str, source: str, target: str) -> None:
    from supervision import DetectionDataset

    read = DetectionDataset.from_pascal_voc if step == "voc" else DetectionDataset.from_coco
    places = ("JPEGImages", "Annotations") if step == "voc" else ("images", "annotations/instances_train.json")
    labels = read(*(f"{source}/{place}" for place in places))
    labels.as_yolo(annotations_directory_path=f"{target}/labels", data_yaml_path=f"{target}/data.yaml")


def with_ultralytics(step: str, source: str, target: str) -> None:
    from ultralytics.data.converter import convert_coco

    convert_coco(f"{source}/annotations", target, cls91to80=False)


STEPS = {
    "voc": (make_voc, "VOC to YOLO"),
    "coco": (make_coco, "COCO to YOLO"),
    "dataset": (make_coco_labels, "COCO to a data set"),
    "formats": (make_formats, "import of each format"),
    "million": (make_coco_labels, "COCO to a data set"),
}


@dataclass(frozen=True)
class Turn:
    """What one process cost, `system_seconds` of it in the kernel (files, mostly), and what it has written: images and boxes."""

    cpu_seconds: float
    system_seconds: float
    peak_mb: float
    written: tuple[int, int]


def turn(command: list[str], target: Path) -> Turn:
    """Run a command that writes to `target`; a RuntimeError with its last line where it fails.

    What it has written is moved aside: ext4 searches past the inodes of files that were deleted a moment ago, thousands here,
    and that would be most of what the next process costs. Containers forbid bytecode; an installed program has it.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    environment |= {"YOLO_CONFIG_DIR": str(target.parent), "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = str(REPOSITORY)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, cwd=target.parent, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        last = (output.read().strip().splitlines() or ["it printed nothing"])[-1]
    written = count(target, last)
    if target.exists():
        target.rename(tempfile.mkdtemp(prefix="before-", dir=target.parent))
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {last[:200]}")
    return Turn(usage.ru_utime + usage.ru_stime, usage.ru_stime, usage.ru_maxrss / MEGABYTE, written)


def count(target: Path, last: str) -> tuple[int, int]:
    """Images and boxes: label files and their lines, or where there are none, what the command printed last."""
    texts = [path.read_bytes().count(b"\n") for path in target.rglob("*.txt") if path.stem.isdigit()]
    printed = re.fullmatch(r"(\d+) (\d+)", last)
    return (int(printed[1]), int(printed[2])) if printed and not texts else (len(texts), sum(texts))


def compare(commands: dict[str, list[str]], target: Path, rounds: int) -> bool:
    """Let all take their turns and print a table, ratios being those to the first; whether nobody failed."""
    turns: dict[str, list[Turn]] = {name: [] for name in commands}
    failed: dict[str, str] = {}
    for number in range(rounds + 1):
        for name in [name for name in commands if name not in failed]:
            try:
                cost = turn(commands[name], target)
            except RuntimeError as error:
                failed[name] = str(error)
                continue
            if number:  # bytecode and the disk's cache are warm then
                turns[name].append(cost)
    head = ("CPU s", "least", "most", "system", f"x {next(iter(commands))}", "peak MB", "images", "boxes", "images/s", "boxes/s")
    print(" " * 24 + "".join(f"{text:>10}" for text in head))
    unit = None
    for name, costs in turns.items():
        if name in failed:
            print(f"{name:24}failed: {failed[name]}")
            continue
        times = [cost.cpu_seconds for cost in costs]
        rows = [(cost.cpu_seconds, cost.system_seconds, cost.peak_mb) for cost in costs]
        seconds, system, peak = map(statistics.median, zip(*rows, strict=True))
        unit = unit or seconds
        images, boxes = costs[0].written
        figures = f"{seconds:10.2f}{min(times):10.2f}{max(times):10.2f}{system:10.2f}{seconds / unit:10.2f}{peak:10.0f}"
        print(f"{name:24}{figures}{images:10,}{boxes:10,}{images / seconds:10,.0f}{boxes / seconds:10,.0f}")
    return not failed


def call(python: str, function: Callable[..., None], *arguments: str) -> list[str]:
    """A command that runs the source of one function, and nothing else of this file."""
    source = inspect.getsource(function)
    return [python, "-c", f"import sys\n{source}\n{function.__name__}(*sys.argv[1:])", *arguments]


def commands_of(step: str, source: Path, target: Path, peers: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
    """What is measured: by the name for the table, a command."""
    where, python = (str(source), str(target)), sys.executable
    if step in ("dataset", "million"):
        ours = call(python, our_import, str(source), "coco", "labels", str(target))
        return {"floor": call(python, floor_dataset, *where), "ours": ours}
    if step == "formats":
        commands = {"start": [python, "-c", "import pipeline.labelling.merging; print(0, 0)"]}
        for folder in sorted(source.glob("labels/*")) + sorted(source.glob("with_images/*")):
            kind = folder.parent.name
            name = f"{folder.name}, images" if kind == "with_images" else folder.name
            commands[name] = call(python, our_import, str(folder), folder.name, kind)
        return commands
    convert = [python, "-m", "pipeline", "convert", *where, "--to", "yolo"]
    floor = call(python, floor_voc if step == "voc" else floor_coco, *where)
    commands = {"floor": floor, "ours, labels only": [*convert, "--no-images"], "ours, images linked": convert}
    for function in (with_labelformat, with_datumaro, with_supervision, with_ultralytics):
        name = function.__name__.removeprefix("with_")
        if name in peers and (step, name) != ("voc", "ultralytics"):
            commands[f"{name} {peers[name][1]}"] = call(peers[name][0], function, step, *where)
    return commands


def find_peers(pythons: list[str]) -> dict[str, tuple[str, str]]:
    """The first interpreter that has it, and its version, for each peer that there is."""
    code = "from importlib import metadata; print(*(f'{found.name}={found.version}' for found in metadata.distributions()))"
    found: dict[str, tuple[str, str]] = {}
    for python in pythons:
        installed = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        versions = dict(item.split("=", 1) for item in installed)
        found = {name: (python, versions[name]) for name in PEERS if name in versions} | found
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=50_000, help="of all images together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=["voc", "coco", "dataset", "formats"])
    parser.add_argument("--million", action="store_true", help="also 1,000,000 boxes of 100,000 images in one COCO file")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has the other tools")
    parser.add_argument("--folder", type=Path, help="where to write, on a disk with hard links; default: the system's place")
    options = parser.parse_args()
    python = shutil.which(options.peers)
    if python is None or min(options.images, options.boxes, options.rounds) < 1:
        parser.error("--peers must be an interpreter, and --images, --boxes and --rounds at least 1")
    peers = find_peers([os.path.abspath(python), sys.executable])  # noqa: PTH100 - an environment's python is a link
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {options.rounds} rounds")
    for missing in [name for name in PEERS if name not in peers]:
        print(f"not measured: {missing} (pip install {missing} into an environment of its own, see --peers)")
    sound = True
    with tempfile.TemporaryDirectory(prefix="import-", dir=options.folder) as name:
        for step in dict.fromkeys([*options.steps, *(["million"] if options.million else [])]):
            make, title = STEPS[step]
            images, boxes = (100_000, 1_000_000) if step == "million" else (options.images, options.boxes)
            print(f"\n{title}: {images:,} images, {boxes:,} boxes", flush=True)
            source, target = (Path(name).resolve() / step / part for part in ("data", "written"))
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # a child's peak memory starts at that of its parent
                pool.apply(make, (source, images, boxes))
            sound &= compare(commands_of(step, source, target, peers), target, options.rounds)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
