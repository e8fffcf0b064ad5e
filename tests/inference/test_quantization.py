"""Weights of eight bits: the values that they stand for, what stays as it is, and answers that stay well-formed."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mmpt.cli import main
from mmpt.document import Text
from mmpt.errors import ConfigError
from mmpt.inference.engine import Prompt, write_all
from mmpt.inference.load import load, load_engine
from mmpt.inference.server.writers import EngineProcess
from mmpt.inference.settings import Settings
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.loading import FORMAT, load_model
from mmpt.model.quantization import quantize
from mmpt.storage import link_tree, published_folder

from .asking import EVERYTHING, HOT, limits, post
from .live import serving
from .tiny import write_checkpoint

pytest.importorskip("torchao")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return find_checkpoint(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def _values(layer: nn.Module) -> torch.Tensor:
    """What the bytes of a layer stand for, in float64: each times the scale of its row."""
    weight = layer.weight
    assert weight.qdata.dtype == torch.int8 and weight.qdata.shape == weight.shape and weight.scale.shape == (len(weight), 1)
    return weight.qdata.double() * weight.scale.detach().double()


def _rounded(layer: nn.Module, whole: torch.Tensor) -> bool:
    """Whether each value is the nearest of 255 steps, as wide as the largest magnitude of its row asks for."""
    step = whole.detach().double().abs().amax(dim=1, keepdim=True) / 127.5
    return bool(((_values(layer) - whole.detach().double()).abs() <= 0.5001 * step).all())


def _logits(model, ids) -> torch.Tensor:
    with torch.inference_mode():
        return model.engine().logits([Prompt(ids)])[0]


def test_matrices_are_those_of_a_byte_and_tables_stay(run):
    plain, small = load(run, "cpu"), load(run, "cpu", quantization="int8")
    before, after = dict(plain.model.named_modules()), dict(small.model.named_modules())
    matrices = [name for name, module in before.items() if isinstance(module, nn.Linear) and name != "lm_head"]
    assert len(matrices) == 2 * 7
    assert all(_rounded(after[name], before[name].weight) for name in matrices)
    # Tied: still one table, of the same bits.
    assert after["lm_head"].weight is small.model.get_input_embeddings().weight
    assert torch.equal(after["lm_head"].weight, before["lm_head"].weight)


def test_logits_are_those_of_the_matrices_by_hand(run):
    plain, small = load(run, "cpu"), load(run, "cpu", quantization="int8")
    ids = list(range(1, 60))
    whole, found = _logits(plain, ids), _logits(small, ids)
    with torch.no_grad():
        for name, module in plain.model.base_model.named_modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(_values(small.model.base_model.get_submodule(name)))
    scale = float(whole.abs().max())
    assert float((found - _logits(plain, ids)).abs().max()) < 1e-5 * scale
    assert 1e-5 * scale < float((found - whole).abs().max()) < 0.02 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_side_by_side_write_what_each_writes_alone_and_all_is_well_formed(run, dtype):
    model = load(run, "cpu", dtype, quantization="int8")
    prompts = model.prompts([[Text(text)] for text in ("a red circle", "über", "seen by someone who says", "blue")])
    settings = [Settings(max_new_tokens=40, seed=seed, speech={"temperature": 1.0}) for seed in range(4)]
    together = write_all(model.engine(), prompts, settings)
    for ids in together:
        model.tokenizer.vocabulary.split(ids)  # raises where a block is broken
    if dtype == torch.float32:  # in bfloat16 sums of another order are other last bits
        assert together == [write_all(model.engine(), [one], [own])[0] for one, own in zip(prompts, settings, strict=True)]


def test_adapters_are_in_the_matrices_before_they_are_rounded(run, tmp_path):
    model, _ = load_model(run)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    with published_folder(tmp_path / "step-1", {"format": FORMAT, "step": 1}) as folder:
        for part in run.iterdir():
            if part.is_dir():
                link_tree(part, folder / part.name)
            elif part.name == "vocabulary.json":
                (folder / part.name).write_bytes(part.read_bytes())
        adapted.save_pretrained(str(folder / "adapter"))
    whole = load(tmp_path / "step-1", "cpu").model.get_submodule("model.layers.1.mlp.up_proj").weight
    assert not torch.equal(whole, load(run, "cpu").model.get_submodule("model.layers.1.mlp.up_proj").weight)
    found = load(tmp_path / "step-1", "cpu", quantization="int8").model.get_submodule("model.layers.1.mlp.up_proj")
    assert _rounded(found, whole)


@pytest.mark.slow
def test_the_server_answers_as_the_library(run):
    with serving(load(run, "cpu", quantization="int8"), limits()) as (address, _):
        wanted = [post(address, messages=EVERYTHING, seed=seed, **HOT).json()["choices"][0]["token_ids"] for seed in range(4)]
    front = load(run, "cpu", hollow=True, quantization="int8")
    with (
        EngineProcess(str(run), device="cpu", max_rows=4, quantization="int8") as writer,
        serving(front, limits(), writer=writer) as (address, _),
        ThreadPoolExecutor(4) as pool,
    ):
        found = pool.map(lambda seed: post(address, messages=EVERYTHING, seed=seed, **HOT), range(4))
        assert [one.json()["choices"][0]["token_ids"] for one in found] == wanted


def test_the_command_writes_with_them(run, tmp_path, monkeypatch, capsys):
    line = ["mmpt", "generate", run, "--text", "a red", "--to", "text", "--max-tokens", 12, "--quantization", "int8"]
    monkeypatch.setattr("sys.argv", [str(one) for one in (*line, "--out", tmp_path)])
    main()
    said = capsys.readouterr().out.rstrip("\n")
    (answer,) = load(run, quantization="int8").answer([[Text("a red")]], max_new_tokens=12, outputs=["text"])
    assert said == "".join(part.text for part in answer.parts if isinstance(part, Text))


def test_what_cannot_be_is_told(run, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="'int4', expected int8"):
        load_engine(run, "cpu", quantization="int4")
    with pytest.raises(ConfigError, match="has no linear layers"):
        model, _ = load_model(run)
        for module in list(model.base_model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, nn.Identity())
        quantize(model, "int8")
    present = importlib.import_module

    def absent(name: str, *given):
        if name.startswith("torchao"):
            raise ModuleNotFoundError("No module named 'torchao'", name="torchao")
        return present(name, *given)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr("sys.argv", ["mmpt", "generate", str(run), "--text", "a", "--quantization", "int8"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert 'pip install "mmpt[int8]"' in capsys.readouterr().err
