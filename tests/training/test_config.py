"""Training configuration, learning-rate schedules, metrics and parameter groups: no process group needed."""

import json
import math
import sys
from pathlib import Path

import peft
import pytest
import torch
import yaml

from mmpt.config import load_config, parse_config
from mmpt.errors import CheckpointError, ConfigError, VocabularyError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.loading import FORMAT, load_model
from mmpt.storage import published_folder
from mmpt.training.config import DataSource, FitConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.engine import build_engine, deepspeed_options, parameter_groups
from mmpt.training.metrics import truncate
from mmpt.training.mixture import mixture_of
from mmpt.training.optimizers.adamw import AdamW
from mmpt.training.parts import freeze, part_of
from mmpt.training.sources import open_loader, open_sources
from mmpt.training.stages import last_checkpoint, stages
from mmpt.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402


def config(**changes) -> TrainingConfig:
    return ranks.pretrain(Path("x"), "run", 0, **changes)


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_documented_examples_are_valid_and_the_recipe_written_from_them_reads_back(name, tmp_path):
    loaded = load_config(ranks.ROOT / "recipes" / f"{name}.yaml", TrainingConfig)
    copy = tmp_path / "recipe.yaml"
    copy.write_text(yaml.safe_dump(loaded.model_dump(mode="json", by_alias=True)))
    assert load_config(copy, TrainingConfig) == loaded


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deepspeed": {"train_batch_size": 8, "optimizer": {}}}, "train_batch_size is set by mmpt from loader.packs_per_step"),
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, "ZeRO stage 4"),
        ({"deepspeed": {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "nvme"}}}}, "expected {device: cpu}"),
        ({"deepspeed": {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}}, "with stage 1, 2 or 3"),
        ({"evaluate": {"every": 5}}, "evaluate: expected shards, suite or samples"),
        ({"evaluate": {"suite": "s.yaml", "every": 5, "suite_every": 7}}, "suite_every: 7, expected a multiple of every"),
        ({"evaluate": {"shards": {"a": "x"}, "best": {"figure": "b"}}}, "best.figure: b, expected one of loss, a, suite"),
        ({"evaluate": {"shards": {"a": "x"}, "best": {"figure": "suite.b_acc"}}}, "there is no suite"),
        ({"evaluate": {"shards": {"loss": "x"}}}, "expected names other than loss"),
        ({"evaluate": {"samples": [{"prompt": [{"text": "a", "image": "b"}]}]}}, "exactly one of text, image and speech"),
        ({"evaluate": {"samples": [{"prompt": [{"text": "a"}], "max_tokens": 3}]}}, "max_tokens: unknown key"),
        ({"run": {"trackers": ["wanbd"]}}, "no tracker 'wanbd', did you mean wandb"),
        ({"run": {"tensorboard": True}}, "run.tensorboard: unknown key"),
        ({"loader": {"ramp": [{"until": 3, "packs": 2}, {"until": 3, "packs": 4}]}}, "expected steps that grow in until"),
        ({"deepspeed": {"bf16": {"enabled": True}}}, "bf16 needs ZeRO stage 2 or 3"),
        ({"deepspeed": {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}}}, "bf16 needs ZeRO stage 2 or 3"),
        ({"deepspeed": {"fp16": {"enabled": True}}}, "fp16"),
        ({"deepspeed": {"zero_optimization": 2}}, "zero_optimization: expected a section such as {stage: 2}, found 2"),
        (
            {"deepspeed": {"zero_optimization": None, "bf16": True}},
            "found None; bf16: expected a section such as {enabled: true}",
        ),
        ({"deepspeed": {"fp16": True}}, "fp16: expected a section"),
        ({"deepspeed": {"zero_optimization": {"stage": [1]}}}, "ZeRO stage .1. is not supported"),
        ({"deepspeed": {"zero_optimization": {"stage": True}}}, "ZeRO stage True is not supported"),
        ({"deepspeed": {"zero_optimization": {"stage": 1}, "bf16": {"enabled": "yes"}}}, "bf16.enabled: expected true or false"),
        ({"optimizer": {"learning_rate": math.inf}}, "optimizer.learning_rate: .*finite"),
        ({"schedule": {"kind": "wsd"}}, "schedule.decay_steps: missing"),
        ({"schedule": {"warmup_steps": 6}}, "schedule.warmup_steps is 6, expected fewer than steps"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer.betas: .*below 1"),
        ({"optimizer": {"kind": "adamv", "learning_rate": 1}}, "no optimizer 'adamv', did you mean adamw"),
        ({"optimizer": {"kind": "adafactor", "learning_rate": 1, "betas": [0, 0]}}, "optimizer.betas: unknown key"),
        ({"objectives": ranks.objectives(speach=1)}, "objectives.0.weights.speach: unknown key, did you mean speech"),
        ({"objectives": ["next_token", "next_token"]}, "each objective once, found next_token, next_token"),
        ({"objectives": []}, "objectives: expected at least 1"),
        ({"run": {"skip_steps": [6]}}, "run.skip_steps: .6., expected steps from 1 to 5"),
        (
            {"optimizer": {"kind": "adafactor", "learning_rate": 1}, "deepspeed": {"zero_optimization": {"stage": 2}}},
            "optimizer: adafactor needs whole matrices, ZeRO stage 2",
        ),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_packs_that_do_not_divide_among_ranks():
    ranks = World(0, 3, torch.device("cpu"))
    with pytest.raises(ConfigError, match="loader.packs_per_step is 4, expected a multiple of the 3 ranks"):
        build_engine(torch.nn.Linear(1, 1), None, config(), ranks)
    assert deepspeed_options(config(), 2)["gradient_accumulation_steps"] == 2


def test_communication_goes_on_beside_the_backward_pass_unless_the_section_says_otherwise():
    def zero(**section) -> dict:
        return deepspeed_options(config(deepspeed={"zero_optimization": section}), 1)["zero_optimization"]

    for stage in (1, 2, 3):
        assert zero(stage=stage) == {"overlap_comm": True, "reduce_bucket_size": 100_000_000, "stage": stage}
    assert zero(stage=2, overlap_comm=False, reduce_bucket_size=5)["overlap_comm"] is False
    assert zero(stage=0) == {"stage": 0}


def test_only_matrices_outside_embeddings_decay():
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), 20, seed=0)
    decayed, others = parameter_groups(model, AdamW(learning_rate=1, weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all("proj" in names[id(parameter)] for parameter in decayed["params"]) and decayed["weight_decay"] == 0.1
    assert all("norm" in names[id(parameter)] or "embed" in names[id(parameter)] for parameter in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(names) and others["weight_decay"] == 0.0


def test_metrics_are_cut_back_to_the_resumed_step(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 8)) + '{"step": 8, "lo')
    truncate(log, 100)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5, 6, 7]
    truncate(log, 5)
    assert log.read_text().endswith('{"step": 5}\n')


