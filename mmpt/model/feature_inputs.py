"""Pictures and sounds as continuous input of a decoder: a frozen encoder and a connector for each kind.

Saved, it is a folder for each kind: `config.json`, `encoder.safetensors`, `connector.safetensors`, and of Whisper its own
configuration, so that nothing is asked of a hub again.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor

from mmpt.config import parse_config
from mmpt.data.loading.packing import Features
from mmpt.data.shards.tokens import Medium, MediumKind
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.media import decode_image, decode_speech
from mmpt.model.config import FeatureInputConfig
from mmpt.model.connecting import FeatureMap, connected
from mmpt.model.features import FeaturesConfig, PictureFeaturesConfig, WhisperFeatures, WhisperFeaturesConfig, build_features
from mmpt.storage import read_json, write_json
from mmpt.tokenizers.image.batches import picture_bytes, to_pixels

FOLDER = "features"
CONNECTOR, ENCODER = "connector.safetensors", "encoder.safetensors"
SAMPLE_RATE = 16_000


class FeatureInputs(nn.Module):
    """Rows of a decoder `width` wide from media. Its parameters are those of the connectors; the encoders stand beside them, so
    that neither an optimizer nor ZeRO knows of them.

    `rows`: how many a medium of each kind takes. Connectors start from `seed`. `pretrained` false leaves the encoders without
    weights. Raises `ConfigError` where an encoder cannot be loaded, or does not fit its kind or its connector.
    """

    def __init__(self, configs: dict[MediumKind, FeatureInputConfig], width: int, seed: int = 0, pretrained: bool = True):
        super().__init__()
        wrong = [kind for kind, one in configs.items() if isinstance(one.encoder, WhisperFeaturesConfig) != (kind == "speech")]
        if wrong:
            raise ConfigError(f"features.{wrong[0]}.encoder: it is for media of another kind")
        self.configs, self.width = configs, width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._encoders = {kind: build_features(one.encoder, pretrained) for kind, one in configs.items()}
            self._readers = {kind: _reader(one.encoder, self._encoders[kind]) for kind, one in configs.items()}
            self.connectors = nn.ModuleDict(
                {kind: FeatureMap(one.connector, self._encoders[kind].width, width) for kind, one in configs.items()}
            )
        self.rows = {kind: self._count(kind) for kind in configs}

    def _count(self, kind: MediumKind) -> int:
        found = self._encoders[kind](self._readers[kind](None).unsqueeze(0)).shape[1]
        try:
            return self.connectors[kind].count(found)
        except ValueError as problem:
            raise ConfigError(f"features.{kind}.connector: {problem}") from None

    def _apply(self, function, recurse: bool = True) -> "FeatureInputs":
        for encoder in self._encoders.values():
            encoder._apply(function)
        return super()._apply(function, recurse)

    def read(self, medium: Medium) -> Tensor:
        """What the encoder takes of a medium. Raises `DataError` where it cannot be decoded or is too long, `ConfigError` where
        it has another number of slots than there are rows, or there is no encoder for its kind."""
        if medium.kind not in self.rows:
            raise ConfigError(f"features.{medium.kind}: missing; the data have media of this kind that enter as features")
        if medium.slots != self.rows[medium.kind]:
            raise ConfigError(
                f"features.{medium.kind}: its connector gives {self.rows[medium.kind]} rows, the data were made with "
                f"{medium.slots} slots"
            )
        return self._readers[medium.kind](medium.data)

    def forward(self, features: dict[str, Features]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((places int64 [n], rows [n, width]) of all media, a zero to add to the loss).

        Every connector runs, also without a medium of its kind, and what follows does not depend on whether there is one: under
        ZeRO 3 all ranks must run the same modules in the same order.
        """
        places, rows, zeros = [], [], []
        for kind, connector in self.connectors.items():
            given = features.get(kind)
            own, zero = connected(connector, None if given is None else self.encode(kind, given.inputs))
            places.append(own.new_zeros(0, dtype=torch.int64) if given is None else given.places)
            rows.append(own.flatten(0, 1))
            zeros.append(zero)
        return (torch.cat(places), torch.cat(rows)), sum(zeros)

    def encode(self, kind: MediumKind, inputs: Tensor) -> Tensor:
        """Features [B, N, D] of the frozen encoder; `inputs` [B, …] as `read` gives them."""
        encoder = self._encoders[kind]
        dtype = next((parameter.dtype for parameter in encoder.parameters()), inputs.dtype)
        return encoder(inputs.to(dtype)).float()

    def save_encoders(self, folder: Path) -> None:
        """Everything but the connectors' weights, into `folder`/KIND."""
        for kind, config in self.configs.items():
            own = folder / kind
            own.mkdir(parents=True)
            encoder = self._encoders[kind]
            write_json(own / "config.json", config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, own / ENCODER)
            if isinstance(encoder, WhisperFeatures):
                encoder.model.config.save_pretrained(own / "whisper")

    def save_connectors(self, folder: Path, tensors: dict[str, Tensor] | None = None) -> None:
        """The connectors' weights into `folder`/KIND; `tensors` by their names in here, None: its own."""
        tensors = self.state_dict() if tensors is None else tensors
        for kind in self.configs:
            prefix = f"connectors.{kind}."
            (folder / kind).mkdir(parents=True, exist_ok=True)
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            save_file({name: value.contiguous() for name, value in own.items()}, folder / kind / CONNECTOR)

    @classmethod
    def load(cls, folder: Path, width: int) -> "FeatureInputs":
        """What was saved in `folder`. Raises `CheckpointError` where it is not whole or does not fit."""
        configs = {path.name: _saved_config(path) for path in sorted(Path(folder).iterdir()) if path.is_dir()}
        try:
            found = cls(configs, width, pretrained=False)
            for kind in configs:
                found._encoders[kind].load_state_dict(load_file(folder / kind / ENCODER))
                found.connectors[kind].load_state_dict(load_file(folder / kind / CONNECTOR))
        except (ConfigError, RuntimeError, OSError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}: {problem}") from None
        return found


