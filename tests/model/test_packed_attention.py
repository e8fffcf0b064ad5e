"""No document of a pack sees another, and each gets exactly the logits it would get alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface

from mmpt.errors import ConfigError
from mmpt.kernels import attention
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import check_head, packed_logits
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
    assert leak_check(model) == 0.0


def test_no_leak_and_a_planted_one_is_found(model):
    assert leak_check(model) == 0.0

    def without_borders(module, query, key, value, mask, document_lengths=None, **kwargs):
        return packed_attention(module, query, key, value, None, document_lengths=(query.shape[2],), **kwargs)

    AttentionInterface.register(NAME, without_borders)
    try:
        assert leak_check(model) > 1e-4
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


def test_scaled_logits_and_head_bias_are_refused():
    with pytest.raises(ConfigError, match="scales or caps"):
        check_head(tiny("granite", logits_scaling=4.0))
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

    monkeypatch.setattr(attention, "_memory_efficient", lambda: plain)
    pytest.importorskip("xformers.ops")
    lengths = (4, 1, 6)
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 11, 8, generator=draw)
    key, value = torch.randn(2, 1, 2, 11, 8, generator=draw)
    wanted, _ = packed_attention(None, query, key, value, None, scaling=0.3, document_lengths=lengths, sliding_window=window)
    repeated = (query, key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1))
    found = attention._xformers(*repeated, lengths, (), window, 0.0, 0.3).transpose(1, 2)
    assert (found - wanted).abs().max() <= 1e-6
