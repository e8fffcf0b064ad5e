"""Scores lie beside a set and are not made twice; what is kept by them is what was asked for, counted, and the same each time."""

import json
import math
import os
import subprocess
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest

from mmpt.config import parse_config
from mmpt.data.curate import scoring
from mmpt.data.curate.formula import names_in, value_of
from mmpt.data.curate.job import curate
from mmpt.data.curate.scorers.dsir import Dsir
from mmpt.data.curate.scoring import ScoreConfig, score
from mmpt.data.curate.selection import SelectionSettings, decide, gumbel_noise
from mmpt.data.curate.steps.select import Select
from mmpt.data.shards.lint import lint
from mmpt.data.shards.manifest import read_manifest
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png
from mmpt.storage import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["red", "green", "blue", "stone", "water", "field", "night", "song"]


def write_set(folder: Path, texts: list[str], max_bytes: int = 4096, **meta: list) -> Path:
    with ShardWriter(folder, built={}, max_bytes=max_bytes) as writer:
        for number, text in enumerate(texts):
            writer.write(Document(f"d{number}", "t", (Text(text),), {key: values[number] for key, values in meta.items()}))
    return folder


@pytest.fixture
def pool(tmp_path) -> Path:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS[: 4 + 4 * (n % 2)], 12)) for n in range(40)]
    return write_set(tmp_path / "pool", texts, subject=["even" if n % 2 == 0 else "odd" for n in range(40)])


@pytest.fixture
def config(tmp_path) -> ScoreConfig:
    target = write_set(tmp_path / "target", ["red green blue stone", "stone red red blue"])
    return parse_config({"scorer": {"kind": "dsir", "target": str(target)}}, ScoreConfig, "score.yaml")


def select(pool: Path, out: Path, **settings) -> tuple[list[str], dict[str, int]]:
    curate(parse_config(settings, Select, "select.yaml"), [pool], out)
    return [one.id for one in DocumentShards(out)], read_manifest(out).lost


def test_scores_are_written_beside_the_set_and_a_stopped_run_scores_only_what_is_left(pool, config, monkeypatch):
    shards = read_manifest(pool).shards
    assert len(shards) > 3
    before = {path.name: path.read_bytes() for path in pool.iterdir() if path.is_file()}
    whole = score(config, pool).scores
    assert whole.dtype == np.float32 and len(whole) == 40 and np.median(whole[::2]) > np.max(whole[1::2])
    assert before == {path.name: path.read_bytes() for path in pool.iterdir() if path.is_file()} and lint(pool) == []
    files = sorted((pool / "scores" / "dsir").glob("*.npy"))
    assert [path.stem + ".tar" for path in files] == [shard.name for shard in shards]
    assert np.load(files[0]).dtype == np.float32 and len(np.load(files[0])) == shards[0].documents
    files[1].unlink(), files[-1].unlink()
    with pytest.raises(ConfigError, match="no such file"):
        select(pool, pool.parent / "out", by="dsir", share=0.5)
    made, real = [], scoring._shard
    monkeypatch.setattr(scoring, "_shard", lambda work, unit: (made.append(unit.what.shard.name), real(work, unit)))
    monkeypatch.setattr(Dsir, "fit", lambda *_: pytest.fail("it had learned before"))
    again = score(config, pool)
    assert made == [shards[1].name, shards[-1].name] and again.kept == len(shards) - 2
    assert again.scores.tobytes() == whole.tobytes()


def test_scores_of_another_scorer_target_or_set_are_refused(pool, config, tmp_path):
    score(config, pool)
    other = config.model_copy(update={"scorer": config.scorer.model_copy(update={"buckets": 99})})
    with pytest.raises(ConfigError, match="another scorer"):
        score(other, pool)
    score(other.model_copy(update={"name": "few"}), pool)
    assert sorted(path.name for path in (pool / "scores").iterdir()) == ["dsir", "few"]
    manifest = tmp_path / "target" / MANIFEST
    manifest.write_text(manifest.read_text() + " ")  # the target has changed
    with pytest.raises(ConfigError, match="another scorer"):
        score(config, pool)
    (pool / "scores" / "dsir").rename(tmp_path / "scores")
    moved = write_set(tmp_path / "moved", ["red"] * 40)
    (moved / "scores").mkdir()
    (tmp_path / "scores").rename(moved / "scores" / "dsir")
    with pytest.raises(ConfigError, match="other shards"):
        select(moved, tmp_path / "out", by="dsir", share=0.5)
    assert [one.reason for one in lint(moved)] == ["scores of other shards"]