@pytest.fixture
def checkpoint(tmp_path):
    def write(rows: int) -> Path:
        vocabulary = Vocabulary(10, "letters", image_codes=4, codes_per_image=2, speech_codes=4, speech_rate=25.0)
        with published_folder(tmp_path / "checkpoint", {"format": FORMAT, "step": 1}) as folder:
            build_backbone(BackboneConfig(config=ranks.BACKBONE), rows, seed=0).save_pretrained(folder / "backbone")
            vocabulary.save(folder)
        return tmp_path / "checkpoint"

    return write


def test_loading_a_checkpoint_gives_the_same_weights(checkpoint):
    model, vocabulary = load_model(checkpoint(25))
    wanted = build_backbone(BackboneConfig(config=ranks.BACKBONE), 25, seed=0).state_dict()
    assert vocabulary.size == 25 and not model.training
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_checkpoints_that_cannot_be_loaded(checkpoint, tmp_path):
    with pytest.raises(VocabularyError, match="26 embedding rows, vocabulary.json has 25 ids"):
        load_model(checkpoint(26))
    whole = checkpoint(25)
    (whole / "backbone" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"backbone/model\.safetensors: missing"):
        load_model(whole)
    (whole / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="manifest.json is missing"):
        load_model(whole)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_model(tmp_path / "nowhere")


