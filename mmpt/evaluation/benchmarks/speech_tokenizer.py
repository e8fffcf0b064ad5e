"""The model's speech tokenizer alone, no decoder LLM between."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmpt.data.sources import Source
from mmpt.document import Speech
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._sources import utterances_of
from mmpt.evaluation.metrics.intervals import whole_measure
from mmpt.evaluation.metrics.listening import speech_tokenizer
from mmpt.evaluation.metrics.recognition import error_rates, words_right
from mmpt.media import decode_speech, encode_wav, resampled

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class SpeechTokenizerAlone(Benchmark):
    """What the speech tokenizer keeps: how many codes are in use, and the word error rate of its codes and of the sound decoded
    from them, as Codec-SUPERB measures codecs (Wu et al. 2024, arXiv:2402.13071), read by its own text decoder."""

    source: Source
    """Documents with speech and its text."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`."""
        import torch

        from mmpt.tokenizers.codebook_health import codebook_use

        tokenizer = speech_tokenizer(model)
        utterances = utterances_of(self.source, self.limit)
        expected, rate = [one.text for one in utterances.items], tokenizer.sample_rate
        codes = tokenizer.encode([decode_speech(one.speech.data, rate) for one in utterances.items])
        decoded_rate, sounds = tokenizer.sound_rate, tokenizer.decode(codes)
        # The decoded sound is encoded once more: its words are read as those of any other sound.
        read = tokenizer.transcribe(tokenizer.encode([resampled(one, decoded_rate, rate) for one in sounds]))
        used = torch.from_numpy(np.concatenate(codes))
        use, count = codebook_use(used, tokenizer.codes), len(expected)
        decoded = [Speech(encode_wav(one, decoded_rate), "wav", decoded_rate, len(one) / decoded_rate) for one in sounds]
        outcomes = tuple(
            Outcome(one.item, (one.speech,), (sound,), one.text, got, words_right(one.text, got))
            for one, sound, got in zip(utterances.items, decoded, read, strict=True)
        )
        measures = (
            whole_measure("codebook used", use["used"], count),
            whole_measure("codebook entropy", use["entropy"], count),
            replace(error_rates(expected, tokenizer.transcribe(codes))[0], name="tokenizer WER"),
            replace(error_rates(expected, read)[0], name="reconstruction WER"),
        )
        counts = torch.bincount(used.reshape(-1), minlength=tokenizer.codes).tolist()
        method = "read by the tokenizer's own text decoder; entropy ÷ that of even use; jiwer, normalised"
        return Result(self.name, method, measures, outcomes, tuple(utterances.missing), tuple(counts))
