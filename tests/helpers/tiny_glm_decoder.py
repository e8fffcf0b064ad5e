"""A decoder of GLM-4-Voice with the names and the layout of THUDM/glm-4-voice-decoder, small and of random weights."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny_glm_tokenizer import glm_tokenizer

SCRIPT = str(Path(__file__).resolve().parents[2] / "tokenizers" / "import.py")
CODES, WIDTH, MELS, INNER, HEADS, BLOCK = 32, 8, 6, 12, 2, 10
VOICE, CHANNELS, HEAD_DIM, BASE, HARMONICS, PITCH = 5, 8, 4, 8, 2, 7

YAML = f"""# as released: values by reference, and sections that nothing here is of
__set_seed1: !apply:random.seed [1986]
sample_rate: 22050
spk_embed_dim: {VOICE}

llm: !new:cosyvoice.nothing.Language
    spk_embed_dim: !ref <spk_embed_dim>
    text_encoder: !new:cosyvoice.nothing.Encoder
        input_size: 512

flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_size: {WIDTH}
    output_size: {MELS}
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: {CODES}
    input_frame_rate: 12.5
    only_mask_loss: True
    encoder: !new:cosyvoice.transformer.encoder.BlockConformerEncoder
        output_size: {WIDTH}
        attention_heads: {HEADS}
        linear_units: {INNER}
        num_blocks: 2
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'block_rel_selfattn'
        block_size: {BLOCK}
        input_size: {WIDTH}
        use_cnn_module: False
        macaron_style: False
    length_regulator: !new:cosyvoice.flow.length_regulator.InterpolateRegulator
        channels: {MELS}
        sampling_ratios: [1, 1]
    decoder: !new:cosyvoice.flow.flow_matching.ConditionalCFM
        in_channels: {3 * MELS}
        n_spks: 1
        spk_emb_dim: {MELS}
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                training_cfg_rate: 0.2
                inference_cfg_rate: 0.7
                reg_loss_type: 'l1'
        estimator: !new:cosyvoice.flow.decoder.ConditionalDecoder
            in_channels: {4 * MELS}
            out_channels: {MELS}
            channels: [{CHANNELS}, {2 * CHANNELS}]
            dropout: 0
            attention_head_dim: {HEAD_DIM}
            n_blocks: 2
            num_mid_blocks: 1
            num_heads: {HEADS}
            act_fn: 'gelu'

