"""What is interrupted leaves one whole model, and nothing else is ever replaced."""

import errno
import os
from pathlib import Path

import pytest
from model_helpers import make_model

from si_neuroml.errors import InputError
from si_neuroml.modelfiles import (
    load_model,
    save_model,
)


def test_an_existing_model_is_replaced_only_when_asked(folder):
    with pytest.raises(InputError, match="overwrite=True"):
        save_model(make_model(2.0), folder)
    assert load_model(folder) == make_model()
    save_model(make_model(2.0), folder, overwrite=True)
    assert load_model(folder) == make_model(2.0)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_what_is_not_only_a_model_is_never_replaced(folder, tmp_path):
    (folder / "notes.txt").write_text("three years of work")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"notes\.txt"):
        save_model(make_model(2.0), folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="2 missing"):
        save_model(make_model(), tmp_path / "empty", overwrite=True)
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match="is a file"):
        save_model(make_model(), tmp_path / "file", overwrite=True)


def test_a_linked_folder_is_replaced_where_it_is(folder, tmp_path):
    link = tmp_path / "link"
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert save_model(make_model(2.0), link, overwrite=True) == folder.resolve()
    assert link.is_symlink()
    assert load_model(folder) == load_model(link) == make_model(2.0)


class Interruption:
    """Raises at the n-th call of anything that touches the disk, and at all later calls if the process is gone."""

    def __init__(self, monkeypatch, error, at, dies):
        self.error, self.at, self.dies, self.count = error, at, dies, 0
        for owner, name in [(os, "replace"), (os, "fsync"), (Path, "mkdir"), (Path, "unlink"), (Path, "rmdir")]:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def wrapped(*args, **kwargs):
            self.count += 1
            if self.count == self.at or (self.dies and self.count > self.at):
                raise self.error
            return function(*args, **kwargs)

        return wrapped


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interruption_at_any_step_leaves_one_whole_model(tmp_path, error, dies, exists):
    finished = False
    for at in range(1, 30):
        home = tmp_path / str(at)
        home.mkdir()
        old, new = make_model(1.0), make_model(2.0)
        if exists:
            save_model(old, home / "model")
        with pytest.MonkeyPatch.context() as monkeypatch:
            interruption = Interruption(monkeypatch, error, at, dies)
            try:
                save_model(new, home / "model", overwrite=True)
            except (KeyboardInterrupt, OSError) as raised:
                assert raised is error  # noqa: PT017 - at the last step nothing is raised
            finished = interruption.count < at
        if not dies:
            assert {path.name for path in home.iterdir()} <= {"model", ".model.leaving", ".model.lock"}
        if exists or (home / "model").exists():
            assert load_quietly(home / "model") in (old, new)
        save_model(make_model(3.0), home / "model", overwrite=True)
        assert load_model(home / "model") == make_model(3.0)
        assert [path.name for path in home.iterdir()] == ["model"]
        if finished:
            break
    assert finished
    assert at >= 6


def load_quietly(folder):
    if folder.exists():
        return load_model(folder)
    with pytest.warns(UserWarning, match="interrupted"):
        return load_model(folder)


def test_without_overwrite_an_interrupted_replacement_is_recovered_first(folder):
    os.replace(folder, folder.with_name(".model.leaving"))
    with pytest.raises(InputError, match="overwrite=True"):
        save_model(make_model(2.0), folder)
    assert load_model(folder) == make_model()


def test_a_leftover_with_other_files_is_not_deleted(tmp_path):
    leftover = tmp_path / ".model.arriving"
    leftover.mkdir()
    (leftover / "mine.txt").write_text("kept")
    with pytest.raises(OSError, match="arriving"):
        save_model(make_model(), tmp_path / "model")
    assert (leftover / "mine.txt").read_text() == "kept"
