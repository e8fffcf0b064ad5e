"""Scores are those that a closed form, another formula or another library gives."""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image as Picture
from scipy import optimize

from mmpt.config import parse_config
from mmpt.data.curate.scorers import DocumentSet, Scorer
from mmpt.data.curate.scorers._classifier import shares
from mmpt.data.curate.scorers.got_d import fit_points, score_points
from mmpt.data.curate.scorers.zip_fit import compressed, distance
from mmpt.data.curate.scoring import ScoreConfig
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image, encode_png


def scorer(**settings) -> Scorer:
    return parse_config({"scorer": settings}, ScoreConfig, "score.yaml").scorer


def documents(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "t", (Text(text),)) for number, text in enumerate(texts)]


def write(folder: Path, *texts: str) -> str:
    with ShardWriter(folder, built={}) as writer:
        for one in documents(*texts):
            writer.write(one)
    return str(folder)


def test_dsir_is_the_log_ratio_of_a_four_word_corpus(tmp_path):
    target = write(tmp_path / "target", "sun moon sun", "moon sun")  # sun 3/5, moon 2/5
    pool = write(tmp_path / "pool", "sun rain", "fog moon rain rain fog fog")  # sun 1/8, moon 1/8, rain 3/8, fog 3/8
    dsir = scorer(kind="dsir", target=target, ngrams=1, buckets=1 << 20)
    fitted = dsir.fit(DocumentSet(pool))
    found = dsir.score(documents("Sun moon", "moon fog", "", "sun, sun"), fitted)
    sun, moon, fog = math.log((3 / 5) / (1 / 8)), math.log((2 / 5) / (1 / 8)), math.log(1e-8 / (3 / 8))
    assert found[:2] == pytest.approx([sun + moon, moon + fog], rel=1e-6)
    assert math.isnan(found[2]) and found[3] == pytest.approx(2 * sun, rel=1e-6)  # the comma is in neither
    two = scorer(kind="dsir", target=target, ngrams=2, buckets=1 << 20)
    # With pairs the target has 3 + 2 words and 2 + 1 pairs, the pool 2 + 6 and 1 + 5: "sun moon" is once in the target.
    fitted = two.fit(DocumentSet(pool))
    expected = math.log((3 / 8) / (1 / 14)) + math.log((2 / 8) / (1 / 14)) + math.log((1 / 8) / 1e-8)
    assert two.score(documents("sun moon"), fitted)[0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ConfigError, match="no word"):
        scorer(kind="dsir", target=write(tmp_path / "empty", " "), buckets=99).fit(DocumentSet(pool))


def test_a_dsir_draw_is_nearer_to_the_target_than_a_random_one(tmp_path):
    from mmpt.data.curate.selection import SelectionSettings, decide

    random = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(50)])
    near, far = random.dirichlet(np.ones(50)), random.dirichlet(np.ones(50))
    texts = [" ".join(random.choice(words, 30, p=near if n % 5 == 0 else far)) for n in range(500)]
    pool, target = (
        write(tmp_path / "pool", *texts),
        write(tmp_path / "target", *(" ".join(random.choice(words, 30, p=near)) for _ in range(100))),
    )
    dsir = scorer(kind="dsir", target=target)
    found = dsir.score(documents(*texts), dsir.fit(DocumentSet(pool)))
    settings = SelectionSettings(by="dsir", documents=80, gumbel=True)
    rules = decide(settings, [{"dsir": value} for value in found.tolist()], np.arange(500, dtype=np.uint64))
    assert sum(n % 5 == 0 for n, rule in enumerate(rules) if not rule) >= 76


