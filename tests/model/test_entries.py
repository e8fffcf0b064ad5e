"""Entries: rows, layers of an encoder into layers of the decoder, and trained copies of layers inside the frozen decoder."""

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from losses import weighted_loss
from PIL import Image
from torch.nn import functional as F

from mmpt.config import parse_config
from mmpt.data.feature_rows import TaggedView, feature_block
from mmpt.data.loading.packing import FeatureParts, pack
from mmpt.data.shards.tokens import Medium, TokenDocument
from mmpt.document import Image as Picture
from mmpt.errors import CheckpointError, ConfigError
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.settings import Settings
from mmpt.model.adaptation import add_adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.config import FeatureInputConfig
from mmpt.model.entering import Memory, Remembered
from mmpt.model.entries import Entry
from mmpt.model.entries._cross import GatedCross
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.features import layer_states
from mmpt.model.forward import hidden_states, packed_logits
from mmpt.model.leak import leak_check
from mmpt.training.parts import part_of

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import feature_ranks  # noqa: E402
from ranks import VOCABULARY  # noqa: E402

CONFIG = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": False}  # fmt: skip
TOWER = {"side": 32, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}}
QUERIES = {"kind": "resampler", "depth": 1, "heads": 2, "width": 16, "rows": 3}
LAYERS = {"kind": "layers", "encoder": [2, 5], "decoder": [1, 2]}
CHOICES = {
    "rows": {"connector": QUERIES},
    "layers": {"connector": {"kind": "linear", "start_token": True}, "enters": LAYERS},
    "inner": {"connector": QUERIES, "enters": {"kind": "inner", "decoder": [0, 2]}},
    "cross": {"connector": QUERIES, "enters": {"kind": "cross", "decoder": [0, 2], "heads": 2, "width": 16}},
}


def base():
    return build_backbone(BackboneConfig(config=CONFIG), VOCABULARY.size, seed=0).eval().requires_grad_(False)


def opened(model, kind: str, **changes) -> FeatureInputs:
    config = parse_config({"encoder": TOWER, **CHOICES[kind], **changes}, FeatureInputConfig, "test")
    return FeatureInputs({"image": config}, model, seed=3)


def document(name: str, slots: int, colour: str, number: int, word: int) -> TokenDocument:
    block = VOCABULARY.encode_features("image", slots)
    made = feature_ranks.document(name, "image", feature_ranks.picture(colour, number), word)
    ids = [made.ids[0], *block, word, made.ids[-1]]
    weights = torch.tensor([0.0] * (len(block) + 1) + [1.0, 0.0]).numpy()
    medium = made.media[0]
    return TokenDocument(name, "test", torch.tensor(ids).numpy(), weights, (type(medium)("image", "png", medium.data, 2, slots),))


TEXT = TokenDocument("text", "test", torch.tensor([3, 9, 4, 7, 7, 2]).numpy())


def packed(inputs: FeatureInputs, *documents: TokenDocument):
    return pack(list(documents), [[inputs.read(medium) for medium in one.media] for one in documents])


def pictures(inputs: FeatureInputs, start: int = 0):
    return [
        document(colour, inputs.rows["image"], colour, start + number, 5 + number)
        for number, colour in enumerate(feature_ranks.COLOURS)
    ]


def logits(model, batch, features=None):
    with torch.no_grad():
        return packed_logits(model, batch.input_ids, batch.position_ids, batch.cu_seqlens, features=features)[0]


def loss_of(model, inputs, batch):
    parts = weighted_loss(model, batch, torch.ones(4), VOCABULARY, inputs=inputs)
    return parts["next_token"].total / parts["next_token"].count


def trained(model, inputs, steps=40, rate=0.02):
    optimizer, losses = torch.optim.Adam(inputs.parameters(), rate), []
    batch = packed(inputs, *pictures(inputs), TEXT)
    batch = type(batch)(**{**batch.__dict__, "weights": batch.weights * (batch.input_ids >= VOCABULARY.text_size)})
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, inputs, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_table_above_has_every_entry():
    assert sorted(CHOICES) == Entry.names()


