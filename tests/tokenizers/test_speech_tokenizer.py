"""The speech tokenizer at toy size: counts, invariance, training, saving, bad input."""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from examples_in_memory import speech_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mmpt.data.lost import from_lines
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech
from mmpt.errors import CheckpointError, DataError
from mmpt.layers.positions import sinusoids
from mmpt.media import encode_wav
from mmpt.storage import published_folder
from mmpt.tokenizers.speech.batches import SpeechExample, why_not_trained
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.text_decoder import SmallTextDecoder
from mmpt.tokenizers.speech.tokenizer import DecoderTraining, SpeechTokenizer
from mmpt.tokenizers.terms import Term
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.distributed import World
from mmpt.training.examples import utterances

pytestmark = pytest.mark.slow

WORDS = {"do": 300, "re": 700, "mi": 1500, "fa": 3200}
STILL = {"speed": 0, "pitch": 0, "gain": 0, "tilt": 0, "noise": 0, "time_mask": 0, "mel_mask": 0}


@dataclass(frozen=True)
class Plan:
    batch_size: int = 4
    seed: int = 0


def config(encoder: dict | None = None, **changes) -> SpeechConfig:
    small = {
        "quantizer": {"kind": "ema", "codes": 16, "dim": 4, "restart_every": 5},
        "encoder": {"dim": 32, "heads": 2, "conv_blocks": 1, "layers_before": 1, "layers_pooled": 1, "layers_after": 1,
                    "text_layers": 1, **(encoder or {})},
        "decoder": {"dim": 32, "heads": 2, "layers": 1, "blocks": 1},
        "mels": 32, "window": 16, "augment": STILL,
    }  # fmt: skip
    return SpeechConfig(**{**small, **changes})


def example(text: str, seed: int = 0) -> SpeechExample:
    """A tone of 0.2 s for each word, silence between."""
    time = np.arange(3200) / 16000
    pieces = [np.concatenate([0.3 * np.sin(2 * np.pi * WORDS[word] * time), np.zeros(1600)]) for word in text.split()]
    samples = np.concatenate(pieces) + np.random.default_rng(seed).normal(0, 0.003, 4800 * len(pieces))
    return SpeechExample(samples.astype(np.float32), text)


EXAMPLES = [example(text, seed) for seed, text in enumerate(("do re mi", "fa do", "mi mi re", "re fa do"))]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def build(**changes) -> SpeechTokenizer:
    torch.manual_seed(0)
    return SpeechTokenizer(config(**changes), train_text_tokenizer([e.text for e in EXAMPLES] * 4, 270))


def loss_of(terms: dict[str, Term]) -> torch.Tensor:
    return sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight)


