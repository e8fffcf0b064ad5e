"""Text → speech codes by a small decoder: interleaved data without any waveform.

Zeng et al. 2024 ("Scaling Speech-Text Pre-training with Synthetic Interleaved Data", section 2.2): a language model trained on
tokenised paired speech, with loss on the codes alone.

The rotary position of the i-th token of text is i · pace, that of the j-th code is j + 1. With the pace of the data, codes for a
token, a token of text stands about where it is spoken (VoiceStar, Peng et al. 2025, stretches text and speech to one length).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.speech.config import TextToCodesConfig
from mmpt.tokenizers.terms import Term, Trainable
from mmpt.tokenizers.text import encode_text, load_text_tokenizer

FORMAT = "mmpt-text-to-codes/2"
_POOL = 16  # batches whose utterances are sorted by length together


@dataclass(frozen=True)
class SpeechCodes:
    """The codes that a model speaks: how many there are, how many make a second, and the SHA-256 of the weights of the speech
    tokenizer that they are of."""

    codes: int
    rate: float
    tokenizer: str

    @classmethod
    def of(cls, folder: Path, codes: int, rate: float) -> "SpeechCodes":
        """Those of the speech tokenizer saved in `folder`."""
        files = read_json(folder / "manifest.json", CheckpointError)["files"]
        # That of weights that were imported lies in a folder of its own.
        return cls(codes, rate, files.get("model.safetensors", files.get("model/model.safetensors", {})).get("sha256", ""))


class CodesBatch(NamedTuple):
    """`ids` int64 [B, L], text and then codes, filled up with the end; `learned` bool [B, L]: what is to be predicted."""

    ids: torch.Tensor
    learned: torch.Tensor


class Spoken(NamedTuple):
    """`codes` int64 [n]; not `finished` where the limit came before the end."""

    codes: np.ndarray
    finished: bool


class TextToCodes(Trainable):
    """Ids of text, then codes, then the mark between them, then the end. In `fit`, a training batch is a `CodesBatch`."""

    def __init__(self, config: TextToCodesConfig, text: PreTrainedTokenizerBase, speech: SpeechCodes):
        super().__init__()
        self.config, self.text, self.speech = config, text, speech
        self.first_code = len(text)
        self.mark, self.end = self.first_code + speech.codes, self.first_code + speech.codes + 1
        self.model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.end + 1,
                hidden_size=config.dim,
                intermediate_size=3 * config.dim,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=8192,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=None,
            )
        )

    def prompt(self, text: str) -> list[int]:
        """Ids of `text` and the mark. Raises `DataError` where there is nothing to say."""
        if not any(character.isalnum() for character in text):
            raise DataError(f"nothing to say in {text[:80]!r}")
        return [*encode_text(self.text, text), self.mark]

    def loss(self, batch: CodesBatch, progress: float) -> dict[str, Term]:
        """Cross-entropy of each code and of the end."""
        ids, learned = (part.to(self.model.device) for part in batch)
        # The mark's position in each row is also how many tokens of text it has.
        marked = (ids == self.mark).int().argmax(dim=1, keepdim=True)
        positions = self._positions(torch.arange(ids.shape[1] - 1, device=ids.device) - marked, marked)
        # Without a mask, transformers takes a step of positions for the start of another document.
        mask = torch.ones_like(ids[:, :-1])
        logits = self.model(ids[:, :-1], attention_mask=mask, position_ids=positions, use_cache=False).logits
        chosen = learned[:, 1:]
        loss = F.cross_entropy(logits[chosen].float(), ids[:, 1:][chosen], reduction="sum")
        return {"codes": Term(loss, chosen.sum().float())}

    def _positions(self, after: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Rotary positions, float32, of what is `after` [B, L] the mark, text before it: `tokens` [B, 1] in each row."""
        return torch.where(after < 0, (after + tokens) * (self.config.pace or 1.0), after.to(torch.float32))

    @torch.inference_mode()
    def speak(
        self, texts: Sequence[str], *, temperature: float = 0.7, top_k: int = 20, seed: int = 0, batch: int = 64
    ) -> list[Spoken]:
        """Codes of each text, drawn among the `top_k` most probable at `temperature` (0: the most probable).

        What is drawn for a text depends on (`seed`, text) alone, whatever is spoken beside it. Raises `DataError` naming a text
        with nothing to say.
        """
        training, results = self.training, dict[int, Spoken]()
        self.eval()
        prompts = [self.prompt(text) for text in texts]
        # Texts of like length together: little padding, and rows that end at about the same time.
        order = sorted(range(len(texts)), key=lambda number: len(prompts[number]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            draws = [_draw(seed, texts[number]) for number in chosen]
            for number, spoken in zip(chosen, self._speak([prompts[n] for n in chosen], draws, temperature, top_k), strict=True):
                results[number] = spoken
        self.train(training)
        return [results[number] for number in range(len(texts))]

    def _speak(self, prompts: list[list[int]], draws: list[np.random.Generator], temperature: float, top_k: int) -> list[Spoken]:
        device = self.model.device
        longest = max(map(len, prompts))
        ids = torch.tensor([[self.end] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        positions = self._positions(torch.arange(1 - longest, 1, device=device)[None], mask.sum(dim=1, keepdim=True) - 1)
        limits = [self.config.codes_per_token * (len(prompt) - 1) + self.config.more_codes for prompt in prompts]
        rows = list(range(len(prompts)))  # of those still speaking, in the order of the tensors
        codes: list[list[int]] = [[] for _ in prompts]
        finished = [False] * len(prompts)
        cache = DynamicCache()
        # All rows go on by one code at a time; those that have ended leave the batch, so that its cost follows who still speaks.
        while rows:
            out = self.model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1, self.first_code :].float()
            logits[:, self.mark - self.first_code] = -torch.inf  # the mark stands before the codes, never among them
            picked = _pick(logits, [draws[row] for row in rows], temperature, top_k)
            for row, code in zip(rows, picked, strict=True):
                finished[row] = code == self.end - self.first_code
                if not finished[row]:
                    codes[row].append(code)
            kept = [position for position, row in enumerate(rows) if not finished[row] and len(codes[row]) < limits[row]]
            if len(kept) < len(rows):
                index = torch.tensor(kept, dtype=torch.int64, device=device)
                cache.batch_select_indices(index)
                mask, positions = mask[index], positions[index]
            rows, picked = [rows[position] for position in kept], [picked[position] for position in kept]
            ids = torch.tensor(picked, device=device)[:, None] + self.first_code
            mask = F.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1
        return [Spoken(np.array(row, dtype=np.int64), done) for row, done in zip(codes, finished, strict=True)]

    def save(self, folder: Path) -> None:
        """Write config, weights, text tokenizer and what codes it speaks to `folder`, atomically."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", {"model": self.config.model_dump(mode="json"), "speech": vars(self.speech)})
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")
            self.text.save_pretrained(temporary / "text")

    @classmethod
    def load(cls, folder: Path) -> "TextToCodes":
        """The model saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not whole."""
        folder = Path(folder)
        check_folder(folder, FORMAT)
        content = read_json(folder / "config.json", CheckpointError)
        config = parse_config(content["model"], TextToCodesConfig, f"{folder}/config.json")
        model = cls(config, load_text_tokenizer(folder / "text"), SpeechCodes(**content["speech"]))
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}/model.safetensors does not fit config.json ({problem})") from None
        return model.eval()


def _draw(seed: int, text: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def _pick(logits: torch.Tensor, draws: list[np.random.Generator], temperature: float, top_k: int) -> list[int]:
    """A column of each row of `logits` [B, K], by the Gumbel-max trick on noise of the row's own."""
    if not temperature:
        return logits.argmax(dim=-1).tolist()
    best = logits.topk(min(top_k, logits.shape[1]), dim=-1)
    noise = np.stack([draw.gumbel(size=best.values.shape[1]) for draw in draws]).astype(np.float32)
    chosen = (best.values / temperature + torch.from_numpy(noise).to(logits.device)).argmax(dim=-1, keepdim=True)
    return best.indices.gather(1, chosen)[:, 0].tolist()


def pace(pairs: Sequence[tuple[str, np.ndarray]], text: PreTrainedTokenizerBase) -> float:
    """Codes for a token of text in `pairs` of text and codes."""
    return sum(len(codes) for _, codes in pairs) / max(1, sum(len(encode_text(text, words)) for words, _ in pairs))


class Plan(Protocol):
    """What is needed of a fit configuration."""

    @property
    def batch_size(self) -> int: ...

    @property
    def seed(self) -> int: ...


def codes_batches(
    model: TextToCodes, pairs: Sequence[tuple[str, np.ndarray]], fit: Plan
) -> Callable[[int, int, int], CodesBatch]:
    """(step, rank, ranks) → that rank's share of the step's batch of (text, codes) pairs, some of them two after another. The
    codes' type must hold all ids of `model`: they are shifted behind those of text.

    Every epoch goes through all pairs in a new order. Raises `DataError` where there is none.
    """
    if not pairs:
        raise DataError("no speech with text to learn from")
    lengths = np.array([len(codes) for _, codes in pairs])
    per_epoch = -(-len(pairs) // fit.batch_size)

    @lru_cache(maxsize=2)  # batches are made ahead in threads, some of them of the next epoch
    def order(epoch: int) -> np.ndarray:
        random = np.random.default_rng([fit.seed, 0, epoch])
        drawn = np.resize(random.permutation(len(pairs)), per_epoch * fit.batch_size)
        for start in range(0, len(drawn), _POOL * fit.batch_size):
            piece = drawn[start : start + _POOL * fit.batch_size]
            drawn[start : start + len(piece)] = piece[np.argsort(lengths[piece], kind="stable")]
        return random.permutation(drawn.reshape(per_epoch, fit.batch_size))

    def batch(step: int, rank: int = 0, ranks: int = 1) -> CodesBatch:
        epoch, place = divmod(step, per_epoch)
        share = fit.batch_size // ranks
        rows = []
        for number in range(rank * share, (rank + 1) * share):
            random = np.random.default_rng([fit.seed, 1, step, number])
            chosen = [int(order(epoch)[place][number])]
            if random.random() < model.config.joined:
                chosen.append(int(random.integers(len(pairs))))
            prompt = model.prompt(" ".join(pairs[i][0] for i in chosen))
            codes = np.concatenate([pairs[i][1] for i in chosen]) + model.first_code
            rows.append((prompt, [*codes.tolist(), model.end]))
        length = max(len(prompt) + len(codes) for prompt, codes in rows)
        ids = torch.full((share, length), model.end)
        learned = torch.zeros((share, length), dtype=torch.bool)
        for row, (prompt, codes) in enumerate(rows):
            ids[row, : len(prompt) + len(codes)] = torch.tensor([*prompt, *codes])
            learned[row, len(prompt) : len(prompt) + len(codes)] = True
        return CodesBatch(ids, learned)

    return batch
