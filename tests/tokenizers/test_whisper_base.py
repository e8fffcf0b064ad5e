"""Whisper base with its real weights, read here and by transformers. MMPT_MODELS: a folder that holds whisper-base."""

import os
from pathlib import Path

import pytest
import soundfile
import torch
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import load_text_tokenizer

CHECKPOINT = Path(os.environ.get("MMPT_MODELS", "models")) / "whisper-base"
SPEECH = Path(__file__).resolve().parents[3] / "shared" / "data" / "librispeech" / "aligned"
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="no whisper-base in MMPT_MODELS"),
    pytest.mark.skipif(not SPEECH.is_dir(), reason="no real data in data/ beside the repository"),
]


def test_two_clips_are_read_as_transformers_reads_them():
    """Together and without pooling and quantiser, against plain greedy generation of each alone on its 30 s of features."""
    encoder = {"kind": "whisper", "checkpoint": str(CHECKPOINT), "layer": 6, "overlap": 0, "prompt": PROMPT}
    config = SpeechConfig(quantizer={"kind": "none", "dim": 512}, encoder=encoder, pool=1, window=1500)
    text = load_text_tokenizer(str(CHECKPOINT))
    config = config.encoder.settled(config, text)
    ours = SpeechTokenizer(config, text)
    config.encoder.take_weights(ours.encoder, ours.reader)
    assert config.encoder.never_first == (220, 50256)
    files = sorted(SPEECH.rglob("*.flac"), key=lambda file: file.stat().st_size)[:2]
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    theirs, extract = WhisperForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32), WhisperFeatureExtractor()
    words, prompt = AutoTokenizer.from_pretrained(CHECKPOINT), torch.tensor([config.encoder.prompt])
    expected = []
    with torch.inference_mode():
        for clip in clips:
            features = extract(clip, sampling_rate=16_000, return_tensors="pt").input_features
            ids = theirs.generate(features, decoder_input_ids=prompt, num_beams=1, do_sample=False, max_new_tokens=60)
            expected.append(words.decode(ids[0], skip_special_tokens=True).strip())
    assert all(len(said.split()) > 1 for said in expected)
    assert ours.recognize(clips) == expected
