"""Run every benchmark in turn and put their figures into one table beside those of others.

Each script runs in a process of its own; what it prints goes to outputs/benchmarks/<name>.log (full) or
<name>_quick.log. Figures that scripts note go to outputs/benchmarks/summary.md (summary_quick.md) as they come, with
the machine, the versions and the date. A script that needs data which are not there says so and is skipped; one that
fails does not stop the others, and makes this script end with an error. ``make benchmarks`` runs the quick versions,
``make benchmarks FULL=1`` everything, which takes a day on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from _report import NOTES, machine_info

HERE = Path(__file__).parent
OUT = Path("outputs/benchmarks")
WORDS = {True: "met", False: "**not met**", None: ""}


def main():
    arguments = parse_arguments()
    suffix = "" if arguments.full else "_quick"
    OUT.mkdir(parents=True, exist_ok=True)
    notes, summary = OUT / f"notes{suffix}.jsonl", OUT / f"summary{suffix}.md"
    notes.unlink(missing_ok=True)
    machine, runs = machine_info(), []
    for name in arguments.only or scripts():
        print(f"== {name}", flush=True)
        runs.append((name, *run(name, suffix, notes, arguments.full)))
        summary.write_text(page(machine, runs, read_notes(notes), arguments.full))
        print(f"   {runs[-1][1]}, {runs[-1][2]:.0f} s", flush=True)
    print(f"\n{summary}")
    failed = [name for name, status, _ in runs if status.startswith("failed")]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def scripts():
    """All benchmarks but this."""
    return sorted(path.stem for path in HERE.glob("[a-z]*.py") if path.stem != Path(__file__).stem)


def run(name, suffix, notes, full):
    """Status and seconds."""
    log, start = OUT / f"{name}{suffix}.log", time.perf_counter()
    environment = os.environ | {NOTES: str(notes.absolute()), "MPLBACKEND": "Agg"}
    command = [sys.executable, str(HERE / f"{name}.py"), *([] if full else ["--quick"])]
    with open(log, "w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    text = log.read_text()
    skipped = [
        line for line in text.splitlines() if line.lower().startswith(("skipped", "no scenes", "nothing to run"))
    ]
    status = f"failed with code {code}, see {log}" if code else "; ".join(skipped[:2]) or "done"
    return status, time.perf_counter() - start


def read_notes(notes):
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def page(machine, runs, notes, full):
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    lines = [
        f"# Benchmarks, {'in full' if full else 'quick versions'}, {machine['date']}",
        "",
        f"{machine['num_cores']} cores of {machine['processor']}, load {machine['load_at_start']} at the start, "
        f"{machine['system']}, Python {machine['python']}, {versions}.",
        *([] if full else ["", "Quick versions show that the scripts work; their figures are rough and not judged."]),
        "",
        "| figure | ours | others | target | script |",
        "|---|---|---|---|---|",
    ]
    for one in notes:
        others = ", ".join(f"{name} {value}" for name, value in one["peers"].items())
        target = " ".join(filter(None, (one["target"], WORDS[one["met"]] if full else "")))
        cells = (one["figure"], one["ours"], others, target, one["script"])
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    lines += ["", "| script | | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {status} | {seconds:.0f} |" for name, status, seconds in runs]
    return "\n".join(lines) + "\n"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="everything instead of the quick versions")
    parser.add_argument("--only", nargs="+", choices=scripts(), metavar="NAME", help="these scripts only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
