"""The model that learns as one that answers, without a copy of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from mmpt.chat import ChatFormat
from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.inference.given import read_part
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings
from mmpt.model.feature_inputs import named_weights
from mmpt.model.forward import causal_lm
from mmpt.model.hollow import place
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.evaluate_config import PromptPart, SampleConfig
from mmpt.training.language_model import LanguageModel, Start
from mmpt.training.state import weights
from mmpt.training.trainer import Engine
from mmpt.vocabulary import check_same


def live_model(
    trained: LanguageModel, config: TrainingConfig, chat: ChatFormat | None, world: World, whole: Start | None = None
) -> MultimodalModel:
    """`trained` with the tokenizers of the run, to be used while it is at rest; its adapters are beside the weights. It is never
    part of a collective, so one rank may use it alone: under ZeRO 3, where no rank has it, in the form of `whole` (see `lent`).

    Raises `ConfigError` where the run has no text tokenizer.
    """
    if config.text_tokenizer is None:
        raise ConfigError("evaluate: suite and samples need text_tokenizer")
    tokenizer = MultimodalTokenizer.load(config.text_tokenizer, config.speech_tokenizer, config.image_tokenizer, chat)
    check_same(trained.vocabulary, config.data[0].path, tokenizer.vocabulary, "the tokenizers of the run")
    for module in (tokenizer.speech, tokenizer.image):
        if module is not None:
            module.to(world.device)
    model, inputs = (trained.model, trained.inputs) if whole is None else (whole.model, whole.inputs)
    return MultimodalModel(causal_lm(model), tokenizer, inputs)


def emptied(whole: Start, device: torch.device) -> Start:
    """`whole` on `device` with names and shapes alone: its weights take no memory, and have no values."""
    if whole.inputs is not None:
        whole.inputs.to(device)
    place(whole.model, device, weights=False)
    for _, parameter in named_weights(whole.model, whole.inputs):
        parameter.data = torch.full((), torch.nan, dtype=parameter.dtype, device=device).expand(parameter.shape)
    return whole


@contextmanager
def lent(engine: Engine, whole: Start | None, world: World) -> Iterator[None]:
    """Inside, `whole` on rank 0 has the weights of the model that `engine` trains, gathered one by one, and gives them back
    behind it; nothing where it is None. Every rank comes here."""
    if whole is None:
        yield
        return
    tensors = weights(engine, everything=True)
    own = dict(named_weights(whole.model, whole.inputs)) if world.rank == 0 else {}
    empty = {name: parameter.data for name, parameter in own.items()}
    for name, parameter in own.items():
        parameter.data = tensors.pop(name).to(world.device)
    try:
        yield
    finally:
        for name, parameter in own.items():
            parameter.data = empty[name]


def prompts(samples: list[SampleConfig], model: MultimodalModel) -> list[tuple[list[Part], Settings]]:
    """Each prompt as parts, and how it is answered. Raises `ConfigError` where a file cannot be read, or there is no chat
    template to mark a turn by."""
    if any(one.chat for one in samples) and model.tokenizer.chat is None:
        raise ConfigError("evaluate.samples: chat: true, and the data have no chat template")
    found = []
    for one in samples:
        parts = [replace(part, role="user") if one.chat else part for part in map(_part, one.prompt)]
        found.append((parts, Settings(**{name: getattr(one, name) for name in Settings.model_fields})))
    model.prompts([parts for parts, _ in found])  # what cannot be encoded is told before the first step
    return found


def _part(given: PromptPart) -> Part:
    if given.text is not None:
        return Text(given.text)
    kind, path = ("image", given.image) if given.image is not None else ("speech", given.speech)
    assert path is not None
    return read_part(kind, path)