hift: !new:cosyvoice.hifigan.generator.HiFTGenerator
    in_channels: {MELS}
    base_channels: {BASE}
    nb_harmonics: {HARMONICS}
    sampling_rate: !ref <sample_rate>
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [8, 8]
    upsample_kernel_sizes: [16, 16]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 5]
    resblock_dilation_sizes: [[1, 3], [1, 5]]
    source_resblock_kernel_sizes: [3, 5]
    source_resblock_dilation_sizes: [[1], [1, 3]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: {MELS}
        cond_channels: {PITCH}
"""


class Weights:
    """Random tensors by name."""

    def __init__(self, seed: int):
        self.draw, self.found = torch.Generator().manual_seed(seed), {}

    def add(self, name: str, *shape: int, about: float = 0.0, scale: float = 0.3) -> None:
        self.found[name] = about + scale * torch.randn(shape, generator=self.draw)

    def layer(self, name: str, out: int, *rest: int, bias: bool = True, scale: float = 0.3) -> None:
        self.add(f"{name}.weight", out, *rest, scale=scale)
        if bias:
            self.add(f"{name}.bias", out, scale=0.2)

    def norm(self, name: str, width: int) -> None:
        self.add(f"{name}.weight", width, about=1.0, scale=0.2)
        self.add(f"{name}.bias", width, scale=0.2)

    def normed(self, name: str, first: int, *rest: int, bias: int, length: float = 0.8) -> None:
        """A convolution as length and direction."""
        self.add(f"{name}.weight_g", first, 1, 1, about=length, scale=0.1)
        self.add(f"{name}.weight_v", first, *rest)
        self.add(f"{name}.bias", bias, scale=0.1)


def flow_weights() -> dict[str, torch.Tensor]:
    make = Weights(1)
    make.add("input_embedding.weight", CODES, WIDTH, scale=1.0)
    make.layer("spk_embed_affine_layer", MELS, VOICE)
    make.layer("encoder.embed.out.0", WIDTH, WIDTH)
    make.norm("encoder.embed.out.1", WIDTH)
    make.norm("encoder.after_norm", WIDTH)
    for layer in range(2):
        place = f"encoder.encoders.{layer}"
        make.add(f"{place}.self_attn.pos_bias_u", HEADS, WIDTH // HEADS)
        make.add(f"{place}.self_attn.pos_bias_v", HEADS, WIDTH // HEADS)
        for name in ("q", "k", "v", "out"):
            make.layer(f"{place}.self_attn.linear_{name}", WIDTH, WIDTH)
        make.layer(f"{place}.self_attn.linear_pos", WIDTH, WIDTH, bias=False)
        make.layer(f"{place}.feed_forward.w_1", INNER, WIDTH)
        make.layer(f"{place}.feed_forward.w_2", WIDTH, INNER)
        make.norm(f"{place}.norm_ff", WIDTH)
        make.norm(f"{place}.norm_mha", WIDTH)
    make.layer("encoder_proj", MELS, WIDTH)
    for place in (0, 3):
        make.layer(f"length_regulator.model.{place}", MELS, MELS, 3)
        make.norm(f"length_regulator.model.{place + 1}", MELS)
    make.layer("length_regulator.model.6", MELS, MELS, 1)
    _estimator(make, "decoder.estimator")
    return make.found


def _estimator(make: Weights, place: str) -> None:
    time, low, high = 4 * CHANNELS, CHANNELS, 2 * CHANNELS
    make.layer(f"{place}.time_mlp.linear_1", time, 4 * MELS)
    make.layer(f"{place}.time_mlp.linear_2", time, time)
    stages = {
        "down_blocks.0": (4 * MELS, low), "down_blocks.1": (low, high), "mid_blocks.0": (high, high),
        "up_blocks.0": (2 * high, low), "up_blocks.1": (2 * low, low),
    }  # fmt: skip
    for stage, (into, width) in stages.items():
        residual = f"{place}.{stage}.0"
        make.layer(f"{residual}.mlp.1", width, time)
        for number, channels in ((1, into), (2, width)):
            make.layer(f"{residual}.block{number}.block.0", width, channels, 3)
            make.norm(f"{residual}.block{number}.block.1", width)
        make.layer(f"{residual}.res_conv", width, into, 1)
        for number in range(2):
            block = f"{place}.{stage}.1.{number}"
            make.norm(f"{block}.norm1", width)
            make.norm(f"{block}.norm3", width)
            for name in ("to_q", "to_k", "to_v"):
                make.layer(f"{block}.attn1.{name}", HEADS * HEAD_DIM, width, bias=False)
            make.layer(f"{block}.attn1.to_out.0", width, HEADS * HEAD_DIM)
            make.layer(f"{block}.ff.net.0.proj", 4 * width, width)
            make.layer(f"{block}.ff.net.2", width, 4 * width)
    make.layer(f"{place}.down_blocks.0.2.conv", low, low, 3)
    make.layer(f"{place}.down_blocks.1.2", high, high, 3)
    make.layer(f"{place}.up_blocks.0.2.conv", low, low, 4)
    make.layer(f"{place}.up_blocks.1.2", low, low, 3)
    make.layer(f"{place}.final_block.block.0", low, low, 3)
    make.norm(f"{place}.final_block.block.1", low)
    make.layer(f"{place}.final_proj", MELS, low, 1)


def hift_weights() -> dict[str, torch.Tensor]:
    make, low = Weights(2), BASE // 4
    make.layer("m_source.l_linear", 1, HARMONICS + 1, scale=2.0)
    make.normed("conv_pre", BASE, MELS, 7, bias=BASE)
    make.normed("ups.0", BASE, BASE // 2, 16, bias=BASE // 2, length=1.5)
    make.normed("ups.1", BASE // 2, low, 16, bias=low, length=1.5)
    make.layer("source_downs.0", BASE // 2, 18, 16)
    make.layer("source_downs.1", low, 18, 1)
    _residual(make, "source_resblocks.0", BASE // 2, 3, 1)
    _residual(make, "source_resblocks.1", low, 5, 2)
    for number, (width, kernel) in enumerate([(BASE // 2, 3), (BASE // 2, 5), (low, 3), (low, 5)]):
        _residual(make, f"resblocks.{number}", width, kernel, 2)
    make.normed("conv_post", 18, low, 7, bias=18, length=0.3)
    for number in range(5):
        make.normed(f"f0_predictor.condnet.{2 * number}", PITCH, PITCH if number else MELS, 3, bias=PITCH, length=1.5)
    make.add("f0_predictor.classifier.weight", 1, PITCH, scale=5.0)  # Hz, voiced and not
    make.add("f0_predictor.classifier.bias", 1, about=15.0)
    return make.found


def _residual(make: Weights, place: str, width: int, kernel: int, pairs: int) -> None:
    for number in range(pairs):
        for which in (1, 2):
            make.normed(f"{place}.convs{which}.{number}", width, width, kernel, bias=width)
            make.add(f"{place}.activations{which}.{number}.alpha", width, about=1.0, scale=0.2)


def glm_decoder(folder: Path) -> Path:
    """As its authors put it on the Hub: two pickles and a configuration that names classes of theirs."""
    folder.mkdir()
    (folder / "config.yaml").write_text(YAML)
    torch.save(flow_weights(), folder / "flow.pt")
    torch.save(hift_weights(), folder / "hift.pt")
    return folder


def import_glm(folder: Path, out: Path) -> Path:
    """`out`, a tokenizer with such a decoder that tokenizers/import.py made of what lies in the new `folder`."""
    folder.mkdir()
    tokenizer, decoder, spec = glm_tokenizer(folder / "tokenizer"), glm_decoder(folder / "decoder"), folder / "glm.yaml"
    spec.write_text(f"published: {{kind: glm4_voice, model: {tokenizer}, decoder: {decoder}}}\n")
    run_import(spec, out)
    return out


def run_import(*words: str | Path) -> None:
    """tokenizers/import.py in this process, with `words` behind its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [SCRIPT, *map(str, words)])
        runpy.run_path(SCRIPT, run_name="__main__")
