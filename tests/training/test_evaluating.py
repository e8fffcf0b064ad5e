"""Evaluations of a run: what is measured is the definition, what is trained does not notice, the best is kept, resume is exact.
The scenarios run in evaluate_ranks.py."""

import gzip
import json
import math
import sys
from pathlib import Path

import pytest
from thorough import thorough

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import Results  # noqa: E402

from mmpt.data.loading.loader import Loader  # noqa: E402
from mmpt.data.shards.read import DocumentShards, TokenShards  # noqa: E402
from mmpt.evaluation.metrics.loss import document_losses  # noqa: E402
from mmpt.evaluation.suite import read_results  # noqa: E402
from mmpt.inference.load import load  # noqa: E402
from mmpt.model.loading import load_model  # noqa: E402
from mmpt.vocabulary import MODALITIES  # noqa: E402

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = Results("evaluate_ranks.py", tmp_path_factory.mktemp("evaluate"))
    yield found
    found.process.stdin.close()
    found.process.wait()


@pytest.mark.parametrize("name", ["stage-0", *thorough("stage-1", "stage-2"), "stage-3", "alone", "shared"])
def test_evaluations_change_no_bit_of_the_training_and_resume_is_exact(results, name):
    run = results[name]
    size = 1 if name == "alone" else 2
    assert run["codes"] == [[0] * size, [0] * size, [-9] * size, [0] * size], results.errors[-3000:]
    plain, straight, broken = run["facts"]
    assert plain == straight == broken and len(plain) == 6
    assert all(run["weights"]) and all(run["resumed"])
    none, evaluated, again = run["evaluations"]
    assert none == [] and evaluated == again and [line["step"] for line in evaluated] == [2, 4, 6]
    # `more` is asked for: the first and worst is the best, and stays beside the two newest.
    values = [line["held_out"]["odd/text"] for line in evaluated]
    best = max(range(3), key=lambda number: values[number])
    assert run["best"] == [f"step-{2 * best + 2:08d}"] * 2
    assert set(run["kept"][1]) == {run["best"][0], "step-00000004", "step-00000006"}


@pytest.mark.parametrize("name", ["stage-0", "stage-3", "shared"])
def test_losses_are_weighted_nll_over_weights_of_all_ranks_by_modality_and_by_source(results, name):
    """Against the benchmark's losses, each document alone, in float64 log-softmax."""
    run = results[name]
    checkpoint = Path(run["checkpoint"])
    model, vocabulary = load_model(checkpoint)
    sources = {name: TokenShards(results.folder / name) for name in ("few", "odd")}
    losses = {name: document_losses(model, vocabulary, list(source)) for name, source in sources.items()}
    sums = {name: found.sums.sum(axis=0) for name, found in losses.items()}
    weights = {name: found.weights.sum(axis=0) for name, found in losses.items()}
    sums["loss"], weights["loss"] = sum(sums.values()), sum(weights.values())
    wanted = {name: sums[name].sum() / weights[name].sum() for name in sums}
    wanted |= {
        f"{name}/{modality}": sums[name][index] / weights[name][index]
        for name in sums
        for index, modality in enumerate(MODALITIES)
        if weights[name][index]
    }
    assert run["evaluations"][1][-1]["held_out"] == pytest.approx(wanted, rel=1e-5) and len(wanted) > 12


def test_held_out_losses_do_not_depend_on_the_number_of_ranks(results):
    run = results["other-ranks"]
    assert all(set(codes) == {0} for codes, _ in run.values()), results.errors[-3000:]
    one, two, three = (found[0]["held_out"] for _, found in run.values())
    assert two == pytest.approx(one, abs=1e-6) and three == pytest.approx(one, abs=1e-6)


def test_a_run_without_patience_left_ends_with_its_best_checkpoint_and_stays_so(results):
    run = results["patience"]
    assert run["codes"] == [[0, 0]] * 3, results.errors[-3000:]
    losses = [line["held_out"]["loss"] for line in run["first"]]
    best = min(range(len(losses)), key=lambda number: losses[number])
    assert len(losses) == best + 1 + 3 < 20 and all(math.isfinite(loss) for loss in losses)
    assert run["best"] == f"step-{best + 1:08d}"
    assert run["kept"] == [run["best"], f"step-{len(losses):08d}"]
    assert run["again"] == run["first"]
    assert run["longer"][: len(losses)] == run["first"] and len(run["longer"]) > len(losses)


@pytest.mark.parametrize("stage", [0, *thorough(1, 2), 3])
def test_ramps_of_packs_resume_exactly_and_do_not_depend_on_ranks(results, stage):
    run = results[f"ramp-{stage}"]
    assert run["codes"] == [[0, 0], [-9, -9], [0, 0], [0]], results.errors[-3000:]
    straight, broken, alone = run["facts"]
    assert straight == broken and all(run["resumed"])
    assert [line[1] for line in alone] == pytest.approx([line[1] for line in straight], abs=1e-6)
    assert [line[4] for line in alone] == pytest.approx([line[4] for line in straight], rel=1e-4)
    # The same packs in the same order as a step each, 2, 2, 4, 4, 4 and 6 of them in a step.
    packs = iter(Loader([TokenShards(results.folder / "data")], pack_tokens=48, packs_per_step=1, seed=0))
    sizes = [sum(next(packs)[0].input_ids.numel() for _ in range(count)) for count in (2, 2, 4, 4, 4, 6)]
    assert [line[5] for line in straight] == pytest.approx(
        [size / 48 / count for size, count in zip(sizes, (2, 2, 4, 4, 4, 6), strict=True)]
    )