@pytest.mark.parametrize("kind", CHOICES)
def test_each_learns_beside_a_frozen_decoder_and_is_saved_and_opened(kind, tmp_path):
    model = base()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = opened(model, kind)
    assert inputs.rows == {"image": {"rows": 3, "layers": 2, "inner": 3, "cross": 1}[kind]}
    assert {part_of(name) for name, _ in inputs.named_parameters()} == {"connectors"}
    losses = trained(model, inputs)
    assert losses[-1] < losses[0] - 0.25
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in inputs.parameters())
    assert set(model.state_dict()) == set(weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    batch = packed(inputs, *pictures(inputs, 90))
    with torch.no_grad():
        wanted = logits(model, batch, inputs(batch.features, batch.cu_seqlens)[0])
    inputs.save_encoders(tmp_path / "features")
    inputs.save_connectors(tmp_path / "features")
    other = base()
    again = FeatureInputs.load(tmp_path / "features", other)
    with torch.no_grad():
        assert torch.equal(logits(other, batch, again(batch.features, batch.cu_seqlens)[0]), wanted)
    wider = build_backbone(BackboneConfig(config={**CONFIG, "hidden_size": 64}), VOCABULARY.size, seed=0)
    with pytest.raises(CheckpointError):
        FeatureInputs.load(tmp_path / "features", wider)


@pytest.mark.parametrize("kind", CHOICES)
def test_text_beside_pictures_and_alone_is_what_the_frozen_decoder_makes_of_it(kind):
    model = base()
    inputs = opened(model, kind)
    trained(model, inputs, 10)
    batch = packed(inputs, pictures(inputs)[0], TEXT)
    edge = int(batch.cu_seqlens[1])
    with torch.no_grad():
        found = logits(model, batch, inputs(batch.features, batch.cu_seqlens)[0])
        plain = logits(base(), batch)
    assert torch.equal(found[edge:], plain[edge:]) and not torch.allclose(found[:edge], plain[:edge], atol=1e-3)
    assert leak_check(model).others == 0.0
    text = packed(inputs, TEXT)
    with torch.no_grad():  # a rank without a picture runs the same modules all the same
        assert torch.equal(logits(model, text, inputs(text.features, text.cu_seqlens)[0]), logits(base(), text))
    loss_of(model, inputs, text).backward()
    assert all(parameter.grad is not None for parameter in inputs.parameters())


def test_layers_replace_the_slot_before_the_layers_that_are_named():
    model = base()
    inputs = opened(model, "layers")
    batch = packed(inputs, pictures(inputs)[0])
    seen = {}
    for number, layer in enumerate(model.base_model.layers):
        attention = layer.input_layernorm
        attention.register_forward_pre_hook(lambda module, given, number=number: seen.update({number: given[0][0].clone()}))
    media, _ = inputs(batch.features, batch.cu_seqlens)
    logits(model, batch, media)
    states = layer_states(inputs._encoders["image"], batch.features["image"].inputs, [2, 5])
    connector = inputs.connectors["image"]
    first = int(batch.features["image"].places[0])
    assert torch.equal(seen[0][first], connector.start.detach())
    for number, row in ((1, 0), (2, 1)):
        wanted = states[0, row].float() @ connector.map.weight.T + connector.map.bias
        assert torch.allclose(seen[number][first + 1], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", CHOICES)
def test_activation_checkpointing_changes_no_gradient(kind):
    slopes = []
    for checkpointing in (False, True):
        model = build_backbone(BackboneConfig(config=CONFIG), VOCABULARY.size, seed=0).train()
        inputs = opened(model, kind)
        with torch.no_grad():
            for name, parameter in inputs.named_parameters():
                if "gates" in name:
                    parameter.fill_(0.5)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        loss_of(model, inputs, packed(inputs, *pictures(inputs), TEXT)).backward()
        slopes.append({name: parameter.grad for name, parameter in (*model.named_parameters(), *inputs.named_parameters())})
    for name, slope in slopes[0].items():
        assert torch.allclose(slopes[1][name], slope, atol=1e-6), name


def without_end():
    """A decoder that never ends by itself: of all tokens the end alone scores 0."""
    model = base()
    with torch.no_grad():
        model.lm_head.weight[VOCABULARY.special("<|end|>")] = 0.0
    return model


@pytest.mark.parametrize("kind", CHOICES)
def test_the_engine_writes_what_one_pass_over_the_whole_would_say(kind):
    """With keys and values of the copies kept beside those of the layers, and with text alone beside it."""
    model = without_end()
    inputs = opened(model, kind).eval()
    trained(model, inputs, 15)
    with torch.no_grad():
        for name, parameter in inputs.named_parameters():
            if "gates" in name:
                parameter.add_(0.7)
    shown = pictures(inputs, 50)[1]
    block = VOCABULARY.encode_features("image", inputs.rows["image"])
    begin = VOCABULARY.special("<|begin|>")
    prompt = Prompt([begin, *block, 4], (("image", shown.media[0].places(), inputs.read(shown.media[0])),))
    settings = parse_config({"max_new_tokens": 6, "outputs": ["text"]}, Settings, "test")
    prompts = [Prompt([begin, 7, 3]), prompt, Prompt([begin, 1])]
    engine = Engine(model, VOCABULARY, inputs)
    written = write_all(engine, prompts, [settings] * 3)
    alone = write_all(Engine(without_end(), VOCABULARY), [prompts[0], prompts[2]], [settings] * 2)
    assert written[0] == alone[0] and written[2] == alone[1]
    ids = torch.tensor([[*prompt.ids, *written[1]]])
    borders = torch.tensor([0, ids.shape[1]])
    features = {"image": packed(inputs, shown).features["image"]}
    with torch.no_grad():
        media, _ = inputs(features, borders)
        hidden = hidden_states(model, ids, torch.arange(ids.shape[1])[None], borders, media)[0]
    best = (hidden @ model.lm_head.weight.T)[:, : VOCABULARY.text_size].argmax(dim=1).tolist()
    assert len(written[1]) == 5 and best[len(prompt.ids) - 1 : -1] == written[1]


@pytest.mark.parametrize("kind", CHOICES)
def test_turns_with_pictures_read_in_pieces_and_taken_up_again_are_as_read_at_once(kind):
    """Pictures are told apart by what they show: in their slots stands the same id."""
    model = without_end()
    inputs = opened(model, kind).eval()
    with torch.no_grad():
        for name, parameter in inputs.named_parameters():
            if "gates" in name:
                parameter.fill_(0.7)
    block, filling = VOCABULARY.encode_features("image", inputs.rows["image"]), [5, 9, 3, 8] * 9
    settings = parse_config({"max_new_tokens": 6, "outputs": ["text"]}, Settings, "test")
    shown = [inputs.read(one.media[0]) for one in pictures(inputs, 50)[:3]]
    slot = 1 + block.index(VOCABULARY.special("<|feature|>"))

    def turn(*numbers: int) -> Prompt:
        """A picture, words, another picture, …"""
        ids, media = [VOCABULARY.special("<|begin|>")], []
        for number in numbers:
            places = len(ids) + np.flatnonzero(np.array(block) == VOCABULARY.special("<|feature|>"))
            media.append(("image", places, shown[number]))
            ids += [*block, *filling]
        return Prompt(ids, tuple(media))

    engine = Engine(model, VOCABULARY, inputs, kept_tokens=1000, read_tokens=5)
    one = len(turn(0).ids)
    for asked, reused in (
        (turn(0), 0),
        (turn(0, 1), one),
        (turn(0, 2), one + slot - 1),
        (turn(1, 1), slot),
        (turn(0, 1), 2 * one - 2),
    ):
        written = engine.submit(asked, settings)
        while engine.busy:
            engine.step()
        assert written.ids == write_all(Engine(model, VOCABULARY, inputs), [asked], [settings])[0]
        assert written.reused == reused
    # Words alone after all of them, and a picture where there had been none.
    for asked in (Prompt([*turn(0).ids[:1], *filling]), Prompt([*turn(0).ids[:1], *filling, *block], ())):
        assert write_all(engine, [asked], [settings]) == write_all(Engine(model, VOCABULARY, inputs), [asked], [settings])


def test_cross_attention_is_flamingos_by_its_definition():
    """In float64, token by token: x + tanh(g) · attention over the views of its document so far, and the same of an MLP."""
    torch.manual_seed(4)
    layer = GatedCross(8, 6, 2).double()
    with torch.no_grad():
        layer.gates.copy_(torch.tensor([0.4, -0.9]))
    hidden, rows = torch.randn(7, 8, dtype=torch.float64), torch.randn(3, 2, 8, dtype=torch.float64)
    documents, places = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([1, 3, 5])
    # Two views were seen in this pass, one is remembered from before: of which pass does not matter.
    seen = (Remembered(Memory(rows[:2]), places[:2]), Remembered(Memory(rows[2:]), places[2:]))
    found = layer(hidden, seen, documents, 0)
    for token, views in enumerate([[], [0], [0], [0, 1], [], [2], []]):
        x = hidden[token]
        if views:
            memory = rows[views].flatten(0, 1) @ layer.key_value.weight.T
            queries = layer.norm(x) @ layer.query.weight.T
            mixed = []
            for head in (slice(0, 3), slice(3, 6)):
                weights = torch.softmax(memory[:, head] @ queries[head] / 3**0.5, dim=0)
                mixed.append(weights @ memory[:, 6:][:, head])
            x = x + math.tanh(0.4) * (torch.cat(mixed) @ layer.out.weight.T)
            x = x + math.tanh(-0.9) * layer.mlp(x)
        assert torch.allclose(found[token], x, atol=1e-12), token


def test_pictures_of_several_tiles_take_a_slot_for_each(tmp_path):
    model = base()
    inputs = opened(model, "cross", tiles={"max": 4, "tags": None})
    data = io.BytesIO()
    Image.effect_noise((64, 32), 50).convert("RGB").save(data, "PNG")
    views = inputs.counted["image"].views(data.getvalue())
    assert [view.rows for view in views] == [1, 1, 1]  # two tiles and the whole
    read = inputs.read(Medium("image", "png", data.getvalue(), 1, 3, ()))
    features = FeatureParts()
    features.add("image", np.arange(3) + 1, read)
    with torch.no_grad():
        entering, _ = inputs(features.joined(), torch.tensor([0, 6]))
    ((memory, places),) = entering.memories["image"]
    assert memory.rows.shape == (3, 3, 32) and places.tolist() == [1, 2, 3] and not len(entering.slots)


def test_a_hybrid_has_the_whole_as_rows_and_the_tiles_in_cross_attention():
    """NVLM-H: with the gates shut it is what rows of the whole alone would be; open, the tiles matter too. And it is written on
    as it is read."""
    model = without_end()
    tiles = {"max": 4, "tags": "numbers"}
    inputs = opened(
        model, "cross", tiles=tiles, enters={"kind": "cross", "decoder": [1], "heads": 2, "whole_as_rows": True}
    ).eval()
    data = io.BytesIO()
    Image.effect_noise((64, 32), 50).convert("RGB").save(data, "PNG")
    given = [TaggedView([20 + n], view.rows) for n, view in enumerate(inputs.counted["image"].views(data.getvalue()))]
    assert [view.rows for view in given] == [1, 1, 3]
    medium, block = feature_block(Picture(data.getvalue(), "png", 64, 32), given, 1, VOCABULARY)
    ids = np.array([VOCABULARY.special("<|begin|>"), *block, 4, 7, VOCABULARY.special("<|end|>")])
    batch = packed(inputs, TokenDocument("a", "test", ids, None, (medium,)), TEXT)
    with torch.no_grad():
        entering, _ = inputs(batch.features, batch.cu_seqlens)
        shut = logits(model, batch, entering)
        rows = inputs.connectors["image"](inputs.encode("image", inputs.read(medium)))
        places = [place for place in np.flatnonzero(ids == VOCABULARY.special("<|feature|>"))]
        assert torch.equal(shut, logits(without_end(), batch, (torch.tensor(places[2:]), rows[2])))
        ((memory, seen_from),) = entering.memories["image"]
        assert seen_from.tolist() == places[:2] and torch.equal(memory.rows, rows[:2])
        inputs.connectors["image"].inside.layers[0].gates.fill_(0.8)
        opened_gates = logits(model, batch, entering)
    first, edge = places[0], int(batch.cu_seqlens[1])
    changed = (opened_gates != shut).any(dim=1)
    assert not changed[:first].any() and changed[first:edge].all() and not changed[edge:].any()
    prompt = Prompt(ids[:-1].tolist(), (("image", medium.places(), inputs.read(medium)),))
    settings = parse_config({"max_new_tokens": 4, "outputs": ["text"]}, Settings, "test")
    (written,) = write_all(Engine(model, VOCABULARY, inputs), [prompt], [settings])
    whole = packed(inputs, TokenDocument("a", "test", np.array([*prompt.ids, *written]), None, (medium,)))
    with torch.no_grad():
        found = logits(model, whole, inputs(whole.features, whole.cu_seqlens)[0])
    assert found[len(prompt.ids) - 1 : -1, : VOCABULARY.text_size].argmax(dim=1).tolist() == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enters": {"kind": "cross", "decoder": [0], "whole_as_rows": True}}, "whole_as_rows goes with tiles"),
        ({"enters": {"kind": "cross", "decoder": [0, 3]}}, "expected layers from 0 to 2"),
        ({"enters": {"kind": "cross", "decoder": [0], "heads": 5}}, "heads: 5, expected a divisor of the decoder's 32"),
        ({"enters": {"kind": "cross", "decoder": [0], "width": 12}}, "width: 12, expected a multiple of 8 heads"),
        ({"enters": {**LAYERS, "decoder": [1]}}, "2 layers of the encoder for 1 of the decoder"),
        ({"enters": {**LAYERS, "decoder": [2, 1]}}, "decoder: .2, 1., expected rising"),
        ({"enters": {**LAYERS, "decoder": [1, 3]}}, "expected layers from 0 to 2"),
        ({"enters": {**LAYERS, "encoder": [2, 99]}}, "gives no states of layers"),
        ({"enters": LAYERS, "connector": QUERIES}, "resampler gives 3 rows, enters: layers needs 2"),
        ({"enters": {"kind": "inner", "decoder": [1, 1]}}, "expected different numbers"),
        ({"enters": {"kind": "inner", "decoder": [7]}}, "expected layers from 0 to 2"),
        ({"enters": "middle"}, "no entry 'middle'"),
    ],
)
def test_what_cannot_enter_is_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        opened(base(), "rows", **{"connector": {"kind": "linear"}, **changes})