def test_processes_give_the_same_bytes(pool, config):
    from mmpt.data.engine.run import RunConfig

    score(config, pool)
    one = {path.name: path.read_bytes() for path in (pool / "scores" / "dsir").iterdir()}
    score(config.model_copy(update={"name": "two"}), pool, RunConfig(processes=2))
    assert one == {path.name: path.read_bytes() for path in (pool / "scores" / "two").iterdir()}


def test_a_document_that_cannot_be_examined_has_no_score_and_takes_no_other_with_it(tmp_path, monkeypatch):
    from mmpt.data.curate.scorers import _clip

    monkeypatch.setattr(_clip, "_clip", lambda *_: (pytest.fail, lambda picture: pytest.fail("decoded"), None, "cpu"))
    with ShardWriter(tmp_path / "set", built={}) as writer:
        writer.write(Document("text", "t", (Text("alone"),)))
        writer.write(Document("bad", "t", (Image(b"\x89PNG", "png", 4, 4, "a thing"),)))
    config = parse_config({"scorer": "clip_similarity", "name": "clip"}, ScoreConfig, "score.yaml")
    assert np.isnan(score(config, tmp_path / "set").scores).all()
    (lost,) = map(json.loads, (tmp_path / "set/scores/clip/shard-00000.jsonl").read_text().splitlines())
    assert lost["document"] == "bad" and lint(tmp_path / "set")[0].key  # of the picture itself, no word of the scores


def test_the_best_share_of_those_that_meet_the_condition_is_kept_with_counts(pool, config, tmp_path):
    scores = score(config, pool).scores
    kept, lost = select(pool, tmp_path / "a", where='subject == "odd"', by="dsir", share=0.25)
    odd = [n for n in range(40) if n % 2]
    best = sorted(sorted(odd, key=lambda n: -scores[n])[:5])
    assert kept == [f"d{n}" for n in best] and lost == {"condition": 20, "share": 15}
    listed = [json.loads(line) for line in (tmp_path / "a" / "lost.jsonl").read_text().splitlines()]
    assert {one["document"] for one in listed} == {f"d{n}" for n in range(40)} - set(kept)
    kept, lost = select(pool, tmp_path / "b", by="dsir", min=float(np.median(scores)))
    assert kept == [f"d{n}" for n in range(40) if scores[n] >= np.median(scores)] and lost == {"minimum": 40 - len(kept)}
    kept, lost = select(pool, tmp_path / "c", by="dsir", documents={"odd": 3, "even": 1}, within="subject")
    assert Counter(int(name[1:]) % 2 for name in kept) == {1: 3, 0: 1} and lost == {"quota": 36}
    kept, _ = select(pool, tmp_path / "d", by="-dsir", share=0.1, within="subject")
    assert Counter(int(name[1:]) % 2 for name in kept) == {1: 2, 0: 2}
    originals = {one.id: one for one in DocumentShards(pool)}
    assert all(one == originals[one.id] for one in DocumentShards(tmp_path / "d"))


def test_twice_the_same_bytes_and_other_settings_or_scores_are_refused(pool, config, tmp_path):
    score(config, pool)
    settings = {"by": "dsir", "share": 0.3, "gumbel": True, "seed": 1}
    for out in ("a", "b", "a"):
        select(pool, tmp_path / out, **settings)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in "ab")
    assert one == two and lint(tmp_path / "a") == []
    with pytest.raises(ConfigError, match="built otherwise"):
        select(pool, tmp_path / "a", **{**settings, "seed": 2})
    with pytest.raises(ConfigError, match="did you mean dsir"):
        select(pool, tmp_path / "c", by="dsr", share=0.3)


def test_gumbel_draws_as_many_different_documents_by_their_weights_however_they_are_sharded():
    # Two of three without replacement, weights 1/2, 1/3, 1/6: P(first is not drawn) by hand.
    weights, ids = np.array([1 / 2, 1 / 3, 1 / 6]), np.arange(3, dtype=np.uint64)
    rows = [{"w": math.log(weight)} for weight in weights]
    missing = Counter()
    for seed in range(4000):
        settings = SelectionSettings(by="w", documents=2, gumbel=True, seed=seed)
        gone = [place for place, rule in enumerate(decide(settings, rows, ids)) if rule]
        assert len(gone) == 1
        missing[gone[0]] += 1
    expected = [
        sum(weights[a] * weights[b] / (1 - weights[a]) for a in range(3) for b in range(3) if a != b and place not in (a, b))
        for place in range(3)
    ]
    assert sum(expected) == pytest.approx(1)
    assert [missing[place] / 4000 for place in range(3)] == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / 4000))
    ids = np.random.default_rng(0).integers(0, 1 << 63, 10_000, dtype=np.uint64)
    noise = gumbel_noise(ids, 3)
    assert (gumbel_noise(ids[::-1], 3)[::-1] == noise).all()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.05) and noise.var() == pytest.approx(math.pi**2 / 6, abs=0.1)


