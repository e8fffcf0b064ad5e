"""Text benchmarks through lm-evaluation-harness, by a thin adapter.

from lm_eval import simple_evaluate
simple_evaluate(HarnessModel(mmpt.load("runs/pretrain")), tasks=["hellaswag"])
"""

from collections import defaultdict
from collections.abc import Sequence

from mmpt.errors import ConfigError
from mmpt.evaluation.likelihood import token_scores
from mmpt.inference.engine import Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.tokenizers.text import decode_text, encode_text

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
except ImportError:
    raise ConfigError("the harness needs the package lm_eval (pip install mmpt[evaluate])") from None

BATCH = 32
MAX_NEW_TOKENS = 256


class HarnessModel(LM):
    """`model` as the harness asks for it: everything starts with `<|begin|>`, and only text is written."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self._model = model
        self._begin = model.tokenizer.vocabulary.special("<|begin|>")

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each (context, continuation): ln p of the continuation, and whether each of its tokens is the likeliest."""
        starts, wholes = [], []
        for context, continuation in (request.args for request in requests):
            # Spaces belong to the word that follows them, as the tokenizer has it.
            starts.append(len(self._ids(context.rstrip())) - 1)
            wholes.append(self._ids(context + continuation))
        found = [
            (one.log_probability[n:], one.likeliest[n:]) for one, n in zip(token_scores(self._model, wholes), starts, strict=True)
        ]
        return [(float(scores.sum()), bool(likeliest.all())) for scores, likeliest in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text."""
        found = token_scores(self._model, [self._ids(*one.args) for one in requests])
        return [float(one.log_probability.sum()) for one in found]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text after each context, up to the first of its `until`; greedy where `do_sample` is not asked for. Requests that are
        alike in this are written side by side."""
        alike = defaultdict(list)
        for number, request in enumerate(requests):
            _, options = request.args
            temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            alike[int(options.get("max_gen_toks", MAX_NEW_TOKENS)), temperature].append(number)
        found = [""] * len(requests)
        for (longest, temperature), numbers in alike.items():
            settings = {"max_new_tokens": longest, "outputs": ["text"], "text": {"temperature": temperature}}
            for start in range(0, len(numbers), BATCH):
                batch = numbers[start : start + BATCH]
                prompts = [Prompt(self._ids(requests[number].args[0])) for number in batch]
                for number, ids in zip(batch, self._model.generate(prompts, **settings), strict=True):
                    found[number] = decode_text(self._model.tokenizer.text, ids)
        return [_until(text, request.args[1].get("until") or []) for text, request in zip(found, requests, strict=True)]

    def _ids(self, text: str) -> list[int]:
        return [self._begin, *encode_text(self._model.tokenizer.text, text)]


def _until(text: str, stops: str | Sequence[str]) -> str:
    """`text` up to the first of `stops`."""
    stops = [stops] if isinstance(stops, str) else stops
    return min((text.split(stop)[0] for stop in stops if stop), key=len, default=text)