def test_the_classifier_is_at_the_optimum_of_logistic_regression(tmp_path):
    wanted, others = (
        ["good plain prose", "prose of good words", "plain words"],
        ["buy now", "now cheap buy buy", "cheap words", "buy"],
    )
    classifier = scorer(kind="classifier", target=write(tmp_path / "target", *wanted), buckets=64, ngrams=1, strength=2)
    fitted = classifier.fit(DocumentSet(write(tmp_path / "pool", *others)))
    features = shares(documents(*wanted, *others), 1, 64).toarray()
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    signs, weights = np.repeat([1, -1], [3, 4]), np.repeat([7 / (2 * 3), 7 / (2 * 4)], [3, 4])

    def loss(parameters):
        margins = signs * (features @ parameters[:-1] + parameters[-1])
        return 0.5 * (parameters[:-1] ** 2).sum() + 2 * (weights * np.logaddexp(0, -margins)).sum()

    best = optimize.minimize(loss, np.zeros(65), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}).x
    assert fitted["weights"] == pytest.approx(best[:-1], abs=2e-4) and fitted["bias"][0] == pytest.approx(best[-1], abs=2e-4)
    good, bad, none = classifier.score(documents("good words", "buy cheap", "…".replace("…", " ")), fitted)
    assert good > 0 > bad and math.isnan(none)
    expected = shares(documents("good words"), 1, 64).toarray()[0] @ best[:-1] + best[-1]
    assert good == pytest.approx(expected, abs=1e-3)


WORDS = ("<unk>", "a", "b", "c", "d", "e", "f", "g")


