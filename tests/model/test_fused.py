"""Backbones of five families: import and export exact, fused kernels the same function, no leak on any back end."""

import functools
import inspect

import pytest
import torch
from thorough import thorough
from transformers import AutoConfig, AutoModelForCausalLM

from mmpt.errors import ConfigError
from mmpt.kernels.attention import BACKENDS, why_not
from mmpt.model import packed_attention as packed
from mmpt.model.backbone import BackboneConfig, build_backbone, load_backbone
from mmpt.model.config import KernelsConfig
from mmpt.model.forward import check_head, packed_logits
from mmpt.model.fused import ROTATION, use_kernels
from mmpt.model.leak import leak_check

FAMILIES = {
    "qwen3": {},
    "llama": {},
    "mistral": {"sliding_window": 4},
    "gemma3_text": {"sliding_window": 4, "query_pre_attn_scalar": 8},
    "olmo2": {},
}
VOCABULARY = 40
CPU = torch.device("cpu")


def use_fused(model, kernel: str = "torch") -> dict[str, int]:
    """All three by name, but where the activation is not SiLU."""
    gelu = "gemma3" in type(model).__name__.lower()
    return use_kernels(model, KernelsConfig(norm=kernel, rope=kernel, swiglu="plain" if gelu else kernel), CPU)


@pytest.fixture(scope="module", params=["qwen3", "gemma3_text", "olmo2", *thorough("llama", "mistral")])
def folder(request, tmp_path_factory):
    """A tiny model of transformers' own making, with no weight at its usual start."""
    content = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8}
    config = AutoConfig.for_model(
        request.param,
        **{**content, "num_key_value_heads": 2, "vocab_size": VOCABULARY, "pad_token_id": None, **FAMILIES[request.param]},
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [None, "torch", *thorough("triton")])
def test_import_and_export_keep_the_logits(folder, ids, kernel, tmp_path):
    wanted = logits(AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager"), ids)
    model = build_backbone(BackboneConfig(path=str(folder)), VOCABULARY, seed=0)
    if kernel:
        counts = use_fused(model, kernel)
        gelu = "gemma3" in type(model).__name__.lower()
        assert counts["norm"] >= 7 and counts["rope"] == 3 and counts.get("swiglu", 0) == (0 if gelu else 3)
    assert (logits(model, ids) - wanted).abs().max() <= 1e-5
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert (logits(again, ids) - wanted).abs().max() <= 1e-5 and type(again) is type(model)
    check_head(model)


def test_packed_rows_give_the_logits_of_each_document(folder, ids):
    model = load_backbone(folder)
    use_fused(model)
    row, lengths = ids.flatten()[None], (4, 7, 3)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    borders = torch.tensor([0, *lengths]).cumsum(0)
    with torch.no_grad():
        found = packed_logits(model.eval(), row, positions, borders)
    alone = torch.cat([logits(model, row[:, a:b]) for a, b in zip(borders[:-1], borders[1:], strict=True)], dim=1)
    assert (found - alone).abs().max() <= 1e-5


@pytest.mark.slow
def test_gradients_through_fused_modules_are_those_of_the_plain_ones(folder, ids):
    slopes = []
    for kernel in (None, "torch", "triton"):
        model = load_backbone(folder)
        if kernel:
            use_fused(model, kernel)
        model.train()(input_ids=ids, use_cache=False).logits.square().mean().backward()
        slopes.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for other in slopes[1:]:
        for name, slope in slopes[0].items():
            assert (other[name] - slope).abs().max() <= 2e-5 * slope.abs().max().clamp_min(1e-3), name


def attention_class(model) -> type:
    return next(type(module) for module in model.modules() if type(module).__name__.endswith("Attention"))


def test_the_library_s_attention_rotates_by_the_name_that_is_replaced(folder):
    """What `use_fused` relies on inside transformers: under its decorators, `forward` calls this function of its file by name."""
    function = inspect.unwrap(attention_class(load_backbone(folder)).forward)
    assert ROTATION in function.__code__.co_names and callable(function.__globals__[ROTATION])


def test_wrapped_attention_is_fused_and_a_named_kernel_without_a_place_is_an_error(folder, monkeypatch):
    model = load_backbone(folder)
    kind = attention_class(model)
    plain = kind.forward

    @functools.wraps(plain)
    def wrapped(*given, **options):
        return plain(*given, **options)

    monkeypatch.setattr(kind, "forward", wrapped)
    assert use_fused(model, "torch")["rope"] == 3
    del wrapped.__wrapped__  # now the function that rotates cannot be found
    with pytest.raises(ConfigError, match="kernels.rope: torch fits none of 3 places"):
        use_fused(load_backbone(folder), "torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_back_end_leaks(folder, backend):
    if reason := why_not(backend, torch.zeros(1)):
        pytest.skip(reason)
    assert leak_check(load_backbone(folder), backend=backend).others == 0.0


def test_another_model_in_the_process_keeps_its_own_modules(folder, ids):
    plain = load_backbone(folder)
    before = {name: module.forward for name, module in plain.named_modules()}
    use_fused(load_backbone(folder))
    assert all(module.forward == before[name] for name, module in plain.named_modules())


def test_a_picture_is_seen_whole_where_spans_say_so(folder, ids):
    model = load_backbone(folder).eval()
    row, lengths = ids.flatten().repeat(2)[None, :20], torch.tensor([0, 12, 20])
    positions = torch.cat([torch.arange(12), torch.arange(8)])[None]
    changed = row.clone()
    changed[0, 6] = (changed[0, 6] + 1) % VOCABULARY

    def moved(**options) -> list[int]:
        with torch.no_grad():
            one, other = (packed_logits(model, x, positions, lengths, **options) for x in (row, changed))
        return (one - other).abs().amax(dim=-1)[0].nonzero().flatten().tolist()

    assert min(moved()) == 6 and max(moved()) < 12
    assert min(moved(image_spans=((3, 8),))) == 3 and max(moved(image_spans=((3, 8),))) < 12


def test_auto_leaves_the_modules_as_they_are_without_a_gpu(folder):
    model = load_backbone(folder)
    before = {name: module.forward for name, module in model.named_modules()}
    assert use_kernels(model, KernelsConfig(), CPU) == {}
    assert all(module.forward == before[name] for name, module in model.named_modules())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"norm": "triton"}, "kernels.norm: triton cannot run here: .*TRITON_INTERPRET"),
        ({"attention": "flex"}, "kernels.attention: flex cannot run here: it runs on GPUs only"),
    ],
)
def test_a_named_kernel_that_cannot_run_is_an_error_with_its_reason(content, message, folder, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ConfigError, match=message):
        use_kernels(load_backbone(folder), KernelsConfig(**content), CPU)


