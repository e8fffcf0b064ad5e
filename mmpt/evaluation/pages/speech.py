"""One self-contained HTML page of a speech tokenizer: figures, codebook, and utterances before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmpt import html
from mmpt.evaluation.metrics.speech_tokenizer import SpeechEvaluation
from mmpt.evaluation.pages.plots import codebook_plot, spectrogram_plot, training_plot
from mmpt.media import encode_wav
from mmpt.modality import SAMPLE_RATE
from mmpt.storage import write_bytes
from mmpt.tokenizers.speech.features import log_mel

SHOWN = 8
_MEANING = {
    "wer": "word error rate through the codes",
    "reconstruction_wer": "word error rate of the decoded sound",
    "codes_used": "share of the codes in use",
    "entropy": "entropy of the codes ÷ that of even use",
    "bits_per_second": "bits a second",
    "stoi": "STOI of the decoded sound",
    "mel_distance": "mel distance, decades of power",
    "encoding_rtf": "real-time factor of encoding",
    "decoding_rtf": "real-time factor of decoding",
}


def write_speech_page(
    path: Path,
    title: str,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
    found: SpeechEvaluation,
    metrics: Sequence[Path],
) -> None:
    """Write the page to `path`. `metrics` are the metrics.jsonl of its training, those that exist."""
    plots = [codebook_plot(found.counts, "codes, most used first")] if found.counts else []
    plots += [training_plot(file, file.parent.name) for file in metrics if file.exists()]
    seconds, count = found.figures["seconds"], int(found.figures["utterances"])
    body = [
        html.figure_tiles(found.figures, _MEANING),
        html.heading("Codebook and training"),
        html.plots(plots),
        html.heading("Before and after"),
        *(_pair(number, waveforms, texts, found) for number in _chosen(texts, found)),
    ]
    write_bytes(path, html.page(title, body, f"{count} utterances, {seconds / 60:.1f} minutes.").encode())


def _chosen(texts: Sequence[str], found: SpeechEvaluation) -> list[int]:
    """Utterances to show: up to half of them misread ones, more where too few are right."""
    wrong = [number for number, text in enumerate(texts) if text != found.read[number]]
    right = [number for number, text in enumerate(texts) if text == found.read[number]]
    shown = right[: SHOWN - min(len(wrong), SHOWN // 2)]
    return sorted([*shown, *wrong[: SHOWN - len(shown)]])


def _pair(number: int, waveforms: Sequence[np.ndarray], texts: Sequence[str], found: SpeechEvaluation) -> html.Html:
    sounds = [waveforms[number], *([found.decoded[number]] if found.decoded else [])]
    titles = ["original", "decoded"][: len(sounds)]
    mels = [log_mel(torch.from_numpy(sound), 80, max(1, len(sound) // 160)).numpy() for sound in sounds]
    mark = "right" if texts[number] == found.read[number] else "wrong"
    read = html.tag("span", found.read[number] or "—", class_=mark)
    said = html.tag("p", f"said: {texts[number]}", html.Html("<br>"), "read: ", read)
    players = html.tag("div", *(html.audio(encode_wav(sound, SAMPLE_RATE), "wav") for sound in sounds))
    return html.card(said, html.image(spectrogram_plot(mels, titles), "png"), players, looks="wide half")
