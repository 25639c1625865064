"""Scores kept in one JSON file, by recording and method, so that an interrupted benchmark goes on where it stopped.

What a score depends on is in its two names: the case names the recording (probe, noise, seed, duration, spikes), the
key names the method, for a model with its digest. New weights are scored anew, SpikeInterface's slow methods are not.
One process at a time may write a file.
"""

import json
from pathlib import Path

from _report import Target, report_targets, write_json


class Store:
    """The file. `again` names methods whose scores are forgotten, for example after a change of their code."""

    def __init__(self, path: str | None, header: dict, again: tuple[str, ...] = ()):
        self.path, self.results = path, {**header, "cases": {}}
        if path and Path(path).exists():
            before = json.loads(Path(path).read_text()).get("cases", {})
            for case, scores in before.items():
                self.results["cases"][case] = {k: v for k, v in scores.items() if not k.startswith(tuple(again))}

    def missing(self, case: str, keys) -> list[str]:
        held = self.results["cases"].get(case, {})
        return [key for key in dict.fromkeys(keys) if key not in held]

    def put(self, case: str, key: str, score: dict) -> None:
        """Take a score and write the file: a score may have taken minutes."""
        self.results["cases"].setdefault(case, {})[key] = score
        write_json(self.path, self.results)

    def get(self, case: str, key: str) -> dict | None:
        return self.results["cases"].get(case, {}).get(key)

    def finish(self, targets: list[Target]) -> None:
        """Write the summary beside the scores and print it."""
        self.results["targets"] = [target._asdict() for target in targets]
        write_json(self.path, self.results)
        report_targets(targets)
        judged = [t.met for t in targets if t.met is not None]
        print(f"{sum(judged)} of {len(judged)} targets met", flush=True)
