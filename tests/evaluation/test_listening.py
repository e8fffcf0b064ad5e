"""Recognisers of transformers as listeners, on tiny ones with random weights."""

import json
import shutil
import string

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from mmpt.data.hearing import recogniser
from mmpt.data.hearing.recogniser import ListenerConfig, recognise, spelled
from mmpt.document import Speech, Text
from mmpt.errors import ConfigError
from mmpt.evaluation.metrics.listening import heard
from mmpt.media import encode_wav

from .scripted import Scripted, run, sound, write_rows

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"]


def noise(samples: int, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({letter: place for place, letter in enumerate(LETTERS)}))
    words = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=False), words).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(LETTERS), pad_token_id=0, **sizes, **convolutions))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("whisper"), timestamps=False)


def save_whisper(folder, timestamps: bool):
    """`folder` with a model that writes letters alone, or `timestamps` too."""
    marks = ["endoftext", "startoftranscript", "en", "de", "transcribe", "translate", "startofprev", "nospeech", "notimestamps"]
    marks += [f"{0.02 * step:.2f}" for step in range(1501)]
    ids = {token: place for place, token in enumerate([*string.ascii_lowercase, "Ġ", *(f"<|{mark}|>" for mark in marks)])}
    words = WhisperTokenizer(vocab=ids, merges=[], pad_token="<|endoftext|>")
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16), words).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    special = {"decoder_start_token_id": start, "eos_token_id": end, "bos_token_id": end, "pad_token_id": end}
    model = WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=len(ids), num_mel_bins=16, encoder_ffn_dim=32, decoder_ffn_dim=32, **sizes, **special)
    )
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{name}|>": ids[f"<|{name}|>"] for name in ("en", "de")},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_length=20,
        suppress_tokens=[*range(end, ids["<|notimestamps|>"] + 1 if timestamps else len(ids))],
        **special,
    )
    model.save_pretrained(folder)
    return folder


def test_a_ctc_model_reads_what_its_likeliest_letters_say(ctc):
    sounds = [noise(length, seed) for seed, length in enumerate((8000, 30000, 16000))]
    model = Wav2Vec2ForCTC.from_pretrained(ctc).eval()
    wanted = []
    for samples in sounds:
        values = torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
        with torch.no_grad():
            ids = model(values).logits[0].argmax(-1).tolist()
        kept = [one for place, one in enumerate(ids) if one and (place == 0 or ids[place - 1] != one)]
        wanted.append("".join(LETTERS[one] for one in kept).replace("|", " ").strip())
    assert recognise(ListenerConfig(model=str(ctc)), sounds) == wanted and len(set(wanted)) == 3


@pytest.mark.slow
def test_whisper_reads_in_batches_what_it_reads_alone_and_takes_a_language(whisper, monkeypatch):
    monkeypatch.setattr(recogniser, "BATCH", 2)
    sounds = [noise(length, seed) for seed, length in enumerate((8000, 16_000, 24_000))]
    found = {}
    for language in ("english", "german"):
        listener = ListenerConfig(model=str(whisper), language=language)
        found[language] = recognise(listener, sounds)
        assert found[language] == [recognise(listener, [samples])[0] for samples in sounds] and all(found[language])
    assert found["english"] != found["german"]


@pytest.mark.slow
def test_whisper_is_read_from_a_folder_of_weights_and_tokens_alone(whisper, tmp_path):
    """What transformers writes greedily with settings of the model's own is where the reading begins."""
    bare, sounds = shutil.copytree(whisper, tmp_path / "bare"), [noise(n, seed) for seed, n in enumerate((8000, 16_000, 24_000))]
    told = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "unk_token": "<|endoftext|>"}
    (bare / "tokenizer_config.json").write_text(json.dumps(told))
    settings = json.loads((bare / "generation_config.json").read_text())
    (bare / "generation_config.json").write_text(json.dumps({"suppress_tokens": settings["suppress_tokens"]}))
    by_language, model = {}, WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    extractor, words = WhisperFeatureExtractor.from_pretrained(whisper), WhisperTokenizer.from_pretrained(whisper)
    for language in ("english", "german"):
        found = recognise(ListenerConfig(model=str(bare), language=language), sounds)
        heard = extractor(sounds, sampling_rate=16_000, return_tensors="pt").input_features
        ids = model.generate(heard, language=language, task="transcribe", num_beams=1)
        wanted = [text.strip() for text in words.batch_decode(ids, skip_special_tokens=True)]
        assert all(one.startswith(other) and other for one, other in zip(found, wanted, strict=True)), (found, wanted)
        by_language[language] = found
    alone = recognise(ListenerConfig(model=str(bare)), sounds)
    assert all(one in texts for one, *texts in zip(alone, *by_language.values(), strict=True))
    (long,) = recognise(ListenerConfig(model=str(bare), language="english"), [np.concatenate([noise(480_000, 1), sounds[0]])])
    assert long.endswith(f" {by_language['english'][0]}")
    with pytest.raises(ConfigError, match=r"its tokens have no <\|xx\|>"):
        recognise(ListenerConfig(model=str(bare), language="xx"), sounds)


