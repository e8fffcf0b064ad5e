"""Pictures and sounds as continuous input of a decoder: a frozen encoder and a connector for each kind.

Saved, it is a folder for each kind: `config.json`, `encoder.safetensors`, `connector.safetensors`, and of an encoder of
transformers its own configuration, so that nothing is asked of a hub again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.config import parse_config
from mmpt.data.loading.packing import Features
from mmpt.data.shards.tokens import Medium, MediumKind
from mmpt.errors import CheckpointError, ConfigError
from mmpt.layers.resting import Resting
from mmpt.model.config import FeatureInputConfig
from mmpt.model.connecting import FeatureMap, connected
from mmpt.model.entering import Entering, Memory, Remembered, together
from mmpt.model.feature_reading import counted, reader
from mmpt.model.features import WhisperFeatures, WhisperFeaturesConfig, build_features
from mmpt.storage import read_json, write_json
from mmpt.tokenizers.image.towers._transformers import TransformersTower

FOLDER = "features"
CONNECTOR, ENCODER = "connector.safetensors", "encoder.safetensors"
PREFIXES = ("connectors.", "encoders.", "objectives.")
"""What the names of weights beside the decoder begin with: of those in here, and of what objectives learn for themselves."""


class FeatureInputs(nn.Module):
    """What media bring into the decoder `model`. Its parameters are those of the connectors, and of layers inside the decoder
    where an entry has some; the encoders stand beside them, so that neither an optimizer nor ZeRO knows of them, unless
    `encoders_learn`.

    `rows`: how many slots each view of a medium takes; `counted`: which views it has. Connectors start from `seed`. `pretrained`
    false leaves the encoders without weights. Raises `ConfigError` where an encoder cannot be loaded, or does not fit its kind,
    its connector or its entry, or the entry does not fit the decoder.
    """

    def __init__(
        self,
        configs: dict[MediumKind, FeatureInputConfig],
        model: PreTrainedModel | PeftModel,
        seed: int = 0,
        pretrained: bool = True,
    ):
        super().__init__()
        decoder = cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
        width = decoder.config.get_text_config().hidden_size
        wrong = [kind for kind, one in configs.items() if isinstance(one.encoder, WhisperFeaturesConfig) != (kind == "speech")]
        if wrong:
            raise ConfigError(f"features.{wrong[0]}.encoder: it is for media of another kind")
        self.configs, self.width = configs, width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._encoders = {kind: build_features(one.encoder, pretrained) for kind, one in configs.items()}
            self._readers = {kind: reader(one, self._encoders[kind]) for kind, one in configs.items()}
            self.connectors = nn.ModuleDict(
                {kind: FeatureMap(one.connector, cast(int, self._encoders[kind].width), width) for kind, one in configs.items()}
            )
        self._whole: dict[MediumKind, int | None] = {}
        self.rows = {kind: self._count(kind) for kind in configs}
        self.counted = {
            kind: counted(one, self._encoders[kind], self.rows[kind], self._whole.get(kind)) for kind, one in configs.items()
        }
        self.encoders = nn.ModuleDict()  # those that learn
        # All copies of layers are made before the first hook: a copy would take hooks along.
        for number, (kind, one) in enumerate(configs.items()):
            if one.enters.inside and isinstance(model, PeftModel):
                raise ConfigError(f"features.{kind}.enters: {one.enters.kind} does not go with an adapter")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + 1 + number)
                self._map(kind).inside = one.enters.layers_inside(decoder, number)
        for kind, one in configs.items():
            one.enters.attach(decoder, kind, self._map(kind).inside)

    def _map(self, kind: MediumKind) -> FeatureMap:
        return cast(FeatureMap, self.connectors[kind])

    def _count(self, kind: MediumKind) -> int:
        try:
            found, config = self.encode(kind, self._readers[kind](None)).shape[1], self.configs[kind]
            self._whole[kind] = config.enters.whole(config.connector, found)
            return config.enters.slots(config.connector, found)
        except ValueError as problem:
            raise ConfigError(f"features.{kind}.connector: {problem}") from None

    def encoders_learn(self) -> None:
        """Let the encoders learn as well: their weights are among the parameters from now on, as `encoders.KIND.…`."""
        for encoder in self._encoders.values():
            encoder.wake()
        self.encoders.update(self._encoders)

    def _apply(self, fn, recurse: bool = True) -> "FeatureInputs":
        for kind, encoder in self._encoders.items():  # they go along to devices, though no module knows of them
            if kind not in self.encoders:
                encoder._apply(fn)
        return super()._apply(fn, recurse)

    def read(self, medium: Medium) -> Tensor:
        """What the encoder takes of each view of a medium, [views, …]. Raises `DataError` where it cannot be decoded or is too
        long, `ConfigError` where it has another number of slots than there are rows, or there is no encoder for its kind."""
        if medium.kind not in self.rows:
            raise ConfigError(f"features.{medium.kind}: missing; the data have media of this kind that enter as features")
        # Where rows follow the medium it is decoded to count them; elsewhere a mismatch is told without that.
        config, rows = self.configs[medium.kind], self.rows[medium.kind]
        if config.tiles is not None or config.by_duration:
            rows = sum(view.rows for view in self.counted[medium.kind].views(medium.data))
        if medium.slots != rows:
            raise ConfigError(
                f"features.{medium.kind}: its connector gives {rows} rows, the data were made with {medium.slots} slots"
            )
        return self._readers[medium.kind](medium.data)

    def forward(
        self,
        features: Mapping[str, Features],
        borders: Tensor,
        seen: Sequence[Collection[str]] | None = None,
        kept: Sequence[Mapping[str, Memory]] = (),
    ) -> tuple[Entering, Tensor]:
        """(What all media bring, a zero to add to the loss). `borders` int [documents + 1], on the host: document d is the tokens
        borders[d] … borders[d + 1]; `seen`: the kinds of media of each document, None: those of `features`; `kept`: of the last
        documents, which go on, what is remembered from before.

        Every connector runs, also without a medium of its kind, and what follows does not depend on whether there is one: under
        ZeRO 3 all ranks must run the same modules in the same order.
        """
        parts, zeros = {}, []
        for kind, config in self.configs.items():
            given, connector = features.get(kind), self._map(kind)
            rows, zero = connected(connector, self._encoded(kind, given), config.enters.blank(config.connector))
            if given is None:  # an encoder that learns has made rows of a blank
                given, rows = Features(torch.zeros(0, dtype=torch.int64, device=rows.device), rows[:0], ()), rows[:0]
            parts[kind] = config.enters.brought(given.places, given.slots, rows, self.rows[kind])
            zeros.append(zero)
        if seen is None:
            touched = self._touched(features, borders, zeros[0].device)
        else:
            touched = self._touched_of(seen, borders, zeros[0].device)
        documents = _document_numbers(borders).to(zeros[0].device, non_blocking=True) if touched else None
        return _reminded(together(parts, touched, documents), borders, kept), torch.stack(zeros).sum()

    def _encoded(self, kind: MediumKind, given: Features | None) -> Tensor | None:
        """Features of what is `given`. An encoder that learns runs without a medium, too, and in front of the connector as ever:
        so gradients come in the same order on all ranks."""
        if given is not None:
            return self.encode(kind, given.inputs)
        if kind not in self.encoders:
            return None
        return self.encode(kind, self._readers[kind](None).to(next(self._map(kind).parameters()).device))

    def going_on(
        self, borders: Tensor, seen: Sequence[Collection[str]], kept: Sequence[Mapping[str, Memory]] = ()
    ) -> Entering | None:
        """For a pass without new media, whose documents have `seen` some: what layers inside the decoder must know; None where
        they need not know a thing. `kept` as of a pass with media."""
        if not any(self.configs[kind].enters.inside for kinds in seen for kind in kinds if kind in self.configs):
            return None
        weight = next(self.parameters())
        none = weight.new_zeros(0, dtype=torch.int64), weight.new_zeros(0, self.width)
        documents = _document_numbers(borders).to(weight.device)
        found = Entering(*none, (), self._touched_of(seen, borders, weight.device), {}, documents)
        return _reminded(found, borders, kept)

    def _touched(self, features: Mapping[str, Features], borders: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Of each kind with layers inside the decoder, the tokens of documents that hold media of it. Asks nothing of a GPU."""
        kinds = [kind for kind, one in self.configs.items() if one.enters.inside]
        if not kinds:
            return {}
        numbers = _document_numbers(borders).to(device, non_blocking=True)
        found = {}
        for kind in kinds:
            held = torch.zeros(len(borders) - 1, dtype=torch.bool, device=device)
            if (given := features.get(kind)) is not None:
                held = held.index_fill(0, numbers[given.places], True)
            found[kind] = held[numbers]
        return found

    def _touched_of(self, seen: Sequence[Collection[str]], borders: Tensor, device: torch.device) -> dict[str, Tensor]:
        numbers = _document_numbers(borders)
        kinds = [kind for kind, one in self.configs.items() if one.enters.inside]
        return {kind: torch.tensor([kind in kinds_of for kinds_of in seen])[numbers].to(device) for kind in kinds}

    def encoder(self, kind: MediumKind) -> Resting:
        """The encoder of a kind of media."""
        return self._encoders[kind]

    def encode(self, kind: MediumKind, inputs: Tensor) -> Tensor:
        """Features [B, N, D] of the encoder; `inputs` [B, …] as `read` gives them."""
        encoder = self._encoders[kind]
        dtype = next((parameter.dtype for parameter in encoder.parameters()), inputs.dtype)
        config = self.configs[kind]
        features = config.enters.features(encoder, inputs.to(dtype)).float()
        return features if config.reduce is None else config.reduce.reduce(features)

    def save_encoders(self, folder: Path) -> None:
        """Everything but the weights of connectors, and of encoders that learn, into `folder`/KIND."""
        for kind, config in self.configs.items():
            own = folder / kind
            own.mkdir(parents=True)
            encoder = self._encoders[kind]
            write_json(own / "config.json", config.model_dump(mode="json"))
            if kind not in self.encoders:
                save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, own / ENCODER)
            if isinstance(encoder, WhisperFeatures):
                encoder.model.config.save_pretrained(own / "whisper")
            elif isinstance(encoder, TransformersTower):
                encoder.model.config.save_pretrained(own / "tower")

    def save_connectors(self, folder: Path, tensors: dict[str, Tensor] | None = None) -> None:
        """The weights of connectors, and of encoders that learn, into `folder`/KIND; `tensors` by their names in here, None: its
        own."""
        tensors = self.state_dict() if tensors is None else tensors
        for kind in self.configs:
            prefix = f"connectors.{kind}."
            (folder / kind).mkdir(parents=True, exist_ok=True)
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            save_file({name: value.contiguous() for name, value in own.items()}, folder / kind / CONNECTOR)
            if kind in self.encoders:
                # Buffers are not among tensors that a trainer gathers.
                own = self._encoders[kind].state_dict()
                own = {name: tensors.get(f"encoders.{kind}.{name}", value) for name, value in own.items()}
                save_file({name: value.contiguous() for name, value in own.items()}, folder / kind / ENCODER)

    @classmethod
    def load(
        cls,
        folder: Path,
        model: PreTrainedModel | PeftModel,
        changed: Mapping[MediumKind, FeatureInputConfig] = MappingProxyType({}),
    ) -> "FeatureInputs":
        """What was saved in `folder`, put into the decoder `model`; kinds that are `changed` have other settings. Raises
        `CheckpointError` where it is not whole or does not fit."""
        kinds: list[MediumKind] = [cast(MediumKind, path.name) for path in sorted(Path(folder).iterdir()) if path.is_dir()]
        configs: dict[MediumKind, FeatureInputConfig] = {
            kind: changed.get(kind) or _saved_config(folder / kind) for kind in kinds
        }
        try:
            found = cls(configs, model, pretrained=False)
            for kind in configs:
                found._encoders[kind].load_state_dict(load_file(folder / kind / ENCODER))
                found.connectors[kind].load_state_dict(load_file(folder / kind / CONNECTOR))
        except (ConfigError, RuntimeError, OSError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}: {problem}") from None
        return found


