"""Whisper from a folder with its weights and its token table alone: no generation settings, no tokenizer class of its own.

Transformers' pipeline asks for both. The prompt is that of Radford et al. 2022 (arXiv:2212.04356), section 2.3: language, task,
no timestamps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from mmpt.modality import SAMPLE_RATE

WINDOW = 30 * SAMPLE_RATE
"""Samples that Whisper takes at once."""
BATCH = 16
SPECIAL = ("<|startoftranscript|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>", "<|en|>")  # <|en|>: the first language
TOKENS_PER_SECOND = 10  # no language is spoken that fast: who says more repeats himself


def read_whisper(
    model: Any, tokenizer: Any, extractor: Any, sounds: Sequence[np.ndarray], language: str | None = None
) -> list[str]:
    """The text of each of the `sounds`, float32 [samples] at 16 kHz, in `language` or what each seems to be in, greedily; what is
    longer than 30 s in pieces of that. Raises `ValueError` where the tokens are not Whisper's."""
    start, transcribe, translate, silent, first = (_id(tokenizer, name) for name in SPECIAL)
    last = min(transcribe, translate)  # of the languages, the tokens before
    named = None if language is None else _id(tokenizer, f"<|{TO_LANGUAGE_CODE.get(language.lower(), language)}|>")
    pieces = [(n, one[at : at + WINDOW]) for n, one in enumerate(sounds) for at in range(0, max(1, len(one)), WINDOW)]
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place][1]))  # as long as each other, as many tokens
    end, known = int(model.config.eos_token_id), model.generation_config
    # No special token is a word: of those that follow the end, none.
    never = sorted({*(known.suppress_tokens or []), *range(end + 1, model.config.vocab_size)} - {end})
    settings = GenerationConfig(
        suppress_tokens=never,
        begin_suppress_tokens=known.begin_suppress_tokens,
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    texts = [""] * len(pieces)
    with torch.inference_mode():
        for chosen in (order[at : at + BATCH] for at in range(0, len(order), BATCH)):
            batch = [pieces[place][1] for place in chosen]
            heard = extractor(batch, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            states = model.get_encoder()(heard.to(model.device, model.dtype))
            begun = torch.full((len(batch), 1), start, device=model.device)
            if named is None:
                likely = model(encoder_outputs=states, decoder_input_ids=begun).logits[:, -1, first:last].argmax(-1) + first
            else:
                likely = begun.new_full((len(batch),), named)
            task = begun.new_tensor([[transcribe, silent]]).expand(len(batch), -1)
            begun = torch.cat([begun, likely[:, None], task], dim=1)
            most = [20 + TOKENS_PER_SECOND * len(samples) // SAMPLE_RATE for samples in batch]
            settings.max_length = min(begun.shape[1] + max(most), model.config.max_target_positions)
            written = model.generate(
                encoder_outputs=states,
                decoder_input_ids=begun,
                decoder_attention_mask=torch.ones_like(begun),
                generation_config=settings,
            )
            # The prompt is of special tokens, as all from the end on are.
            words = [[token for token in row if token < end][:size] for row, size in zip(written.tolist(), most, strict=True)]
            for place, text in zip(chosen, tokenizer.batch_decode(words), strict=True):
                texts[place] = text.strip()
    found: list[list[str]] = [[] for _ in sounds]
    for (number, _), text in zip(pieces, texts, strict=True):
        found[number].append(text)
    return [" ".join(parts) for parts in found]


def _id(tokenizer: Any, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == getattr(tokenizer, "unk_token_id", None):
        raise ValueError(f"its tokens have no {token}")
    return int(found)
