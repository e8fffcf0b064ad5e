"""Changes of a decoder as it is loaded: the same logits where that is promised, slices where something is cut out."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone, load_backbone
from mmpt.model.changes._prune import importance
from mmpt.model.changing import changed, changed_settings
from mmpt.model.forward import check_head, packed_logits
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 8}  # fmt: skip
ROWS = 40


@pytest.fixture(scope="module", params=["qwen3", "llama", "mistral"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tied = request.param == "qwen3"
    content = {**SIZES, "model_type": request.param, "tie_word_embeddings": tied, "initializer_range": 0.3}
    model = build_backbone(BackboneConfig(config=content), ROWS, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    content = {**SIZES, "model_type": "qwen3", "tie_word_embeddings": False, "initializer_range": 0.3}
    build_backbone(BackboneConfig(config=content), ROWS, seed=2).save_pretrained(folder)
    return folder


def build(folder, *changes: dict, sequences=()):
    config = parse_config({"path": str(folder), "change": list(changes)}, BackboneConfig, "backbone")
    return build_backbone(config, ROWS, seed=0, sequences=sequences).eval()


@torch.no_grad()
def logits(model, length: int = 20, step: int = 1) -> torch.Tensor:
    ids = torch.randint(0, ROWS, (1, length), generator=torch.Generator().manual_seed(0))
    return packed_logits(model, ids, torch.arange(length)[None] * step, torch.tensor([0, length]))


def test_without_a_change_the_weights_are_the_files(qwen):
    before, after = load_backbone(qwen).state_dict(), build(qwen).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_highest_layers_start_anew_and_the_others_stay(saved):
    before, model = load_backbone(saved).state_dict(), build(saved, {"kind": "restart", "layers": 2})
    after = model.state_dict()
    new = {name for name in after if ".layers.1." in name or ".layers.2." in name}
    assert all(torch.equal(before[name], value) for name, value in after.items() if name not in new)
    for name in new:
        if "norm" in name:
            assert bool((after[name] == 1).all()), name
        else:
            assert after[name].std().item() == pytest.approx(0.3, rel=0.25) and not torch.equal(after[name], before[name])
    again = build(saved, {"kind": "restart", "layers": 2}).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in after.items())
    with pytest.raises(ConfigError, match="layers is 4, there are 3"):
        build(saved, {"kind": "restart", "layers": 4})


def test_experts_of_a_dense_decoder_compute_what_it_did(saved, tmp_path):
    model = build(saved, {"kind": "upcycle", "experts": 4, "chosen": 2})
    assert torch.allclose(logits(model), logits(load_backbone(saved).eval()), atol=1e-4)
    experts = model.model.layers[1].mlp.experts.gate_up_proj
    assert experts.shape == (4, 48, 16) and torch.equal(experts[0], experts[3])
    assert model.config.output_router_logits and model.model.layers[0].mlp.gate.weight.std() > 0
    check_head(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(load_backbone(tmp_path).eval()), logits(model))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 48},
        {"intermediate": 55},
        {"layers": 5, "depth": "identity"},
        {"hidden": 32, "intermediate": 30, "layers": 6, "depth": "identity"},
    ],
    ids=lambda change: ", ".join(change),
)
def test_a_grown_decoder_computes_what_it_did(saved, change):
    model = build(saved, {"kind": "grow", **change})
    assert torch.allclose(logits(model), logits(load_backbone(saved).eval()), atol=2e-4)
    sizes = (model.config.hidden_size, model.config.intermediate_size, len(model.model.layers))
    assert sizes == (change.get("hidden", 16), change.get("intermediate", 24), change.get("layers", 3))


def test_stacked_layers_are_those_there_are(qwen):
    before, after = load_backbone(qwen).model.layers, build(qwen, {"kind": "grow", "layers": 6}).model.layers
    for number, layer in enumerate(after):
        assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), before[number % 3].parameters(), strict=True))


def test_positions_scaled_linearly_are_positions_in_between(qwen):
    model = build(qwen, {"kind": "positions", "scaling": {"rope_type": "linear", "factor": 2.0}, "max_positions": 65536})
    assert torch.allclose(logits(model, step=2), logits(load_backbone(qwen).eval()), atol=1e-5)
    assert model.config.max_position_embeddings == 65536


def test_another_base_is_another_model_of_the_same_weights(qwen):
    model = build(qwen, {"kind": "positions", "base": 500_000})
    assert model.config.rope_parameters == {"rope_type": "default", "rope_theta": 500_000}
    inner = 500_000 ** -(torch.arange(0, 8, 2) / 8)
    assert torch.allclose(model.model.rotary_emb.inv_freq, inner)
    with pytest.raises(ConfigError, match="backbone.change: positions"):
        build(qwen, {"kind": "positions", "scaling": {"rope_type": "yearn", "factor": 2.0}})


def test_windows_hide_what_lies_before_them(qwen):
    whole, model = load_backbone(qwen).eval(), build(qwen, {"kind": "windows", "window": 6})
    assert model.config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert torch.allclose(logits(model, 6), logits(whole, 6), atol=1e-5)
    assert not torch.allclose(logits(model, 20)[0, -1], logits(whole, 20)[0, -1], atol=1e-3)
    everywhere = build(qwen, {"kind": "windows", "window": 3, "full": []})
    ids = torch.randint(0, ROWS, (1, 12), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[0, 0] = (other[0, 0] + 1) % ROWS
    own, found = (packed_logits(everywhere, i, torch.arange(12)[None], torch.tensor([0, 12]))[0] for i in (ids, other))
    # Three layers of windows of three tokens reach six tokens back.
    assert torch.equal(own[7:], found[7:]) and not torch.equal(own[6], found[6])
    with pytest.raises(ConfigError, match="expected numbers from 0 to 2"):
        build(qwen, {"kind": "windows", "window": 3, "full": [3]})


@pytest.fixture(scope="module")
def texts():
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(0, ROWS + 5, (30,), generator=draw).tolist() for _ in range(4)]  # some ids are of no row


def test_importance_is_the_size_of_activations(qwen, texts):
    model = load_backbone(qwen).eval()
    found = importance(model, texts, samples=3)
    states, neurons = [], []
    for text in texts[:3]:
        ids = torch.tensor([[token for token in text if token < ROWS]])
        with torch.no_grad():
            states.append(model(ids, output_hidden_states=True, use_cache=False).hidden_states)
            layer = model.model.layers[0]
            angles = model.model.rotary_emb(states[-1][0], torch.arange(ids.shape[1])[None])
            attended = states[-1][0] + layer.self_attn(layer.input_layernorm(states[-1][0]), angles, None)[0]
            normed = layer.post_attention_layernorm(attended)
            neurons.append((layer.mlp.act_fn(layer.mlp.gate_proj(normed)) * layer.mlp.up_proj(normed)).abs()[0].sum(dim=0))
    assert torch.allclose(found.neurons[0].float(), sum(neurons), rtol=1e-4)
    turned = sum((1 - cosine_similarity(one[0][0], one[1][0], dim=-1)).sum() for one in states)
    assert float(found.layers[0]) == pytest.approx(float(turned), rel=1e-4)


def test_what_is_kept_is_a_slice_of_what_matters_most(saved, texts):
    old, sizes = load_backbone(saved).eval(), {"layers": 2, "hidden": 12, "intermediate": 10}
    found = importance(old, texts, 64)
    model = build(saved, {"kind": "prune", **sizes}, sequences=texts)
    hidden = sorted(found.hidden.topk(12).indices.tolist())
    layers = sorted(found.layers.topk(2).indices.tolist())
    assert len(model.model.layers) == 2 and model.config.hidden_size == 12 and model.config.head_dim == 8
    for layer, source in zip(model.model.layers, (old.model.layers[number] for number in layers), strict=True):
        number = list(old.model.layers).index(source)
        neurons = sorted(found.neurons[number].topk(10).indices.tolist())
        assert torch.equal(layer.mlp.up_proj.weight, source.mlp.up_proj.weight[neurons][:, hidden])
        assert torch.equal(layer.mlp.down_proj.weight, source.mlp.down_proj.weight[hidden][:, neurons])
        assert torch.equal(layer.self_attn.q_proj.weight, source.self_attn.q_proj.weight[:, hidden])
        assert torch.equal(layer.self_attn.o_proj.weight, source.self_attn.o_proj.weight[hidden])
        assert torch.equal(layer.input_layernorm.weight, source.input_layernorm.weight[hidden])
    assert torch.equal(model.model.embed_tokens.weight, old.model.embed_tokens.weight[:, hidden])
    assert torch.equal(model.model.norm.weight, old.model.norm.weight[hidden])
    check_head(model)
    whole = build(saved, {"kind": "prune", "layers": 3, "hidden": 16, "intermediate": 24}, sequences=texts)
    assert torch.allclose(logits(whole), logits(old), atol=1e-5)


def test_changes_follow_each_other(qwen, texts):
    both = build(qwen, {"kind": "grow", "intermediate": 48}, {"kind": "upcycle", "experts": 2, "chosen": 1}, sequences=texts)
    assert torch.allclose(logits(both), logits(load_backbone(qwen).eval()), atol=1e-4)
    old = load_backbone(qwen)
    settings = changed_settings(
        old.config, parse_config({"path": "x", "change": [{"kind": "grow", "layers": 6}]}, BackboneConfig, "b").change
    )
    assert (
        settings.num_hidden_layers == 6
        and old.config.num_hidden_layers == 3
        and old.config._attn_implementation == PACKED_ATTENTION
    )


def test_what_cannot_be_changed_is_told(qwen, tmp_path):
    for change, match in (
        ({"kind": "grow", "hidden": 20}, "has hidden 16, expected a multiple"),
        ({"kind": "grow", "layers": 2}, "has layers 3, expected as many or more"),
        ({"kind": "prune", "layers": 4}, "has layers 3, expected as many or fewer"),
        ({"kind": "prune", "layers": 2}, "no document of the data has text"),
    ):
        with pytest.raises(ConfigError, match=match):
            build(qwen, change)
    with pytest.raises(ConfigError, match="chosen: 3 of 2 experts"):
        build(qwen, {"kind": "upcycle", "experts": 2, "chosen": 3})
    with pytest.raises(ConfigError, match="change: it goes with path"):
        parse_config({"config": {"model_type": "qwen3"}, "change": ["upcycle"]}, BackboneConfig, "b")
    content = {**SIZES, "model_type": "olmo2"}
    build_backbone(BackboneConfig(config=content), ROWS, seed=1).save_pretrained(tmp_path)
    for change, match in (("upcycle", "olmo2 has no mixture"), ({"kind": "windows", "window": 2}, "olmo2 has no layer_types")):
        with pytest.raises(ConfigError, match=match):
            build(tmp_path, change)


def test_a_change_is_a_function_of_the_seed(qwen):
    config = parse_config({"path": "x", "change": ["upcycle"]}, BackboneConfig, "b")
    routers = [changed(load_backbone(qwen), config.change, seed).model.layers[0].mlp.gate.weight for seed in (0, 0, 1)]
    assert torch.equal(routers[0], routers[1]) and not torch.equal(routers[0], routers[2])
