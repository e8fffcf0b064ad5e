"""lm-evaluation-harness asks as the model answers, and its figures are those counted by hand."""

import json
import math

import numpy as np
import pytest

from mmpt.document import Text
from mmpt.errors import ConfigError
from mmpt.inference.engine import Engine
from mmpt.inference.load import load

from ..inference.tiny import write_checkpoint
from .scripted import by_hand, likeliest, run, values, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def test_the_harness_asks_as_the_model_answers(model, monkeypatch):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from mmpt.evaluation.harness import HarnessModel

    adapter, begin = HarnessModel(model), model.tokenizer.vocabulary.special("<|begin|>")

    def instance(kind: str, *arguments) -> Instance:
        return Instance(kind, {}, arguments, 0)

    def ids(text: str) -> list[int]:
        return [begin, *model.tokenizer.encode([[Text(text)]])[0][0]]

    ((score, _),) = adapter.loglikelihood([instance("loglikelihood", "the red", " circle")])
    wanted = by_hand(model, ids("the red circle"))[len(ids("the red")) - 1 :]
    assert score == pytest.approx(sum(wanted), abs=1e-4)
    (rolled,) = adapter.loglikelihood_rolling([instance("loglikelihood_rolling", "a blue square")])
    assert rolled == pytest.approx(sum(by_hand(model, ids("a blue square"))), abs=1e-4)
    (text,) = adapter.generate_until([instance("generate_until", "the red", {"until": [], "max_gen_toks": 12})])
    (same,) = model.answer([(Text("the red"),)], outputs=["text"], max_new_tokens=12)
    assert text.strip() == " ".join(part.text for part in same.parts)
    # A space at the end of the context belongs to the continuation.
    ((same, _),) = adapter.loglikelihood([instance("loglikelihood", "the red ", "circle")])
    assert same == score
    # Greedy is what the likeliest tokens say: each after those before it.
    asked = [("a x", "x"), ("a x", "xx"), ("a x", "xz"), ("a x", " square")]
    greedy = [flag for _, flag in adapter.loglikelihood([instance("loglikelihood", *one) for one in asked])]
    wanted = []
    for context, continuation in asked:
        start, whole = len(ids(context)), ids(context + continuation)
        wanted.append(all(likeliest(model, whole[:n]) == whole[n] for n in range(start, len(whole))))
    assert wanted == [True, True, False, False] and greedy == wanted
    # Requests of several lengths and stops are answered in their order, and nothing is written beyond a stop.
    asked = [
        ("the red", {"max_gen_toks": 3}),
        ("a x", {"max_gen_toks": 90, "until": ["xxx"]}),
        ("a", {"max_gen_toks": 3, "until": "u"}),
    ]
    alone = [adapter.generate_until([instance("generate_until", *one)])[0] for one in asked]
    steps, step = [], Engine.step
    monkeypatch.setattr(Engine, "step", lambda engine: steps.append(1) or step(engine))
    assert adapter.generate_until([instance("generate_until", *one) for one in asked]) == alone
    assert alone[1] == "" and len(steps) == 3
    (long,) = adapter.generate_until([instance("generate_until", "a x", {"max_gen_toks": 9})])
    assert long == "x" * 8


def test_a_task_of_the_harness_from_its_file_to_its_figure(model, tmp_path):
    pytest.importorskip("lm_eval")
    draw, words = np.random.default_rng(0), ("red", "blue", "circle", "square", "above")
    rows = [{"q": f"the {draw.choice(words)}", "choices": draw.permutation(words)[:3].tolist()} for _ in range(12)]
    task = {
        "task": "which",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(write_rows(tmp_path / "rows.jsonl", rows))},
            "cache_dir": str(tmp_path / "cache"),
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "choices",
        "doc_to_target": "0",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "which.yaml").write_text(json.dumps(task))
    found = run({"kind": "lm_eval", "tasks": ["which"], "include": str(tmp_path / "tasks")}, model)
    begin = model.tokenizer.vocabulary.special("<|begin|>")

    def score(context: str, choice: str) -> float:
        start, whole = ([begin, *model.tokenizer.encode([[Text(text)]])[0][0]] for text in (context, f"{context} {choice}"))
        return sum(by_hand(model, whole)[len(start) - 1 :])

    right = [max(row["choices"], key=lambda choice, q=row["q"]: score(q, choice)) == row["choices"][0] for row in rows]
    assert values(found) == {"which acc": pytest.approx(np.mean(right), abs=1e-6)} and 0 < sum(right) < 12
    error = np.std(right, ddof=1) / math.sqrt(12)
    assert found.measures[0].high == pytest.approx(np.mean(right) + 1.96 * error, abs=1e-6) and found.measures[0].count == 12
    assert [one.score for one in found.outcomes] == [float(one) for one in right]
    with pytest.raises(ConfigError, match="no task what"):
        run({"kind": "lm_eval", "tasks": ["hellaswag", "what"], "include": str(tmp_path / "tasks")}, model)