def test_a_yaml_file_is_a_mapping_of_known_keys(tmp_path):
    with pytest.raises(ConfigError, match="exactly one of from and backbone$"):
        parse_config(ranks.settings(tmp_path, "run", 0), TrainingConfig, "finetune.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": {"path": "x"}, "from": "y", "new_rows": True}, "exactly one of from and backbone"),
        ({"backbone": {"config": {"model_type": "qwen3"}}, "new_rows": True}, "backbone.path: missing"),
        ({"backbone": {"path": "x"}, "adapter": {}}, "backbone goes with new_rows: true"),
        ({"from": "y", "adapter": None}, "nothing learns"),
    ],
)
def test_a_finetuning_run_that_could_not_learn_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({**ranks.settings(tmp_path, "run", 0), **changes}, TrainingConfig, "finetune.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"decay_steps": 2}}, "schedule.decay_steps: unknown key"),
        ({"schedule": "infinite"}, "schedule.cooldown_steps: missing"),
        ({"schedule": {"kind": "infinite", "cooldown_steps": 5, "decay_steps": 2}}, "take 7 steps, more than steps"),
        ({"tokens": 100}, "steps or tokens, not both"),
        ({"optimizer": {"parts": {"tail": 1.0}}}, "optimizer.parts"),
        ({"optimizer": {"parts": {"layers": -1}}}, "optimizer.parts"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "different ones"),
        ({"stages": [{"steps": 2}]}, "stages.0.name: missing"),
        ({"stages": [{"name": "../a"}]}, "letters, digits"),
        ({"stages": [{"name": "a"}, {"name": "b", "output": "/x"}]}, "set by mmpt"),
    ],
)
def test_mistakes_in_schedules_parts_and_stages(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_a_stage_that_another_follows_does_not_end_early():
    evaluate = {"shards": {"a": "x"}, "best": {"patience": 2}}
    last = config(stages=[{"name": "one"}, {"name": "two", "evaluate": evaluate}])
    assert [stage.evaluate is not None for stage in stages(last)] == [False, True]
    with pytest.raises(ConfigError, match="stages.one: evaluate.best.patience: the next stage goes on from its last step"):
        stages(config(evaluate=evaluate, stages=[{"name": "one"}, {"name": "two", "evaluate": None}]))


def test_tokens_instead_of_steps(tmp_path):
    content = {**ranks.settings(tmp_path, "run", 0), "backbone": {"config": ranks.BACKBONE}, "tokens": "1e3"}
    del content["steps"]
    assert parse_config(content, TrainingConfig, "test").steps == 6  # ⌈1000 / (4 packs of 48)⌉
    ramp = {**content["loader"], "ramp": [{"until": 2, "packs": 1}, {"until": 4, "packs": 2}]}
    assert parse_config({**content, "loader": ramp}, TrainingConfig, "test").steps == 8  # 2 · 1 + 2 · 2, and ⌈14.8 / 4⌉
    for wrong in ("many", math.inf, math.nan, [], None):
        with pytest.raises(ConfigError, match="tokens: expected a number"):
            parse_config({**content, "tokens": wrong}, TrainingConfig, "test")


def test_a_source_has_a_weight_or_a_number_of_tokens():
    assert DataSource(path="x", tokens="2.0e3").tokens == 2000 and DataSource(path="x").weight == 1
    with pytest.raises(ConfigError, match="weight or tokens"):
        parse_config({"path": "x", "tokens": 5, "weight": 2}, DataSource, "test")


def test_an_epoch_holds_as_many_tokens_of_a_source_as_asked(tmp_path):
    data = tmp_path / "data"
    ranks.write_shards(data)
    content = {**ranks.settings(tmp_path, "run", 0), "backbone": {"config": ranks.BACKBONE}}
    content["data"] = [{"path": str(data), "tokens": 300}, {"path": str(data), "weight": 2}]
    config = parse_config(content, TrainingConfig, "test")
    sources, _ = open_sources(config)
    held = sum(sources[0].manifest.counts.values())
    found = open_loader(config, sources).describe()["tokens"]
    assert found == pytest.approx(300 + 2 * held, abs=60)  # whole documents alone


def test_phases_are_shares_of_the_run_and_a_folder_named_twice_is_one_source(tmp_path):
    for name in ("web", "good"):
        ranks.write_shards(tmp_path / name)
    web, good = (str(tmp_path / name) for name in ("web", "good"))
    content = {**ranks.settings(tmp_path, "run", 0), "backbone": {"config": ranks.BACKBONE}, "steps": 10}
    content["data"] = [
        {"path": web, "until": 0.8},
        {"path": good, "weight": 0.25},
        {"path": web, "weight": 0.5, "from": 0.8},
        {"path": good, "weight": 3, "from": 0.8},
        {"path": good, "weight": 2, "loss": 0.5, "until": 0.3},
    ]
    config = parse_config(content, TrainingConfig, "test")
    sources, _ = open_sources(config)
    mixed = mixture_of(config, sources)
    assert [one.folder.name for one in mixed.sources] == ["web", "good", "good"] and mixed.loss == [1, 1, 0.5]
    assert mixed.mixture is None and mixed.phases == [(3, (1, 0.25, 2)), (8, (1, 0.25, 0)), (10, (0.5, 3.25, 0))]
    assert "phase 1 of 3" in open_loader(config, sources).summary()
    held = sources[0].manifest.counts["speech"]
    budget = {"loader": {**content["loader"], "budgets": {"speech": 0.5 * held}}}
    phases = mixture_of(parse_config({**content, **budget}, TrainingConfig, "test"), sources).phases
    assert [sum(phase.weights) for phase in phases] == pytest.approx([0.5] * 3, rel=0.01)  # all sources here hold the same
    with pytest.raises(ConfigError, match=r"data: no source is read from 0 to 0\.5 of the run"):
        parse_config({**content, "data": [{"path": web, "from": 0.5}]}, TrainingConfig, "test")
    with pytest.raises(ConfigError, match=r"data\.0: from is 0\.5, expected less than until, 0\.25"):
        parse_config({**content, "data": [{"path": web, "from": 0.5, "until": 0.25}]}, TrainingConfig, "test")


def test_parts_rest_or_learn_at_rates_of_their_own():
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), 20, seed=0)
    groups = parameter_groups(model, AdamW(learning_rate=1, weight_decay=0.1, parts={"embeddings": 0.5}))
    found = {(group["factor"], group["weight_decay"]): len(group["params"]) for group in groups}
    assert found[0.5, 0.0] == 1 and set(found) == {(0.5, 0.0), (1.0, 0.0), (1.0, 0.1)}
    freeze(model.named_parameters(), AdamW(learning_rate=1.0, parts={"layers": 0.0}))
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["model.embed_tokens.weight"]
    with pytest.raises(ConfigError, match="parts.layers: this run trains no parameters of that part .there are: embeddings"):
        freeze(model.named_parameters(), AdamW(learning_rate=1.0, parts={"layers": 0.5}))
    with pytest.raises(ConfigError, match="nothing learns"):
        freeze(model.named_parameters(), AdamW(learning_rate=1.0, parts={"embeddings": 0.0}))
    names = ["base_model.model.lm_head.new", "m.layers.0.q_proj.lora_A.default.weight", "lm_head.weight", "model.norm.weight"]
    assert [part_of(name) for name in names] == ["new_rows", "adapter", "embeddings", "layers"]


