"""The training of a vocoder, with or without adversaries, which are no part of what it becomes."""

from mmpt.tokenizers.speech.adversaries import Adversaries
from mmpt.tokenizers.speech.config import AdversariesConfig
from mmpt.tokenizers.speech.vocoder import VocoderBatch
from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder
from mmpt.tokenizers.terms import Term, Trainable


class VocoderTraining(Trainable):
    """What `fit` trains. In `fit`, a training batch is a `VocoderBatch`."""

    def __init__(self, vocoder: IstftVocoder, config: AdversariesConfig):
        super().__init__()
        self.vocoder, self.config = vocoder, config
        self.adversaries = Adversaries(config)

    def loss(self, batch: VocoderBatch, progress: float) -> dict[str, Term]:
        made, samples = self.vocoder.made(batch), batch.samples.to(self.vocoder.window.device)
        terms = self.vocoder.compared(made, samples)
        return terms | self.adversaries.terms(made, samples) if progress >= self.config.start else terms
