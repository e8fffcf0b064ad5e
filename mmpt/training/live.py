"""The model that learns as one that answers, without a copy of its weights."""

from dataclasses import replace

from mmpt.chat import ChatFormat
from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.inference.given import read_part
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings
from mmpt.model.forward import causal_lm
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.evaluate_config import PromptPart, SampleConfig
from mmpt.training.language_model import LanguageModel
from mmpt.vocabulary import check_same


def live_model(trained: LanguageModel, config: TrainingConfig, chat: ChatFormat | None, world: World) -> MultimodalModel:
    """`trained` with the tokenizers of the run, to be used while it is at rest; its adapters are beside the weights. It is never
    part of a collective, so one rank may use it alone.

    Raises `ConfigError` where the run has no text tokenizer, or no rank has the whole model.
    """
    if config.zero_stage == 3:
        raise ConfigError("evaluate: ZeRO stage 3 leaves no rank the whole model: suite and samples need stage 0, 1 or 2")
    if config.text_tokenizer is None:
        raise ConfigError("evaluate: suite and samples need text_tokenizer")
    tokenizer = MultimodalTokenizer.load(config.text_tokenizer, config.speech_tokenizer, config.image_tokenizer, chat)
    check_same(trained.vocabulary, config.data[0].path, tokenizer.vocabulary, "the tokenizers of the run")
    for module in (tokenizer.speech, tokenizer.image):
        if module is not None:
            module.to(world.device)
    return MultimodalModel(causal_lm(trained.model), tokenizer, trained.inputs)


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