def bigram_model(folder: Path, table: np.ndarray) -> str:
    """A decoder without layers whose p of a word follows from the one before it alone: `table` [from, to]."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = len(WORDS)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, num_hidden_layers=0, num_attention_heads=1, intermediate_size=8, rms_norm_eps=1e-12
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))  # RMS norm makes √size of the 1
        model.model.norm.weight.fill_(1)
        model.lm_head.weight.copy_(torch.from_numpy(np.log(table).T) / math.sqrt(size))
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    return str(folder)


def test_color_filter_and_perplexity_of_two_bigram_models(tmp_path):
    random = np.random.default_rng(0)
    prior, conditional = random.dirichlet(np.ones(8), 8), random.dirichlet(np.ones(8), 8)
    paths = [bigram_model(tmp_path / name, table) for name, table in (("prior", prior), ("conditional", conditional))]
    texts = ["a b c d", "g f", "a", "b b b b b b b b e"]  # of different lengths in one batch

    def mean_log(table: np.ndarray, text: str) -> float:
        ids = [WORDS.index(word) for word in text.split()]
        return (
            np.mean([math.log(table[one, other]) for one, other in zip(ids, ids[1:], strict=False)]) if len(ids) > 1 else math.nan
        )

    by_hand = [[mean_log(table, text) for text in texts] for table in (prior, conditional)]
    color = scorer(kind="color_filter", prior=paths[0], conditional=paths[1])
    expected = np.subtract(by_hand[1], by_hand[0])
    assert color.score(documents(*texts), {}) == pytest.approx(expected, rel=1e-4, nan_ok=True)
    found = scorer(kind="perplexity", model=paths[0]).score(documents(*texts), {})
    assert found == pytest.approx(by_hand[0], rel=1e-4, nan_ok=True)
    assert np.isnan(found).tolist() == [False, False, True, False]
    short = scorer(kind="perplexity", model=paths[0], max_tokens=2).score(documents("a b c d"), {})
    assert short == pytest.approx([math.log(prior[1, 2])], rel=1e-4)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        scorer(kind="perplexity", model=str(tmp_path / "none")).score(documents("a b"), {})


def test_the_compression_distance_is_near_nothing_of_equals_symmetric_and_finds_what_is_planted(tmp_path):
    random = np.random.default_rng(0)
    code = [f"def f{n}(x, y):\n    return [x[{n}] for x in range(y) if x > {n}]\n" * 3 for n in range(20)]
    words = ["the", "of", "sea", "ship", "captain", "wind", "morning", "old", "and", "a", "was", "to"]
    prose = [" ".join(random.choice(words, 60)) for _ in range(80)]
    one, other = prose[0].encode(), code[0].encode()
    assert distance(one, compressed(one), one, compressed(one)) < 0.1
    there, back = (
        distance(one, compressed(one), other, compressed(other)),
        distance(other, compressed(other), one, compressed(one)),
    )
    assert there == pytest.approx(back, abs=0.03) and there > 0.7
    zip_fit = scorer(kind="zip_fit", target=write(tmp_path / "target", *code[:5]))
    fitted = zip_fit.fit(DocumentSet(str(tmp_path / "target")))
    texts = [*code[5:], *prose]
    found = zip_fit.score(documents(*texts, " "), fitted)
    assert set(np.argsort(-found[:-1])[:15].tolist()) == set(range(15)) and math.isnan(found[-1])
    alone = [1 - distance(texts[0].encode(), compressed(texts[0].encode()), c.encode(), compressed(c.encode())) for c in code[:5]]
    assert found[0] == pytest.approx(np.mean(alone))


def picture(width: int, height: int, alt: str = "") -> Image:
    data = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(encode_png(Picture.fromarray(data)), "png", width, height, alt)


def test_clip_similarity_is_the_cosine_of_the_model(tmp_path):
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    (tmp_path / "tiny-for-scores.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-for-scores.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-for-scores").eval()
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    several = Document("d", "t", (picture(20, 20, "alt text"), picture(24, 20), Text("the text nearest to the second")))
    pair = Document("e", "t", (picture(28, 20), Text("before"), Text(" ")))
    batch = [several, Document("f", "t", (Text("no picture"),)), pair, Document("g", "t", (picture(8, 8),))]
    transform = open_clip.create_model_and_transforms("tiny-for-scores")[2]
    expected = []
    for part, text in (
        (several.parts[0], "alt text"),
        (several.parts[1], "the text nearest to the second"),
        (pair.parts[0], "before"),
    ):
        with torch.no_grad():
            image = model.encode_image(transform(decode_image(part.data))[None])[0]
            words = model.encode_text(open_clip.get_tokenizer("tiny-for-scores")([text]))[0]
        expected.append(float(torch.nn.functional.cosine_similarity(image, words, dim=0)))
    settings = {"kind": "clip_similarity", "model": "tiny-for-scores", "pretrained": str(tmp_path / "tiny.pt")}
    for of, value in {"mean": sum(expected[:2]) / 2, "worst": min(expected[:2]), "best": max(expected[:2])}.items():
        found = scorer(**settings, of=of).score(batch, {})
        assert found == pytest.approx([value, math.nan, expected[2], math.nan], abs=1e-5, nan_ok=True)
    assert len({round(one, 3) for one in expected}) == 3
    with pytest.raises(ConfigError, match="cannot be loaded"):
        scorer(**{**settings, "pretrained": str(tmp_path / "none.pt")}).score(batch, {})
    with pytest.raises(ConfigError, match="expected a tag"):
        scorer(kind="clip_similarity", model="ViT-B-32", pretrained=None)


def test_got_d_of_two_gaussians_is_the_derivative_of_their_transport():
    from scipy.stats import norm

    quantiles = norm.ppf((np.arange(600) + 0.5) / 600)
    (mean, spread), (there, wide) = (0.0, 1.0), (2.0, 0.5)
    pool, target = (mean + spread * quantiles)[:, None], (there + wide * quantiles)[:, None]
    fitted = fit_points(pool, target, 0.003)
    # Brenier: x goes to there + wide/spread · (x − mean); the potential's derivative is 2 (x − T(x)) under |x − y|².
    slope = wide / spread
    f = (1 - slope) * pool[:, 0] ** 2 - 2 * (there - slope * mean) * pool[:, 0]
    expected = -(f - f.mean())
    found = score_points(pool, fitted)
    inner = np.abs(quantiles) < 2
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found[inner] == pytest.approx(expected[inner], abs=0.01 * expected.std())
    # Not what is nearest to the target, but what the pool lacks: beyond the target's mean it is the more, the further out.
    points = np.array([[0.0], [2.0], [4.0]])
    f = (1 - slope) * points[:, 0] ** 2 - 2 * there * points[:, 0]
    assert np.argsort(-score_points(points[:2], fitted)).tolist() == np.argsort(f[:2]).tolist() == [1, 0]


def test_got_d_scores_texts_by_their_embeddings(tmp_path):
    from transformers import AutoModel

    from mmpt.data.curate.scorers._embeddings import embeddings

    path = bigram_model(tmp_path / "model", np.full((8, 8), 1 / 8))
    texts = ["a a b", "b a a a", "c d", "d c c"]
    target = write(tmp_path / "target", "a b a", "b a")
    got = scorer(kind="got_d", target=target, model=path)
    fitted = got.fit(DocumentSet(write(tmp_path / "pool", *texts)))
    found = got.score(documents(*texts, " "), fitted)
    assert set(np.argsort(-found[:-1])[:2].tolist()) == {0, 1} and math.isnan(found[-1])
    own = embeddings(path, ["a a b", "c"], 8, "test")  # the mean over the tokens there are, not over the padding
    states = AutoModel.from_pretrained(path)(torch.tensor([[1, 1, 2]])).last_hidden_state[0].mean(dim=0)
    assert own[0] == pytest.approx((states / states.norm()).detach().numpy(), abs=1e-5)


def test_less_is_the_cosine_of_gradients_by_hand(tmp_path):
    random = np.random.default_rng(0)
    tables = random.dirichlet(np.ones(8), (2, 8))
    paths = [bigram_model(tmp_path / str(number), table) for number, table in enumerate(tables)]

    def gradient(table: np.ndarray, text: str) -> np.ndarray:
        """Of the mean loss by the head: (p − the word that comes) ⊗ the state, √8 times a unit vector."""
        ids = [WORDS.index(word) for word in text.split()]
        found = np.zeros((8, 8))
        for before, word in zip(ids, ids[1:], strict=False):
            found[:, before] += math.sqrt(8) * (table[before] - np.eye(8)[word]) / (len(ids) - 1)
        return found.ravel()

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    wanted, texts = ["a b a b", "c d"], ["a b", "b a d", "g f e", "a"]
    target = write(tmp_path / "target", *wanted)
    # Among so many places no two of the 64 numbers meet, so the projection keeps every product.
    settings = {"target": target, "models": paths, "rates": [0.003, 0.001], "parameters": "lm_head", "dim": 1 << 20}
    for of in ("mean", "best"):
        less = scorer(kind="less", of=of, **settings)
        found = less.score(documents(*texts), less.fit(DocumentSet(target)))
        expected = []
        for text in texts[:3]:
            each = [[cosine(gradient(table, text), gradient(table, one)) for one in wanted] for table in tables]
            mean = [cosine(gradient(table, text), np.mean([gradient(table, one) for one in wanted], axis=0)) for table in tables]
            expected.append(
                0.75 * mean[0] + 0.25 * mean[1] if of == "mean" else max(0.75 * np.array(each[0]) + 0.25 * np.array(each[1]))
            )
        assert found == pytest.approx([*expected, math.nan], abs=1e-4, nan_ok=True)
    with pytest.raises(ConfigError, match="one for each of the 2 models"):
        scorer(kind="less", **{**settings, "rates": [1.0]})
    with pytest.raises(ConfigError, match="no weight"):
        scorer(kind="less", **{**settings, "parameters": "nothing"}).fit(DocumentSet(target))


def test_less_finds_a_planted_source(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    bigram_model(tmp_path / "model", np.full((8, 8), 1 / 8))  # its tokenizer
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).save_pretrained(tmp_path / "model")
    random = np.random.default_rng(0)
    near, far = random.dirichlet(np.full(7, 0.3), (2, 7))

    def chain(table: np.ndarray) -> str:
        words = [int(random.integers(7))]
        while len(words) < 60:
            words.append(int(random.choice(7, p=table[words[-1]])))
        return " ".join(WORDS[1 + word] for word in words)

    planted = random.permutation(100) < 20
    texts = [chain(near if one else far) for one in planted]
    less = scorer(
        kind="less", target=write(tmp_path / "target", *(chain(near) for _ in range(16))), models=[str(tmp_path / "model")]
    )
    found = less.score(documents(*texts), less.fit(DocumentSet(less.target)))
    assert planted[np.argsort(-found)[:20]].mean() >= 0.8


def test_preselect_strength_is_the_share_of_pairs_in_order_and_a_classifier_learns_it(tmp_path):
    from mmpt.data.curate.scorers.preselect import strengths

    losses = np.array([[1, 3, 1], [2, 2, 2], [3, 1, 1.5]])  # the first model is the ablest
    assert strengths(losses, [0.9, 0.5, 0.1]) == pytest.approx([1, 0, 2 / 3])
    with pytest.raises(ConfigError, match="different abilities"):
        strengths(losses, [0.5, 0.5, 0.5])
    # The abler model knows that a and b follow each other, the other that c and d do.
    tables = np.full((2, 8, 8), 0.05)
    tables[0, 1, 2] = tables[0, 2, 1] = tables[1, 3, 4] = tables[1, 4, 3] = 0.65
    models = [{"path": bigram_model(tmp_path / str(n), tables[n]), "ability": 1 - n} for n in range(2)]
    random = np.random.default_rng(0)
    texts = [" ".join(["a b", "c d"][n % 2].split() * 3 + list(random.choice(["e", "f", "g"], 3))) for n in range(40)]
    chosen = scorer(kind="preselect", models=models)
    found = chosen.score(documents("b a b a e", "d c d c e"), chosen.fit(DocumentSet(write(tmp_path / "pool", *texts))))
    assert found[0] > 0 > found[1]


def test_a_transcript_that_is_written_beside_its_speech_counts_once():
    speech = Speech(b"", "flac", 16000, 1.0, "two words")
    written = Document("a", "s", (speech, Text("two words"), Text("more")))
    other = Document("b", "s", (speech, Text("three other words")))
    assert scorer(kind="signal", of="words").score([written, other], {}).tolist() == [3, 5]


def test_signals_by_hand():
    text = "The plan: # of 3 ...\n- a list line\nto be ended."
    found = {}
    for of in (
        "words",
        "mean_word_length",
        "symbols",
        "alphabetic_words",
        "stop_words",
        "distinct_words",
        "bullet_lines",
        "ellipsis_lines",
        "ended_lines",
    ):
        value, none = scorer(kind="signal", of=of).score(documents(text, " "), {})
        assert math.isnan(none)
        found[of] = value
    # 13 words: The plan: # of 3 ... - a list line to be ended.
    assert found == pytest.approx({
        "words": 13,
        "mean_word_length": (3 + 5 + 1 + 2 + 1 + 3 + 1 + 1 + 4 + 4 + 2 + 2 + 6) / 13,
        "symbols": 2 / 13,
        "alphabetic_words": 9 / 13,
        "stop_words": 4,  # the, of, to, be
        "distinct_words": 1,
        "bullet_lines": 1 / 3,
        "ellipsis_lines": 1 / 3,
        "ended_lines": 2 / 3,  # "..." ends with a full stop, too
    }, rel=1e-6)  # fmt: skip


def test_asr_agreement_counts_word_errors_over_the_utterances_of_a_document(monkeypatch):
    from mmpt.data.curate.scorers import _recogniser
    from mmpt.document import Speech
    from mmpt.media import encode_wav

    heard = {1: "Hello, wide world!", 2: "yes", 3: "nothing at all here"}

    def recognise(sounds, batch_size):
        assert all(one["sampling_rate"] == 16_000 and one["raw"].dtype == np.float32 for one in sounds)
        return [{"text": heard[round(len(one["raw"]) / 1600)]} for one in sounds]

    monkeypatch.setattr(_recogniser, "_recogniser", lambda name: recognise)

    def said(text: str, tenths: int) -> Speech:
        return Speech(encode_wav(np.zeros(800 * tenths, np.float32), 8000), "wav", 8000, tenths / 10, text)

    batch = [
        Document("a", "t", (said("hello world", 1), Text("x"), said("Yes.", 2))),  # one word too many, of three
        Document("b", "t", (said("one", 3),)),  # four errors of one word
        Document("c", "t", (said("", 3), Text("x"))),
    ]
    found = scorer(kind="asr_agreement").score(batch, {})
    assert found == pytest.approx([1 - 1 / 3, 1 - 4, math.nan], nan_ok=True)
