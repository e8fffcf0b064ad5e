"""Training on two ranks: resume to the last bit, one global loss, stops before the optimizer. The scenarios run in ranks.py.

The resume contract: kill every rank with SIGKILL while a checkpoint is half written, start the same command again on the same
number of ranks, and every later loss, gradient norm, weight, optimizer state and loader state has the same bits as without that.
"""

import sys
from pathlib import Path

import pytest
import torch
from losses import weighted_loss
from peft import PeftModel
from safetensors.torch import load_file
from thorough import thorough
from transformers import AutoModelForCausalLM

from mmpt.data.loading.packing import pack
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.loading import load_model
from mmpt.storage import read_json
from mmpt.training.shares import TensorFiles
from mmpt.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))
import ranks  # noqa: E402
from scenarios import Results  # noqa: E402

pytestmark = pytest.mark.ranks

STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("ranks.py", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(
    "name",
    [
        "resume-0",
        "resume-2",
        "resume-3",
        "resume-bf16-3",
        "resume-muon",
        "resume-adafactor",
        *thorough("resume-1", "resume-bf16"),
    ],
)
def test_killed_while_saving_and_resumed_has_the_same_bits(results, name):
    run = results[name]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert [line[0] for line in run["straight"]] == [1, 2, 3, 4, 5, 6]
    assert run["resumed"] == run["straight"]
    assert run["same_files"] == [True] * 5
    numbered = [f"{stem}-0000{rank}-of-00002.safetensors" for stem in ("model", "optimizer") for rank in (1, 2)]
    assert run["files"] == numbered  # each rank wrote its share of both


def test_half_a_checkpoint_never_has_a_final_name_and_old_ones_go(results):
    left = results["resume-0"]["left"]
    assert [name for name in left if not name.startswith(".")] == ["step-00000002"]
    assert len([name for name in left if name.startswith(".step-00000004")]) == 1
    assert results["resume-0"]["kept"] == ["step-00000004", "step-00000006"]


def test_other_numbers_of_ranks_and_another_stage_go_on_as_before(results):
    run = results["elastic"]
    assert run["codes"] == [[0, 0], [129, 129], [129], [129, 129, 129]]
    assert [line[0] for line in run["changed"]] == list(range(1, 25))
    for found, wanted in zip(run["changed"], run["straight"], strict=True):
        assert found[1] == pytest.approx(wanted[1], abs=1e-6)


@pytest.mark.parametrize("stage", [*thorough(1), 3])
def test_two_ranks_then_one_then_two_go_on_as_before_and_anybody_reads_what_they_wrote(results, stage):
    run = results[f"2-1-2-{stage}"]
    assert run["codes"] == [[0, 0], [129, 129], [129], [129, 129]]
    assert [line[0] for line in run["changed"]] == list(range(1, 13))
    for found, wanted in zip(run["changed"], run["straight"], strict=True):
        assert found[1] == pytest.approx(wanted[1], abs=1e-6)
    checkpoint = Path(run["last"])
    shards = [load_file(path) for path in sorted((checkpoint / "backbone").glob("model-*.safetensors"))]
    assert len(shards) == 2 and all(shards)
    joined = {name: value for shard in shards for name, value in shard.items()}
    model, _ = load_model(checkpoint)
    plain = AutoModelForCausalLM.from_pretrained(checkpoint / "backbone")
    for name, value in model.named_parameters():
        assert torch.equal(value, joined.pop(name)) and torch.equal(value, plain.get_parameter(name))
    assert not joined
    index = read_json(checkpoint / "backbone" / "model.safetensors.index.json")
    assert index["metadata"]["total_size"] == 4 * sum(value.numel() for value in model.parameters())


def test_finetuning_with_dropout_resumes_with_the_same_bits(results):
    run = results["finetune"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["facts"][0] == run["facts"][1] and run["same"]


@pytest.mark.parametrize("stage", [*thorough(1), 3])
def test_adapters_and_new_rows_on_a_frozen_text_model(results, stage):
    """Resumed with the same bits; the checkpoint holds what learned, and links to the rest; the text's rows are untouched."""
    run = results[f"new-rows-{stage}"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["facts"][0] == run["facts"][1] and run["same"] == [True] * 4
    checkpoint, text = Path(run["last"]), Path(run["text"])
    assert (checkpoint / "backbone" / "model.safetensors").samefile(text / "model.safetensors")
    state = TensorFiles(sorted((checkpoint / "training").glob("optimizer-*.safetensors")))
    learned = {name.split("/", 1)[1] for name in state if name != "step"}
    assert all("lora_" in name or name.endswith(".new") for name in learned)
    assert sum(name.endswith(".new") for name in learned) == 2
    assert all(state[f"exp_avg/{name}"].abs().max() > 0 for name in learned)
    model, vocabulary = load_model(checkpoint)
    rows, old = model.get_input_embeddings().weight, load_file(text / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(rows[: vocabulary.text_size], old[: vocabulary.text_size]) and len(rows) == vocabulary.size
    saved = load_file(checkpoint / "new_rows.safetensors")
    assert torch.equal(rows[vocabulary.text_size :], saved["embedding"])
    assert torch.equal(model.get_output_embeddings().weight[vocabulary.text_size :], saved["head"])
    plain = AutoModelForCausalLM.from_pretrained(text)
    assert PeftModel.from_pretrained(plain, str(checkpoint / "adapter")).peft_config["default"].r == 2


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_with_a_pack_each_equal_one_rank_with_both(results, stage):
    one, two = results[f"step-1-{stage}"], results[f"step-2-{stage}"]
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-6)
    assert one["norm"] == pytest.approx(two["norm"], rel=1e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 1e-6


def test_ranks_that_share_muons_matrices_out_go_where_one_rank_goes(results):
    one, two, other = results["muon-step-1"], results["muon-step-2"], results["step-1-0"]
    weights = [torch.tensor(run["weights"]) for run in (one, two, other)]
    assert one["norm"] == pytest.approx(two["norm"], rel=1e-6)
    assert weights[0].sub(weights[1]).abs().max() <= 1e-4 < 1e-3 < weights[0].sub(weights[2]).abs().max()


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_two_ranks_that_share_both_packs_equal_one_rank(results, stage):
    one, two = results["step-1-0"], results[f"shared-step-{stage}"]
    assert two["codes"] == [0, 0] and two["tokens"] == one["tokens"]
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-6)
    assert one["norm"] == pytest.approx(two["norm"], rel=1e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 1e-6


@pytest.mark.parametrize("stage", [0, 3])
def test_computing_activations_again_changes_nothing(results, stage):
    one, two = results["step-2-0"], results[f"checkpointed-{stage}"]
    assert two["codes"] == [0, 0] and one["loss"] == pytest.approx(two["loss"], abs=1e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 1e-6


@pytest.mark.parametrize("stage", [1, *thorough(2, 3)])
def test_communication_beside_the_backward_pass_changes_no_bit(results, stage):
    overlapping, waiting = results[f"step-2-{stage}"], results[f"waiting-{stage}"]
    assert waiting["codes"] == [0, 0] and overlapping == waiting


def test_ranks_without_a_modality_train_on_under_zero_3(results):
    run = results["lonely"]
    assert run["codes"] == [0, 0] and run["seen"] == [["speech", "text"], ["image", "speech"]]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("dies", "rank 1 has given no sign of life for 5 s; it was "),
        ("stalls", "nothing has moved for 4 s; behind the others: rank 1 (waiting for data)"),
    ],
)
def test_a_rank_that_dies_or_stalls_ends_the_run_with_its_name(results, how, message):
    run = results[how]
    # Whoever notices first ends with 70; another may see its connection break before it notices too.
    assert 70 in run["codes"] and 0 not in run["codes"] and run["seconds"] < 50
    assert f"error: the run is ended: {message}" in run["said"]


def test_a_rank_that_is_late_with_its_files_finds_the_others_there(results):
    assert results["late"]["codes"] == [0, 0]


@pytest.mark.parametrize(
    "name", ["h100_connector", "h100_x8", *thorough("h100", "h100_lora", "h100_nodes", "h100_speech_smollm2")]
)
def test_a_dry_run_of_the_recipes_for_gpus(results, name):
    run = results[f"rehearsal-{name}"]
    assert run["codes"] == [0, 0] and run["left"] == []
    for said in ("M parameters", "GiB on each of 2 ranks under ZeRO", "step 2/2", "a checkpoint takes", "a checkpoint every"):
        assert said in run["said"]
    assert ("frozen: layers" in run["said"]) == (name in ("h100", "h100_x8", "h100_speech_smollm2"))


def test_stages_of_a_run(results):
    run = results["stages"]
    assert run["codes"] == [[0], 0]
    begin = build_backbone(BackboneConfig(config=ranks.BACKBONE), ranks.VOCABULARY.size, seed=0).state_dict()
    rows, last = (
        load_file(Path(run["run"]) / name / "checkpoints" / step / "backbone" / "model.safetensors")
        for name, step in (("rows", "step-00000002"), ("all", "step-00000003"))
    )
    moved = {name for name, value in rows.items() if not torch.equal(value, begin[name])}
    assert moved == {"model.embed_tokens.weight"}
    assert all(not torch.equal(last[name], rows[name]) for name in rows)
    # Three small steps after the first stage's weights, not after fresh ones.
    assert (last["model.embed_tokens.weight"] - rows["model.embed_tokens.weight"]).abs().max() < 0.01


def test_stages_of_finetuning_hand_on_new_rows_and_adapters(results):
    run = results["staged-finetuning"]
    assert run["codes"] == [[0, 0], [0]]
    assert ["adapter" in files for files in run["files"]] == [False, True, True]
    rows = [load_file(Path(path) / "new_rows.safetensors")["embedding"] for path in run["saved"]]
    # At most three steps of Adam from one to the next: each starts from the one before, and learns.
    for before, after in zip(rows[:-1], rows[1:], strict=True):
        assert 0 < (after - before).abs().max() <= 3 * 0.02 * 1.1
    first, second = (load_file(Path(path) / "adapter" / "adapter_model.safetensors") for path in run["saved"][1:])
    name = next(name for name in first if "lora_B" in name)
    assert first[name].abs().max() > 0 and 0 < (second[name] - first[name]).abs().max() <= 3 * 0.02 * 1.1
    assert len(load_model(Path(run["saved"][-1]))[0].get_input_embeddings().weight) == ranks.VOCABULARY.size


@pytest.mark.parametrize("size", [2, 4])
def test_loss_and_gradients_of_a_shared_pack_are_those_of_a_whole_one(results, size):
    one, shared = results["shared-1"], results[f"shared-{size}"]
    assert shared["codes"] == [0] * size and shared["tokens"] % 2  # so the last stretch is filled up
    wanted, found = load_file(one["file"]), load_file(shared["file"])
    assert wanted.keys() == found.keys() and len(wanted) > 20
    for name, value in wanted.items():
        scale = max(1.0, float(value.abs().max()))
        assert (found[name] - value).abs().max() <= 1e-6 * scale, name


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("size", [1, 2])
def test_a_step_equals_a_hand_written_one(results, size, stage):
    """Plain PyTorch: transformers' own logits of each document alone, sum of weight · nll over sum of weights, AdamW."""
    vocabulary: Vocabulary = ranks.VOCABULARY
    model = build_backbone(BackboneConfig(config=ranks.BACKBONE), vocabulary.size, seed=5)
    image = range(*vocabulary.ranges()["image"])
    loss_sum, weight_sum = 0.0, 0.0
    for document in ranks.documents(range(8)):
        batch = pack([document])
        nll = -model(input_ids=batch.input_ids, use_cache=False).logits[0].log_softmax(dim=-1)
        for position, target in enumerate(batch.targets[0, :-1].tolist()):
            weight = document.weights[position + 1].item() * (0.5 if target in image else 1.0)
            loss_sum = loss_sum + weight * nll[position, target]
            weight_sum += weight
    loss = loss_sum / weight_sum
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    matrices = [parameter for name, parameter in model.named_parameters() if "proj" in name]
    others = [parameter for name, parameter in model.named_parameters() if "proj" not in name]
    for gradient in gradients:
        gradient.mul_(0.05 / norm)
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    rate = 0.02 * (0.1 + 0.9 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi / 6)).item()))  # cosine, step 1 of 6, no warmup
    torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95)).step()

    found = results[f"step-{size}-{stage}"]
    assert found["loss"] == pytest.approx(loss.item(), abs=2e-6)
    assert found["norm"] == pytest.approx(norm, rel=1e-5)
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    difference = (torch.tensor(found["weights"]) - weights).abs()
    assert difference.median() <= 1e-6 and difference.max() <= 2e-3  # Adam's first step is sign-like where a gradient is near 0


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_non_finite_steps_stop_every_rank_before_the_optimizer(results, stage, where):
    run = results[f"stopped-{stage}-{where}"]
    assert run["codes"] == [0, 0]
    assert all(rank["unchanged"] and "no weight was changed" in rank["message"] for rank in run["ranks"])
    assert all("rank 1: documents document-3, document-4" in rank["message"] for rank in run["ranks"])


def test_experts_are_balanced_by_the_tokens_of_all_ranks(results):
    """Two packs of 21 and 95 tokens on one rank, and on two: the same step; each pack's balance counts by its tokens."""
    one, two = results["experts-1"], results["experts-2"]
    assert one["codes"] == [0] and two["codes"] == [0, 0]
    model = build_backbone(BackboneConfig(config=ranks.EXPERTS), ranks.VOCABULARY.size, seed=5)
    packs = [pack(ranks.documents(range(0, 3))), pack(ranks.documents(range(3, 8)))]
    parts = [weighted_loss(model, batch, torch.ones(4), ranks.VOCABULARY)["router_balance"].total.item() for batch in packs]
    wanted = sum(parts) / sum(batch.input_ids.numel() for batch in packs)
    for found in (one, two):
        assert found["balance"] == pytest.approx(wanted, rel=1e-5)
    for name in ("loss", "norm", "tokens"):
        assert one[name] == pytest.approx(two[name], rel=1e-5)
    assert torch.allclose(torch.tensor(one["weights"]), torch.tensor(two["weights"]), atol=1e-5)
