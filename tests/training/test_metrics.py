"""What a run writes beside its loss."""

import json
import math
import time

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import DataError
from mmpt.evaluation.pages.training import write_training_page
from mmpt.training.config import TrainerConfig
from mmpt.training.distributed import World
from mmpt.training.inspect import _part
from mmpt.training.metrics import metrics
from mmpt.training.spikes import FACTOR, LEAST, WINDOW, Spikes
from mmpt.vocabulary import Vocabulary

OPTIMIZER = {"learning_rate": 0.1}
WORLD = World(0, 1, torch.device("cpu"))


def test_a_spike_is_what_the_rule_says():
    spikes = Spikes()
    plain = [2.0 + 0.1 * math.sin(number) for number in range(LEAST)]
    assert not any(spikes.check(loss) for loss in [9.0, *plain[1:]])  # too few to judge the first
    ordered = sorted([9.0, *plain[1:]])
    median = (ordered[9] + ordered[10]) / 2
    away = sorted(abs(loss - median) for loss in ordered)
    bar = median + FACTOR * 1.4826 * (away[9] + away[10]) / 2
    assert "deviation" in spikes.check(bar + 1e-6)
    assert not spikes.check(bar - 1e-6)
    for _ in range(WINDOW):
        spikes.check(2.0)
    assert spikes.check(2.1) and not spikes.check(2.0)  # a spike does not move the median


def test_a_loss_that_has_come_to_stand_higher_is_told_of_once():
    spikes = Spikes()
    for _ in range(WINDOW):
        spikes.check(1.0)
    found = [bool(spikes.check(3.0 + 0.01 * (number % 3))) for number in range(2 * LEAST)]
    assert found == [True] * (LEAST - 1) + [False] * (LEAST + 1)
    assert spikes.check(9.0) and not spikes.check(3.0)


def test_lines_spikes_and_the_board(tmp_path):
    config = TrainerConfig(steps=30, optimizer=OPTIMIZER, run={"log_every": 5, "trackers": ["tensorboard"]})
    with metrics(tmp_path, config, WORLD, 0) as log:
        for step, _ in zip(range(1, 31), log.waiting([0] * 30), strict=False):
            loss = 50.0 if step == 27 else 2.0 + 0.01 * (step % 3)
            log.log(step, {"loss": loss, "nll": {"text": loss}}, {"tokens": 10})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert [line["spikes"] for line in lines] == [0, 0, 0, 0, 0, 1]
    assert all(0 <= line["data_seconds"] <= line["seconds"] for line in lines)
    (spike,) = [json.loads(line) for line in (tmp_path / "spikes.jsonl").read_text().splitlines()]
    assert spike["step"] == 27 and spike["loss"] == 50.0
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("nll/text")] == [5, 10, 15, 20, 25, 30]
    with metrics(tmp_path, config, WORLD, 26):  # resumed before the spike
        pass
    assert (tmp_path / "spikes.jsonl").read_text() == ""


def test_the_share_of_the_codes_that_were_read(tmp_path):
    vocabulary = Vocabulary(10, "letters", image_codes=8, codes_per_image=2, speech_codes=10, speech_rate=25.0)
    config = TrainerConfig(steps=4, optimizer=OPTIMIZER, run={"log_every": 2})
    steps = [[3, 17, 18], [18, 25, 26, 27, 28, 29], [5], [19]]
    batches = [[pack([TokenDocument("d", "t", np.array(ids))])] for ids in steps]
    with metrics(tmp_path, config, WORLD, 0, vocabulary) as log:
        for step, _ in zip(range(1, 5), log.waiting(batches), strict=False):
            log.log(step, {"loss": 1.0}, {"tokens": 10})
    lines = [json.loads(line)["codebook_used"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"image": 2 / 8, "speech": 5 / 10}, {"image": 1 / 8, "speech": 0.0}]


@pytest.mark.slow
def test_the_page_of_a_run_holds_its_figures_and_loads_nothing(tmp_path):
    config = TrainerConfig(steps=30, optimizer=OPTIMIZER, run={"log_every": 5})
    with metrics(tmp_path, config, WORLD, 0) as log:
        for step in range(1, 31):
            loss = 50.0 if step == 27 else 2.0
            figures = {"loss": loss, "nll": {"text": loss, "speech": 3.0}, "accuracy": {"text": 0.0}, "gradient_norm": 1.0}
            log.log(step, figures, {"tokens": 10})
    (tmp_path / "recipe.yaml").write_text("output: a<b")
    content = write_training_page(tmp_path).read_text()
    assert "Step 30" in content and "tokens a second" in content and "Spikes of the loss" in content and "a&lt;b" in content
    assert "http:" not in content.replace("http://www.w3.org", "") and "https:" not in content
    with pytest.raises(DataError, match="no line yet"):
        write_training_page(tmp_path / "nothing")


def test_a_batch_that_is_shown_counts_features_and_spells_marks():
    vocabulary = Vocabulary(10, "letters", image_codes=8, codes_per_image=2, speech_codes=10, speech_rate=25.0)
    ids = np.array(
        [vocabulary.special("<|begin|>"), *vocabulary.encode_features("image", 64), *[vocabulary.special("<|end|>")] * 2]
    )
    assert _part("special", ids, vocabulary, None) == "<|begin|><|image|>[64 features]<|/image|><|end|><|end|>"


def test_time_that_is_not_that_of_the_steps_is_left_out(tmp_path):
    config = TrainerConfig(steps=2, optimizer=OPTIMIZER, run={"log_every": 2})
    with metrics(tmp_path, config, WORLD, 0) as log:

        def batches():
            for _ in range(2):
                with log.aside():
                    time.sleep(0.2)
                yield 0

        for step, _ in zip(range(1, 3), log.waiting(batches()), strict=False):
            with log.aside():
                time.sleep(0.2)
            log.log(step, {"loss": 1.0}, {"tokens": 10})
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= line["data_seconds"] <= line["seconds"] < 0.1
