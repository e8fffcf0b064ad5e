"""Studies: what runs, what is skipped, and what is concluded."""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmpt.config import load_config
from mmpt.data.build import BuildConfig
from mmpt.data.curate.scoring import ScoreConfig
from mmpt.data.curate.steps.select import Select
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import ConfigError
from mmpt.evaluation.suite import SuiteConfig
from mmpt.improvement.config import ImproveConfig
from mmpt.training.config import TrainingConfig
from mmpt.training.specs import TokenizerSpec
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "reproduce"
sys.path.insert(0, str(FOLDER))  # as for a script of that folder

import concatenate  # noqa: E402
import facts  # noqa: E402
import findings  # noqa: E402
import run as runner  # noqa: E402
import study  # noqa: E402

SCHEMAS = {
    "datasets/build.py": BuildConfig,
    "datasets/score.py": ScoreConfig,
    "datasets/select_documents.py": Select,
    "datasets/to_tokens.py": ToTokens,
    "tokenizers/train.py": TokenizerSpec,
    "recipes/train.py": TrainingConfig,
    "recipes/evaluate.py": SuiteConfig,
    "recipes/improve.py": ImproveConfig,
}
STUDIES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_planned_and_has_a_page(name, tmp_path):
    studies = study.load_study(FOLDER / f"{name}.yaml")
    stages = study.plan(studies, Path("root"))
    names = [job.name for jobs in stages for job in jobs]
    assert len(set(names)) == len(names)
    for job in (job for jobs in stages for job in jobs):
        # A script's own folder comes first on the path: in the library's, `tokenizers` is another package.
        assert job.command[0] == "mmpt" or (ROOT / job.command[0]).is_file() and not job.command[0].startswith("mmpt/")
        assert not any("$" in text for text in (*job.command, json.dumps([*job.files.values()])))
        options = [argument for argument in job.command if "=" in argument and not argument.startswith("--")]
        for content in job.files.values():
            spec = tmp_path / "spec.yaml"
            spec.write_text(yaml.safe_dump(content), encoding="utf-8")
            if job.command[0] in SCHEMAS:
                load_config(spec, SCHEMAS[job.command[0]], options)
    if studies[-1][1].compare:
        page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert f"<!-- study: {name} -->" in page


def make(tmp_path: Path, **changes) -> list[list[study.Job]]:
    content = {
        "seeds": [0, 1],
        "variants": {"a": {"data": [{"path": "${root}/x"}], "rate": 0.5}, "b c": {"data": [], "rate": 1}},
        "steps": [
            {"name": "shared", "out": "${root}/shared", "run": ["shared.py", "${out}"]},
            {"name": "of seed", "each": ["seed"], "out": "${root}/seed-${seed}", "run": ["seed.py", "${seed}"]},
            {
                "name": "train",
                "each": ["variant", "seed"],
                "out": "${root}/${variant}-${seed}",
                "run": ["train.py", {"data": "${data}", "rate": "${rate}", "seed": "${seed}", "text": "at ${rate}"}],
            },
        ],
        **changes,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return study.plan(study.load_study(path), tmp_path)


def test_steps_run_for_each_variant_and_seed_with_their_values(tmp_path):
    shared, of_seed, train = make(tmp_path)
    assert (len(shared), len(of_seed), len(train)) == (1, 2, 4)
    assert [str(job.out.relative_to(tmp_path)) for job in train] == ["a-0", "a-1", "b_c-0", "b_c-1"]
    ((path, content),) = train[1].files.items()
    assert content == {"data": [{"path": f"{tmp_path}/x"}], "rate": 0.5, "seed": 1, "text": "at 0.5"}  # values keep their type
    assert train[1].command == ("train.py", str(path))


def test_values_come_from_the_files_used_and_a_variant_may_have_its_own(tmp_path):
    used = {"values": {"decoder": {"layers": 4, "at": "${root}/x"}, "rate": 0.1, "size": 3}}
    (tmp_path / "used.yaml").write_text(yaml.safe_dump(used), encoding="utf-8")
    step = {"name": "train", "each": ["variant", "seed"], "out": "${root}/${variant}-${seed}"}
    run = ["train.py", {"decoder": "${decoder}", "rate": "${rate}", "size": "${size}"}]
    stages = make(tmp_path, uses=["used.yaml"], values={"size": 5}, steps=[{**step, "run": run}])
    rates = []
    for job in stages[0]:
        ((_, content),) = job.files.items()
        assert content["decoder"] == {"layers": 4, "at": f"{tmp_path}/x"} and content["size"] == 5
        rates.append(content["rate"])
    assert rates == [0.5, 0.5, 1, 1]


def prints(stages: list[list[study.Job]]) -> dict[str, str]:
    return {job.name: job.fingerprint for jobs in stages for job in jobs}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] != other.get(name)}


