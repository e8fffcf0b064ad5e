"""Published codecs of speech: codes and sound are those of their own library, in either order, whole or in a stream."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_published import dac, emu3, mimi, x_codec2
from transformers import Xcodec2FeatureExtractor

from mmpt.codebooks import in_order
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.tokenizers.load import load_image, load_speech, load_speech_coder
from mmpt.tokenizers.published.dac import Dac
from mmpt.tokenizers.published.mimi import Mimi
from mmpt.tokenizers.published.x_codec2 import XCodec2
from mmpt.tokenizers.published_folder import import_tokenizer, opened


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, samples).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def the_mimi(folder):
    return mimi(folder / "mimi")


@pytest.fixture(scope="module")
def the_dac(folder):
    return dac(folder / "dac")


@pytest.fixture(scope="module")
def said(folder, the_mimi):
    """By layout: the codec, codes, and their sound as a whole."""
    codecs = {layout: Mimi(codebooks=2, layout=layout).load(folder / "mimi") for layout in ("flatten", "delay")}
    codes = {layout: codec.encode([noise(64 * 37)])[0] for layout, codec in codecs.items()}
    return {layout: (codec, codes[layout], codec.decode([codes[layout]])[0]) for layout, codec in codecs.items()}


@torch.inference_mode()
def mimi_itself(model, samples, kept):
    codes = model.encode(torch.from_numpy(samples)[None, None], num_quantizers=kept).audio_codes
    return codes[0].T.numpy(), model.decode(codes).audio_values[0, 0].numpy()


@torch.inference_mode()
def dac_itself(model, samples, kept):
    padded = np.pad(samples, (0, -len(samples) % 10))
    codes = model.encode(torch.from_numpy(padded)[None, None], n_quantizers=kept).audio_codes
    return codes[0].T.numpy(), model.decode(audio_codes=codes).audio_values[0].numpy()


@pytest.mark.parametrize("layout", ["flatten", "delay"])
@pytest.mark.parametrize("kind", ["mimi", "dac"])
def test_codes_and_sound_are_those_of_the_library(kind, layout, folder, the_mimi, the_dac):
    method, model, itself, per_frame = {"mimi": (Mimi, the_mimi, mimi_itself, 64), "dac": (Dac, the_dac, dac_itself, 10)}[kind]
    codec = method(codebooks=3, layout=layout).load(folder / kind)
    waveforms = [noise(1000, 1), noise(641, 2), noise(1000, 3), noise(3, 4)]  # of several lengths: nothing fills up
    found = codec.encode(waveforms)
    sounds = codec.decode(found)
    for samples, codes, sound in zip(waveforms, found, sounds, strict=True):
        expected, spoken = itself(model, samples, 3)
        assert len(expected) == -(-len(samples) // per_frame) and len(np.unique(expected)) > 1
        assert codes.dtype == np.int64 and codes.tolist() == in_order(expected, 16, layout).tolist()
        np.testing.assert_allclose(sound, spoken, atol=1e-5 * max(1.0, np.abs(spoken).max()))
    assert codec.figures.codes == 48 and codec.figures.layout == layout


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.sampled_from(["flatten", "delay"]))
@settings(deadline=None, max_examples=12)
def test_mimi_in_a_stream_is_mimi_as_a_whole(said, pieces, layout):
    codec, codes, whole = said[layout]
    edges = [*np.cumsum(pieces)[np.cumsum(pieces) < len(codes)], len(codes)]
    with codec.speaking() as stream:
        given = []
        for part in np.split(codes, edges[:-1]):
            silent = stream.silent
            given.append(stream.push(part))
            assert not len(given[-1]) or len(part) > silent
        heard = np.concatenate([*given, stream.finish()])
    # 250 times finer than what a sample of 16 bits resolves, beside the loudest.
    np.testing.assert_allclose(heard, whole, atol=1e-6 * np.abs(whole).max())
    with pytest.raises(DataError, match="finished"):
        stream.push(codes[:1])


def test_sound_comes_before_the_end_and_what_cannot_come_next_is_refused(folder, the_mimi):
    codec = Mimi(codebooks=2, layout="delay").load(folder / "mimi")
    codes = codec.encode([noise(64 * 20)])[0]
    with codec.speaking() as stream:
        assert stream.silent == 9
        assert len(stream.push(codes[:10])) == 0  # the fifth frame's second code comes next
        assert len(stream.push(codes[10:11])) == 5 * 64
        with pytest.raises(DataError, match="code 0 is of codebook 1, expected 0"):
            stream.push(np.array([17, 17]))
    with codec.speaking() as stream, pytest.raises(DataError, match="code 32, expected 0 … 31"):
        stream.push(np.array([32]))


@pytest.mark.parametrize("kind", ["mimi", "dac"])
def test_long_audio_is_taken_in_windows_and_long_sound_made_in_pieces(kind, folder, the_mimi, the_dac):
    method, frames = {"mimi": (Mimi, 40), "dac": (Dac, 120)}[kind]
    codec = method(codebooks=2).load(folder / kind)
    samples = noise(codec.hop * frames + 1)
    whole = codec.encode([samples])[0]
    (sound,) = codec.decode([whole])
    codec.window = frames // 3
    assert codec.encode([samples])[0].tolist() == whole.tolist()
    np.testing.assert_allclose(codec.decode([whole])[0], sound, atol=1e-3 * np.abs(sound).max())


def test_a_stream_of_a_codec_that_looks_ahead_holds_back_what_may_change(folder, the_dac):
    codec = Dac(codebooks=2).load(folder / "dac")
    codes = codec.encode([noise(1200)])[0]
    (whole,) = codec.decode([codes])
    with codec.speaking() as stream:
        first = stream.push(codes[: 2 * 60])
        heard = np.concatenate([first, stream.push(codes[2 * 60 :]), stream.finish()])
    assert 0 < len(first) <= 10 * (60 - codec.speaks[1])
    np.testing.assert_allclose(heard, whole, atol=1e-3 * np.abs(whole).max())


def test_x_codec2_by_its_own_features(folder):
    model = x_codec2(folder / "x_codec2")
    codec = XCodec2().load(folder / "x_codec2")
    samples = noise(3201)
    with torch.inference_mode():
        inputs = Xcodec2FeatureExtractor()(samples, sampling_rate=16_000, return_tensors="pt")
        expected = model.encode(**inputs).audio_codes[0, 0]
        spoken = model.decode(audio_codes=expected[None, None, :11]).audio_values[0, 0].numpy()
    codes = codec.encode([samples, samples[:640]])
    assert codes[0].tolist() == expected[:11].tolist() and len(codes[1]) == 2 and len(set(codes[0].tolist())) > 1
    np.testing.assert_allclose(codec.decode(codes)[0], spoken, atol=1e-5 * max(1.0, np.abs(spoken).max()))
    assert codec.figures.codes == 64 and codec.figures.rate == 50


def test_a_folder_of_hugging_face_and_an_imported_one_are_tokenizers(folder, the_mimi, tmp_path):
    figures = import_tokenizer(Mimi(model=str(folder / "mimi"), codebooks=2, layout="delay"), tmp_path / "two").figures
    assert (figures.codes, figures.rate, figures.codebooks, figures.layout) == (32, 25.0, 2, "delay")
    assert figures.bits == 25 * 4 and opened(tmp_path / "two").settings.codebooks == 2
    samples = noise(640)
    codes = [load(tmp_path / "two").encode([samples])[0].tolist() for load in (load_speech, load_speech_coder)]
    assert codes[0] == codes[1] == Mimi(codebooks=2, layout="delay").load(folder / "mimi").encode([samples])[0].tolist()
    mimi(tmp_path / "plain", num_quantizers=8)
    assert load_speech(tmp_path / "plain").figures.codebooks == 8  # as Moshi uses it
    (tmp_path / "two" / "model" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors: missing"):
        load_speech(tmp_path / "two")


def test_what_does_not_fit_is_told(folder, the_mimi, tmp_path):
    asked = partial(import_tokenizer, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="published.codebooks is 5, the checkpoint has 4"):
        asked(Mimi(model=str(folder / "mimi"), codebooks=5))
    with pytest.raises(CheckpointError, match="published.kind is dac, its config.json is of mimi"):
        asked(Dac(model=str(folder / "mimi")))
    with pytest.raises(CheckpointError, match="no such folder"):
        asked(Mimi(model=str(tmp_path / "none")))
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="model_type is 'llama', expected a tokenizer's"):
        load_speech(tmp_path / "llama")
    with pytest.raises(CheckpointError, match="neither manifest.json nor config.json"):
        load_speech(tmp_path)
    emu3(tmp_path / "emu3")
    with pytest.raises(CheckpointError, match="emu3 is an image tokenizer, expected one of speech"):
        load_speech(tmp_path / "emu3")
    with pytest.raises(CheckpointError, match="mimi is a speech tokenizer, expected one of images"):
        import_tokenizer(Mimi(model=str(folder / "mimi"), codebooks=2), tmp_path / "two")
        load_image(tmp_path / "two")
    codec = Mimi(codebooks=2).load(folder / "mimi")
    for codes, problem in [([0], "1 codes, 1 short of whole frames of 2"), ([0, 99], "0 … 31"), ([], "at least one")]:
        with pytest.raises(DataError, match=problem):
            codec.decode([np.array(codes, dtype=np.int64)])
    with pytest.raises(DataError, match="code 1 is of codebook 0, expected 1"):
        codec.decode([np.array([0, 1])])
    with pytest.raises(DataError, match="hold the voice"):
        codec.decode([np.array([0, 16])], voice=np.zeros(3))
    with pytest.raises(DataError, match="waveform 0: holds NaN"):
        codec.encode([np.full(9, np.nan, dtype=np.float32)])


def test_features_of_another_sample_rate_are_refused(folder, the_mimi, tmp_path):
    mimi(tmp_path / "mimi")
    (tmp_path / "mimi" / "preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    with pytest.raises(CheckpointError, match="sampling_rate is 24000, the model takes 800"):
        Mimi(codebooks=2).load(tmp_path / "mimi")


def test_a_lost_weight_is_told(folder, the_mimi, tmp_path):
    from safetensors.torch import load_file, save_file

    mimi(tmp_path / "mimi")
    path = tmp_path / "mimi" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "decoder" in name))
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights of a MimiModel"):
        Mimi(codebooks=2).load(tmp_path / "mimi")


def test_a_name_of_the_hub_brings_only_what_is_read(folder, the_mimi, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, allow_patterns: asked.append(allow_patterns) or str(folder / "mimi")
    )
    files = [type("File", (), {"rfilename": name}) for name in ("config.json", "model.safetensors", "onnx/model.onnx", "a.md")]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name: type("Info", (), {"siblings": files}))
    assert opened("kyutai/mimi").folder == folder / "mimi"
    assert asked == [["*.json"], ["config.json", "model.safetensors"]]