def train(model: torch.nn.Module, config: SpeechConfig, steps: int, learning_rate: float = 3e-3) -> list[dict]:
    batches = speech_batches(EXAMPLES, config, Plan())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, betas=(0.9, 0.98))
    losses = []
    model.train()
    for step in range(steps):
        torch.manual_seed(step)
        output = model.loss(batches(step), step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss_of(output).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(
            {name: float(term.total.detach() / term.count.clamp_min(1)) for name, term in output.items() if term.weight}
        )
    model.eval()
    return losses


@pytest.fixture(scope="module")
def trained() -> tuple[SpeechTokenizer, list]:
    torch.set_num_threads(1)
    model = build()
    losses = train(model, model.config, 200)
    losses += train(DecoderTraining(model), model.config, 50)
    model.choose_default_voice(EXAMPLES)
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


def test_a_code_depends_on_its_surroundings_alone():
    model = build(encoder={"attention": 2}).eval()
    mel = torch.randn(1, 16 * 8, 32)
    changed = mel.clone()
    changed[:, 12 * 8 :] += 3.0
    with torch.inference_mode():
        one, other = (model.encoder.states(m, torch.tensor([16])) for m in (mel, changed))
    # two layers look 2 codes ahead each; stem and convolution less than one more
    torch.testing.assert_close(one[:, :7], other[:, :7], atol=1e-6, rtol=0)
    assert (one[:, 12:] - other[:, 12:]).abs().max() > 1e-2


@settings(deadline=None, max_examples=20)
@given(
    pool=st.sampled_from([1, 2, 4, 8]), block=st.sampled_from([None, 1, 2, 5]), attention=st.integers(0, 4),
    layers=st.integers(0, 2), convs=st.integers(0, 2), size=st.integers(1, 12), samples=st.integers(1, 60_000),
)  # fmt: skip
def test_windows_give_the_codes_of_the_whole_each_once(pool, block, attention, layers, convs, size, samples):
    shape = {"block": block, "attention": attention, "layers_before": layers, "layers_pooled": layers, "conv_blocks": convs}
    model = build(encoder=shape, pool=pool, window=size, quantizer={"kind": "fsq", "levels": [8, 8, 8]}).eval()
    sound = noise(samples)
    count = -(-samples // model.config.samples_per_code)
    whole = model._encoded(lambda found: found.codes, [sound], torch.tensor([count]))[0]
    assert np.array_equal(model.encode([sound])[0], whole) and len(whole) == count


@settings(deadline=None, max_examples=20)
@given(
    block=st.sampled_from([None, 1, 3]), samples=st.integers(0, 50_000), data=st.data(),
    stages=st.sampled_from([1, 2]), attention=st.integers(0, 3),
)  # fmt: skip
def test_a_stream_gives_the_codes_of_the_whole_audio(block, samples, data, stages, attention):
    quantizer = {"kind": "residual", "stages": stages, "stage": {"codes": 16, "dim": 4}}
    model = build(encoder={"block": block, "attention": attention}, quantizer=quantizer).eval()
    torch.manual_seed(1)
    for stage in model.encoder.quantizer.stages:
        stage.codebook.normal_()
    sound, given, at = noise(samples), [], 0
    with model.streaming() as stream:
        while at < samples:
            step = data.draw(st.integers(1, 9000))
            given.append(stream.push(sound[at : at + step]))
            at += step
            late = min(at, samples) - sum(map(len, given)) // stages * 1280
            assert late < stream.latency + 1280 if block else late <= stream.latency + 1280
        given.append(stream.finish())
    expected = model.encode([sound])[0] if samples else np.zeros(0)
    assert np.array_equal(np.concatenate(given), expected)


def test_a_causal_stream_waits_for_its_block_alone():
    model = build(encoder={"block": 1}).eval()
    with model.streaming() as stream:
        assert stream.latency == 1280  # 80 ms
        assert len(stream.push(noise(1279))) == 0 and len(stream.push(noise(1))) == 1
        with pytest.raises(DataError, match="NaN"):
            stream.push(np.full(5000, np.nan, np.float32))
        assert len(stream.push(noise(1280))) == 1 and len(stream.finish()) == 0
        with pytest.raises(DataError, match="finished"):
            stream.push(noise(1280))


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


def test_long_audio_is_encoded_in_bounded_pieces(monkeypatch):
    """What the encoder is given at once does not grow with the length."""
    model = build(window=375, encoder={"dim": 8, "heads": 1}).eval()
    states, sizes = model.encoder.states, []

    def watched(mel, lengths):
        sizes.append(mel[0].numel())
        return states(mel, lengths)

    monkeypatch.setattr(model.encoder, "states", watched)
    sound = np.tile(noise(16_000 * 60), 20)
    model.encode([sound[: len(sound) // 2]])
    bound, calls = max(sizes), len(sizes)
    (codes,) = model.encode([sound])
    assert len(codes) == 20 * 750 and max(sizes) == bound and len(sizes) > 2 * calls  # neither longer pieces nor more at once
    assert np.array_equal(codes[750 : 2 * 750], codes[2 * 750 : 3 * 750])  # each minute has the same surroundings


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


def test_the_text_decoder_sees_no_state_past_the_end():
    torch.manual_seed(0)
    decoder = SmallTextDecoder(20, 16, 2, 1, 0.0).eval()
    ids, states, lengths = torch.randint(20, (2, 4)), torch.randn(2, 6, 16), torch.tensor([3, 6])
    with torch.inference_mode():
        before = decoder(ids, states, lengths)
        states[0, 3:] = 100.0
        torch.testing.assert_close(decoder(ids, states, lengths), before)
        later = decoder(torch.cat([ids[:, :2], ids[:, 2:] * 0], dim=1), states, lengths)
    torch.testing.assert_close(later[:, :2], before[:, :2])  # nor a later token


def test_states_are_numbered_by_the_tokens_begun():
    decoder = SmallTextDecoder(3, 16, 2, 1, 0.0)
    heard = torch.tensor([[3, 0, 0, 3, 0, 1, 1, 2]])  # 3 is the blank: the tokens 0, 0, 1, 2 begin at 1, 4, 5, 7
    scores = (torch.nn.functional.one_hot(heard, 4) * 100.0).log_softmax(dim=-1)
    numbered = decoder._numbered(torch.zeros(1, 8, 16), scores)
    torch.testing.assert_close(numbered[0], sinusoids(torch.tensor([0.0, 1, 1, 1, 2, 3, 3, 4]), 16))


def test_reading_always_stops():
    torch.manual_seed(0)
    decoder = SmallTextDecoder(20, 16, 2, 1, 0.0).eval()
    with torch.inference_mode():
        decoder.head.bias[7] = 100.0
        texts = decoder.read(*torch.randn(2, 2, 5, 16), torch.tensor([2, 5]))
        assert texts == [[7] * 8, [7] * 14]
        decoder.head.bias[decoder.end] = 1000.0
        assert decoder.read(*torch.randn(2, 2, 5, 16), torch.tensor([2, 5])) == [[], []]


@pytest.mark.parametrize(
    ("resting", "progress", "moving"),
    [
        (False, 0.0, {"encoder", "reader", "speaker"}),
        (False, 0.5, {"encoder", "reader", "speaker"}),
        (True, 0.5, {"speaker"}),
    ],
)
def test_a_training_step_is_deterministic_and_moves_what_it_should(resting, progress, moving):
    tokenizer = build()
    batch = speech_batches(EXAMPLES, config(augment={}), Plan())(3)
    train(tokenizer, tokenizer.config, 3)
    start = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    model = DecoderTraining(tokenizer) if resting else tokenizer
    runs = []
    for _ in range(2):
        tokenizer.load_state_dict(start)
        model.train().zero_grad(set_to_none=True)
        torch.manual_seed(11)
        loss = loss_of(model.loss(batch, progress))
        loss.backward()
        runs.append((loss.detach(), {name: p.grad for name, p in tokenizer.named_parameters() if p.grad is not None}))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(gradient, runs[1][1][name]) for name, gradient in runs[0][1].items())
    assert {name.split(".")[0] for name in runs[0][1]} == moving
    if resting:
        after = tokenizer.state_dict()
        assert all(torch.equal(after[name], value) for name, value in start.items())


def test_a_transcript_without_letters_is_named():
    assert why_not_trained(SpeechExample(noise(9000), "… ?!"), config()) == "no letter or digit in its text '… ?!'"


@pytest.mark.parametrize(
    "quantizer", [{"kind": "none", "dim": 4}, {"kind": "residual", "stages": 3, "stage": {"codes": 8, "dim": 4}}]
)
def test_other_quantisers_in_the_same_place(quantizer):
    model = build(quantizer=quantizer)
    losses = train(model, model.config, 60)
    sounds = [e.samples for e in EXAMPLES]
    assert losses[-1]["reading"] < losses[0]["reading"] / 3
    texts = model.recognize(sounds)
    if quantizer["kind"] == "none":
        with pytest.raises(DataError, match="without a quantiser"):
            model.encode(sounds)
        return
    codes = model.encode(sounds)
    assert model.codes == 24 and model.rate == 37.5
    assert all(np.array_equal(row.reshape(-1, 3) // 8, np.tile([0, 1, 2], (len(row) // 3, 1))) for row in codes)
    assert model.transcribe(codes) == texts
    assert [len(sound) for sound in model.decode(codes)] == [len(row) // 3 * 1280 for row in codes]
    for wrong, said in ((codes[0][:-1], "multiple of the 3 stages"), (codes[0][::-1], "do not come in turn")):
        with pytest.raises(DataError, match=said):
            model.decode([wrong])


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


def test_utterances_that_cannot_be_learned_from_are_left_out_and_listed(tmp_path, capsys):
    model = build(window=20)
    longest = 20 * model.config.samples_per_code
    sounds = {"fits": (longest, "do re"), "too long": (longest + 1, "do re"), "too much": (longest, "x" * 511)}
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for name, (size, text) in sounds.items():
            sound = Speech(encode_wav(noise(size), 16_000), "wav", 16_000, size / 16_000, text)
            writer.write(Document(name, "test", (sound,)))
        writer.write(Document("damaged", "test", (Speech(b"RIFF", "wav", 16_000, 1.0, "do"), sound)))
    where = ([tmp_path / "shards"], model.sample_rate)
    (kept,) = utterances(*where, None, tmp_path, World(0, 1, torch.device("cpu")), model.why_not_learned)
    assert kept.text == "do re" and len(kept.samples) == longest
    lost = from_lines((tmp_path / "lost.jsonl").read_bytes())
    assert [one.item for one in lost] == ["too long/0", "too much/0", "damaged/0", "damaged/1"]
    assert "longer than the window of 20" in lost[0].reason and "512 tokens, at most 511" in lost[1].reason
    assert "4 of 5 utterances are left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="no utterance to learn from.*: x"):
        utterances(*where, None, tmp_path, World(0, 1, torch.device("cpu")), lambda example: "x")


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
    quiet = [SpeechExample(0.2 * noise(8000, i), "do") for i in range(3)]
    odd = SpeechExample(np.sin(np.arange(8000)).astype(np.float32), "do")
    model.choose_default_voice([odd, *quiet])
    vectors = [model.voice(e.samples) for e in (odd, *quiet)]
    default = model.speaker.voice(model.default_voice).detach().numpy()
    distances = [np.abs(vector - default).max() for vector in vectors]
    assert min(distances) < 0.02 and np.argmin(distances) != 0 and distances[0] > 10 * min(distances)
