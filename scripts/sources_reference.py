"""Write docs/collect.md, a section for every source of images, from the modules that fetch them.

    python scripts/sources_reference.py

A test fails when the page is not up to date.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import collecting, plugins  # noqa: E402

PAGE = ROOT / "docs" / "collect.md"
HEAD = """# Where images come from

Made by `scripts/sources_reference.py` from the modules in `pipeline/sources/`, one file each.

    python -m pipeline collect ../photos                                  a folder, or a zip or tar of images and labels
    python -m pipeline collect drive.mp4 --every 0.5                      two frames a second, with the labels beside the video
    python -m pipeline collect roboflow://team/project/3                  or https://universe.roboflow.com/team/project/dataset/3
    python -m pipeline collect https://www.kaggle.com/datasets/andrewmvd/road-sign-detection
    python -m pipeline collect huggingface:rishitdagli/cppe-5             or https://huggingface.co/datasets/rishitdagli/cppe-5
    python -m pipeline collect github:Shenggan/BCCD_Dataset               a repository, or a folder of it, at a commit
    python -m pipeline collect coco --classes dog,cat --limit 200         200 images of COCO with dogs or cats, and their boxes
    python -m pipeline collect openimages --classes Dog,Cat --limit 500   the same of Open Images
    python -m pipeline collect camera:0 --every 2 --frames 100            a webcam, or a stream: camera:rtsp://192.168.1.20/stream1
    python -m pipeline collect url:list.txt                               the images of a list of URLs
    python -m pipeline collect https://host/data.zip --sha256 3f2a…       an archive from the web

Each makes a version of `collect` and shows the lines for params.yaml that stand for it, so that `run all` goes on with it:

    collect:
      source: coco
      options: {classes: [dog, cat], limit: 200}

`collect SOURCE --help` tells the options of a source. On the command line they are words (`--max-frames 100`, lists with
commas), in params.yaml the keys of `collect.options`. Relative paths, of sources and in
options, start where you are when they are given on the command line, and where params.yaml lies when they stand in it.

## Several sources

`collect SOURCE --append` keeps what the last version has, without looking at its sources again, and adds one more: the memory
card of yesterday need not be there. The same source again is looked at anew, in its place. In params.yaml it is a list, each
with a folder (`name`), a licence and a label format of its own:

    collect:
      sources:
        - {source: ../photos, format: voc, license: CC-BY-4.0}
        - {source: drive.mp4, name: drive, options: {every_s: 1}}

Each source lies in its own folder below `files/`; `annotate` reads each by its own format and puts them together by class name.
One of several may be images alone.

## What a version says

`origins.jsonl` has a line for every file: its URL, place in an archive or path, hash, size, licence, and the video or burst it
belongs to. `times.jsonl` says when it came. The manifest holds the query. What was asked for and not obtained stands in
`ledger.jsonl` with the reason. `verify collect` hashes everything again. The same query again is reused, without a network,
also when only the licence or the name is another.

`--force` asks the source again, and takes nothing over from the version before: a branch or "the newest" is looked up anew,
files are copied and downloaded anew, videos decoded anew, and a session of a camera is recorded anew. It makes a version of its
own; when its files are the same, no stage after it runs again. Sources that `--append` keeps are linked all the same, for nothing
else has them. What never changes stays in the cache: the annotations of COCO and Open Images, exports of Roboflow
(`--overwrite-cache` fetches one anew).

## Downloads

Files are fetched in parallel, each to a temporary name, checked (length, hash where one is known, does the image open), then
named. Ctrl-C and the same command again goes on in the middle of a file where the server allows it. 429, 5xx and timeouts are
tried again with growing pauses; `Retry-After` is honoured, and so are `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and
`REQUESTS_CA_BUNDLE`. A missing network is told in one line within five seconds, and ends the command. A host, or a proxy,
that accepts connections and has never said anything is named as waited for within five seconds, and asked three times: for 4
s, for 11 s, and for as long as one that has answered before may be silent, 30 s (Hugging Face 20 s, Kaggle and Roboflow 60
s). After these 45 s (35 s, 75 s), not counting the pauses between, it is given up; eight such hosts and not one that answers
end the command.

Archives are unpacked carefully: no path leaves the folder, no links or devices, and what unpacks to far more than it was is
refused. Names that Windows cannot hold (`aux.jpg`, `12:30.jpg`, `a.`) are changed, of an image and its label file alike, and
labels that name a file inside find it by the name it had. Files whose names differ in case or Unicode form alone, for some
systems take them for one, or of which one is called like the folder of the other, are left out, and with a label file the
images of its name. All of it stands in the ledger.

## Keys

Keys come from the environment, from a file `.env` beside params.yaml (keep it out of git), or from the service's own file:
`ROBOFLOW_API_KEY`, `KAGGLE_USERNAME` and `KAGGLE_KEY`, `HF_TOKEN`, `GITHUB_TOKEN`, `CAMERA_USER` and `CAMERA_PASSWORD`. They
stand in no manifest, ledger, log or error. A URL with a password or token goes into a text file, given as `url:file.txt`.

"""


def page() -> str:
    lines = []
    for name in plugins.names(collecting.PACKAGE):
        module = plugins.load(collecting.PACKAGE, name)
        lines += [f"## {name}\n", inspect.getdoc(module) or "", ""]
        fields = module.Options.model_fields
        if fields:
            lines += ["| option | default | |", "|---|---|---|"]
        for option, field in fields.items():
            default = json.dumps(field.get_default(call_default_factory=True))
            text = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{option}` | {'' if default in ('null', '[]') else f'`{default}`'} | {text} |")
        if fields:
            lines.append("")
    return HEAD + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