@pytest.mark.parametrize("stage", [0, 3])
def test_media_that_enter_as_features_are_held_out_too(results, stage):
    run = results[f"media-{stage}"]
    assert run["codes"] == [[0, 0]] * 2, results.errors[-3000:]
    assert run["facts"][0] == run["facts"][1]
    # One word is learned of each picture, at first about as likely as any.
    first, last = (line["held_out"] for line in run["evaluations"])
    assert first.keys() == {"loss", "loss/text", "test", "test/text"} and last["test"] < first["test"] < 5


@pytest.mark.parametrize("name", [*thorough("1", "3"), "2", "bf16-2", *thorough("bf16-3")])
def test_an_optimizer_in_main_memory_learns_the_same_and_resumes_exactly(results, name):
    run = results[f"offloaded-{name}"]
    assert run["codes"] == [[0, 0], [0, 0], [-9, -9], [0, 0]], results.errors[-3000:]
    beside, away, broken = run["facts"]
    assert away == broken and all(run["resumed"]) and all(run["weights"])
    assert [line[1] for line in away] == [line[1] for line in beside]
    assert [line[4] for line in away] == pytest.approx([line[4] for line in beside], rel=1e-6)  # the norm is added up elsewhere


def test_the_profiler_records_the_steps_that_are_asked_for_and_changes_nothing(results):
    run = results["recorded"]
    for one in run.values():
        assert one["codes"] == [[0, 0], [0, 0]] and one["same"], results.errors[-3000:]
        assert list(one["files"]) == ["rank-0.json.gz", "rank-0.txt", "rank-1.json.gz", "rank-1.txt"] and all(
            one["files"].values()
        )
    calls = {}
    for name, one in run.items():
        with gzip.open(Path(one["run"]) / "profile" / "rank-0.json.gz") as file:
            events = json.load(file)["traceEvents"]
        calls[name] = sum(event["name"] == "aten::embedding" for event in events if event.get("ph") == "X")
        assert "aten::mm" in (Path(one["run"]) / "profile" / "rank-0.txt").read_text()
    # Two packs a step on each rank, two steps each: of 3 and 4, and of 5 and 6, behind which the run ends.
    assert calls == {"whole": 4, "short": 4}


@pytest.mark.parametrize("name", ["live-1", "live-3", "live-adapter-3", *thorough("live-2", "live-adapter")])
def test_samples_and_a_suite_of_the_model_as_it_learns_change_nothing(results, name):
    if name.startswith("live-adapter"):
        assert results["live-1"]  # makes what it starts from
    run = results[name]
    size = 1 if name == "live-1" else 2
    assert run["codes"] == [[0] * size] * 2, results.errors[-3000:]
    assert run["facts"][0] == run["facts"][1]
    folder = Path(run["run"])
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [f"step-{step:08d}" for step in (2, 4, 6)]
    assert sorted(path.name for path in (folder / "evaluations").iterdir()) == ["step-00000004", "step-00000006"]
    lines = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [sorted(set(line) - {"step"}) for line in lines] == [["held_out"], ["held_out", "suite"], ["held_out", "suite"]]
    for line in lines[1:]:
        assert line["suite"]["held_out_loss"] == pytest.approx(line["held_out"]["test"], abs=1e-3)
        assert line["suite"]["which_which_acc"] in (0.0, 0.5, 1.0)
    results_of = read_results(folder / "evaluations" / "step-00000006")
    assert [line.split(":")[0] for line in results_of["failed"]] == ["gone"] and results_of["finished"]


@pytest.mark.parametrize("name", ["live-3", *thorough("live-2")])
def test_samples_are_what_the_checkpoint_of_that_step_answers(results, name):
    folder = Path(results[name]["run"])
    for step in ("step-00000002", "step-00000006"):
        model = load(folder / "checkpoints" / step)
        for document in DocumentShards(folder / "samples" / step):
            asked, answered = document.parts[: document.meta["asked"]], document.parts[document.meta["asked"] :]
            kind = ("image", "text", "speech")[int(document.id)]
            sampled = {"speech": {"kind": "top_p", "temperature": 1.0}} if kind == "speech" else {}
            (answer,) = model.answer([asked], outputs=[kind], max_new_tokens=20 if kind == "image" else 9, **sampled)
            assert len(answer.ids) == document.meta["tokens"]
            assert [getattr(part, "data", None) or part.text for part in answer.parts] == [
                getattr(part, "data", None) or part.text for part in answered
            ]


def test_what_cannot_be_evaluated_is_told_before_the_first_step(results):
    wanted = {
        "no tokenizer": "need text_tokenizer",
        "learned": "evaluate.shards: test: these are learned from",
        "other vocabulary": "few",
        "no picture": "gone.png: no such file",
        "no chat": "no chat template",
    }
    run = results["refused"]
    assert run.keys() == wanted.keys()
    for name, (codes, said, lines) in run.items():
        assert codes == [2] and wanted[name] in said and not lines, (name, codes, said[-500:])
