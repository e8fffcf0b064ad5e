"""What every vocoder gives, where one is loaded from, and the batches that one is trained on."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import soxr
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmpt.config import Schema, parse_config, read_yaml
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.modality import SAMPLE_RATE
from mmpt.storage import MANIFEST, check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.speech.constants import FRAME_RATE
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.vocoders import Vocoder
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.terms import Trainable

FORMAT = "mmpt-vocoder/1"
PIECE = 3000
"""Frames that are spoken at once."""


class VocoderBatch(NamedTuple):
    """`mel` [B, crop, mels] and the `samples` [B, crop · hop] that it is of, at the rate of the vocoder."""

    mel: torch.Tensor
    samples: torch.Tensor


S = TypeVar("S", bound=Vocoder)


class VocoderModule(Trainable, Generic[S]):
    """The module of a `Vocoder`, `config`."""

    config: S

    @property
    @abstractmethod
    def reach(self) -> int:
        """How many frames to either side a sample depends on."""

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.config.sound_rate // FRAME_RATE

    @property
    def period(self) -> int:
        """A piece that is spoken alone begins at a multiple of so many frames."""
        return 1

    @abstractmethod
    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        """The waveform [T · hop] in −1 … 1 of a log-mel [T, mels] of any length."""

    def save(self, folder: Path) -> None:
        """Write config and weights to `folder`, atomically."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", self.config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")


class _Section(Schema):
    vocoder: Vocoder


def build_vocoder(content: dict[str, Any], name: str) -> VocoderModule:
    """The vocoder whose settings are `content`, with random weights; `name` stands for the file in messages."""
    return parse_config({"vocoder": content}, _Section, name).vocoder.build()


def saved_vocoder(folder: Path) -> VocoderModule:
    """The vocoder saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not whole."""
    folder = Path(folder)
    check_folder(folder, FORMAT)
    vocoder = build_vocoder(read_json(folder / "config.json", CheckpointError), f"{folder}/config.json")
    try:
        vocoder.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as problem:
        raise CheckpointError(f"{folder}/model.safetensors does not fit config.json ({problem})") from None
    return vocoder.eval()


def load_vocoder(name: str | Path, mels: int) -> VocoderModule:
    """The vocoder in a folder that `VocoderModule.save` wrote, or the published one of a folder or Hugging Face name (Vocos: of a
    folder), or one that needs no weights by its kind (`griffin_lim`); in eval mode.

    `mels`: bands of the log-mel that it is to speak. Raises `ConfigError` where that does not fit or the weights are of another
    kind, `CheckpointError` where they are damaged or not whole.
    """
    if (Path(name) / MANIFEST).is_file():
        vocoder = saved_vocoder(Path(name))
    elif str(name) in Vocoder.names() and not Path(name).exists():
        vocoder = build_vocoder({"kind": str(name)}, str(name)).eval()
        if next(vocoder.parameters(), None) is not None:
            raise ConfigError(f"vocoder: {name} has weights to learn, expected the folder of a trained one")
    else:
        vocoder = _published(str(name), mels)
    if vocoder.config.bands not in (None, mels):
        raise ConfigError(f"{name}: a vocoder of {vocoder.config.bands} mel bands, expected {mels}")
    return vocoder


def _published(name: str, mels: int) -> VocoderModule:
    """The published vocoder of a folder or Hugging Face `name`, by the architecture that its config.json or config.yaml names."""
    content = read_yaml(file) if (file := Path(name) / "config.yaml").is_file() else _transformers_config(name)
    backbone = content.get("backbone")
    theirs = [str(backbone["class_path"]).rpartition(".")[2]] if isinstance(backbone, dict) and "class_path" in backbone else []
    found = theirs or content.get("architectures") or []
    known = {one.architecture_name: one for one in map(Vocoder.member, Vocoder.names()) if one.architecture_name}
    chosen = next((known[architecture] for architecture in found if architecture in known), None)
    if chosen is None:
        raise ConfigError(f"{name}: no vocoder that can be used here\n  architectures: {found}, expected {' or '.join(known)}")
    return chosen.from_published(name, content, mels)


def _transformers_config(name: str) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    try:
        return PreTrainedConfig.get_config_dict(name)[0]
    except (OSError, ValueError) as problem:
        raise ConfigError(f"{name}: no vocoder there, neither one of ours nor a published one ({problem})") from None


def in_pieces(
    mel: torch.Tensor, reach: int, period: int, hop: int, speak: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """What `speak` makes of the whole of `mel` [T, mels], [T · hop], of pieces that overlap by `reach` frames and begin at a
    multiple of `period`."""
    found = []
    for start in range(0, len(mel), PIECE):
        origin = max(0, start - reach) // period * period
        samples = speak(mel[origin : start + PIECE + reach])
        found.append(samples[(start - origin) * hop :][: PIECE * hop])
    return torch.cat(found) if found else torch.zeros(0)


class Plan(Protocol):
    """What is needed of a fit configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def seed(self) -> int: ...


def vocoder_batches(
    waveforms: Sequence[np.ndarray], config: Istft, fit: Plan, lengths: np.ndarray | None = None
) -> Callable[[int, int, int], VocoderBatch]:
    """(step, rank, ranks) → that rank's share of the step's batch: crops of the waveforms (float32 [samples], at `config.rate`),
    each as likely as it is long, at another level each time.

    `lengths` int64 [waveforms]: samples of each; where they are given, a waveform is asked for only when it is in the batch,
    from several threads where batches are. Raises `DataError` where there is no sound.
    """
    if not len(waveforms):
        raise DataError("no speech to train a vocoder on")
    size = config.crop * config.rate // FRAME_RATE
    edges = np.cumsum([len(samples) for samples in waveforms] if lengths is None else lengths)

    def crop(random: np.random.Generator) -> torch.Tensor:
        samples = waveforms[int(np.searchsorted(edges, random.integers(edges[-1]), side="right"))]
        start = int(random.integers(max(1, len(samples) - size + 1)))
        piece = samples[start : start + size] * 10 ** (random.uniform(-6, 6) / 20)
        return torch.from_numpy(np.pad(piece, (0, size - len(piece))).clip(-1, 1).astype(np.float32))

    def batch(step: int, rank: int = 0, ranks: int = 1) -> VocoderBatch:
        share = fit.batch_size // ranks
        places = range(rank * share, (rank + 1) * share)
        samples = torch.stack([crop(np.random.default_rng([fit.seed, step, place])) for place in places])
        # Each on its own, as a tokenizer hears it: at 16 kHz.
        heard = [torch.from_numpy(soxr.resample(row, config.rate, SAMPLE_RATE)) for row in samples.numpy()]
        return VocoderBatch(log_mel(torch.stack(heard), config.mels, config.crop), samples)

    return batch
