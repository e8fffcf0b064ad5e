"""No document of a pack sees another, and each gets exactly the logits it would get alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface

from mmpt.errors import ConfigError
from mmpt.kernels import attention
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import check_head, head_scale, packed_logits
from mmpt.model.leak import leak_check, require_no_leak
from mmpt.model.packed_attention import NAME, packed_attention

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
VOCABULARY = 50


def tiny(model_type, **options):
    return build_backbone(BackboneConfig(config={"model_type": model_type, **SMALL, **options}), VOCABULARY, seed=0).eval()


@pytest.fixture(scope="module")
def model():
    return tiny("qwen3", head_dim=8)


def rows(lengths, seed=0):
    ids = torch.randint(0, VOCABULARY, (1, sum(lengths)), generator=torch.Generator().manual_seed(seed))
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
    return ids, positions, torch.tensor([0, *lengths]).cumsum(0)


def alone(model, ids, borders):
    """Logits of each document by transformers' own forward pass, one call each, with its plainest attention."""
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            spans = zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
            return torch.cat([model(input_ids=ids[:, a:b], use_cache=False).logits for a, b in spans], dim=1)
    finally:
        model.set_attn_implementation(NAME)


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_packed_logits_are_those_of_each_document_alone(model, lengths, seed):
    ids, positions, borders = rows(lengths, seed)
    with torch.no_grad():
        packed = packed_logits(model, ids, positions, borders)
    assert (packed - alone(model, ids, borders)).abs().max() <= 1e-5


@pytest.mark.parametrize(("model_type", "options"), [("llama", {}), ("mistral", {"sliding_window": 3}), ("granite", {})])
def test_other_families_and_a_sliding_window(model_type, options):
    model = tiny(model_type, **options)
    ids, positions, borders = rows([9, 2, 7])
    with torch.no_grad():
        packed = packed_logits(model, ids, positions, borders)
    assert (packed - alone(model, ids, borders)).abs().max() <= 1e-5
    assert leak_check(model).others == 0.0


def test_no_leak_and_a_planted_one_is_found(model):
    assert leak_check(model).others == 0.0

    def without_borders(module, query, key, value, mask, document_lengths=None, **kwargs):
        return packed_attention(module, query, key, value, None, document_lengths=(query.shape[2],), **kwargs)

    AttentionInterface.register(NAME, without_borders)
    try:
        assert leak_check(model).others > 1e-4
        with pytest.raises(ConfigError, match="see each other"):
            require_no_leak(model)
    finally:
        AttentionInterface.register(NAME, packed_attention)


def test_gradient_of_one_document_reaches_no_other(model):
    ids, positions, borders = rows([4, 6])
    embedded = []
    hook = model.get_input_embeddings().register_forward_hook(lambda *a: (a[-1].retain_grad(), embedded.append(a[-1]))[1])
    packed_logits(model, ids, positions, borders)[:, :4].square().sum().backward()
    hook.remove()
    model.zero_grad()
    assert embedded[0].grad[:, :4].abs().max() > 0 and not embedded[0].grad[:, 4:].any()


def test_generation_with_a_cache_equals_the_plain_implementation(model):
    prompt = torch.tensor([[3, 1, 4, 1, 5]])
    ours = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
    model.set_attn_implementation("eager")
    plain = model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False)
    model.set_attn_implementation(NAME)
    assert torch.equal(ours, plain)