def test_formulas_say_what_python_says_and_nothing_else():
    values = {"a": 2.0, "b": "x", "scores.c": 0.5, "n": float("nan")}
    for text, expected in {
        'a > 1 and b in ["x", "y"]': True,
        "1 < a < 2 or scores.c == 0.5": True,
        "not n < 1": True,
        "n < 1": False,
        "missing > 3": False,
        "b > 3": False,
        "-a + 2 * scores.c / 4": -1.75,
        "max(a, log(1), abs(-3))": 3,
    }.items():
        assert value_of(text, values) == expected, text
    assert math.isnan(value_of("missing * 2", values)) and math.isnan(value_of("a / 0", values))
    assert names_in("a + scores.c > log(b)") == ("a", "b", "scores.c")
    for text in (
        "a(1)",
        "__import__('os')",
        "a[0]",
        "lambda: 1",
        "a if b else 1",
        "a **  9",
        "a >",
        "[x for x in a]",
        "f'{a}'",
        "(a := 1)",
    ):
        with pytest.raises(ValueError, match="formula"):
            names_in(text)


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "every document would stay"),
    ({"by": "a", "share": 0.1, "documents": 3}, "expected one of them"),
    ({"share": 0.1}, "`gumbel: true` without it draws"),
    ({"min": 1}, "`by` is missing"),
    ({"by": "a", "documents": {"x": 1}}, "`within` does not say"),
    ({"where": "a.b()", "within": "x"}, "where: "),
])  # fmt: skip
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(settings, Select, "select.yaml")


def test_a_random_share_needs_no_scores(pool, tmp_path):
    kept, lost = select(pool, tmp_path / "a", share=0.5, gumbel=True)
    assert len(kept) == 20 and lost == {"share": 20}
    assert kept != select(pool, tmp_path / "b", share=0.5, gumbel=True, seed=1)[0]


def test_a_picture_stays_with_its_document(tmp_path):
    from PIL import Image as Picture

    data = encode_png(Picture.new("RGB", (4, 4)))
    with ShardWriter(tmp_path / "set", built={}) as writer:
        writer.write(Document("a", "t", (Image(data, "png", 4, 4), Text("x")), {"keep": True}))
        writer.write(Document("b", "t", (Text("x"),)))
    kept, lost = select(tmp_path / "set", tmp_path / "out", where="keep")
    assert kept == ["a"] and lost == {"condition": 1}
    assert DocumentShards(tmp_path / "out")[0].parts[0].data == data


def test_the_two_commands(pool, config, tmp_path):
    (tmp_path / "score.yaml").write_text(f"scorer: {{kind: dsir, target: {tmp_path / 'target'}}}\n")
    (tmp_path / "select.yaml").write_text("{kind: select, by: dsir, share: 0.5}\n")

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [os.environ["WARM_PYTHON"], str(ROOT / "datasets" / script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    found = run("score.py", "score.yaml", "pool", "--processes", "1")
    assert found.returncode == 0 and "dsir: 40 documents, 0 without a score" in found.stdout, found.stderr
    found = run("select_documents.py", "select.yaml", "pool", "out", "share=0.25", "--processes", "1")
    assert found.returncode == 0 and "10 documents" in found.stdout and "30 by share" in found.stdout, found.stderr
    found = run("select_documents.py", "select.yaml", "pool", "other", "by=nothing", "--processes", "1")
    assert found.returncode == 2 and "nothing: neither scores" in found.stderr


def test_a_set_elsewhere_is_scored_and_selected_from_there(pool, config, tmp_path):
    files = fsspec.filesystem("memory")
    for path in pool.iterdir():
        files.pipe_file(f"/selected/pool/{path.name}", path.read_bytes())
    near = score(config, pool).scores
    assert score(config, "memory://selected/pool").scores.tobytes() == near.tobytes()
    assert score(config, "memory://selected/pool").kept == len(read_manifest(pool).shards)
    settings = {"by": "dsir", "share": 0.3, "gumbel": True}
    curate(parse_config(settings, Select, "select.yaml"), ["memory://selected/pool"], tmp_path / "far")
    assert [one.id for one in DocumentShards(tmp_path / "far")] == select(pool, tmp_path / "near", **settings)[0]
