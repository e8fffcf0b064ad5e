"""TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpt.errors import ConfigError
from mmpt.training.trackers import Tracker, Tracking


class TensorBoard(Tracker):
    """Event files that tensorflow/tensorboard reads, in OUTPUT/tensorboard."""

    def start(self, run: Path, settings: Mapping[str, Any], resumed_step: int) -> Tracking:
        """See `Tracker.start`. What a run wrote after `resumed_step` before it went on is not shown."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("run.trackers: tensorboard needs the package tensorboard (pip install mmpt[tensorboard])") from None
        return _Board(SummaryWriter(str(run / "tensorboard"), purge_step=resumed_step + 1))


class _Board:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def samples(self, step: int, page: str) -> None:
        """TensorBoard shows no pages."""

    def close(self) -> None:
        self._writer.close()