def test_copies_of_layers_do_not_go_with_an_adapter():
    with pytest.raises(ConfigError, match="features.image.enters: inner does not go with an adapter"):
        opened(add_adapter(base(), Lora(rank=2), 0), "inner")


def test_a_picture_tells_a_frozen_decoder_its_word_through_its_layers():
    """eP-ALM: one linear map and one row learn; with each picture its own word is likelier than with another's."""
    model = base()
    with torch.no_grad():
        model.lm_head.weight.mul_(30)  # a trained decoder can be sure of a word
    inputs = opened(model, "layers")
    losses = trained(model, inputs, 80, 0.03)
    assert sum(parameter.numel() for parameter in inputs.parameters()) == inputs._encoders["image"].width * 32 + 2 * 32
    own, other = packed(inputs, *pictures(inputs)), packed(inputs, *pictures(inputs))
    swapped = other.features["image"]._replace(inputs=other.features["image"].inputs.roll(1, dims=0))
    with torch.no_grad():
        right = float(loss_of(model, inputs, own))
        wrong = float(loss_of(model, inputs, type(own)(**{**own.__dict__, "features": {"image": swapped}})))
    assert right < losses[0] - 1.0 and wrong > right + 0.5
    assert F.softmax(torch.tensor([right, wrong]), 0).sum() == pytest.approx(1.0)
