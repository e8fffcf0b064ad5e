"""The speech tokenizer at toy size: counts, invariance, training, saving, bad input."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mmpt.errors import CheckpointError, DataError
from mmpt.storage import published_folder
from mmpt.tokenizers.speech.batches import utterance
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.speaking import DecoderTraining
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

from .tiny_speech import EXAMPLES, build, noise, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained() -> tuple[SpeechTokenizer, list]:
    torch.set_num_threads(1)
    model = build()
    losses = train(model, model.config, 200)
    losses += train(DecoderTraining(model), model.config, 50)
    model.choose_default_voice([example.samples for example in EXAMPLES])
    return model, losses


def test_four_utterances_are_learned_by_heart(trained):
    model, losses = trained
    assert losses[190]["reading"] < losses[0]["reading"] / 20
    assert losses[-1]["mel"] < losses[0]["mel"] / 3
    codes = model.encode([e.samples for e in EXAMPLES])
    assert model.transcribe(codes) == [e.text for e in EXAMPLES]
    assert len(np.unique(np.concatenate(codes))) >= 6


def test_what_is_decoded_reads_the_same_again(trained):
    model, _ = trained
    codes = model.encode([e.samples for e in EXAMPLES])
    for voice in (None, model.voice(EXAMPLES[0].samples)):
        assert model.transcribe(model.encode(model.decode(codes, voice))) == [e.text for e in EXAMPLES]


def test_the_loudness_of_a_code_is_that_of_its_frames_and_is_saved(trained, tmp_path):
    model, config = copy.deepcopy(trained[0]), trained[0].config
    model.measure_loudness([utterance(EXAMPLES[0], config)])
    frames: dict[int, list[float]] = {}
    (codes,) = model.encode([EXAMPLES[0].samples])
    mel = log_mel(torch.from_numpy(EXAMPLES[0].samples), config.mels, len(codes) * config.frames_per_code).numpy()
    for place, code in enumerate(codes.tolist()):
        frames.setdefault(code, []).extend(mel[place * config.frames_per_code : (place + 1) * config.frames_per_code].ravel())
    for code, values in frames.items():
        assert model.loudness[code] == pytest.approx(np.mean(values), abs=1e-4)
    unheard = [code for code in range(model.codes) if code not in frames]
    assert len(model.loudness[unheard].unique()) == 1
    model.save(tmp_path / "saved")
    assert torch.equal(SpeechTokenizer.load(tmp_path / "saved").loudness, model.loudness)
    weights = {name: value for name, value in load_file(tmp_path / "saved" / "model.safetensors").items() if name != "loudness"}
    model.load_state_dict(weights)  # of before it was measured
    assert not model.loudness.any()


def test_long_speech_is_read_in_pieces_that_end_where_its_codes_are_quiet(trained, monkeypatch):
    model = copy.deepcopy(trained[0])
    longest, cut = model.config.longest or model.config.window, []
    model.loudness.fill_(1.0)[0] = 0.0
    row = np.ones(2 * longest, dtype=np.int64)
    row[longest // 2 : longest // 2 + 5] = row[longest + 2 : longest + 8] = 0
    monkeypatch.setattr(model.reader, "read", lambda states, alone, lengths: [cut.append(int(n)) or [] for n in lengths])
    model.transcribe([row])
    assert sorted(cut) == sorted([longest // 2 + 2, longest + 5 - (longest // 2 + 2), len(row) - longest - 5])


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 45_000), min_size=1, max_size=5))
def test_codes_count_the_samples_and_ignore_the_neighbours(trained, lengths):
    model, _ = trained
    waveforms = [noise(length, i) for i, length in enumerate(lengths)]
    together = model.encode(waveforms)
    assert [len(codes) for codes in together] == [-(-length // 1280) for length in lengths]
    assert all(codes.dtype == np.int64 for codes in together)
    for waveform, codes in zip(waveforms, together, strict=True):
        assert np.array_equal(model.encode([waveform])[0], codes)


@pytest.mark.parametrize("garbage", [100.0, -50.0])
def test_nothing_past_the_end_reaches_a_state(trained, garbage):
    model, _ = trained
    mel, lengths = torch.randn(2, 12 * 8, 32), torch.tensor([5, 12])
    padded = mel.clone()
    padded[0, 40:] = garbage
    with torch.inference_mode():
        alone = model.encoder.states(mel[:1, :40], lengths[:1])
        torch.testing.assert_close(model.encoder.states(padded, lengths)[:1, :5], alone, atol=1e-5, rtol=1e-5)
        states = torch.randn(2, 12, 4)
        rubbish = states.clone()
        rubbish[0, 5:] = garbage
        for part in (lambda s, n: model.encoder.read(s, n)[1], lambda s, n: model.speaker.coarse(s, n, torch.zeros(len(s), 8))):
            short, long = part(states[:1, :5], lengths[:1]), part(rubbish, lengths)
            torch.testing.assert_close(long[:1, : short.shape[1]], short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("longest", [None, 5])
def test_long_codes_are_decoded_by_windows_and_read_in_pieces_no_longer_than_training_s(trained, longest, monkeypatch):
    model = copy.copy(trained[0])
    model.config = model.config.model_copy(update={"longest": longest})
    (codes,) = model.encode([noise(2 * model.config.window * 1280 + 3000)])
    assert len(model.decode([codes])[0]) == len(codes) * 1280
    read, asked = model.reader.read, []
    monkeypatch.setattr(model.reader, "read", lambda *given: (asked.extend(given[2].tolist()), read(*given))[1])
    assert model.transcribe([codes])[0]
    assert max(asked) == round(0.6 * (longest or model.config.window)) and sum(asked) > len(codes)  # they overlap


def test_decoded_sound_is_sound(trained):
    model, _ = trained
    for codes, samples in zip(([0], [3, 3, 5, 9]), model.decode([np.array([0]), np.array([3, 3, 5, 9])]), strict=True):
        assert samples.dtype == np.float32 and samples.shape == (len(codes) * 1280,)
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1.0
    first, second = (model.decode([np.array([3, 5])])[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "samples", [np.zeros(320, np.float32), np.zeros(16_000, np.float32), noise(320), np.ones(5000, np.float32)]
)
def test_silence_and_a_blink_are_sound_too(trained, samples):
    model, _ = trained
    codes = model.encode([samples])
    assert len(codes[0]) == -(-len(samples) // 1280)
    assert isinstance(model.transcribe(codes)[0], str)
    voice = model.voice(samples)
    assert voice.shape == (8,) and voice.dtype == np.float32 and np.isfinite(voice).all()
    assert np.isfinite(model.decode(codes, voice)[0]).all()


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.array([0.1, np.nan], np.float32), "NaN"),
        (np.array([np.inf], np.float32), "infinity"),
        (np.zeros(0, np.float32), "not a single sample"),
        (np.zeros((2, 800), np.float32), r"float32 \(2, 800\)"),
        (np.zeros(800, np.float64), "float64"),
        (np.zeros(800, np.int16), "int16"),
        ([0.0] * 800, "list"),
    ],
)
def test_what_is_no_sound_is_refused_by_number(trained, waveform, said):
    model, _ = trained
    with pytest.raises(DataError, match=f"waveform 1: .*{said}"):
        model.encode([noise(800), waveform])
    with pytest.raises(DataError, match=said):
        model.voice(waveform)


@pytest.mark.parametrize("codes", [np.array([], np.int64), np.array([0.5]), np.array([[1]]), np.array([16]), np.array([-1])])
def test_what_is_no_code_is_refused_by_number(trained, codes):
    model, _ = trained
    for method in (model.decode, model.transcribe):
        with pytest.raises(DataError, match="sequence 1"):
            method([np.array([1, 2]), codes])
    with pytest.raises(DataError, match="voice"):
        model.decode([np.array([1])], voice=np.zeros(3))


def test_no_items_are_no_results(trained):
    model, _ = trained
    assert model.encode([]) == model.decode([]) == model.transcribe([]) == []


def test_a_saved_tokenizer_is_the_same_tokenizer(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path / "tokenizer")
    loaded = SpeechTokenizer.load(tmp_path / "tokenizer")
    waveforms = [noise(9000), *(e.samples for e in EXAMPLES)]
    codes = model.encode(waveforms)
    assert all(np.array_equal(one, other) for one, other in zip(codes, loaded.encode(waveforms), strict=True))
    assert loaded.transcribe(codes) == model.transcribe(codes)
    assert np.array_equal(loaded.decode(codes[:1])[0], model.decode(codes[:1])[0])
    assert (loaded.codes, loaded.rate, loaded.sample_rate, loaded.training) == (16, 12.5, 16_000, False)


def test_silence_says_nothing(trained):
    model, quiet = trained[0], np.full(16_000, 1e-3, dtype=np.float32)
    assert model.recognize([np.zeros(16_000, dtype=np.float32), EXAMPLES[0].samples, quiet])[::2] == ["", ""]
    assert model.recognize([EXAMPLES[0].samples])[0] == model.transcribe(model.encode([EXAMPLES[0].samples]))[0] != ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_encodes_reads_and_speaks_as_float32_nearly(trained, dtype):
    model = copy.deepcopy(trained[0]).to(dtype)
    sounds = [one.samples for one in EXAMPLES[:2]]
    codes = trained[0].encode(sounds)
    assert model.transcribe(codes) == trained[0].transcribe(codes)
    for found, expected in zip(model.decode(codes), trained[0].decode(codes), strict=True):
        assert found.dtype == np.float32 and found.shape == expected.shape and np.isfinite(found).all()
    assert model.voice(sounds[0]).dtype == np.float32
    assert len(model.encode(sounds)[0]) == len(codes[0]) and len(model.recognize(sounds)) == 2


def test_a_damaged_folder_is_refused_by_file_name(trained, tmp_path):
    model, _ = trained
    for name in ("config.json", "model.safetensors", "text/tokenizer.json"):
        folder = tmp_path / name.replace("/", "-")
        model.save(folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            SpeechTokenizer.load(folder)
        (folder / "manifest.json").unlink()
        with pytest.raises(CheckpointError, match="manifest.json is missing"):
            SpeechTokenizer.load(folder)


def saved_without(model: SpeechTokenizer, name: str, folder: Path) -> Path:
    """`model` as a whole folder whose weights lack a tensor."""
    model.save(folder / "whole")
    with published_folder(folder / "less", {"format": "mmpt-speech-tokenizer/2"}) as temporary:
        shutil.copytree(folder / "whole", temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        weights = load_file(temporary / "model.safetensors")
        del weights[name]
        save_file(weights, temporary / "model.safetensors")
    return folder / "less"


def test_a_tokenizer_saved_before_codes_were_counted_gives_the_same_codes(trained, tmp_path):
    model, sound = trained[0], [EXAMPLES[0].samples]
    folder = saved_without(model, "encoder.quantizer.seen", tmp_path)
    for kind in (SpeechTokenizer, SpeechCoder):
        assert kind.load(folder).encode(sound)[0].tolist() == model.encode(sound)[0].tolist()


def test_weights_that_lack_a_tensor_are_refused(trained, tmp_path):
    folder = saved_without(trained[0], "encoder.norm.weight", tmp_path)
    for kind in (SpeechTokenizer, SpeechCoder):
        with pytest.raises(CheckpointError, match="encoder.norm.weight"):
            kind.load(folder)


def test_another_kind_of_folder_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "mmpt-image-tokenizer/1", "files": {}}))
    with pytest.raises(CheckpointError, match="mmpt-speech-tokenizer/2"):
        SpeechTokenizer.load(tmp_path)


def test_the_default_voice_is_the_most_central_one():
    model = build()
    quiet = [0.2 * noise(8000, i) for i in range(3)]
    odd = np.sin(np.arange(8000)).astype(np.float32)
    model.choose_default_voice([odd, *quiet])
    vectors = [model.voice(samples) for samples in (odd, *quiet)]
    default = model.speaker.voice(model.default_voice).detach().numpy()
    distances = [np.abs(vector - default).max() for vector in vectors]
    assert min(distances) < 0.02 and np.argmin(distances) != 0 and distances[0] > 10 * min(distances)