def test_rates_fall_by_layer_and_the_lowest_stay_as_they_are():
    content = {**ranks.BACKBONE, "num_hidden_layers": 4, "tie_word_embeddings": False}
    model = build_backbone(BackboneConfig(config=content), 20, seed=0)
    settings = AdamW(learning_rate=1.0, parts={"embeddings": 3.0}, layer_decay=0.5, frozen_layers=1)
    freeze(model.named_parameters(), settings)
    groups = parameter_groups(model, settings)
    found = {id(parameter): group["factor"] for group in groups for parameter in group["params"]}
    rates = {name: found.get(id(parameter), 0.0) for name, parameter in model.named_parameters()}
    by_layer = {name: rate for name, rate in rates.items() if ".layers." in name}
    assert by_layer == {name: (0, 0.25, 0.5, 1)[int(name.split(".")[2])] for name in by_layer}
    others = {name: rate for name, rate in rates.items() if name not in by_layer}
    assert others == {"model.embed_tokens.weight": 3 / 16, "lm_head.weight": 3, "model.norm.weight": 1}
    with pytest.raises(ConfigError, match="frozen_layers is 5, the decoder has 4 layers"):
        freeze(model.named_parameters(), AdamW(learning_rate=1.0, frozen_layers=5))


@pytest.mark.parametrize("kind", ["LoraConfig", "IA3Config", "LoHaConfig", "VeraConfig", "OFTConfig", "LNTuningConfig"])
def test_what_peft_puts_into_a_model_is_its_adapter_and_nothing_else_is(kind):
    options = {"target_modules": ["q_proj", "o_proj"], **({"feedforward_modules": []} if kind == "IA3Config" else {})}
    options |= {"oft_block_size": 8} if kind == "OFTConfig" else {}
    options |= {"target_modules": ["input_layernorm"]} if kind == "LNTuningConfig" else {}
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), 20, seed=0)
    model = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **options))
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned and learned <= {name for name, _ in model.named_parameters() if part_of(name) == "adapter"}
    kept = [name for name, parameter in model.named_parameters() if not parameter.requires_grad and "vera" not in name]
    assert {part_of(name) for name in kept} <= {"layers", "embeddings"}


