"""A checkpoint as something that reads and writes text, pictures and speech."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.chat import ChatMarker, Said, Stretch
from mmpt.config import parse_config
from mmpt.data.feature_rows import TaggedView, feature_block
from mmpt.data.token_documents import Piece, conversation_pieces, in_turn, tagged
from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.events import Assembler, Event
from mmpt.inference.settings import Settings
from mmpt.inference.text_grammar import TextGrammars
from mmpt.inference.token_names import TokenNames
from mmpt.modality import medium_of
from mmpt.model.adaptation import merge_adapter
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.feature_inputs import FOLDER, FeatureInputs
from mmpt.model.forward import causal_lm
from mmpt.model.loading import FORMAT, load_parts
from mmpt.model.quantization import Quantization, quantize
from mmpt.storage import check_folder
from mmpt.tokenizers.image.renderers import Renderer
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.text import load_text_tokenizer
from mmpt.vocabulary import Vocabulary, check_same


@dataclass(frozen=True)
class Answer:
    """What was generated: `ids` after the prompt, up to and without their end, and the `parts` they stand for."""

    ids: list[int]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class MultimodalModel:
    """A decoder LLM with its three tokenizers, ready to generate; `inputs`: for media that enter as features."""

    model: PreTrainedModel
    tokenizer: MultimodalTokenizer
    inputs: FeatureInputs | None = None

    def engine(self, **options: Any) -> Engine:
        """An `Engine` for many sequences at once."""
        return Engine(self.model, self.tokenizer.vocabulary, self.inputs, text_grammars=self.text_grammars, **options)

    @cached_property
    def names(self) -> TokenNames:
        """What each token is called."""
        return TokenNames(self.tokenizer.text, self.tokenizer.vocabulary)

    @cached_property
    def text_grammars(self) -> TextGrammars:
        """What holds text to a grammar."""
        return TextGrammars(self.names)

    def prompts(self, prompts: Sequence[Sequence[Said]]) -> list[Prompt]:
        """Each prompt (a sequence of parts) as ids, `<|begin|>` first. Media of a kind that has a connector enter as features.

        A conversation, whose parts have roles, is marked by the chat template, up to where the assistant goes on; a model without
        one reads its parts one after the other. Raises `DataError` where a part cannot be decoded, there is neither a connector
        nor a tokenizer for its kind, or the template refuses the turns.
        """
        found = [self._pieces(parts) for parts in prompts]
        coded = [[piece.part for piece in pieces if not (piece.ids or piece.views)] for pieces, _ in found]
        encoded = self.tokenizer.encode(coded)
        return [self._prompt(pieces, iter(ids), chat) for (pieces, chat), ids in zip(found, encoded, strict=True)]

    def _pieces(self, parts: Sequence[Said]) -> tuple[list[Piece], ChatMarker | None]:
        """The pieces of a prompt, and what has marked them."""
        chat = self.tokenizer.chat if any(part.role for part in parts) else None
        # Unmarked, each part is a stretch of its own.
        stretches = chat.question(parts) if chat else [Stretch([], number, 0.0, False) for number in range(len(parts))]
        pieces = conversation_pieces(stretches, parts)
        return [piece if piece.ids else piece._replace(views=self._views(piece.part)) for piece in pieces], chat

    def _views(self, part: Part) -> list[TaggedView]:
        """The views in which a part enters as features; none where it enters as ids."""
        if isinstance(part, Text) or self.inputs is None or (kind := medium_of(part)) not in self.inputs.counted:
            return []
        return tagged(self.inputs.counted[kind], part.data, self.tokenizer.text)

    def _prompt(self, pieces: Sequence[Piece], coded: Iterator[list[int]], chat: ChatMarker | None) -> Prompt:
        vocabulary = self.tokenizer.vocabulary
        pieces = [piece if piece.ids or piece.views else piece._replace(ids=next(coded)) for piece in pieces]
        if chat and chat.format.alternate:
            pieces = list(in_turn(pieces, *chat.format.alternate, vocabulary))
        ids, media = [] if chat else [vocabulary.special("<|begin|>")], []
        for piece in pieces:
            part = piece.part
            if piece.views and self.inputs is not None and not isinstance(part, Text):
                medium, block = feature_block(part, piece.views, len(ids), vocabulary)
                media.append((medium.kind, medium.places(), self.inputs.read(medium)))
                ids += block
            else:
                ids += piece.ids
        return Prompt(ids, tuple(media), chat.end if chat else None)

    def answer(self, prompts: Sequence[Sequence[Said]], voice: np.ndarray | None = None, **settings: Any) -> list[Answer]:
        """Continue each prompt (a sequence of parts), all of them side by side. `settings`: of `Settings`; sequence i is sampled
        from `seed` + i. Raises `ConfigError` on settings that make no sense."""
        alternate = parse_config(settings, Settings, "settings").alternate
        written = self.generate(self.prompts(prompts), **settings)
        return [Answer(ids, self.tokenizer.decode(ids, voice, alternate)) for ids in written]

    def generate(self, prompts: Sequence[Prompt | list[int]], **settings: Any) -> list[list[int]]:
        """Ids that follow each prompt, up to and without their end; always well-formed (see `mmpt.inference.grammar`)."""
        given = [prompt if isinstance(prompt, Prompt) else Prompt(list(prompt)) for prompt in prompts]
        base = parse_config(settings, Settings, "settings")
        each = [base.model_copy(update={"seed": base.seed + number}) for number in range(len(given))]
        return write_all(self.engine(), given, each)

    def stream(
        self,
        prompt: Sequence[Said],
        voice: np.ndarray | None = None,
        settings: Settings | None = None,
        engine: Engine | None = None,
        **given: Any,
    ) -> Iterator[Event]:
        """Continue one prompt: text, sound and pictures as they come. Whoever stops reading stops the writing. `settings`, or
        each of its fields `given` by name. `engine`: one of this model that writes nothing else meanwhile, in place of a new one.
        Raises `ConfigError` on settings that make no sense."""
        settings = settings or parse_config(given, Settings, "settings")
        engine, assembler = engine or self.engine(), Assembler(self.tokenizer, voice, alternate=settings.alternate)
        (asked,) = self.prompts([prompt])
        writing = engine.submit(asked, settings)
        try:
            while not writing.finished:
                for _, ids in engine.step():
                    yield from assembler.push(ids)
        except GeneratorExit:
            engine.cancel(writing)
            raise
        except BaseException:  # Ctrl-C in the midst of a pass: who knows what is whole
            engine.reset()
            raise
        yield from assembler.finish()


def load(
    path: Path | str,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    renderer: Renderer | None = None,
    hollow: bool = False,
    quantization: Quantization | None = None,
) -> MultimodalModel:
    """Load a checkpoint folder, or the newest checkpoint of a run folder, onto `device` (a GPU where there is one); its adapters
    are merged. `renderer`: what draws images instead of the image tokenizer's own choice. `hollow`: without the decoder's
    weights, for whoever makes prompts and reads answers that another process writes (with them where media enter as features).
    `quantization`: see `mmpt.model.quantization`.

    Raises `CheckpointError` where something is missing or damaged, `VocabularyError` where the parts do not fit together.
    """
    checkpoint, device = find_checkpoint(Path(path)), _device(device)
    model, vocabulary, inputs = _decoder(checkpoint, device, dtype, quantization, hollow and not (checkpoint / FOLDER).is_dir())
    tokenizer = MultimodalTokenizer.of_checkpoint(checkpoint)
    check_same(vocabulary, f"{checkpoint}/vocabulary.json", tokenizer.vocabulary, f"the tokenizers in {checkpoint}")
    for module in (tokenizer.speech, tokenizer.image):
        if module is not None:
            module.to(device)
    tokenizer.render_by(renderer)
    return MultimodalModel(model, tokenizer, inputs)


def load_engine(
    path: Path | str,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    **options: Any,
) -> Engine:
    """The engine of a checkpoint alone, of its tokenizers only that of text; else as `load`. `options`: of `Engine`."""
    checkpoint = find_checkpoint(Path(path))
    model, vocabulary, inputs = _decoder(checkpoint, _device(device), dtype, quantization)
    names = TokenNames(load_text_tokenizer(checkpoint / "text_tokenizer"), vocabulary)
    return Engine(model, vocabulary, inputs, text_grammars=TextGrammars(names), **options)


def _decoder(
    checkpoint: Path, device: torch.device, dtype: torch.dtype, quantization: Quantization | None, hollow: bool = False
) -> tuple[PreTrainedModel, Vocabulary, FeatureInputs | None]:
    check_folder(checkpoint, FORMAT)
    model, vocabulary = load_parts(checkpoint, dtype=dtype, hollow=hollow)
    if isinstance(model, PeftModel):
        # Beside the weights adapters cost half of each pass.
        model = causal_lm(model) if hollow else merge_adapter(model)
    inputs = None
    if (checkpoint / FOLDER).is_dir():
        inputs = FeatureInputs.load(checkpoint / FOLDER, model).to(device).eval()
    if not hollow:
        if quantization is not None:
            quantize(model, quantization)  # adapters are in the weights by now; what is moved are fewer bytes
        model.to(device)  # pyright: ignore[reportArgumentType] (transformers wraps `to` in a decorator without types)
    return model.eval(), vocabulary, inputs


def _device(asked: str | torch.device | None) -> torch.device:
    """Raises `ConfigError` where there is no such device here."""
    try:
        device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:  # torch without CUDA asserts
        said = str(problem).strip().splitlines()[0]
        raise ConfigError(f"device {asked}: expected cpu, cuda or cuda:N that is there ({said})") from None
    return device
