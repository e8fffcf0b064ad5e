"""A checkpoint as something that reads and writes text, pictures and speech."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessorList, PreTrainedModel

from mmpt.document import Part
from mmpt.errors import CheckpointError, ConfigError
from mmpt.inference.grammar import Grammar
from mmpt.model.loading import load_model
from mmpt.storage import MANIFEST
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.vocabulary import check_same

OUTPUTS = ("text", "image", "speech")


@dataclass(frozen=True)
class Answer:
    """What was generated: `ids` after the prompt, up to and without `<|end|>`, and the `parts` they stand for."""

    ids: list[int]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class MultimodalModel:
    """A decoder LLM with its three tokenizers, ready to generate."""

    model: PreTrainedModel
    tokenizer: MultimodalTokenizer

    def prompt(self, parts: Sequence[Part]) -> list[int]:
        """Ids of a prompt: `<|begin|>` and the parts in order."""
        (encoded,) = self.tokenizer.encode([parts])
        return [self.tokenizer.vocabulary.special("<|begin|>"), *(i for ids in encoded for i in ids)]

    def answer(
        self,
        prompts: Sequence[Sequence[Part]],
        outputs: Collection[str] = OUTPUTS,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        voice: np.ndarray | None = None,
    ) -> list[Answer]:
        """Continue each prompt (a sequence of parts) by parts of the kinds in `outputs`, all prompts in one batch.

        Greedy at temperature 0, else nucleus sampling from `seed`. Raises `ConfigError` on settings that make no sense.
        """
        unknown = set(outputs) - set(OUTPUTS)
        if unknown or not outputs:
            raise ConfigError(f"outputs are {sorted(outputs)}, expected some of {', '.join(OUTPUTS)}")
        if temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1:
            raise ConfigError("expected temperature >= 0, 0 < top_p <= 1 and max_new_tokens >= 1")
        generated = self.generate([self.prompt(parts) for parts in prompts], outputs, max_new_tokens, temperature, top_p, seed)
        return [Answer(ids, self.tokenizer.decode(ids, voice)) for ids in generated]

    @torch.inference_mode()
    def generate(
        self, prompts: list[list[int]], outputs: Collection[str], max_new_tokens: int, temperature: float, top_p: float, seed: int
    ) -> list[list[int]]:
        """Ids that follow each prompt's ids, up to and without `<|end|>`; always well-formed (see `Grammar`)."""
        vocabulary = self.tokenizer.vocabulary
        end = vocabulary.special("<|end|>")
        length = max(map(len, prompts))
        ids = torch.tensor([[end] * (length - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        sampling = {"do_sample": temperature > 0}
        if temperature > 0:
            sampling |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
        torch.manual_seed(seed)
        rows = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            logits_processor=LogitsProcessorList([Grammar(vocabulary, length, max_new_tokens, outputs)]),
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=end,
            **sampling,
        )
        generated = rows[:, length:].tolist()
        return [row[: row.index(end)] if end in row else row for row in generated]


def load(path: Path | str) -> MultimodalModel:
    """Load a checkpoint folder, or the newest checkpoint of a run folder.

    Raises `CheckpointError` where something is missing or damaged, `VocabularyError` where the parts do not fit together.
    """
    checkpoint = find_checkpoint(Path(path))
    model, vocabulary = load_model(checkpoint)
    folders = (checkpoint / name for name in ("speech_tokenizer", "image_tokenizer"))
    speech, image = (folder if folder.is_dir() else None for folder in folders)
    tokenizer = MultimodalTokenizer.load(checkpoint / "text_tokenizer", speech, image)
    check_same(vocabulary, f"{checkpoint}/vocabulary.json", tokenizer.vocabulary, f"the tokenizers in {checkpoint}")
    return MultimodalModel(model, tokenizer)


def find_checkpoint(path: Path) -> Path:
    """`path` itself where it is a checkpoint, else the newest under `path`/checkpoints. Raises `CheckpointError`."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder")
    if (path / "backbone").is_dir() or (path / MANIFEST).is_file():
        return path
    found = sorted((path / "checkpoints").glob("step-*"))
    if not found:
        raise CheckpointError(f"{path}: neither a checkpoint ({MANIFEST} is missing) nor a run folder with checkpoints/step-*")
    return found[-1]