def _document_numbers(borders: Tensor) -> Tensor:
    """The document of each token, int64 [T]."""
    return torch.bucketize(torch.arange(borders.tolist()[-1]), borders[1:-1].long(), right=True)


def _reminded(entering: Entering, borders: Tensor, kept: Sequence[Mapping[str, Memory]]) -> Entering:
    """With what the last documents have `kept`, which all of their tokens see."""
    if not any(kept):
        return entering
    memories, begins = dict(entering.memories), borders.tolist()[-1 - len(kept) : -1]
    for place, own in zip(begins, kept, strict=True):
        for kind, memory in own.items():
            places = torch.full((len(memory.rows),), place, device=memory.rows.device)
            memories[kind] = (*memories.get(kind, ()), Remembered(memory, places))
    return entering._replace(memories=memories)


def _saved_config(folder: Path) -> FeatureInputConfig:
    content = read_json(folder / "config.json", CheckpointError)
    if (folder / "whisper").is_dir():
        content["encoder"]["whisper"] = str(folder / "whisper")
    if (folder / "tower").is_dir():
        content["encoder"]["tower"]["model"] = str(folder / "tower")
    return parse_config(content, FeatureInputConfig, str(folder / "config.json"))


def named_weights(model: nn.Module, inputs: FeatureInputs | None) -> Iterable[tuple[str, nn.Parameter]]:
    """The parameters of a decoder, and of its connectors as `connectors.KIND.…`."""
    yield from model.named_parameters()
    if inputs is not None:
        yield from inputs.named_parameters()
