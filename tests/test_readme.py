"""The quickstart of the README runs as it stands, on a shorter recording."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_quickstart(tmp_path):
    (code,) = re.findall(r"## Quickstart\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    shorter = code.replace("durations=[60.0]", "durations=[6.0]")
    assert shorter != code
    shorter += "\nassert len(locations) == len(peaks)\n"
    shorter += "assert len(analyzer.get_extension('unit_location_posteriors').get_data()) == 20\n"
    done = subprocess.run([sys.executable, "-c", shorter], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "my_localizer").iterdir()) == [
        "model.safetensors",
        "model_info.json",
    ]