def test_padded_batches_without_borders_keep_their_masks(model):
    ids = torch.tensor([[0, 0, 7, 8], [5, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0, 2:]
        whole = model(input_ids=ids[:1, 2:]).logits[0]
    assert (padded - whole).abs().max() <= 1e-5


@pytest.mark.parametrize("model_type", ["gemma2", "mamba"])
def test_unsupported_models_are_refused(model_type):
    config = {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 1} if model_type == "mamba" else None
    model = build_backbone(BackboneConfig(config=config), VOCABULARY, 0) if config else tiny(model_type)
    with pytest.raises(ConfigError, match="backbone"):
        require_no_leak(model)


def test_logits_scaled_in_an_unknown_way_and_head_bias_are_refused():
    model = tiny("granite", logits_scaling=4.0)
    model.config.model_type = "hyperclovax"  # which multiplies
    with pytest.raises(ConfigError, match="scales or caps"):
        check_head(model)
    with pytest.raises(ConfigError, match="without bias"):
        check_head(tiny("phi"))


def test_lengths_that_do_not_cover_the_row_are_an_error(model):
    ids, positions, _ = rows([5])
    with pytest.raises(ValueError, match="documents of 4 tokens"):
        packed_logits(model, ids, positions, torch.tensor([0, 4]))


@pytest.mark.parametrize("window", [None, 3])
def test_the_gpu_path_hands_xformers_the_same_attention(monkeypatch, window):
    """xformers has no CPU kernel: here its call is answered by its own mask, materialised, and plain softmax."""

    def plain(query, key, value, attn_bias, p, scale):
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        bias = attn_bias.materialize((query.shape[2], key.shape[2]))
        return torch.softmax(query @ key.transpose(2, 3) * scale + bias, dim=-1).matmul(value).transpose(1, 2)

    monkeypatch.setattr(pytest.importorskip("xformers.ops"), "memory_efficient_attention", plain)
    lengths = (4, 1, 6)
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 11, 8, generator=draw)
    key, value = torch.randn(2, 1, 2, 11, 8, generator=draw)
    wanted, _ = packed_attention(None, query, key, value, None, scaling=0.3, document_lengths=lengths, sliding_window=window)
    repeated = (query, key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1))
    found = attention._xformers(*repeated, lengths, (), window, 0.0, 0.3).transpose(1, 2)
    assert (found - wanted).abs().max() <= 1e-6


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says it lies on a GPU: enough to ask who would attend there."""

    device = torch.device("cuda:0")
    is_cuda = True


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    return lambda width, dtype: torch.zeros(1, 4, 8, width, dtype=dtype).as_subclass(OnGpu)


def test_on_gpus_torch_s_own_attention_is_taken_where_it_can_run(on_gpu, monkeypatch):
    why = attention.why_not
    assert attention.AUTO[0] == "varlen" and why("varlen", on_gpu(64, torch.bfloat16)) == ""
    assert "not float32" in why("varlen", on_gpu(64, torch.float32))
    assert "multiple of 8" in why("varlen", on_gpu(20, torch.bfloat16))
    assert "not 64 and 32" in why("varlen", on_gpu(64, torch.bfloat16), value_width=32)
    assert "window" in why("varlen", on_gpu(64, torch.bfloat16), window=4)
    assert "spans" in why("varlen", on_gpu(64, torch.bfloat16), spans=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    assert "8.0" in why("varlen", on_gpu(64, torch.bfloat16))


@pytest.mark.parametrize(
    ("lengths", "capability", "taken"),
    [
        ((8192,), (9, 0), "documents"),
        ((8192,), (8, 0), "varlen"),
        ((5000, 3192), (9, 0), "documents"),
        ((5000, 3000, 192), (9, 0), "varlen"),
    ],
)
def test_long_documents_are_attended_to_one_by_one_where_that_is_faster(monkeypatch, on_gpu, lengths, capability, taken):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    for name in ("_documents", "_varlen"):
        monkeypatch.setattr(attention, name, lambda *given, name=name: name)
    row = torch.zeros(1, 1, sum(lengths), 64, dtype=torch.bfloat16).as_subclass(OnGpu)
    assert attention.packed_attention(row, row, row, lengths) == f"_{taken}"


@pytest.mark.parametrize("refusing", [(), ("forward",), ("backward",)])
def test_xformers_operators_are_asked_and_not_its_import(monkeypatch, refusing):
    fmha = pytest.importorskip("xformers.ops.fmha")

    class Operator:
        def __init__(self, name):
            self.name = name

        def not_supported_reasons(self, inputs):
            assert inputs.query.shape == (1, 8, 1, 16) and inputs.p == 0.0
            return ["not built with CUDA"] if self.name in refusing else []

    monkeypatch.setattr(fmha, "ALL_FW_OPS", [Operator("forward")])
    monkeypatch.setattr(fmha, "ALL_BW_OPS", [Operator("backward")])
    asked = torch.device("cpu"), torch.bfloat16, 16, None, False, False
    found = attention._xformers_refusal.__wrapped__(*asked)
    assert found == (f"none of xformers' {refusing[0]} operators takes this: not built with CUDA" if refusing else "")


def test_xformers_refuses_what_lies_on_no_gpu_in_its_own_words():
    pytest.importorskip("xformers.ops")
    asked = torch.device("cpu"), torch.bfloat16, 16, None, False, True
    assert "device=cpu" in attention._xformers_refusal(*asked)


def test_torch_s_operator_is_called_as_it_is_declared():
    """Tensors without content: shapes, arguments and gradients of the operator, on the torch that is installed."""
    draw = {"device": "meta", "dtype": torch.bfloat16, "requires_grad": True}
    query, key = torch.empty(1, 4, 11, 16, **draw), torch.empty(1, 2, 11, 16, **draw)
    found = attention._varlen(query, key, key, (4, 1, 6), (), None, 0.0, 0.3)
    found.sum().backward()
    assert found.shape == query.shape == query.grad.shape and key.grad.shape == key.shape


def test_torch_s_operator_is_handed_the_same_attention(monkeypatch):
    """It has no CPU kernel: here its call is answered document by document from what it was given."""

    def plain(query, key, value, edges, other, longest, *rest, scale):
        assert edges.dtype == torch.int32 and edges is other and longest == 6 and rest == (6, 0.0, True, False)
        rows = [part.transpose(0, 1)[None] for part in (query, key, value)]
        lengths = edges.diff().tolist()
        return (attention.reference(*rows, lengths, scale=scale)[0].transpose(0, 1),)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", plain)
    draw = torch.Generator().manual_seed(0)
    query, (key, value) = torch.randn(1, 4, 11, 8, generator=draw), torch.randn(2, 1, 2, 11, 8, generator=draw)
    wanted, _ = packed_attention(None, query, key, value, None, scaling=0.3, document_lengths=(4, 1, 6))
    found = attention._varlen(query, key, value, (4, 1, 6), (), None, 0.0, 0.3).transpose(1, 2)
    assert (found - wanted).abs().max() <= 1e-6


FAMILIES = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "stablelm": SMALL,
    "nemotron": SMALL,
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 1},
    "llama4_text": {**SMALL, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48},
    "gemma2": {**SMALL, "head_dim": 8},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_models_that_take_no_packed_rows_are_refused_by_the_first_check(name):
    model = build_backbone(BackboneConfig(config={"model_type": name, **FAMILIES[name]}), VOCABULARY, 0)
    with pytest.raises(ConfigError, match=r"backbone: (it does not take packed rows|its attention uses|it caps its logits)"):
        check_head(model)


SCALED = {
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1, "residual_multiplier": 0.2, "embedding_multiplier": 12.0},
    "granitemoe": {"logits_scaling": 8.0, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.0625, "sliding_window": 4},
    "hyperclovax": {"logits_scaling": 0.125},
    "minicpm3": {
        "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8, "dim_model_base": 16,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_models_that_scale_their_logits_learn_and_answer_with_the_scaled_ones(name):
    model = tiny(name, **SCALED[name])
    check_head(model)
    ids, positions, borders = rows([9, 2, 7])
    with torch.no_grad():
        packed = packed_logits(model, ids, positions, borders)
        assert (packed - alone(model, ids, borders)).abs().max() <= 1e-5 * packed.abs().max().clamp_min(1)
    assert head_scale(model) != 1.0
