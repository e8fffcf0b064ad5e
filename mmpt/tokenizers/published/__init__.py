"""Published tokenizers, as they were released: their weights read by path or name, their codes those of their own library.

published: mimi
published: {kind: dac, model: descript/dac_24khz, codebooks: 4, layout: delay}
"""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmpt.methods import Method
from mmpt.modality import Medium
from mmpt.storage import link_files

if TYPE_CHECKING:
    from mmpt.tokenizers.figures import Figures
    from mmpt.tokenizers.interface import AnyImageTokenizer, AnySpeechTokenizer


class Published(Method):
    """A tokenizer that was trained elsewhere: its checkpoint, and how its codes are used."""

    key: ClassVar[str] = "published"
    tokenizes: ClassVar[Medium]
    """What it reads."""
    models: ClassVar[tuple[str, ...]]
    """The `model_type` of the configurations that are read as it."""
    released: ClassVar[dict[str, Any]] = {}
    """What of the released configuration its figures follow from, where it is not the default of transformers."""
    pickle: ClassVar[str] = ""
    """The file of weights that were released as a pickle alone, which only `tokenizers/import.py` reads."""

    beside: ClassVar[tuple[str, ...]] = ()
    """Hugging Face names of what else it was released in."""

    model: str
    """A folder or Hugging Face name: where the weights are read, once, by `tokenizers/import.py`."""

    @classmethod
    def is_of(cls, config: dict[str, Any]) -> bool:
        """Whether a config.json of one of `models` is of this kind: where one `model_type` stands for several things."""
        return True

    @abstractmethod
    def figures(self, config: dict[str, Any]) -> "Figures":
        """Those of a checkpoint with this config.json. Raises `ConfigError` where these settings do not fit it."""

    @abstractmethod
    def load(self, folder: Path) -> "AnySpeechTokenizer | AnyImageTokenizer":
        """The tokenizer of the checkpoint in `folder`, in eval mode. Raises `CheckpointError` where its weights are not whole."""

    def parts(self) -> dict[str, Path]:
        """More that was released as pickles: what the names of its tensors begin with here, and the file."""
        return {}

    def take(self, source: Path, target: Path) -> None:
        """Put into the folder `target` what `load` needs of the checkpoint in `source`: by links where that is all of it."""
        link_files(source, target, (".json", ".safetensors"))

    def files(self, names: list[str], weights: dict[str, str]) -> list[str]:
        """Of the files of a repository, those that `load` reads; `weights`: tensor → file, where there is an index."""
        return [name for name in names if "/" not in name and name.endswith((".json", ".safetensors"))]
