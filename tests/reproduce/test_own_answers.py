"""What recipes/own_answers.py leaves: questions, and what the model itself answers to its own template."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.chats import DEFAULT_SYSTEM, text_tokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    tokenizer = text_tokenizer(DEFAULT_SYSTEM)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = LlamaConfig(vocab_size=len(tokenizer), **sizes, bos_token_id=0, eos_token_id=end)
    network = LlamaForCausalLM(shape)
    with torch.no_grad():  # so that some answers end early and some do not
        network.lm_head.weight[end] *= 4
    for part in (network, tokenizer):
        part.save_pretrained(tmp_path / "model")
    return network, tokenizer, end


def rows(folder: Path, monkeypatch, *arguments: str) -> list[list[dict]]:
    spec = importlib.util.spec_from_file_location("own_answers", ROOT / "recipes" / "own_answers.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["own_answers.py", str(folder / "model"), str(folder / "out"), "--longest=12", *arguments])
    script.main()
    return [json.loads(row)["messages"] for row in (folder / "out" / "conversations.jsonl").read_text().splitlines()]


def test_answers_are_the_models_own_and_have_ended(model, tmp_path, monkeypatch):
    network, tokenizer, end = model
    found = rows(tmp_path, monkeypatch)
    assert 5 < len(found) < 140  # of 145: what did not end is left out
    for question, answer in found[:10]:
        assert (question["role"], answer["role"]) == ("user", "assistant")
        asked = f"<|im_start|>user\n{question['content']}<|im_end|>\n<|im_start|>assistant\n"
        text = f"<|im_start|>system\nBe useful<|im_end|>\n{asked}"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        said: list[int] = []
        with torch.no_grad():
            while not said or said[-1] != end:  # one token after the other, nothing kept
                said.append(int(network(torch.tensor([ids + said])).logits[0, -1].argmax()))
                assert len(said) < 12
        assert answer["content"] == tokenizer.decode(said, skip_special_tokens=True).strip()
    assert len({question["content"] for question, _ in found}) == len(found)
    few = rows(tmp_path, monkeypatch, "--answers=40")
    assert 0 < len(few) < len(found) and few == found[: len(few)]
