"""Text benchmarks through lm-evaluation-harness, by a thin adapter.

from lm_eval import simple_evaluate
simple_evaluate(HarnessModel(mmpt.load("runs/pretrain")), tasks=["hellaswag"])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.likelihood import Scores, token_scores
from mmpt.inference.engine import Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.settings import Settings
from mmpt.tokenizers.text import encode_text

try:
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager
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
        """For each (context, continuation): ln p of the continuation, and whether each of its tokens is the likeliest."""
        starts, wholes = [], []
        for context, continuation in (cast(tuple[str, str], request.args) for request in requests):
            # Spaces belong to the word that follows them, as the tokenizer has it.
            starts.append(len(self._ids(context.rstrip())) - 1)
            wholes.append(self._ids(context + continuation))
        found = [(one.log_probability[n:], one.likeliest[n:]) for one, n in zip(self._scores(wholes), starts, strict=True)]
        return [(float(scores.sum()), bool(likeliest.all())) for scores, likeliest in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text."""
        found = self._scores([self._ids(*one.args) for one in requests])
        return [float(one.log_probability.sum()) for one in found]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text after each context, up to the first of its `until`; greedy where `do_sample` is not asked for. All are written
        side by side, and none further than to its end."""
        engine, stops = self._model.engine(), {}
        for request in requests:
            context, options = cast(tuple[str, dict[str, Any]], request.args)
            sampler = TopP(temperature=options.get("temperature", 0.0) if options.get("do_sample") else 0.0)
            longest = options.get("max_gen_toks", MAX_NEW_TOKENS)
            settings = Settings(max_new_tokens=longest, outputs=("text",), text=sampler, seed=len(stops))
            until = options.get("until") or []
            stops[engine.submit(Prompt(self._ids(context)), settings)] = [until] if isinstance(until, str) else until
        while engine.busy:
            for writing, _ in engine.step():
                if not writing.finished and any(stop in self._text(writing.ids) for stop in stops[writing] if stop):
                    engine.cancel(writing)
        return [_until(self._text(writing.ids), own) for writing, own in stops.items()]

    def _scores(self, sequences: Sequence[Sequence[int]]) -> list[Scores]:
        return token_scores(self._model.model, self._model.tokenizer.vocabulary, sequences)

    def _ids(self, text: str) -> list[int]:
        return [self._begin, *encode_text(self._model.tokenizer.text, text)]

    def _text(self, ids: Sequence[int]) -> str:
        # Not stripped: a line's end may be a stop.
        text = self._model.tokenizer.text.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return cast(str, text)  # a list only where it is given lists


def evaluate(
    model: HarnessModel, tasks: Sequence[str], include: Path | None, num_fewshot: int | None, limit: int | None
) -> dict[str, Any]:
    """What `simple_evaluate` gives for `tasks` (see `mmpt.evaluation.benchmarks.lm_eval`). Raises `ConfigError` where it knows
    none of that name."""
    manager = _tasks(tasks, include)
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        raise ConfigError(f"lm-evaluation-harness has no task {', '.join(unknown)}")
    found = cast(Any, simple_evaluate)(  # a decorator of theirs hides its arguments from a type checker
        model, tasks=list(tasks), task_manager=manager, num_fewshot=num_fewshot, limit=limit, log_samples=True
    )
    return found


def _tasks(names: Sequence[str], include: Path | None) -> TaskManager:
    # To find its own, the harness reads thousands of files, for seconds: not where `include` has all that are asked for.
    if include is not None:
        own = TaskManager(include_path=str(include), include_defaults=False)
        if set(names) <= set(own.all_subtasks):
            return own
    return TaskManager(include_path=None if include is None else str(include))


def _until(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first of `stops`."""
    return min((text.split(stop)[0] for stop in stops if stop), key=len, default=text)
