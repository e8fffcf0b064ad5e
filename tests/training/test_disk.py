"""A full disk: told before the first step where that can be known, and where it is met, with nothing half left."""

import errno
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mmpt.errors import ConfigError, DiskFullError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.scripts import main_guard
from mmpt.storage import published_folder, write_bytes
from mmpt.training.distributed import World
from mmpt.training.plan import require_room

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402

ONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_file_that_finds_the_disk_full_is_named_and_leaves_nothing(number, tmp_path, monkeypatch, capsys):
    (tmp_path / "kept").write_text("before")

    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as caught:
        main_guard(lambda: write_bytes(tmp_path / "kept", b"after"))()
    assert caught.value.code == 2 and f"error: {tmp_path / 'kept'}: it cannot be written" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
    ],
)
def test_a_folder_that_finds_the_disk_full_is_not_published(problem, tmp_path):
    with pytest.raises(DiskFullError, match="step-1"), published_folder(tmp_path / "step-1", {"format": "x"}) as folder:
        (folder / "half").write_bytes(b"1")
        raise problem
    assert not list(tmp_path.iterdir())


def test_other_failures_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), published_folder(tmp_path / "a", {"format": "x"}):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize(
    ("changes", "bytes_each"), [({}, 12), ({"deepspeed": {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}}, 14)]
)
def test_room_for_a_checkpoint_is_asked_for_before_the_first_step(changes, bytes_each, tmp_path, monkeypatch):
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), 20, seed=0)
    config = ranks.pretrain(tmp_path / "deep" / "deeper", "run", 0, **changes)
    needed = bytes_each * sum(parameter.numel() for parameter in model.parameters())
    usage, asked = namedtuple("usage", "total used free"), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage(0, 0, needed))
    require_room(model, config, ONE)
    assert asked == [tmp_path]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, needed - 1))
    require_room(model, config, World(1, 2, torch.device("cpu")))
    with pytest.raises(ConfigError, match=f"output: {config.output}: a checkpoint takes"):
        require_room(model, config, ONE)
