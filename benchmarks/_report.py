"""What the benchmarks share: tables as text, results as JSON, and what they ran on."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

PACKAGES = ("si-neuroml", "spikeinterface", "numpy", "numba", "scikit-learn", "torch", "MEArec")


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
