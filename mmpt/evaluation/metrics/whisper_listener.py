"""Whisper from a folder with its weights and its token table alone: no generation settings, no tokenizer class of its own.

Transformers' pipeline asks for both. The prompt is that of Radford et al. 2022 (arXiv:2212.04356), section 2.3: language, task,
no timestamps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from mmpt.modality import SAMPLE_RATE

WINDOW = 30 * SAMPLE_RATE
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
            ids = torch.cat([begun, likely[:, None], task], dim=1)
            limits = torch.tensor([20 + TOKENS_PER_SECOND * len(samples) // SAMPLE_RATE for samples in batch])
            written = _greedy(model, states, ids, limits.clamp_max(model.config.max_target_positions - 4).to(ids.device))
            for place, text in zip(chosen, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                texts[place] = text.strip()
    found: list[list[str]] = [[] for _ in sounds]
    for (number, _), text in zip(pieces, texts, strict=True):
        found[number].append(text)
    return [" ".join(parts) for parts in found]


def _greedy(model: Any, states: Any, ids: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """What follows `ids` [B, 4]: at most `limits` [B] tokens, each the likeliest that is no special one but the end."""
    settings, rows = model.generation_config, []
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    end, running, begin = int(model.config.eos_token_id), torch.ones(len(ids), dtype=torch.bool, device=ids.device), ids
    for step in range(int(limits.max())):
        out = model(encoder_outputs=states, decoder_input_ids=begin, past_key_values=cache, use_cache=True)
        logits = out.logits[:, -1].float()
        logits[:, end + 1 :] = -torch.inf
        never = [*(settings.suppress_tokens or []), *((settings.begin_suppress_tokens or []) if step == 0 else [])]
        logits[:, never] = -torch.inf
        found = torch.where(running, logits.argmax(-1), end)
        rows.append(found)
        running, begin = running & (found != end) & (step + 1 < limits), found[:, None]
        if not running.any():
            break
    return torch.stack(rows, dim=1)


def _id(tokenizer: Any, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == getattr(tokenizer, "unk_token_id", None):
        raise ValueError(f"its tokens have no {token}")
    return int(found)
