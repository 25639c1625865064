"""Two processes save to one folder while a third one loads: always one of the two models, whole."""

import shutil
import time

import pytest
from fault_scripts import errors_of, kill, start, wait_for

from si_neuroml.modelfiles import load_model, save_model

# of saving at the same time, once both have begun
SECONDS = 2.0

SAVING = """
import time
from si_neuroml.modelfiles import load_model, save_model

model, shared, own = load_model(sys.argv[2]), sys.argv[3], FOLDER / sys.argv[4]
rounds = 0
while not (FOLDER / "end").exists():
    save_model(model, shared, overwrite=True)
    rounds += 1
    own.touch()
own.write_text(str(rounds))
"""


@pytest.fixture
def models(classifier, tmp_path):
    """Two models of different content, saved."""
    other = classifier.with_threshold(0.99)
    save_model(other, tmp_path / "other")
    shutil.copytree(classifier["folder"], tmp_path / "one")
    return classifier, other


# where a reader meets a writer between two moves of folders
@pytest.mark.filterwarnings("ignore:The last save to .* was interrupted")
def test_a_reader_among_two_writers_gets_a_whole_model(models, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    writers = [start(SAVING, tmp_path, tmp_path / name, home / "model", f"{name}_saved") for name in ("one", "other")]
    try:
        for name, writer in zip(("one", "other"), writers, strict=True):
            wait_for(tmp_path / f"{name}_saved", writer)
        end, found = time.monotonic() + SECONDS, []
        while time.monotonic() < end:
            found.append(load_model(home / "model")["digest"])
        (tmp_path / "end").touch()
        for writer in writers:
            assert writer.wait(60) == 0, errors_of(writer)
    finally:
        for writer in writers:
            kill(writer)
    rounds = [int((tmp_path / f"{name}_saved").read_text()) for name in ("one", "other")]
    assert set(found) == {model["digest"] for model in models}, "neither writer may keep the other from its turn"
    assert min(rounds) >= 5
    assert len(found) >= 5
    assert [path.name for path in home.iterdir()] == ["model"]
    assert load_model(home / "model") in models
