"""Features of frozen encoders through a connector into a frozen decoder."""

import pytest
import torch
from torch.nn import functional as F
from transformers import WhisperConfig, WhisperModel

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.connecting import FeatureMap, connected
from mmpt.model.connectors.linear import Linear
from mmpt.model.features import PictureFeaturesConfig, WhisperFeaturesConfig, build_features, layer_states
from mmpt.model.forward import head_tables, hidden_states

DECODER = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
           "num_key_value_heads": 2, "head_dim": 8}  # fmt: skip
WHISPER = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 20, "num_mel_bins": 8, "max_source_positions": 30,
           "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
           "begin_suppress_tokens": None}  # fmt: skip


@pytest.fixture(scope="module")
def pictures():
    return build_features(
        parse_config(
            {"side": 32, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}},
            PictureFeaturesConfig,
            "test",
        )
    )


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    WhisperModel(WhisperConfig(**WHISPER)).save_pretrained(folder)
    return folder


def test_whisper_features_are_its_encoders_states(whisper):
    encoder = build_features(WhisperFeaturesConfig(whisper=str(whisper))).train()
    mels = torch.randn(2, 8, 60, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = WhisperModel.from_pretrained(whisper).eval().get_encoder()(mels).last_hidden_state
    found = encoder(mels)
    assert found.shape == (2, 30, encoder.width) and torch.equal(found, wanted)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_features(WhisperFeaturesConfig(whisper=str(tmp_path)))
    with pytest.raises(ConfigError, match="no_such_tower"):
        build_features(
            parse_config({"side": 32, "tower": {"kind": "timm", "model": "no_such_tower"}}, PictureFeaturesConfig, "test")
        )


def test_a_tower_that_was_never_published_is_no_encoder_of_features():
    with pytest.raises(ConfigError, match="tower: kind: vit has no published weights"):
        parse_config({"side": 32, "tower": {"patch": 8, "width": 8, "depth": 0, "heads": 1}}, PictureFeaturesConfig, "test")


def test_features_stand_where_the_slots_are(pictures):
    """A row of a decoder's own embeddings in a slot is the token itself."""
    model = build_backbone(BackboneConfig(config=DECODER), 30, seed=0).eval()
    ids, slots = torch.tensor([[3, 7, 9, 4]]), torch.tensor([[False, True, True, False]])
    positions, borders = torch.arange(4)[None], torch.tensor([0, 4])
    rows = model.get_input_embeddings()(ids[slots])
    with torch.no_grad():
        wanted = hidden_states(model, ids, positions, borders)
        found = hidden_states(model, ids.masked_fill(slots, 0), positions, borders, features=(slots[0].nonzero()[:, 0], rows))
    assert torch.equal(found, wanted)


def test_a_linear_map_alone_tells_a_frozen_decoder_what_a_picture_shows(pictures):
    """LiMBeR: encoder and decoder rest; with each picture its own word is likelier than with another's."""
    model = (
        build_backbone(BackboneConfig(config={**DECODER, "tie_word_embeddings": False}), 30, seed=0).eval().requires_grad_(False)
    )
    with torch.no_grad():
        head_tables(model)[0].mul_(30)  # a trained decoder can be sure of a word
    before = [value.clone() for value in (*model.parameters(), *pictures.parameters())]
    torch.manual_seed(0)
    connector = FeatureMap(Linear(), pictures.width, 32)
    shown = torch.rand(4, 3, 1, 1) * 2 - 1 + 0.05 * torch.randn(4, 3, 32, 32)
    features = pictures(shown).mean(dim=1, keepdim=True)
    features = (features - features.mean(dim=0)) / features.std()
    ids, words = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([5, 11, 17, 23])
    positions, borders = torch.zeros(1, 4, dtype=torch.int64), torch.arange(5)

    def loss(order: torch.Tensor) -> torch.Tensor:
        rows, zero = connected(connector, features[order], 1)
        hidden = hidden_states(model, ids, positions, borders, features=(torch.arange(4), rows.flatten(0, 1)))[0]
        return F.cross_entropy(hidden @ head_tables(model)[0].T, words) + zero

    optimizer = torch.optim.Adam(connector.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(torch.arange(4)).backward()
        optimizer.step()
    with torch.no_grad():
        own, other = float(loss(torch.arange(4))), float(loss(torch.arange(4).roll(1)))
    assert own < 0.5 and other > own + 1.0
    assert all(map(torch.equal, before, (*model.parameters(), *pictures.parameters())))


def test_states_of_layers_are_what_the_published_models_compute(pictures, whisper):
    draw = torch.Generator().manual_seed(0)
    pixels, mels = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1, torch.randn(2, 8, 60, generator=draw)
    seen = []
    hook = pictures.model.blocks[3].register_forward_hook(lambda block, inputs, output: seen.append(output[:, 0]))
    pictures(pixels)
    hook.remove()
    found = layer_states(pictures, pixels, [0, 3])
    assert found.shape == (2, 2, pictures.width) and torch.equal(found[:, 1], seen[0])
    encoder = build_features(WhisperFeaturesConfig(whisper=str(whisper)))
    assert torch.allclose(layer_states(encoder, mels, [0])[:, 0], encoder(mels).mean(dim=1), atol=1e-6)
    named = {"side": 224, "tower": {"kind": "open_clip", "model": "ViT-S-32-alt", "pretrained": None}}
    clip = build_features(parse_config(named, PictureFeaturesConfig, "test"))
    pixels = torch.rand(2, 3, 224, 224, generator=draw) * 2 - 1
    hook = clip.model.transformer.resblocks[2].register_forward_hook(lambda block, inputs, output: seen.append(output[:, 0]))
    clip(pixels)
    hook.remove()
    found = layer_states(clip, pixels, [0, 2])
    assert found.shape == (2, 2, clip.width) and torch.equal(found[:, 1], seen[1])
    for one, given, layers in (
        (pictures, pixels[..., :32, :32], [99]),
        (clip, pixels, [99]),
        (encoder, mels, [1]),
        (clip, pixels, [2, 0]),
    ):
        with pytest.raises(ConfigError, match="no states of layers"):
            layer_states(one, given, layers)
