"""One way to all data sets: `load` by the name of a layout, and the command line options that go with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import ctich, folder, rsna
from .study import Study

LAYOUTS = {
    "ctich": "PhysioNet CT-ICH as window images: labels.csv, patient-NNN/",
    "rsna": "RSNA 2019: stage_2_train.csv, stage_2_train/",
    "folder": "any folder of DICOM studies, with tables of labels",
}


def load(
    layout: str,
    data: Path,
    cache: Path,
    labels: Path | None = None,
    slice_labels: Path | None = None,
    limit: int | None = None,
    processes: int = 1,
) -> list[Study]:
    """All studies of a data set; prints what is left out, and why, and lists it in CACHE/left-out.csv.

    labels, slice_labels: of the layout "folder" only. limit: at most so many studies. processes: how many studies to
    prepare at a time. Raises ValueError for what does not go together or cannot be used; FileNotFoundError;
    dicom.MissingDecoder where a package has to be installed.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'no layout is named "{layout}": it is one of {", ".join(LAYOUTS)}')
    if limit is not None and limit < 1:
        raise ValueError("the limit has to be 1 or more")
    if layout != "folder" and (labels or slice_labels):
        raise ValueError(f"the layout {layout} brings its own labels: leave out --labels and --slice-labels")
    if layout == "ctich":
        return ctich.load(data, cache)[:limit]
    if layout == "rsna":
        reading = rsna.read(data, cache, limit, processes)
    else:
        if labels is None:
            raise ValueError("the layout folder needs --labels, the table of study labels")
        reading = folder.read(data, cache, labels, slice_labels, limit, processes)
    reading.tell(cache)
    if not reading.studies:
        raise ValueError("no study is left: see above what to correct")
    return reading.studies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `load_from` reads."""
    layouts = "; ".join(f"{name}: {text}" for name, text in LAYOUTS.items())
    parser.add_argument("--layout", choices=list(LAYOUTS), default="ctich", help=f"{layouts} (default ctich)")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for preprocessed studies, about 9 MB each; holds identifiers"
    )
    parser.add_argument("--labels", type=Path, help="layout folder: CSV of study labels")
    parser.add_argument("--slice-labels", type=Path, help="layout folder: CSV of slice labels")
    parser.add_argument("--limit", type=int, help="read at most so many studies")
    parser.add_argument("--processes", type=int, default=1, help="studies to prepare at a time (default 1)")


def load_from(options: argparse.Namespace) -> list[Study]:
    return load(
        options.layout, options.data, options.cache, options.labels, options.slice_labels, options.limit,
        options.processes,
    )
