"""Steps of training a speech tokenizer, and what cannot be learned from."""

import numpy as np
import pytest
import torch
from examples_in_memory import speech_batches

from mmpt.data.lost import from_lines
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech
from mmpt.errors import DataError
from mmpt.layers.positions import sinusoids
from mmpt.media import encode_wav
from mmpt.tokenizers.speech.batches import SpeechExample, why_not_trained
from mmpt.tokenizers.speech.speaking import DecoderTraining
from mmpt.tokenizers.speech.text_decoder import SmallTextDecoder
from mmpt.training.distributed import World
from mmpt.training.examples import utterances

from .tiny_speech import EXAMPLES, Plan, build, config, loss_of, noise, train

pytestmark = pytest.mark.slow


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
    for wrong, said in ((codes[0][:-1], "short of whole frames of 3"), (codes[0][::-1], "is of codebook 2, expected 0")):
        with pytest.raises(DataError, match=said):
            model.decode([wrong])


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
