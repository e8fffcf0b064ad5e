"""One self-contained HTML page of a speech tokenizer: figures, codebook, and utterances before and after."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmpt.document import Speech
from mmpt.evaluation.plots import codebook_plot, spectrogram_plot, training_plot
from mmpt.evaluation.report import data_uri, figure_tiles, page, part_html, plot_cards
from mmpt.evaluation.speech_tokenizer import SpeechEvaluation
from mmpt.media import encode_wav
from mmpt.storage import write_bytes
from mmpt.tokenizers.speech.config import SAMPLE_RATE
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
    tiles = figure_tiles(found.figures, _MEANING)
    plots = [codebook_plot(found.counts, "codes, most used first")] if found.counts else []
    cards = plot_cards([*plots, *(training_plot(file, file.parent.name) for file in metrics if file.exists())])
    seconds, count = found.figures["seconds"], int(found.figures["utterances"])
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="quiet">{count} utterances, {seconds / 60:.1f} minutes.</p><div class="tiles">{tiles}</div>',
        f'<h2>Codebook and training</h2><div class="plots">{cards}</div>',
        f"<h2>Before and after</h2>{''.join(_pair(number, waveforms, texts, found) for number in _chosen(texts, found))}",
    ]
    write_bytes(path, page(title, body).encode())


def _chosen(texts: Sequence[str], found: SpeechEvaluation) -> list[int]:
    """Utterances to show: up to half of them misread ones, more where too few are right."""
    wrong = [number for number, text in enumerate(texts) if text != found.read[number]]
    right = [number for number, text in enumerate(texts) if text == found.read[number]]
    shown = right[: SHOWN - min(len(wrong), SHOWN // 2)]
    return sorted([*shown, *wrong[: SHOWN - len(shown)]])


def _pair(number: int, waveforms: Sequence[np.ndarray], texts: Sequence[str], found: SpeechEvaluation) -> str:
    sounds = [waveforms[number], *([found.decoded[number]] if found.decoded else [])]
    titles = ["original", "decoded"][: len(sounds)]
    mels = [log_mel(torch.from_numpy(sound), 80, max(1, len(sound) // 160)).numpy() for sound in sounds]
    players = "".join(
        part_html(Speech(encode_wav(sound, SAMPLE_RATE), "wav", SAMPLE_RATE, len(sound) / SAMPLE_RATE)) for sound in sounds
    )
    mark = "right" if texts[number] == found.read[number] else "wrong"
    picture = data_uri("image/png", spectrogram_plot(mels, titles))
    said = f'said: {html.escape(texts[number])}<br>read: <span class="{mark}">{html.escape(found.read[number] or "—")}</span>'
    return f'<div class="card sound"><p>{said}</p><img alt="" src="{picture}"><div>{players}</div></div>'
