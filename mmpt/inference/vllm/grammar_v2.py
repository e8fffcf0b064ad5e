"""The grammar for vLLM's model runner V2, the default on GPUs since 0.3x: `vllm serve … --logits-processors
mmpt.inference.vllm.grammar_v2:GrammarProcessor`."""

from pathlib import Path
from typing import Any

import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor  # pyright: ignore[reportMissingImports]

from mmpt.inference.vllm.following import Followed, Following, parse_argument


class GrammarProcessor(LogitsProcessor):
    """Forces the next id of each request that has `vllm_xargs: {mmpt: …}`."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        if vllm_config.speculative_config is not None:
            raise ValueError("mmpt's grammar chooses each id from the logits before it: expected no speculative decoding")
        self._following = Following(Path(vllm_config.model_config.model), req_states.device)
        self._states = req_states
        self._answers: dict[int, Followed] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        parse_argument(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        self._answers.pop(req_idx, None)  # the place is used again
        answer = self._following.begin(sampling_params.extra_args)
        if answer is not None:
            self._answers[req_idx] = answer
        return answer is not None

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        slots, positions = torch.stack([ctx.expanded_idx_mapping.long(), ctx.pos.long()]).tolist()  # once from the device
        rows, answers = [], []
        for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
            prompt = int(self._states.prompt_len.np[slot])
            if slot in self._answers and position + 1 >= prompt:  # else the prompt is not read to its end
                self._answers[slot].follow(self._states.all_token_ids.gpu[slot, prompt : position + 1].tolist())
                rows.append(row)
                answers.append(self._answers[slot])
        self._following.force(logits, rows, answers)
        return logits