def _saved_config(folder: Path) -> FeatureInputConfig:
    content = read_json(folder / "config.json", CheckpointError)
    if (folder / "whisper").is_dir():
        content["encoder"] = {"whisper": str(folder / "whisper")}
    return parse_config(content, FeatureInputConfig, str(folder / "config.json"))


def _reader(config: FeaturesConfig, encoder: nn.Module) -> Callable[[bytes | None], Tensor]:
    """Bytes of a medium to what `encoder` takes; None to something blank of that shape."""
    if isinstance(config, PictureFeaturesConfig):
        return lambda data: (
            torch.zeros(3, config.side, config.side)
            if data is None
            else to_pixels(picture_bytes(decode_image(data), config.side)[None])[0]
        )
    settings = encoder.model.config
    frames = 2 * settings.max_source_positions
    extractor = WhisperFeatureExtractor(feature_size=settings.num_mel_bins)
    length = frames * extractor.hop_length

    def read(data: bytes | None) -> Tensor:
        if data is None:
            return torch.zeros(settings.num_mel_bins, frames)
        samples = decode_speech(data, SAMPLE_RATE)
        if len(samples) > length:
            raise DataError(
                f"{len(samples) / SAMPLE_RATE:.1f} s of sound, its encoder takes {length / SAMPLE_RATE:.1f} s at most"
            )
        mels = extractor(samples, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=length, return_tensors="pt")
        return mels["input_features"][0]

    return read


def named_weights(model: nn.Module, inputs: FeatureInputs | None) -> Iterable[tuple[str, nn.Parameter]]:
    """The parameters of a decoder, and of its connectors as `connectors.KIND.…`."""
    yield from model.named_parameters()
    if inputs is not None:
        yield from inputs.named_parameters()