def test_a_change_reaches_what_depends_on_it_and_nothing_else(tmp_path):
    before = prints(make(tmp_path))
    variants = {"a": {"data": [], "rate": 0.5}, "b c": {"data": [], "rate": 1}}
    assert changed(before, prints(make(tmp_path, variants=variants))) == {"study train a 0", "study train a 1"}
    more = {"a": {"data": [{"path": "${root}/x"}], "rate": 0.5}, "b c": {"data": [], "rate": 1}, "d": {"data": [], "rate": 2}}
    assert changed(before, prints(make(tmp_path, variants=more))) == set()
    steps = yaml.safe_load((tmp_path / "study.yaml").read_text())["steps"]
    steps[0]["run"].append("--other")
    assert changed(before, prints(make(tmp_path, steps=steps))) == set(before)


def test_what_is_not_known_is_named(tmp_path):
    with pytest.raises(ConfigError, match="speed"):
        make(tmp_path, steps=[{"name": "x", "out": "${root}/x", "run": ["x.py", "${speed}"]}])
    with pytest.raises(ConfigError, match="no variant 'c'"):
        make(
            tmp_path,
            figures={"f": {"results": "r", "benchmark": "b", "measure": "m"}},
            compare=[{"figure": "f", "more": "a", "less": "c"}],
        )


def test_a_comparison_needs_two_seeds(tmp_path):
    figures = {"f": {"results": "r", "benchmark": "b", "measure": "m"}}
    with pytest.raises(ConfigError, match="two seeds"):
        make(tmp_path, seeds=[3], figures=figures, compare=[{"figure": "f", "more": "a", "less": "b c"}])


