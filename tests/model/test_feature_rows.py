"""Rows that follow the medium: utterances by their length, beside each other in one pack, in training and in generation."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from mmpt.config import parse_config
from mmpt.data.feature_rows import PictureRows
from mmpt.data.loading.packing import pack
from mmpt.errors import ConfigError
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.settings import Settings
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.config import FeatureInputConfig
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import hidden_states
from mmpt.training.inputs import check_views

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import feature_ranks  # noqa: E402
from tiny_runs import BACKBONE, VOCABULARY  # noqa: E402

TOWER = {"side": 32, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """It hears 0.4 s, as 20 features."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    WhisperModel(WhisperConfig(**feature_ranks.WHISPER)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model():
    return build_backbone(BackboneConfig(config=BACKBONE), VOCABULARY.size, seed=0).eval()


def opened(model, kind: str, content: dict) -> FeatureInputs:
    return FeatureInputs({kind: parse_config(content, FeatureInputConfig, "test")}, model, seed=4).eval()


def spoken(seconds: float, slots: int):
    return feature_ranks.document(f"{seconds}", "speech", feature_ranks.sound(300.0, seconds), 5, slots)


def packed(inputs: FeatureInputs, *documents):
    return pack(list(documents), [[inputs.read(medium) for medium in one.media] for one in documents])


@pytest.mark.parametrize(("reduce", "whole"), [(None, 20), ({"kind": "pool", "rows": 10, "over": "line"}, 10)])
def test_an_utterance_has_its_share_of_the_rows_and_they_are_the_first_ones(whisper, model, reduce, whole):
    encoder = {"whisper": whisper}
    every = opened(model, "speech", {"encoder": encoder, "reduce": reduce})
    timed = opened(model, "speech", {"encoder": {**encoder, "by_duration": True}, "reduce": reduce})
    assert every.rows == timed.rows == {"speech": whole}
    lengths = {0.1: -(-whole // 4), 0.3: -(-whole * 3 // 4), 0.4: whole}
    assert [timed.counted["speech"].views(feature_ranks.sound(300.0, one))[0].rows for one in lengths] == [*lengths.values()]
    batch = packed(timed, *(spoken(seconds, slots) for seconds, slots in lengths.items()))
    full = packed(every, *(spoken(seconds, whole) for seconds in lengths))
    with torch.no_grad():
        found, wanted = timed(batch.features, batch.cu_seqlens)[0], every(full.features, full.cu_seqlens)[0]
    rows = wanted.rows.view(len(lengths), whole, -1)
    assert torch.equal(found.rows, torch.cat([rows[n, :count] for n, count in enumerate(lengths.values())]))
    slot = VOCABULARY.special("<|feature|>")
    assert torch.equal(found.slots, (batch.input_ids[0] == slot).nonzero()[:, 0])
    with pytest.raises(ConfigError, match=f"gives {lengths[0.1]} rows, the data were made with {whole} slots"):
        timed.read(spoken(0.1, whole).media[0])


def test_the_engine_writes_after_sounds_of_any_length_what_one_pass_says(whisper, model):
    timed = opened(model, "speech", {"encoder": {"whisper": whisper, "by_duration": True}, "connector": "linear"})
    asked = [spoken(0.1, 5), spoken(0.25, 13)]
    prompts = [Prompt(one.ids.tolist()[:-2], tuple((m.kind, m.places(), timed.read(m)) for m in one.media)) for one in asked]
    settings = parse_config({"max_new_tokens": 4, "outputs": ["text"]}, Settings, "test")
    together = write_all(Engine(model, VOCABULARY, timed), prompts, [settings] * 2)
    assert together == [write_all(Engine(model, VOCABULARY, timed), [one], [settings])[0] for one in prompts]
    for one, prompt in zip(asked, prompts, strict=True):
        batch = packed(timed, one)
        with torch.no_grad():
            media, _ = timed(batch.features, batch.cu_seqlens)
            hidden = hidden_states(model, batch.input_ids, batch.position_ids, batch.cu_seqlens, media)[0]
        best = (hidden @ model.get_output_embeddings().weight.T)[len(prompt.ids) - 1, : VOCABULARY.text_size].argmax()
        first = together[asked.index(one)]
        assert not first or first[0] == int(best)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"encoder": {"whisper": "w", "by_duration": True}, "connector": {"kind": "resampler"}},
            "by_duration does not go with it",
        ),
        ({"encoder": {"whisper": "w", "by_duration": True}, "reduce": {"kind": "merge", "rows": 4}}, "over: line"),
        ({"encoder": {"whisper": "w"}, "tiles": {}}, "tiles: they are of pictures"),
        (
            {"encoder": TOWER, "tiles": {}, "enters": {"kind": "layers", "encoder": [0], "decoder": [0]}},
            "tiles does not go with it",
        ),
        ({"encoder": TOWER, "tiles": {"max": 0}}, "tiles.max"),
        ({"encoder": TOWER, "tiles": {"tags": "letters"}}, "tiles.tags"),
    ],
)
def test_settings_that_make_no_sense(content, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(content, FeatureInputConfig, "test")


def test_shards_of_other_tiles_are_told_before_the_first_step(model):
    inputs = opened(model, "image", {"encoder": TOWER, "connector": "linear", "tiles": {"max": 4, "tags": "numbers"}})

    def made(image):
        return SimpleNamespace(
            folder="data/pictures", manifest=SimpleNamespace(built={"to_tokens": {"features": {"image": image}}})
        )

    same = PictureRows(rows=inputs.rows["image"], side=32, tiles={"max": 4, "tags": "numbers"}).model_dump(mode="json")
    check_views(inputs, [made(same), made(None), SimpleNamespace(folder="x", manifest=SimpleNamespace(built={}))])
    for other in ({**same, "tiles": {"max": 4, "tags": "places"}}, {**same, "tiles": None}, inputs.rows["image"]):
        with pytest.raises(ConfigError, match=r"features.image.tiles: .* data/pictures was made with"):
            check_views(inputs, [made(same), made(other)])
