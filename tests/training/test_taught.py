"""Objectives with a teacher: what they are worth, where they apply, and that ranks and interruptions change nothing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import ConfigError, MmptError
from mmpt.model.backbone import BackboneConfig, build_backbone, load_backbone
from mmpt.model.forward import check_head
from mmpt.model.new_rows import split_rows
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel
from mmpt.training.objectives.distil import Distil
from mmpt.training.objectives.hidden_match import HiddenMatch
from mmpt.training.objectives.next_token import NextToken

sys.path.insert(0, str(Path(__file__).parent))
from ranks import BACKBONE, VOCABULARY, documents, pretrain  # noqa: E402
from scenarios import Results  # noqa: E402
from taught_ranks import NARROW, teacher  # noqa: E402

WORLD = World(0, 1, torch.device("cpu"))
DEEP = {**BACKBONE, "num_hidden_layers": 3}


def student(*objectives, content=DEEP, seed=3) -> LanguageModel:
    model = build_backbone(BackboneConfig(config=content), VOCABULARY.size, seed=seed)
    return LanguageModel(model, VOCABULARY, objectives, WORLD)


def learned(trained: LanguageModel, name: str, packs=None, progress=0.0):
    """(its term, its count as known beforehand) of one pack."""
    share = trained.share([packs or pack(documents(range(2, 6)))])
    return trained.loss(share.batches[0], progress)[name], share.counts[name]


def each_alone(model, numbers=range(2, 6)):
    """Of each document: (ids, weights of predicting the next, all that the model gives)."""
    for document in documents(numbers):
        ids = torch.tensor(document.ids.astype("int64"))
        with torch.no_grad():
            found = model(input_ids=ids[None], use_cache=False, output_hidden_states=True)
        yield ids, document.weights[1:], found


def test_a_model_has_nothing_to_learn_of_itself(tmp_path):
    path = teacher(tmp_path)
    trained = student(Distil(teacher=path), content={**NARROW, "eos_token_id": 1}, seed=11)
    term, _ = learned(trained, "distil")
    term.total.backward()
    assert term.total.item() == 0.0
    assert all(not p.grad.any() for p in trained.parameters() if p.grad is not None)
    match = student(HiddenMatch(teacher=path, distance="squared"), content={**NARROW, "eos_token_id": 1}, seed=11)
    assert learned(match, "hidden_match")[0].total.item() == 0.0


def test_the_divergence_is_that_of_the_two_models_own_logits(tmp_path):
    path = teacher(tmp_path)
    trained = student(NextToken(), Distil(teacher=path, temperature=2.0, weight=3.0, weights={"image": 0.5}))
    term, count = learned(trained, "distil")
    wanted, weight = 0.0, 0.0
    first, last = VOCABULARY.ranges()["image"]
    pairs = zip(each_alone(trained.model), each_alone(load_backbone(path).eval()), strict=True)
    for (ids, weights, own), (_, _, known) in pairs:
        p, q = (one.logits[0, :-1].double().div(2.0).softmax(dim=1) for one in (known, own))
        factors = torch.tensor(weights).double() * torch.where((ids[1:] >= first) & (ids[1:] < last), 0.5, 1.0)
        wanted += float((factors * 4.0 * (p * (p / q).log()).sum(dim=1)).sum())
        weight += float(factors.sum())
    assert term.weight == 3.0 and term.total.item() == pytest.approx(wanted, rel=1e-4)
    assert count.item() == pytest.approx(weight) == pytest.approx(term.count.item())


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_states_are_compared_layer_with_layer_at_the_students_width(tmp_path, distance):
    path = teacher(tmp_path)
    trained = student(HiddenMatch(teacher=path, layer=2, teacher_layer=1, distance=distance, fade="linear", until=0.5))
    term, _ = learned(trained, "hidden_match", progress=0.2)
    wanted = 0.0
    pairs = zip(each_alone(trained.model), each_alone(load_backbone(path).eval()), strict=True)
    for (_, weights, own), (_, _, known) in pairs:
        ours, narrow = own.hidden_states[2][0, :-1].numpy(), known.hidden_states[1][0, :-1].numpy()
        places = np.linspace(0, narrow.shape[1] - 1, ours.shape[1])
        theirs = np.stack([np.interp(places, np.arange(narrow.shape[1]), row) for row in narrow])
        if distance == "cosine":
            apart = 1 - (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        else:
            apart = ((ours - theirs) ** 2).mean(1)
        wanted += float((weights * apart).sum())
    assert term.total.item() == pytest.approx(wanted, rel=1e-4) and term.total.requires_grad
    assert term.weight == pytest.approx(1 - 0.2 / 0.5)


def test_after_its_share_of_the_run_the_teacher_is_gone_and_the_loss_is_that_without_it(tmp_path):
    taught, plain = student(NextToken(), Distil(teacher=teacher(tmp_path), until=0.5)), student(NextToken())
    batch = pack(documents(range(2, 6)))
    for trained in (taught, plain):
        share = trained.share([batch])
        trained.found = trained.loss(share.batches[0], 0.5)
        trained.found["next_token"].total.backward()
    assert taught.found.keys() == plain.found.keys()
    assert torch.equal(taught.found["next_token"].total, plain.found["next_token"].total)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(taught.parameters(), plain.parameters(), strict=True))
    assert taught.objectives[1].teacher is None and "distil" not in taught.share([batch]).counts


def test_no_engine_sees_the_teacher(tmp_path):
    taught, plain = student(NextToken(), Distil(teacher=teacher(tmp_path))), student(NextToken())
    assert [name for name, _ in taught.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_a_teacher_of_text_alone_teaches_where_all_before_is_text(tmp_path):
    path = teacher(tmp_path, NARROW, "text", VOCABULARY.text_size + 3)  # a padded table
    trained = student(Distil(teacher=path))
    begin, end = VOCABULARY.special("<|begin|>"), VOCABULARY.special("<|end|>")
    text, image = [begin, 5, 6, 7, end], [begin, 8, 9, *VOCABULARY.encode_image(np.array([1, 2])), 10, 11, end]
    made = [TokenDocument(str(number), "test", np.array(ids), None) for number, ids in enumerate((text, image))]
    batch = pack(made)
    marked, counts = trained.objectives[0].prepare(batch)
    assert marked.marks["distil"].tolist() == [0, 1, 2, 5, 6]  # what follows a picture, and what is no text, it cannot tell
    assert counts["distil"].item() == 5
    reader, wanted = load_backbone(path).eval(), 0.0
    for ids, places in ((text, 3), (image, 2)):
        with torch.no_grad():
            own = trained.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :places, : VOCABULARY.text_size]
            read = torch.tensor([[1, *ids[1:places]]])  # its eos_token_id, for want of another, begins a document
            known = reader(input_ids=read, use_cache=False).logits[0, :, : VOCABULARY.text_size]
        p, q = known.double().softmax(dim=1), own.double().softmax(dim=1)
        wanted += float((p * (p / q).log()).sum())
    assert learned(trained, "distil", batch)[0].total.item() == pytest.approx(wanted, rel=1e-4)


def test_what_stands_behind_features_no_teacher_can_tell(tmp_path):
    trained = student(Distil(teacher=teacher(tmp_path)))
    ids = [[5, 6, 7], [8, 9, *VOCABULARY.encode_features("image", 2), 10, 11], [12, 13]]
    batch = pack([TokenDocument(str(number), "test", np.array(own), None) for number, own in enumerate(ids)])
    marked, counts = trained.objectives[0].prepare(batch)
    assert marked.marks["distil"].tolist() == [0, 1, 3, 4, 5, 11] and counts["distil"].item() == 6


def test_a_teacher_in_half_precision_passes_the_check_of_its_head():
    granite = {**BACKBONE, "model_type": "granite", "logits_scaling": 3.7, "num_hidden_layers": 4}
    model = build_backbone(BackboneConfig(config=granite), VOCABULARY.size, seed=1).to(torch.bfloat16)
    check_head(model)
    plain = model.forward
    model.forward = lambda **given: SimpleNamespace(logits=1.2 * plain(**given).logits)
    with pytest.raises(ConfigError, match="it scales or caps"):
        check_head(model)


def test_new_rows_in_a_table_of_their_own_are_taught_as_in_one(tmp_path):
    path = teacher(tmp_path)
    one, two = student(Distil(teacher=path)), student(Distil(teacher=path))
    for table in split_rows(two.model, VOCABULARY.text_size):
        table.requires_grad_(True)
    terms = [learned(trained, "distil")[0] for trained in (one, two)]
    assert terms[0].total.item() == pytest.approx(terms[1].total.item(), rel=1e-4)


def test_what_cannot_teach_is_refused(tmp_path):
    with pytest.raises(MmptError, match="nowhere"):
        student(Distil(teacher=str(tmp_path / "nowhere")))
    small = teacher(tmp_path, NARROW, "small", VOCABULARY.text_size - 1)
    with pytest.raises(ConfigError, match="objectives: teacher: .*39 embedding rows, the text tokenizer of the data has 40 ids"):
        student(Distil(teacher=small))
    with pytest.raises(ConfigError, match="hidden_match: layer is 4, expected 1 to 3"):
        student(HiddenMatch(teacher=teacher(tmp_path), layer=4))
    with pytest.raises(ConfigError, match="distil does not go with loader.sequence_parallel"):
        pretrain(tmp_path, "x", 0, loader={"sequence_parallel": 2}, objectives=["next_token", {"kind": "distil", "teacher": "x"}])
    with pytest.raises(ConfigError, match="objectives: expected one that is learned until the end"):
        pretrain(tmp_path, "x", 0, objectives=[{"kind": "distil", "teacher": "x", "until": 0.5}])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results("taught_ranks.py", tmp_path_factory.mktemp("taught"))


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["step-2-0", "step-1-3", "step-2-3", "checkpointed"])
def test_two_ranks_under_any_stage_learn_what_one_learns(results, name):
    one, two = results["step-1-0"], results[name]
    assert not any(two["codes"]) and one["loss"] == pytest.approx(two["loss"], abs=1e-6)
    assert torch.tensor(one["weights"]).sub(torch.tensor(two["weights"])).abs().max() <= 1e-6


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["resumed", "phased"])
def test_a_run_with_a_teacher_or_with_phases_resumes_with_the_same_bits(results, name):
    run = results[name]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0]]
    assert run["resumed"] == run["straight"] and all(run["same_files"])
