"""What the benchmarks share: tables as text, results as JSON, and what they ran on."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import NamedTuple

# the file to which note() writes
NOTES = "SI_NEUROML_BENCHMARK_NOTES"
PACKAGES = ("si-neuroml", "spikeinterface", "numpy", "numba", "scikit-learn", "torch", "MEArec")


class Target(NamedTuple):
    """What was set out to reach, what came out, and whether that is enough; None where nothing can be said."""

    part: str
    name: str
    value: str
    met: bool | None


def machine_info() -> dict:
    """Processor, system, versions and date, without names of people or machines."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": model,
        "num_cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write_json(path: str | Path | None, results: dict) -> None:
    """Write results beside their machine, whole or not at all; no path, no file."""
    if not path:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps({"machine": machine_info(), **results}, indent=1, allow_nan=False) + "\n")
    draft.replace(path)


def note(figure: str, ours: float | str, peers: dict | None = None, target: str = "", met: bool | None = None) -> None:
    """Keep a figure for the table of all benchmarks, which run_all.py makes: ours, and the same of others by name.

    Parameters
    ----------
    figure : str
        What it is, with its unit.
    ours : float | str
    peers : dict, optional
        The same figure of other methods.
    target : str, optional
        What was set out to reach.
    met : bool, optional
        Whether it was.
    """
    if path := os.environ.get(NOTES):
        line = {"script": Path(sys.argv[0]).name, "figure": figure, "ours": _text(ours), "target": target, "met": met}
        line["peers"] = {name: _text(value) for name, value in (peers or {}).items()}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def note_targets(targets: dict[str, bool]) -> None:
    """Print and keep targets that say in words what was measured."""
    for name, met in targets.items():
        print(f"{name}: {'met' if met else 'NOT met'}", flush=True)
        note(name, "", met=bool(met))


def report_targets(targets: list[Target]) -> None:
    """Print and keep what was set out to reach."""
    words = {True: "met", False: "NOT met", None: "-"}
    print("\ntargets")
    for target in targets:
        print(f"{words[target.met]:>7}  {target.part}  {target.name}: {target.value}", flush=True)
        note(f"{target.part}: {target.name}", target.value, met=target.met)


def tell(text: str) -> None:
    """Print what a long run is at, with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def print_table(title: str, header: list[str], rows: list[list]) -> None:
    """Rows under a title; the first column to the left, the others to the right; numbers with two digits."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(len(str(row[k])) for row in [header, *cells]) for k in range(len(header))]
    print(f"\n{title}")
    for row in [header, ["-" * width for width in widths], *cells]:
        first, *others = (str(value) for value in row)
        line = [first.ljust(widths[0])] + [v.rjust(w) for v, w in zip(others, widths[1:], strict=True)]
        print("  ".join(line).rstrip())
    print(flush=True)


def _text(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