@pytest.mark.ranks
def test_a_study_runs_once_and_again_only_where_something_changed(tmp_path):
    def run(texts: int) -> subprocess.CompletedProcess:
        steps = [
            {"name": "facts", "out": "${root}/facts", "run": ["recipes/reproduce/facts.py", "${out}", f"--texts={texts}",
                                                              "--utterances=2", "--held-out=1"]},
            {"name": "shards", "out": "${root}/shards", "run": ["datasets/build.py",
                {"sources": [{"kind": "plain_text", "path": "${root}/facts/text"}]}, "${out}", "--processes=1"]},
        ]  # fmt: skip
        (tmp_path / "small.yaml").write_text(yaml.safe_dump({"steps": steps}), encoding="utf-8")
        command = [os.environ["WARM_PYTHON"], FOLDER / "run.py", tmp_path / "small.yaml", "--out", tmp_path / "out"]
        return subprocess.run(
            [*command, "--results", tmp_path / "results.json"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    def state() -> dict:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/manifest.json")}

    first = run(5)
    assert first.returncode == 0, first.stderr
    made = state()
    assert len(made) == 1 and run(5).returncode == 0 and state() == made
    manifest = tmp_path / "out" / "shards" / "manifest.json"
    assert run(7).returncode == 0 and state() != made and json.loads(manifest.read_text())["documents"] == 7
    failed = run(-1)
    assert failed.returncode == 2 and "small shards ended with code 2" in failed.stderr


# ---- findings


def test_a_step_may_be_a_command_of_the_library(tmp_path):
    command = [
        os.environ["WARM_PYTHON"],
        *runner.words(("mmpt", "soup", "nowhere", "--weights", "1", "--out", str(tmp_path / "soup"))),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "nowhere" in done.stderr and "ImportError" not in done.stderr


def test_the_interval_is_students():
    differences = [0.1, 0.2, 0.6]
    low, high = findings.interval(differences)
    half = 4.302652729911275 * statistics.stdev(differences) / math.sqrt(3)  # t of 97.5 %, 2 degrees of freedom, from tables
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-9)


def test_figures_are_paired_by_seed(tmp_path):
    values = {("less", 0): (0.1, 0.5), ("less", 1): (0.3, 0.5), ("more", 0): (0.2, 0.6), ("more", 1): (0.42, 0.7)}
    for (variant, seed), (accuracy, other) in values.items():
        measures = [{"name": "accuracy", "value": accuracy}]
        results = [{"name": "q", "measures": measures}, {"name": "o", "measures": [{"name": "accuracy", "value": other}]}]
        (tmp_path / f"{variant}-{seed}.json").write_text(json.dumps({"model": "m", "results": results}))
    source = {"results": "${root}/${variant}-${seed}.json", "benchmark": "q", "measure": "accuracy"}
    one = study.Study(
        seeds=(0, 1),
        variants={"less": {}, "more": {}},
        steps=(),
        figures={"accuracy": source, "gap": {**source, "benchmark": "o", "minus": "q"}},
        compare=({"figure": "accuracy", "more": "more", "less": "less"}, {"figure": "gap", "more": "less", "less": "more"}),
    )
    found = findings.of_study(one, tmp_path)
    assert found["figures"]["accuracy"] == {"less": [0.1, 0.3], "more": [0.2, 0.42]}
    assert found["figures"]["gap"]["more"] == pytest.approx([0.4, 0.28])
    accuracy, gap = found["comparisons"]
    assert accuracy["difference"] == pytest.approx(0.11) and accuracy["holds"] == (accuracy["low"] > 0)
    assert gap["difference"] == pytest.approx(((0.4 - 0.4) + (0.2 - 0.28)) / 2) and not gap["holds"]
    findings.write(tmp_path / "results.json", "first", found)
    findings.write(tmp_path / "results.json", "second", found)  # beside the other, not in its place
    written = json.loads((tmp_path / "results.json").read_text())
    assert set(written["studies"]) == {"first", "second"} and len(written["figures"]) == 4
    assert written["studies"]["first"]["comparisons"] == found["comparisons"]
    assert all(row["ok"] == (row["value"] > 0) for row in written["figures"])


def test_variants_that_are_alike_show_nothing(tmp_path):
    for variant in ("less", "more"):
        results = [{"name": "q", "measures": [{"name": "accuracy", "value": 0.5}]}]
        (tmp_path / f"{variant}.json").write_text(json.dumps({"model": "m", "results": results}))
    one = study.Study(
        variants={"less": {}, "more": {}},
        steps=(),
        figures={"a": {"results": "${root}/${variant}.json", "benchmark": "q", "measure": "accuracy"}},
        compare=({"figure": "a", "more": "more", "less": "less"},),
    )
    found = findings.of_study(one, tmp_path)
    findings.write(tmp_path / "results.json", "alike", found)
    (row,) = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert not found["comparisons"][0]["holds"] and row["value"] == 0 and not row["ok"]


# ---- corpora


def test_facts_are_the_same_everywhere_and_groups_do_not_meet():
    random = np.random.default_rng(0)
    groups = facts.world(random)
    names = [thing["name"] for things in groups.values() for thing in things]
    assert len(set(names)) == len(names) == sum(facts.GROUPS.values())
    thing = groups["read"][0]
    assert facts.sentence(thing, "colour", True) == f"what colour is the {thing['name']}? {thing['colour']}."
    assert facts.sentence(thing, "place", False) == f"the {thing['name']} is in the {thing['place']}."
    told = " ".join(facts.documents(groups["read"], 50, random))
    assert not any(f"the {other['name']} " in told for other in groups["unspoken"] + groups["heard"])
    assert all(name in told for name in (one["name"] for one in groups["read"]))


def test_rows_hold_every_document_in_order_and_learn_no_first_token():
    documents = [TokenDocument(str(n), "s", np.arange(n, n + length)) for n, length in enumerate((5, 3, 4, 10, 2))]
    found = list(concatenate.rows(documents, 9))
    assert [len(one.ids) for one in found] == [8, 4, 10, 2]
    assert np.concatenate([one.ids for one in found]).tolist() == np.concatenate([one.ids for one in documents]).tolist()
    assert [int((one.weights == 0).sum()) for one in found] == [2, 1, 1, 1] and len({one.id for one in found}) == 4


def test_the_script_of_rows_writes_token_shards(tmp_path):
    vocabulary = Vocabulary(50, "test", 0, 0, 0, 0)
    documents = [TokenDocument(str(n), "s", np.full(6, n)) for n in range(5)]
    with TokenShardWriter(tmp_path / "in", vocabulary=vocabulary, built={}) as writer:
        for one in documents:
            writer.write(one)
    script = [sys.executable, FOLDER / "concatenate.py", tmp_path / "in", tmp_path / "out", "--tokens=13"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = TokenShards(tmp_path / "out")
    assert written.vocabulary.fingerprint == vocabulary.fingerprint
    assert [one.ids.tolist() for one in written] == [[0] * 6 + [1] * 6, [2] * 6 + [3] * 6, [4] * 6]
