"""Text benchmarks through lm-evaluation-harness, by a thin adapter.

from lm_eval import simple_evaluate
simple_evaluate(HarnessModel(mmpt.load("runs/pretrain")), tasks=["hellaswag"])
"""

from collections.abc import Sequence

from mmpt.errors import ConfigError
from mmpt.evaluation.likelihood import log_probabilities
from mmpt.inference.engine import Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.tokenizers.text import decode_text, encode_text

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
except ImportError:
    raise ConfigError("the harness needs the package lm_eval (pip install mmpt[evaluate])") from None

MAX_NEW_TOKENS = 256


class HarnessModel(LM):
    """`model` as the harness asks for it: everything starts with `<|begin|>`, and only text is written."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self._model = model
        self._begin = model.tokenizer.vocabulary.special("<|begin|>")

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each (context, continuation): ln p of the continuation, and whether it is what greedy decoding gives."""
        contexts, wholes = [], []
        for context, continuation in (request.args for request in requests):
            # Spaces belong to the word that follows them, as the tokenizer has it.
            own, whole = self._ids(context), self._ids(context + continuation)
            contexts.append(len(own))
            wholes.append(whole)
        found = log_probabilities(self._model, wholes)
        greedy = self._greedy([whole[:start] for whole, start in zip(wholes, contexts, strict=True)], wholes, contexts)
        return [(float(scores[start - 1 :].sum()), same) for scores, start, same in zip(found, contexts, greedy, strict=True)]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text."""
        return [float(scores.sum()) for scores in log_probabilities(self._model, [self._ids(*one.args) for one in requests])]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text after each context, up to the first of its `until`; greedy where `do_sample` is not asked for."""
        found = []
        for request in requests:
            context, options = request.args
            until = options.get("until") or []
            until = [until] if isinstance(until, str) else until
            temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            settings = {"max_new_tokens": int(options.get("max_gen_toks", MAX_NEW_TOKENS)), "outputs": ["text"]}
            (ids,) = self._model.generate([Prompt(self._ids(context))], **settings, text={"temperature": temperature})
            text = decode_text(self._model.tokenizer.text, ids)
            found.append(min((text.split(stop)[0] for stop in until if stop), key=len, default=text))
        return found

    def _ids(self, text: str) -> list[int]:
        return [self._begin, *encode_text(self._model.tokenizer.text, text)]

    def _greedy(self, contexts: Sequence[list[int]], wholes: Sequence[list[int]], starts: Sequence[int]) -> list[bool]:
        rows = []
        for context, whole, start in zip(contexts, wholes, starts, strict=True):
            length = len(whole) - start
            (ids,) = self._model.generate([Prompt(context)], max_new_tokens=length + 1, outputs=["text"]) if length else ([],)
            rows.append(ids[:length] == whole[start:])
        return rows
