"""One self-contained HTML page of a speech tokenizer: figures, codebook, and utterances before and after."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mmpt import html
from mmpt.data.hearing.recogniser import ListenerConfig, recognise
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.evaluation.metrics.judges import JUDGES
from mmpt.evaluation.metrics.speech_tokenizer import SpeechEvaluation, evaluate_speech_tokenizer
from mmpt.evaluation.pages.plots import codebook_plot, spectrogram_plot, training_plot
from mmpt.media import decode_speech, encode_wav
from mmpt.modality import SAMPLE_RATE
from mmpt.storage import write_bytes
from mmpt.tokenizers.speech.config import SoundGates
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

SHOWN = 8
_MEANING = {
    "wer": "word error rate through the codes",
    "reconstruction_wer": "word error rate of the decoded sound",
    "codes_used": "share of the codes in use",
    "entropy": "entropy of the codes ÷ that of even use",
    "bits_per_second": "bits a second",
    "stoi": "STOI of the decoded sound",
    "dnsmos": "DNSMOS of the decoded sound",
    "speaker_similarity": "similarity of voices",
    "pesq": "PESQ of the decoded sound",
    "mel_distance": "mel distance, decades of power",
    "encoding_rtf": "real-time factor of encoding",
    "decoding_rtf": "real-time factor of decoding",
}


def evaluate_speech_run(
    run: Path,
    shards: Path | str,
    page: Path,
    gates: SoundGates,
    limit: int | None = None,
    judges: Sequence[str] = (),
    recognizer: SpeechTokenizer | None = None,
) -> SpeechEvaluation:
    """Figures of the speech tokenizer of `run`, or in it, over the first `limit` utterances of `shards`, and the `page`.

    Judged by `judges` and those that `gates` has bars for, read by its listener or else the `recognizer`. Raises `DataError`
    where there is no utterance with a transcript."""
    tokenizer = SpeechTokenizer.load(run / "tokenizer" if (run / "tokenizer").is_dir() else run)
    stream = (part for document in DocumentShards(shards) for part in document.parts)
    spoken = list(islice((part for part in stream if isinstance(part, Speech) and part.text.strip()), limit))
    if not spoken:
        raise DataError(f"{shards}: no utterance with a transcript")
    waveforms, texts = [decode_speech(part.data, tokenizer.sample_rate) for part in spoken], [part.text for part in spoken]
    read_by = recognizer.recognize if recognizer else None
    if gates.listener:
        read_by = partial(recognise, ListenerConfig(model=gates.listener))
    asked = [name for name in JUDGES if name in judges or getattr(gates, name) is not None]
    found = evaluate_speech_tokenizer(tokenizer, waveforms, texts, read_by, asked)
    metrics = [run / stage / "metrics.jsonl" for stage in ("recognition", "speaking")]
    write_speech_page(page, run.name, waveforms, texts, found, metrics)
    return found


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
