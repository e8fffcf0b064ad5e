"""What a request to vLLM asks of the grammar, and where its answer stands.

The next id is chosen here, by the samplers of mmpt over what the grammar allows, and all other logits are taken away: vLLM, which
knows one temperature for a whole request, takes what is left. So an answer is what mmpt's own engine writes, up to rounding.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.inference.grammar import Grammar, Masks
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings
from mmpt.vocabulary import FILE, Vocabulary

KEY = "mmpt"
"""The key of `vllm_xargs`; its value is JSON."""
REFUSED = ("guidance",)
"""Settings that need more than the logits of the sequence itself."""


def to_argument(settings: Settings, end: int | None, vocabulary: Vocabulary) -> str:
    """What goes to vLLM as `vllm_xargs: {mmpt: …}`. `end`: as in `Grammar`."""
    asked = {"settings": settings.model_dump(mode="json"), "end": end, "vocabulary": vocabulary.fingerprint}
    return json.dumps(asked)


def parse_argument(arguments: dict | None) -> tuple[Settings, int | None, str] | None:
    """The inverse; None where a request has none. Raises `ValueError`."""
    text = (arguments or {}).get(KEY)
    if text is None:
        return None
    try:
        content = json.loads(text)
        settings = parse_config(content["settings"], Settings, f"vllm_xargs.{KEY}")
        end, fingerprint = content["end"], content["vocabulary"]
    except (TypeError, KeyError, ValueError, ConfigError) as problem:
        raise ValueError(f"vllm_xargs.{KEY}: expected JSON with settings, end and vocabulary ({problem})") from None
    if any(getattr(settings, name) != Settings.model_fields[name].default for name in REFUSED):
        raise ValueError(f"vllm_xargs.{KEY}: {', '.join(REFUSED)} cannot be had in vLLM")
    if not (end is None or isinstance(end, int)):
        raise ValueError(f"vllm_xargs.{KEY}: end: expected an id")
    return settings, end, fingerprint


class Followed:
    """One answer, followed id by id."""

    def __init__(self, vocabulary: Vocabulary, settings: Settings, end: int | None) -> None:
        self._vocabulary, self.settings, self._end = vocabulary, settings, end
        self._restart()

    def _restart(self) -> None:
        self.grammar = Grammar(self._vocabulary, self.settings, self._end)
        self.generator = torch.Generator().manual_seed(self.settings.seed)
        self._state, self._count = self.generator.get_state(), 0

    @property
    def sampler(self):
        return self.settings.sampler(self.grammar.inside or "text")

    def follow(self, ids: Sequence[int]) -> None:
        """Stand behind `ids`, all that has been written. What was chosen and not taken (a prompt that is read in several passes,
        an answer that has to begin anew) leaves no trace, not even in the numbers that are drawn."""
        if len(ids) < self._count:
            self._restart()
        self.generator.set_state(self._state)
        for token in ids[self._count :]:
            if self.sampler.draws:
                torch.rand(1, generator=self.generator, dtype=torch.float64)
            self.grammar.advance(token)
        self._state, self._count = self.generator.get_state(), len(ids)


class Following:
    """The answers of a batch."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """`folder`: the model in vLLM. Raises `ValueError` where it is no export of mmpt."""
        if not (folder / FILE).is_file():
            raise ValueError(f"{folder}: no {FILE}, expected a folder that `mmpt export --to vllm` has written")
        self._vocabulary = Vocabulary.load(folder)
        self._masks = Masks(self._vocabulary, device)

    def begin(self, arguments: dict | None) -> Followed | None:
        """An answer to a request with these `vllm_xargs`; None where it does not ask for the grammar. One that was made for
        another vocabulary ends at once."""
        asked = parse_argument(arguments)
        if asked is None:
            return None
        settings, end, fingerprint = asked
        followed = Followed(self._vocabulary, settings, end)
        followed.grammar.finished |= fingerprint != self._vocabulary.fingerprint
        return followed

    def force(self, logits: Tensor, rows: Sequence[int], answers: Sequence[Followed]) -> None:
        """Leave in each of `rows` of `logits` [rows, V] the next id of its answer alone."""
        if not rows:
            return
        index = torch.tensor(rows, device=logits.device)
        own = logits[index, : self._vocabulary.size]
        forbidden = torch.stack([self._masks.forbidden(one.grammar.allowed(), one.grammar.end) for one in answers])
        chosen = choose(own, forbidden, [one.sampler for one in answers], [one.generator for one in answers])
        logits[index] = float("-inf")
        logits[index, torch.tensor(chosen, device=logits.device)] = 0.0