def test_stages_follow_one_another(tmp_path):
    content = ranks.settings(
        tmp_path, "run", 0, stages=[{"name": "one", "steps": 4}, {"name": "two", "tokens": 400, "run": {"seed": 3}}]
    )
    first, second = stages(parse_config({**content, "backbone": {"config": ranks.BACKBONE}}, TrainingConfig, "test"))
    assert (first.steps, second.steps, second.run.seed) == (4, 3, 3) and first.output == tmp_path / "run" / "one"
    assert first.backbone.config and second.backbone.path == str(last_checkpoint(first) / "backbone")
    last_checkpoint(first).mkdir(parents=True)
    assert [
        stage.output.name for stage in stages(parse_config({**content, "from": "x", "new_rows": True}, TrainingConfig, "test"))
    ] == ["two"]
    (found,) = stages(parse_config({**content, "from": "x", "new_rows": True}, TrainingConfig, "test"))
    assert found.base == last_checkpoint(first)


def test_mistakes_of_all_stages_are_told_before_the_first_is_given(tmp_path):
    each = [{"name": "one", "lerning_rate": 1}, {"name": "two", "optimizer": {"parts": {"sound": 1}}}, {"name": "three"}]
    with pytest.raises(ConfigError) as caught:
        stages(config(stages=each))
    assert "stages.one: 1 mistake\n  lerning_rate: unknown key" in str(caught.value)
    assert "stages.two: 1 mistake\n  optimizer.parts.sound" in str(caught.value)


def test_a_stage_changes_of_a_section_what_it_names_alone_and_of_another_kind_all_of_it():
    each = [
        {"name": "one", "optimizer": {"parts": {"layers": 0}}, "deepspeed": {"zero_optimization": {"overlap_comm": True}}},
        {"name": "two", "schedule": {"kind": "constant", "warmup_steps": 1}, "optimizer": {"weight_decay": 0}},
        {
            "name": "three",
            "optimizer": {"kind": "adafactor", "learning_rate": 1},
            "deepspeed": {"zero_optimization": {"stage": 0}},
        },
    ]
    one, two, three = stages(
        config(
            optimizer={"parts": {"layers": 2, "embeddings": 3}, "weight_decay": 0.5},
            schedule={"kind": "wsd", "warmup_steps": 2, "decay_steps": 3},
            deepspeed={"zero_optimization": {"stage": 2}},
            stages=each,
        )
    )
    assert one.optimizer.parts == {"layers": 0, "embeddings": 3} and one.optimizer.weight_decay == 0.5
    assert one.zero_stage == 2 and one.schedule.phases == 5
    assert two.schedule.model_dump() == {"kind": "constant", "warmup_steps": 1, "warmup_from": 0.0}
    assert two.optimizer.weight_decay == 0 and two.optimizer.parts == {"layers": 2, "embeddings": 3}
    assert three.optimizer.kind == "adafactor" and not three.optimizer.parts and three.schedule.kind == "wsd"


def test_each_stage_has_copies_of_its_own():
    one, two = stages(config(run={"copy_to": "s3://bucket/run/"}, stages=[{"name": "one"}, {"name": "two"}]))
    assert (one.run.copy_to, two.run.copy_to) == ("s3://bucket/run/one", "s3://bucket/run/two")


def test_a_stage_after_one_on_frozen_weights_takes_what_it_learned_along():
    content = {"backbone": {"path": "x"}, "new_rows": True, "stages": [{"name": "a"}, {"name": "b", "adapter": {"rank": 2}}]}
    first, second = stages(config(**content))
    assert first.frozen and first.backbone.path == "x"
    assert second.base == last_checkpoint(first) and second.backbone is None and second.adapter.rank == 2


def test_a_tokenizer_has_defaults_of_its_own_where_its_optimizer_knows_them():
    fit = FitConfig(steps=1, batch_size=2, optimizer={"learning_rate": 1})
    assert (fit.optimizer.betas, fit.optimizer.weight_decay, fit.precision) == ((0.9, 0.98), 0.01, "float32")
    assert (fit.run.save_every, fit.run.log_every, fit.run.keep) == (500, 20, 2)
    chosen = FitConfig(steps=1, batch_size=2, optimizer={"kind": "adafactor", "learning_rate": 1, "weight_decay": 0.3})
    assert chosen.optimizer.weight_decay == 0.3 and chosen.optimizer.kind == "adafactor"
    with pytest.raises(ConfigError, match="optimizer: parts, layer_decay and frozen_layers are those of a language model"):
        parse_config({"steps": 1, "batch_size": 2, "optimizer": {"learning_rate": 1, "parts": {"layers": 0}}}, FitConfig, "fit")
