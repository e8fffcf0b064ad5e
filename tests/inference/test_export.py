"""What leaves mmpt: a folder for plain transformers, averaged weights, and what the doctor says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from mmpt.cli import main
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.doctor import examine
from mmpt.errors import CheckpointError, ConfigError
from mmpt.evaluation.metrics.loss import held_out_loss
from mmpt.inference.load import load
from mmpt.model.adaptation import add_adapter, save_adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.backbone import load_backbone
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.export import export_hf
from mmpt.model.forward import packed_logits
from mmpt.model.loading import FORMAT, load_model
from mmpt.model.soup import average, greedy, save_soup, subsets
from mmpt.storage import check_folder, link_tree, published_folder

from .tiny import write_checkpoint

ALONE = """
import json, sys
sys.modules["mmpt"] = None  # not to be had
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, ids = sys.argv[1], json.loads(sys.argv[2])
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
spelled = "the red<|image|><|image_00003|><|/image|><|speech_00002|>"
print(json.dumps({
    "logits": model(torch.tensor([ids])).logits[0].tolist(), "ids": tokenizer(spelled, add_special_tokens=False)["input_ids"],
    "kept": tokenizer.decode(tokenizer(spelled, add_special_tokens=False)["input_ids"]),
    "eos": model.generation_config.eos_token_id,
    "typed": tokenizer(spelled, add_special_tokens=False, split_special_tokens=True)["input_ids"], "class": type(model).__name__,
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


def adapted(run: Path, folder: Path, seed: int = 0) -> Path:
    """The checkpoint with adapters that do something."""
    checkpoint = find_checkpoint(run)
    model = add_adapter(load_model(checkpoint)[0], Lora(rank=2), seed)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.2 * torch.randn_like(parameter)
    with published_folder(folder, {"format": FORMAT, "step": 2}) as temporary:
        for name in ("backbone", "text_tokenizer", "speech_tokenizer", "image_tokenizer"):
            link_tree(checkpoint / name, temporary / name)
        (temporary / "vocabulary.json").write_bytes((checkpoint / "vocabulary.json").read_bytes())
        save_adapter(model, None, temporary / "adapter")
    return folder


def logits(checkpoint: Path, ids: list[int]) -> torch.Tensor:
    model, _ = load_model(checkpoint)
    row = torch.tensor([ids])
    with torch.no_grad():
        return packed_logits(model, row, torch.arange(len(ids))[None], torch.tensor([0, len(ids)]))[0]


@pytest.mark.slow
def test_an_export_runs_where_there_is_no_mmpt(run, tmp_path):
    checkpoint = adapted(run, tmp_path / "adapted")
    vocabulary = load(run).tokenizer.vocabulary
    out = tmp_path / "out"
    assert "adapters merged" in export_hf(checkpoint, out)
    ids = [vocabulary.special("<|begin|>"), 3, 7, 11, vocabulary.special("<|image|>"), vocabulary.image_offset + 3]
    done = subprocess.run([sys.executable, "-c", ALONE, str(out), json.dumps(ids)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (torch.tensor(found["logits"]) - logits(checkpoint, ids)).abs().max() <= 1e-5
    assert found["class"] == "Qwen3ForCausalLM" and found["eos"] == vocabulary.special("<|end|>")
    marks = [vocabulary.special("<|image|>"), vocabulary.image_offset + 3, vocabulary.special("<|/image|>")]
    assert found["ids"][-4:] == [*marks, vocabulary.speech_offset + 2]
    assert found["kept"].replace(" ", "").endswith("<|image|><|image_00003|><|/image|><|speech_00002|>")
    assert max(found["typed"]) < vocabulary.text_size
    check_folder(out, "mmpt-export/1")
    with pytest.raises(ConfigError, match="exists already"):
        export_hf(checkpoint, out)


def test_an_instruct_model_keeps_its_own_ends_of_turns(run, tmp_path):
    checkpoint, vocabulary = find_checkpoint(run), load(run).tokenizer.vocabulary
    instruct = tmp_path / "instruct"
    with published_folder(instruct, {"format": FORMAT, "step": 1}) as folder:
        link_tree(checkpoint / "text_tokenizer", folder / "text_tokenizer")
        model = load_backbone(checkpoint / "backbone")
        model.config.eos_token_id, model.generation_config.eos_token_id = 5, [7, 5]
        model.save_pretrained(folder / "backbone")
        vocabulary.save(folder)
    export_hf(instruct, tmp_path / "out")
    ends = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    assert ends == [vocabulary.special("<|end|>"), 7, 5]


def test_adapters_can_be_kept_apart(run, tmp_path):
    checkpoint = adapted(run, tmp_path / "adapted")
    export_hf(checkpoint, tmp_path / "out", keep_adapter=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = [5, 9, 13, 2]
    with torch.no_grad():
        assert (plain(torch.tensor([ids])).logits[0] - logits(find_checkpoint(run), ids)).abs().max() <= 1e-5
        both = PeftModel.from_pretrained(plain, str(tmp_path / "out" / "adapter")).eval()
        assert (both(torch.tensor([ids])).logits[0] - logits(checkpoint, ids)).abs().max() <= 1e-5


def test_an_export_in_half_precision(run, tmp_path):
    export_hf(find_checkpoint(run), tmp_path / "out", torch.bfloat16)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == load(run).tokenizer.vocabulary.size


def test_a_damaged_checkpoint_is_not_exported(run, tmp_path):
    checkpoint = adapted(run, tmp_path / "adapted")
    (checkpoint / "vocabulary.json").write_text("{}")
    with pytest.raises(CheckpointError, match="vocabulary.json: differs"):
        export_hf(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_soup_is_the_weighted_mean(run, tmp_path):
    base = find_checkpoint(run)
    others = [adapted(run, tmp_path / f"adapted-{seed}", seed) for seed in (1, 2)]
    model, vocabulary = average([base, *others], [1.0, 2.0, 5.0])
    states = [average([path])[0].state_dict() for path in (base, *others)]
    for name, value in model.state_dict().items():
        wanted = (states[0][name] + 2 * states[1][name] + 5 * states[2][name]) / 8
        assert torch.allclose(value, wanted, atol=1e-6)
    assert not torch.equal(states[0]["model.layers.0.mlp.up_proj.weight"], states[1]["model.layers.0.mlp.up_proj.weight"])
    save_soup(model, vocabulary, [base, *others], tmp_path / "soup")
    assert load(tmp_path / "soup").answer([()], max_new_tokens=3)
    for weights in ([1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]):
        with pytest.raises(ConfigError, match="expected one for each"):
            average([base, *others], weights)


def test_a_greedy_soup_takes_what_helps(run, tmp_path):
    paths = [find_checkpoint(run), *(adapted(run, tmp_path / f"adapted-{seed}", seed) for seed in (1, 2))]
    weight = "model.layers.0.mlp.up_proj.weight"
    aim = (average([paths[0]])[0].state_dict()[weight] + average([paths[2]])[0].state_dict()[weight]) / 2
    chosen, loss = greedy(paths, lambda model, _: float((model.state_dict()[weight] - aim).norm()))
    assert set(chosen) == {paths[0], paths[2]} and loss < 1e-5


def test_every_subset_is_measured(run, tmp_path):
    paths = [find_checkpoint(run), *(adapted(run, tmp_path / f"adapted-{seed}", seed) for seed in (1, 2))]
    weight = "model.layers.0.mlp.up_proj.weight"
    aim = sum(average([path])[0].state_dict()[weight] for path in paths[1:]) / 2
    found = subsets(paths, lambda model, _: float((model.state_dict()[weight] - aim).norm()))
    assert len(found) == 7 and found[0][1] == paths[1:] and found[0][0] < 1e-5
    assert [loss for loss, _ in found] == sorted(loss for loss, _ in found)
    with pytest.raises(ConfigError, match="expected 8 at most"):
        subsets([tmp_path] * 9, lambda *_: 0.0)


def test_models_of_other_shapes_make_no_soup(run, tmp_path):
    other = write_checkpoint(tmp_path, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match="another shape"):
        average([find_checkpoint(run), find_checkpoint(other)])


def test_the_loss_on_held_out_shards_is_that_of_each_document_alone(run, tmp_path):
    model, vocabulary = load_model(find_checkpoint(run))
    draw = np.random.default_rng(0)
    total = weight = 0.0
    with TokenShardWriter(tmp_path / "held-out", vocabulary=vocabulary, built={}) as writer:
        for number in range(9):
            ids = draw.integers(0, vocabulary.text_size, 5 + number)
            weights = draw.choice([0.0, 1.0, 0.5], len(ids)).astype(np.float32)
            writer.write(TokenDocument(str(number), "test", ids, weights))
            nll = (
                -logits(find_checkpoint(run), ids.tolist()).log_softmax(dim=-1)[:-1].gather(1, torch.tensor(ids[1:, None]))[:, 0]
            )
            total += float((torch.from_numpy(weights[1:]) * nll).sum())
            weight += float(weights[1:].sum())
    assert held_out_loss(model, vocabulary, [tmp_path / "held-out"]) == pytest.approx(total / weight, abs=1e-5)


def test_the_doctor_says_what_runs_here():
    lines, wrong = examine()
    said = "\n".join(lines)
    assert wrong == 0 and f"torch                {torch.__version__.partition('+')[0]}" in said
    assert "attention documents  runs" in said
    if not torch.cuda.is_available():
        assert "attention xformers   no: it runs on GPUs only" in said and "GPU                  none" in said


def test_the_commands(run, tmp_path, monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmpt", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    asked = ("--text", "the red", "--temperature", 1.3, "--max-tokens", 90, "--out", tmp_path / "answer")
    code, said, _ = call("generate", run, *asked, "--seed", 3)
    (answer,) = load(run).answer([_text("the red")], max_new_tokens=90, seed=3, **{k: {"temperature": 1.3} for k in KINDS})
    assert code == 0
    written = {"png": 0, "wav": 0}
    for part in answer.parts:
        if hasattr(part, "data"):
            path = tmp_path / "answer" / f"answer-{written[part.suffix]}.{part.suffix}"
            written[part.suffix] += 1
            assert str(path) in said and path.is_file()  # sound in blocks is rounded otherwise
        else:
            assert part.text in said
    assert sum(written.values())
    assert call("generate", run)[0] == 2
    code, _, error = call("generate", run, "--text", "a", "--alternate", 13, 26, "--to", "text")
    assert code == 2 and "alternate needs" in error
    assert call("export", run, "--out", tmp_path / "hf")[0] == 0 and (tmp_path / "hf" / "config.json").is_file()
    assert call("export", run, "--out", tmp_path / "hf")[0] == 2
    assert call("soup", run, adapted(run, tmp_path / "other"), "--out", tmp_path / "soup", "--weights", 1, 3)[0] == 0
    assert call("doctor")[0] == 0


KINDS = ("text", "image", "speech")


def _text(words: str) -> tuple:
    from mmpt.document import Text

    return (Text(words),)