def test_an_activation_that_is_none_of_silu_has_no_place():
    content = {"model_type": "gemma3_text", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    content |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    model = build_backbone(BackboneConfig(config=content), VOCABULARY, seed=0)
    with pytest.raises(ConfigError, match="kernels.swiglu: torch fits none of 0 places in Gemma3ForCausalLM"):
        use_kernels(model, KernelsConfig(swiglu="torch"), CPU)


def test_a_back_end_is_named_for_each_model_and_an_argument_goes_before_it(folder, ids, monkeypatch):
    seen = []
    attend = packed.attend
    monkeypatch.setattr(packed, "attend", lambda *given: seen.append(given[-1]) or attend(*given))
    model, other = load_backbone(folder).eval(), load_backbone(folder).eval()
    assert use_kernels(model, KernelsConfig(attention="dense"), CPU) == {"attention": 3}
    row, borders = ids[:1], torch.tensor([0, ids.shape[1]])
    places = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        wanted = packed_logits(other, row, places, borders)
        assert (packed_logits(model, row, places, borders) - wanted).abs().max() <= 1e-5
        packed_logits(model, row, places, borders, attention_backend="documents")
    assert seen == ["auto"] * 3 + ["dense"] * 3 + ["documents"] * 3


def test_every_back_end_can_be_named():
    assert set(KernelsConfig.model_fields["attention"].annotation.__args__) == {"auto", *BACKENDS}
