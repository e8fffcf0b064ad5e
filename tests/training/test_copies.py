"""Copies of checkpoints elsewhere: whole or not there, sent once, as many as are kept, and checked when they come back."""

import uuid
from pathlib import Path

import pytest

from mmpt.data.store import Store
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import MANIFEST, published_folder
from mmpt.training.copies import copies, copy_out, fetch

FORM = "test/1"


def checkpoint(run: Path, step: int) -> Path:
    path = run / "checkpoints" / f"step-{step:08d}"
    with published_folder(path, {"format": FORM, "step": step}) as folder:
        (folder / "backbone").mkdir()
        (folder / "backbone" / "frozen.bin").write_bytes(b"always the same")
        (folder / "state.bin").write_bytes(bytes([step]) * 9)
    return path


@pytest.fixture(params=["memory", "folder"])
def place(request, tmp_path) -> str:
    return f"memory://{uuid.uuid4()}/run" if request.param == "memory" else str(tmp_path / "elsewhere")


def test_the_newest_are_kept_and_come_back_as_they_were(place, tmp_path):
    for step in (2, 4, 6):
        copy_out(checkpoint(tmp_path / "run", step), place, keep=2)
    assert copies(Store(place)) == ["step-00000004", "step-00000006"]
    assert not [name for name in Store(place).files() if "step-00000002" in name]
    found = fetch(tmp_path / "new", place, FORM)
    assert found == tmp_path / "new" / "checkpoints" / "step-00000006"
    came, went = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (found, tmp_path / "run" / "checkpoints" / "step-00000006")
    )
    assert came == went and sorted(path.name for path in found.parent.iterdir()) == [found.name]


def test_what_is_there_already_is_not_sent_again(place, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(
        Store, "copy", lambda self, name, source, copy=Store.copy: (sent.append(Path(source)), copy(self, name, source))
    )
    copy_out(checkpoint(tmp_path / "run", 2), place, keep=5)
    sent.clear()
    copy_out(checkpoint(tmp_path / "run", 4), place, keep=5)
    assert [path.name for path in sent if path.is_relative_to(tmp_path / "run")] == ["state.bin", MANIFEST]


def test_a_copy_that_was_interrupted_is_none(place, tmp_path, monkeypatch, capsys):
    copy_out(checkpoint(tmp_path / "run", 2), place, keep=1)

    def full(self, name, source, copy=Store.copy):
        if name.endswith("state.bin"):
            raise DataError(f"{self.path(name)}: no space left")
        copy(self, name, source)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "copy", full)
        copy_out(checkpoint(tmp_path / "run", 4), place, keep=1)  # and the training goes on
    assert "step-00000004: not copied" in capsys.readouterr().err
    assert fetch(tmp_path / "new", place, FORM).name == "step-00000002"
    copy_out(tmp_path / "run" / "checkpoints" / "step-00000004", place, keep=1)
    assert copies(Store(place)) == ["step-00000004"]


def test_damage_on_the_way_is_seen_and_nothing_is_left(place, tmp_path):
    assert fetch(tmp_path / "new", place, FORM) is None
    copy_out(checkpoint(tmp_path / "run", 2), place, keep=1)
    Store(place).write("checkpoints/step-00000002/state.bin", b"something else")
    with pytest.raises(CheckpointError, match="state.bin: differs"):
        fetch(tmp_path / "new", place, FORM)
    Store(place).write(f"checkpoints/step-00000002/{MANIFEST}", b'{"files": {"../out": {}}}')
    with pytest.raises(CheckpointError, match="lists no files"):
        fetch(tmp_path / "new", place, FORM)
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