@pytest.mark.slow
def test_what_is_longer_than_whispers_window_is_read_beside_what_is_not(tmp_path):
    listener = ListenerConfig(model=str(save_whisper(tmp_path, timestamps=True)), language="english")
    sounds = [noise(length, seed) for seed, length in enumerate((8000, 33 * 16_000, 16_000, 35 * 16_000))]
    found = recognise(listener, sounds)
    assert found[1] and found[3] and found == [recognise(listener, [samples])[0] for samples in sounds]


def test_each_answer_gets_what_its_own_speech_says(ctc):
    def spoken(samples: np.ndarray) -> Speech:
        return Speech(encode_wav(samples, 16_000), "wav", 16_000, len(samples) / 16_000)

    one, two = noise(9000, 1), noise(12000, 2)
    listener = ListenerConfig(model=str(ctc))
    answers = [(spoken(one),), (Text("nothing"),), (spoken(one), Text("and"), spoken(two))]
    found = heard(Scripted([], _NoTokenizer()), answers, listener)
    # WAV holds 16 bits
    rounded = [np.round(samples * 32767) / 32767 for samples in (one, np.concatenate([one, two]))]
    wanted = recognise(listener, [samples.astype(np.float32) for samples in rounded])
    assert found[1] == "" and [found[0], found[2]] == wanted


def test_spoken_answers_are_right_where_the_listener_hears_the_answer(ctc, tmp_path):
    samples = np.round(noise(16_000, 3) * 32767) / 32767
    answer = Speech(encode_wav(samples.astype(np.float32), 16_000), "wav", 16_000, 1.0)
    listener = {"model": str(ctc)}
    (said,) = recognise(ListenerConfig.model_validate(listener), [samples.astype(np.float32)])
    rows = [{"question": "?", "audio": "q.wav", "answers": [right]} for right in (said, "something else")]
    sound(tmp_path / "q.wav", 0.1)
    file = write_rows(tmp_path / "questions.jsonl", rows)
    asked = {"kind": "spoken_questions", "file": str(file), "spoken": True, "listener": listener}
    found = run(asked, Scripted([(answer,), (answer,)], _NoTokenizer()))
    assert [one.score for one in found.outcomes] == [1.0, 0.0] and str(ctc) in found.method


class _NoTokenizer:
    speech = None


@pytest.mark.parametrize("wrong", [{"model": "no/such/model/anywhere"}, {"language": "english"}, {"language": "klingon"}])
def test_what_cannot_be_read_by_is_said(ctc, whisper, wrong):
    model = whisper if wrong.get("language") == "klingon" else ctc
    with pytest.raises(ConfigError, match="reads nothing"):
        recognise(ListenerConfig.model_validate({"model": str(model), **wrong}), [noise(8000, 0)])


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("Out of 10, yes, 8, 13.", "Out of ten, yes, eight, thirteen."),
        ("0 20 21 99", "zero twenty twenty one ninety nine"),
        ("in 1984, 007 and 100", "in 1984, 007 and 100"),
        ("7+two is 9, one + 1", "seven plus two is nine, one plus one"),
    ],
)
def test_numbers_of_a_listener_are_spelled(read, said):
    assert spelled(read) == said


def test_numbers_are_spelled_whoever_reads(monkeypatch):
    monkeypatch.setattr(recogniser, "_recognise", lambda listener, sounds: ["it is 8"] * len(sounds))
    assert recognise(ListenerConfig(model="any", spell_numbers=True), [noise(8000, 0)]) == ["it is eight"]
    assert recognise(ListenerConfig(model="any"), [noise(8000, 0)]) == ["it is 8"]
