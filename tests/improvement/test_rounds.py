"""Rounds of answers and trainings: the reward rises, what is whole is not done again, and a round may have nothing to learn."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmpt.chat import ChatConfig
from mmpt.config import parse_config
from mmpt.data.feature_rows import TaggedView, feature_block
from mmpt.data.shards.read import TokenShards
from mmpt.document import Image, Text
from mmpt.errors import ConfigError
from mmpt.improvement.config import ImproveConfig, training_of
from mmpt.improvement.rollouts import Question, drawn, media_of, questions, rollouts
from mmpt.inference.engine import Prompt
from mmpt.inference.load import load
from mmpt.model.checkpoints import find_checkpoint
from mmpt.vocabulary import Vocabulary

from ..inference.tiny import write_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    write_checkpoint(folder, sharp=1.0, chat=ChatConfig(template="plain"))
    rows = [
        {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]}
        for word in ("red", "blue", "seen", "square", "circle")
    ]
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def settings(folder: Path, **changes) -> dict:
    checkpoint = find_checkpoint(folder / "run")
    content = {
        "output": str(folder / "improved"),
        "prompts": [{"kind": "conversations", "rows": str(folder / "questions.jsonl")}],
        "held_out": [{"kind": "conversations", "rows": str(folder / "questions.jsonl")}],
        "reward": {"kind": "function", "name": "improvement_rewards:small_letters"},
        "prompts_per_round": 6,
        "answers": 8,
        "sampling": {"outputs": ["text"], "max_new_tokens": 8, "text": {"kind": "top_p", "temperature": 1.0}},
        "training": {
            "backbone": {"path": str(checkpoint / "backbone")},
            **{f"{name}_tokenizer": str(checkpoint / f"{name}_tokenizer") for name in ("text", "speech", "image")},
            "loader": {"pack_tokens": 256, "packs_per_step": 2, "workers": 0},
            "steps": 3, "optimizer": {"learning_rate": 0.015, "weight_decay": 0.0},
            "schedule": {"kind": "constant", "warmup_steps": 0}, "precision": "float32", "run": {"save_every": 3, "log_every": 1},
        },
        "phases": [{"rounds": 4, "lesson": "group_advantage"}],
    }  # fmt: skip
    return {**content, **changes}


def improve(folder: Path, **changes) -> subprocess.CompletedProcess:
    path = folder / "improve.yaml"
    path.write_text(yaml.safe_dump(settings(folder, **changes)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'helpers'}"}
    command = [os.environ["WARM_PYTHON"], str(ROOT / "recipes" / "improve.py"), str(path)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def told(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def improved(folder) -> Path:
    done = improve(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "improved"


def test_the_reward_rises(improved):
    rewards = [one["reward"] for one in told(improved)]
    assert rewards[-1] > rewards[0] + 0.05, rewards
    before, after = (json.loads((improved / when / "results.json").read_text()) for when in ("before", "after"))
    assert after["results"][0]["measures"][0]["value"] > before["results"][0]["measures"][0]["value"]
    assert load(improved / "round-004" / "training").tokenizer.chat is not None


def test_what_is_learned_is_what_was_written(improved):
    rows = [json.loads(line) for line in (improved / "round-001" / "answers.jsonl").read_text().splitlines()]
    shards = TokenShards(improved / "round-001" / "tokens")
    model = load(improved.parent / "run")
    groups = {number: [row["reward"] for row in rows if row["group"] == number] for number in range(6)}
    for one in shards:
        group, place = int(one.id.partition("/")[0]), int(one.id.rpartition("/")[2])
        row, rewards = rows[group * 8 + place], groups[group]
        text = model.tokenizer.text.decode(one.ids[one.weights > 0], skip_special_tokens=True)
        assert text.strip() == row["answered"]
        assert (one.ids[-1] == model.tokenizer.chat.end) == row["ended"]
        assert one.advantage == pytest.approx((row["reward"] - np.mean(rewards)) / np.std(rewards), rel=1e-5)


def test_the_same_command_does_nothing_again_and_goes_on_where_it_was(folder, improved):
    files = sorted(path for path in improved.rglob("*") if path.is_file())
    times = [path.stat().st_mtime_ns for path in files]
    more = {"phases": [{"rounds": 4, "lesson": "group_advantage"}, {"lesson": "best", "training": {"steps": 3}}]}
    done = improve(folder, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    kept = [path for path in files if path.name != "rounds.jsonl"]
    assert [path.stat().st_mtime_ns for path in kept] == [t for path, t in zip(files, times, strict=True) if path in kept]
    assert len(told(improved)) == 5 and told(improved)[-1]["learned"] == 0  # no answer is worth 1: the model stays


def test_questions_come_in_passes():
    first, second = (drawn(5, 3, number, seed=1) for number in (0, 1))
    assert sorted({*first, *second[:2]}) == [0, 1, 2, 3, 4] and second[2] in (0, 1, 2, 3, 4)


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(folder):
    config, model = parse_config(settings(folder), ImproveConfig, "x"), load(folder / "run")
    asked = questions(config.prompts)
    alone, beside = (list(rollouts(model, some, config.reward, config.sampling, 2, seed=3)) for some in (asked[:1], asked))
    assert [one.told for one in alone[0]] == [one.told for one in beside[0]]
    assert alone[0][0].told["answered"] != alone[0][1].told["answered"]


def test_mistakes_are_told_before_the_first_round(folder):
    def refused(**changes) -> str:
        with pytest.raises(ConfigError) as problem:
            parse_config(settings(folder, **changes), ImproveConfig, "improve.yaml")
        return str(problem.value)

    training = settings(folder)["training"]
    assert "did you mean group_advantage" in refused(phases=[{"lesson": "group_advantages"}])
    assert "output: set by the round itself" in refused(training={**training, "output": "x"})
    assert "expected from: RUN" in refused(training={**training, "backbone": {"config": {"model_type": "qwen3"}}})
    assert "training of round 2" in refused(phases=[{"lesson": "best"}, {"lesson": "best", "training": {"steps": 0}}])
    config = parse_config(settings(folder), ImproveConfig, "x")
    first = training_of(config, 0, None)
    assert training_of(config, 1, first).backbone.path == str(first.output / "checkpoints" / "step-00000003" / "backbone")


@pytest.mark.parametrize(
    "views", [[TaggedView([], 4)], [TaggedView([7, 8], 3), TaggedView([9], 3)], [TaggedView([], 2), TaggedView([5], 2)]]
)
def test_pictures_of_a_question_keep_their_slots_in_its_answers(views):
    vocabulary = Vocabulary(20, "letters", image_codes=8, codes_per_image=2, speech_codes=0, speech_rate=12.5)
    pictures = [Image(bytes([n]), "png", 4, 4) for n in range(2)]
    ids, wanted = [3, 4], []
    for picture in pictures:
        medium, block = feature_block(picture, views, len(ids), vocabulary)
        wanted.append(medium)
        ids += [*block, 6]
    prompt = Prompt(ids, tuple(("image", one.places(), None) for one in wanted))
    question = Question("one", (Text("what? "), pictures[0], Text(" and "), pictures[1]), (Text("this"),))
    assert list(media_of(question, prompt, vocabulary)) == wanted
