"""The grammar for vLLM's model runner V1, the one on CPUs and of older releases: `vllm serve … --logits-processors
mmpt.inference.vllm.grammar_v1:GrammarProcessor`."""

from pathlib import Path
from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality  # pyright: ignore[reportMissingImports]

from mmpt.inference.vllm.following import Followed, Following, parse_argument


class GrammarProcessor(LogitsProcessor):
    """Forces the next id of each request that has `vllm_xargs: {mmpt: …}`."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._following = Following(Path(vllm_config.model_config.model), device)
        self._answers: dict[int, tuple[Followed, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        parse_argument(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._answers.pop(row, None)
        for row, parameters, _, written in batch_update.added:
            self._answers.pop(row, None)
            answer = self._following.begin(parameters.extra_args)
            if answer is not None:
                self._answers[row] = answer, written  # the list itself: vLLM goes on writing into it
        for one, other, direction in batch_update.moved:
            first, second = self._answers.pop(one, None), self._answers.pop(other, None)
            if first is not None:
                self._answers[other] = first
            if second is not None and direction == MoveDirectionality.SWAP:
                self._answers[one] = second

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for answer, written in self._answers.values():
            answer.follow(written)
        self._following.force(logits, list(self._answers), [answer for answer, _ in self._answers.values()])
        return logits
