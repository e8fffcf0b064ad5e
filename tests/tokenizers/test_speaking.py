"""The trainings of what speaks: a vocoder against adversaries, a decoder on codes that are known."""

import numpy as np
import pytest
import torch

from mmpt.errors import DataError
from mmpt.tokenizers.speech.adversaries import PERIODS, RESOLUTIONS, Adversaries
from mmpt.tokenizers.speech.config import AdversariesConfig, SpeechConfig
from mmpt.tokenizers.speech.decoder import SpeechDecoder
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.reference import commonest
from mmpt.tokenizers.speech.speaking import SpeakingTraining, speaking_batches
from mmpt.tokenizers.speech.vocoder import vocoder_batches
from mmpt.tokenizers.speech.vocoder_training import VocoderTraining
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.training.config import FitConfig

pytestmark = pytest.mark.slow

PLAN = FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3})
STATES = {
    "depth 1": {"kind": "ema", "codes": 12, "dim": 4},
    "depth 2": {"kind": "residual", "stages": 2, "stage": {"codes": 6, "dim": 4}},
}


def test_each_side_learns_from_its_own_terms():
    torch.manual_seed(0)
    adversaries, samples = Adversaries(AdversariesConfig(channels=2)), 0.1 * torch.randn(2, 3000)
    made = (0.1 * torch.randn(2, 3000)).requires_grad_()
    terms = adversaries.terms(made, samples)
    weights = list(adversaries.parameters())
    for name in ("fooling", "features"):
        (to_sound,) = torch.autograd.grad(terms[name].total, made, retain_graph=True)
        assert to_sound.abs().max() > 0
        assert all(g is None for g in torch.autograd.grad(terms[name].total, weights, retain_graph=True, allow_unused=True))
    (to_sound,) = torch.autograd.grad(terms["adversaries"].total, made, retain_graph=True, allow_unused=True)
    assert to_sound is None
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(terms["adversaries"].total, weights))
    same = adversaries.terms(samples, samples)
    assert float(same["features"].total) == 0 and len(adversaries(samples)) == len(PERIODS) + len(RESOLUTIONS)


def test_adversaries_learn_to_tell_sound_from_recordings_and_set_in_late():
    torch.manual_seed(0)
    tone = (0.3 * np.sin(2 * np.pi * 525 / 16_000 * np.arange(16_000))).astype(np.float32)
    config = Istft(mels=24, dim=16, blocks=1, crop=20)
    learner, batches = (
        VocoderTraining(config.build(), AdversariesConfig(channels=2, start=0.5)),
        vocoder_batches([tone], config, PLAN),
    )
    assert set(learner.loss(batches(0), 0.49)) == {"convergence", "distance", "mel"}
    optimizer = torch.optim.AdamW(learner.adversaries.parameters(), 3e-3)
    told = []
    for step in range(30):
        terms = learner.loss(batches(step), 0.5)
        told.append(float((terms["adversaries"].total / terms["adversaries"].count).detach()))
        optimizer.zero_grad()
        terms["adversaries"].total.backward()
        optimizer.step()
    assert told[0] > 0.7 and told[-1] < 0.6 * told[0], told


@pytest.mark.parametrize("kind", STATES)
def test_pieces_of_utterances_come_with_their_own_codes(kind):
    config = SpeechConfig(quantizer=STATES[kind], mels=16, pool=2)
    depth, random = config.quantizer.depth, np.random.default_rng(0)
    sounds = [random.normal(0, 0.1, 640 * length).astype(np.float32) for length in (3, 30, 8, 12, 20)]
    rows = {n: random.integers(0, 6, (len(sounds[n]) // 640, depth)) + 6 * np.arange(depth) for n in (0, 1, 2, 4)}
    codes = {n: row[:, 0] if depth == 1 else row for n, row in rows.items()}
    batches = speaking_batches(sounds, codes, config, 10, PLAN)
    whole = {n: log_mel(torch.from_numpy(sounds[n]), 16, len(codes[n]) * 4) for n in codes}
    seen = set()
    for step in range(6):
        batch = batches(step)
        assert sorted(batch.lengths.tolist()) == [3, 8, 10, 10]  # number 3 has no codes
        for row, length, mel in zip(batch.codes, batch.lengths.tolist(), batch.spoken, strict=True):
            row = row[:length].numpy()
            starts = [(n, at) for n in codes for at in range(len(codes[n]) - length + 1)]
            places = [(n, at) for n, at in starts if np.array_equal(codes[n][at : at + length], row)]
            assert any(torch.equal(mel[: 4 * length], whole[n][4 * at : 4 * (at + length)]) for n, at in places)
            seen.update(places)
        halves = [batches(step, rank, 2) for rank in range(2)]
        assert [length for half in halves for length in half.lengths.tolist()] == batch.lengths.tolist()
    assert len({at for n, at in seen if n == 1}) > 1  # another piece each time
    with pytest.raises(DataError, match="no speech"):
        speaking_batches(sounds, {}, config, 10, PLAN)


@pytest.mark.parametrize("kind", STATES)
def test_a_decoder_alone_learns_and_the_codebook_stays(kind):
    torch.manual_seed(0)
    decoder = {
        "dim": 16,
        "heads": 2,
        "layers": 1,
        "blocks": 1,
        "flow": {"dim": 16, "blocks": 1},
        "voice": 40,
        "reference": {"dim": 16},
    }
    config = SpeechConfig(quantizer=STATES[kind], mels=16, pool=2, decoder=decoder)
    quantizer = config.quantizer.build()
    for buffer in quantizer.buffers():
        if buffer.is_floating_point():
            buffer.normal_()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    random, depth = np.random.default_rng(0), config.quantizer.depth
    codes = {n: random.integers(0, 6, (12, depth)) + 6 * np.arange(depth) for n in range(4)}
    codes = {n: row[:, 0] if depth == 1 else row for n, row in codes.items()}
    sounds = [random.normal(0, 0.1, 640 * 12).astype(np.float32) for _ in codes]
    learner, batches = SpeakingTraining(SpeechDecoder(config), quantizer), speaking_batches(sounds, codes, config, 12, PLAN)
    learner.begin(sounds, codes)
    begun = learner.speaker.coarse.direct.map.weight.clone()
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], 3e-3)
    losses = []
    for step in range(20):
        terms = learner.loss(batches(step), 0.0)
        losses.append(sum(float((term.total / term.count).detach()) for term in terms.values()))
        optimizer.zero_grad()
        sum(term.total / term.count for term in terms.values()).backward()
        optimizer.step()
    assert set(terms) == {"mel", "flow"} and np.mean(losses[-5:]) < 0.95 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert all(p.grad is not None for p in learner.speaker.reference.parameters())
    assert begun.any() and torch.equal(learner.speaker.coarse.direct.map.weight, begun)


def test_the_commonest_voice_is_that_of_one_speaker_and_not_what_lies_between_all():
    random = torch.Generator().manual_seed(0)
    others = torch.randn(70, 8, generator=random)
    often = torch.full((1, 8), 1.5) + 0.05 * torch.randn(30, 8, generator=random)
    voices = torch.cat([others, often])[torch.randperm(100, generator=random)]
    chosen = voices[commonest(voices)]
    assert (chosen - 1.5).abs().max() < 0.2
    medoid = voices[torch.cdist(voices, voices).sum(dim=0).argmin()]
    assert (medoid - 1.5).abs().max() > 0.5  # which is how the voice was chosen before
    assert commonest(voices[:1]) == 0 and commonest(voices[:2]) in (0, 1)
