"""GLM-4-Voice's tokenizer: its codes against the computation written down again, on a checkpoint with its names and settings."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_glm_tokenizer import CODES, CONFIG, DIM, HEADS, LAYERS, MELS, glm_tokenizer
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.tokenizers.load import load_speech
from mmpt.tokenizers.published.glm4_voice import Glm4Voice
from mmpt.tokenizers.published_folder import import_tokenizer


def states_by_hand(weights: dict[str, torch.Tensor], config: dict, samples: np.ndarray) -> torch.Tensor:
    """Before the quantiser, of one utterance of at most 30 s, as the paper and the released configuration have it."""
    get = {name.removeprefix("model.encoder."): value.double() for name, value in weights.items()}
    features = WhisperFeatureExtractor(feature_size=MELS)(
        samples, sampling_rate=16_000, return_attention_mask=True, return_tensors="pt", padding="longest", pad_to_multiple_of=1280
    )
    x, heard = features["input_features"].double(), features["attention_mask"][0, ::2].bool()
    pad = (2, 0) if config["encoder_causal_convolution"] else (1, 1)
    x = F.gelu(F.conv1d(F.pad(x, pad), get["conv1.weight"], get["conv1.bias"]))
    x = F.gelu(F.conv1d(F.pad(x, pad), get["conv2.weight"], get["conv2.bias"], stride=2))[0].T
    x = x + get["embed_positions.weight"][: len(x)]
    for layer in range(LAYERS):
        own = {name.removeprefix(f"layers.{layer}."): value for name, value in get.items() if name.startswith(f"layers.{layer}.")}
        y = F.layer_norm(x, (DIM,), own["self_attn_layer_norm.weight"], own["self_attn_layer_norm.bias"])
        q = (y @ own["self_attn.q_proj.weight"].T + own["self_attn.q_proj.bias"]).view(len(x), HEADS, -1)
        k = (y @ own["self_attn.k_proj.weight"].T).view(len(x), HEADS, -1)
        v = (y @ own["self_attn.v_proj.weight"].T + own["self_attn.v_proj.bias"]).view(len(x), HEADS, -1)
        mixed = torch.zeros_like(q)
        for query in range(len(x)):
            block = config["quantize_causal_block_size"]
            last = len(x) if block is None else (query // block + 1) * block
            keys = [key for key in range(min(last, len(x))) if heard[key]]
            for head in range(HEADS):
                weight = torch.softmax(k[keys, head] @ q[query, head] / math.sqrt(DIM // HEADS), dim=0)
                mixed[query, head] = weight @ v[keys, head]
        x = x + mixed.flatten(1) @ own["self_attn.out_proj.weight"].T + own["self_attn.out_proj.bias"]
        y = F.layer_norm(x, (DIM,), own["final_layer_norm.weight"], own["final_layer_norm.bias"])
        x = x + F.gelu(y @ own["fc1.weight"].T + own["fc1.bias"]) @ own["fc2.weight"].T + own["fc2.bias"]
    groups = x.view(-1, 4, DIM)
    pooled = groups.mean(dim=1) if config["pooling_type"] == "avg" else groups.amax(dim=1)
    return pooled[heard[::4]]


def codes_by_hand(weights: dict[str, torch.Tensor], config: dict, samples: np.ndarray) -> list[int]:
    states, codebook = states_by_hand(weights, config, samples), weights["model.encoder.codebook.weight"].double()
    return (states[:, None] - codebook).square().sum(dim=2).argmin(dim=1).tolist()


def speech(samples: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + draw.normal(0, 0.05, samples)).astype(np.float32)


@pytest.mark.parametrize(
    "changes",
    [{}, {"pooling_type": "max", "quantize_causal_block_size": None, "encoder_causal_convolution": False}],
    ids=["as released", "otherwise"],
)
def test_codes_are_those_of_the_computation_by_hand(changes, tmp_path):
    # 2.1 s: three blocks of 0.8 s, and a last code of which a part alone is sound.
    waveforms = [speech(33_700), speech(12_800, 1), speech(100, 2)]
    weights = load_file(glm_tokenizer(tmp_path / "first", **changes) / "model.safetensors")
    # Codes that lie where states do: a state that is a little wrong has another code.
    states = states_by_hand(weights, {**CONFIG, **changes}, waveforms[0]).float()
    folder = glm_tokenizer(tmp_path / "glm", states + 0.02 * torch.randn_like(states), **changes)
    found = Glm4Voice().load(folder).encode(waveforms)
    weights = load_file(folder / "model.safetensors")
    expected = [codes_by_hand(weights, {**CONFIG, **changes}, one) for one in waveforms]
    assert [codes.tolist() for codes in found] == expected
    assert [len(codes) for codes in found] == [27, 10, 1] and len(set(found[0].tolist())) > 20


def test_speech_of_more_than_thirty_seconds_is_cut_there(tmp_path):
    codec = Glm4Voice().load(glm_tokenizer(tmp_path / "glm"))
    samples = speech(31 * 16_000)
    parts = codec.encode([samples[: 30 * 16_000], samples[30 * 16_000 :]])
    assert codec.encode([samples])[0].tolist() == [*parts[0].tolist(), *parts[1].tolist()]


def test_it_is_imported_and_its_codes_cannot_be_spoken(tmp_path):
    folder = glm_tokenizer(tmp_path / "glm")
    figures = import_tokenizer(Glm4Voice(model=str(folder)), tmp_path / "imported").figures
    assert (figures.codes, figures.rate, figures.sample_rate) == (CODES, 12.5, 16_000)
    tokenizer = load_speech(tmp_path / "imported")
    samples = speech(9_000)
    assert tokenizer.encode([samples])[0].tolist() == Glm4Voice().load(folder).encode([samples])[0].tolist()
    assert not tokenizer.speaks_in_blocks
    with pytest.raises(DataError, match="cannot be spoken without its decoder"):
        tokenizer.decode([np.array([1, 2])])


def test_what_is_not_as_released_is_told(tmp_path):
    with pytest.raises(ConfigError, match="pooling_position is 1, expected 2"):
        Glm4Voice().load(glm_tokenizer(tmp_path / "early", pooling_position=1))
    with pytest.raises(ConfigError, match="encoder_causal_attention is True, expected False"):
        Glm4Voice().load(glm_tokenizer(tmp_path / "causal", encoder_causal_attention=True))
    plain = glm_tokenizer(tmp_path / "plain", quantize_vocab_size=None)
    with pytest.raises(CheckpointError, match="model_type is 'whisper', expected a tokenizer's"):
        load_speech(plain)
    lost = glm_tokenizer(tmp_path / "lost")
    tensors = load_file(lost / "model.safetensors")
    del tensors["model.encoder.codebook.weight"]
    save_file(tensors, lost / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks 1 weights: codebook.weight"):
        Glm4Voice().load(lost)
