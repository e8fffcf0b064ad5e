"""A Whisper read as it is: its features, the silence behind a clip, where a text ends; and codes between its fixed layers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from mmpt.errors import DataError
from mmpt.tokenizers.speech import tokenizer as speech_tokenizer
from mmpt.tokenizers.speech.batches import SpeechExample, utterance, utterance_batches
from mmpt.tokenizers.speech.encoders._whisper_reader import apart, circle
from mmpt.tokenizers.speech.encoders._whisper_rows import explained_by_position
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.lessons import Lesson, misread
from mmpt.training.config import FitConfig

from .tiny_whisper import DIM, MELS, POSITIONS, build, noise, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("whisper"))


@pytest.mark.parametrize("level", [1.0, 1e-3])  # of a quiet recording, most lies below the floor of our own log-mel
def test_features_and_the_silence_behind_them_are_those_of_whispers_extractor(checkpoint, level):
    """From the mirrored first frame to the last of 30 s. The two that reach over the end of the clip are silence here."""
    wide = save(checkpoint.parent / "wide", num_mel_bins=80, max_source_positions=1500)
    model = build(wide, quantizer={"kind": "none", "dim": DIM}, pool=1, mels=80, window=1500)
    rise = np.linspace(0.01, 1, 20_800, dtype=np.float32)
    sound = level * rise * noise(20_800)
    theirs = WhisperFeatureExtractor(feature_size=80)(sound, sampling_rate=16_000, return_tensors="pt").input_features[0].t()
    lengths = torch.tensor([65])
    heard, ours = model.encoder._frames(model._features(torch.from_numpy(sound)[None], lengths), lengths, model.encoder.shape)
    assert heard.all() and ours.shape == (1, 3000, 80)
    there = ~torch.isin(torch.arange(3000), torch.tensor([130, 131]))
    torch.testing.assert_close(ours[0, there], theirs[there], atol=1e-4, rtol=0)


def test_as_much_silence_is_heard_behind_a_clip_as_was_asked_for(checkpoint):
    """It changes the states, and is counted in frames of 50 Hz beside those of the clip, no further than the window."""
    sound, lengths = torch.from_numpy(noise(6400))[None], torch.tensor([10])
    states = []
    for seconds, frames in ((0, 20), (0.1, 25), (0.4, 40), (9, POSITIONS), (None, POSITIONS)):
        model = build(checkpoint, encoder={"silence": seconds})
        mel = model._features(sound, lengths)
        heard, _ = model.encoder._frames(mel, lengths, model.encoder.shape)
        assert heard.sum() == 2 * frames
        with torch.inference_mode():
            states.append(model.encoder.states(mel, lengths))
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(states[:3], states[1:4], strict=True))
    assert torch.equal(states[3], states[4])


@pytest.mark.parametrize(
    ("tokens", "again"),
    [
        ([1, 2, 3], 0),
        ([7] * 3, 0),
        ([7] * 12, 11),
        ([1, 2, 3, 4] * 3, 8),
        ([9, 8, *([1, 2, 3, 4, 5] * 3)], 10),
        ([1, 2, 3, 4] * 2, 0),
    ],
)
def test_what_is_read_in_circles_is_found(tokens, again):
    assert circle(tokens) == again


def test_reading_ends_where_it_begins_to_go_round(checkpoint, monkeypatch):
    """A decoder that says 1 2 3 4 5 without an end is read once round; one that says other things is not cut."""
    model = build(checkpoint)
    said = {0: [9, 1, 2, 3, 4, 5] + [1, 2, 3, 4, 5] * 9, 1: list(range(10, 24)) + [271] * 40}

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        place = min(calls.__len__(), 39)
        calls.append(1)
        return torch.stack([F.one_hot(torch.tensor(said[row][place]), 280).float() for row in range(len(hidden))])

    calls: list[int] = []
    monkeypatch.setattr(model.reader, "_logits", logits)
    states = torch.randn(2, 30, DIM)
    with torch.inference_mode():
        assert model.reader.read(states, states, torch.tensor([30, 30])) == [[9, 1, 2, 3, 4, 5], list(range(10, 24))]
    assert len(calls) == 16


def test_tokens_that_the_checkpoint_never_reads_are_not_read(tmp_path):
    states, lengths = torch.randn(1, 20, DIM, generator=torch.Generator().manual_seed(0)), torch.tensor([20])

    def read() -> list[int]:
        with torch.inference_mode():
            return build(tmp_path).reader.read(states, states, lengths)[0]

    save(tmp_path)
    first = read()[0]
    GenerationConfig(begin_suppress_tokens=[first]).save_pretrained(tmp_path)
    second = read()
    GenerationConfig(suppress_tokens=[second[0]]).save_pretrained(tmp_path)
    assert second[0] != first and second[0] not in read()
    assert build(tmp_path).config.encoder.never == (second[0],)


@pytest.mark.parametrize("quantizer", [{"kind": "ema", "decay": 1}, {"kind": "vq", "task": True}])
def test_what_makes_the_codes_of_a_fixed_whisper_stays_and_what_reads_them_learns(checkpoint, monkeypatch, quantizer):
    """It hears each utterance once, and is taught by what it reads itself, as it was, without a quantiser. Codes that learn are
    those of the same layers."""
    monkeypatch.setattr(speech_tokenizer, "MISREAD", math.inf)
    encoder, shape = {"layer": 2, "fixed": True, "silence": 0.2}, {"codes": 32, "dim": 8, **quantizer}
    model = build(checkpoint, quantizer=shape, encoder=encoder, distance_weight=1.0, mel_weight=0)
    model.speaker.requires_grad_(False)
    examples = [SpeechExample(noise(6000 + 900 * n, n), text) for n, text in enumerate(("a", "b a", "a b", "b"))]
    heard = [utterance(one, model.config, model.study) for one in examples]
    model.encoder.begin([one.hidden.float() for one in heard])
    codes = model.encode([one.samples for one in examples])
    batches = utterance_batches(
        heard, np.array([len(one.samples) for one in examples]), model.config,
        FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3}),
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 3e-3)
    model.train()
    losses = []
    for step in range(40):
        terms = model.loss(batches(step), step / 40)
        optimizer.zero_grad()
        sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight).backward()
        optimizer.step()
        losses.append(sum(float(terms[name].total.detach() / terms[name].count) for name in ("reading", "distance")))
    assert losses[-1] < 0.8 * losses[0]
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    learns = ("encoder.from_code", "encoder.whisper.layers.2", "encoder.whisper.layer_norm", "reader.decoder.layer")
    made = ("encoder.to_code", "encoder.quantizer") if quantizer["kind"] == "vq" else ()
    assert all(any(name.startswith(one) for name in changed) for one in (*learns, *made))
    assert all(name.startswith((*learns, *made)) for name in changed)
    same = [np.array_equal(*pair) for pair in zip(codes, model.eval().encode([one.samples for one in examples]), strict=True)]
    assert all(same) == (not made)


def test_states_alone_teach_without_a_text(checkpoint):
    """Nothing is read: what stands behind the codes comes nearer to what is heard without them, and the text decoder stays."""
    encoder = {"layer": 2, "fixed": True, "around": 1, "silence_read": True, "taught": "states"}
    shape = {"kind": "residual", "stages": 2, "stage": {"codes": 8, "dim": 8, "decay": 1}}
    model = build(checkpoint, quantizer=shape, encoder=encoder, distance_weight=1.0, mel_weight=0)
    model.reader.read = None
    examples = [SpeechExample(noise(6000 + 900 * n, n), text) for n, text in enumerate(("zzz", "b a", "a b", "b"))]
    heard = [utterance(one, model.config, model.study) for one in examples]
    assert all(one.lesson is None and one.hidden.shape[1] == 2 * DIM for one in heard)
    model.encoder.begin([one.hidden.float() for one in heard])
    model.encoder.hear_silence([one.mel for one in heard])
    model.encoder.from_code.map.weight.data.zero_()  # so that there is something to learn
    plan = FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3})
    batches = utterance_batches(heard, np.array([len(one.samples) for one in examples]), model.config, plan)
    optimizer = torch.optim.AdamW([one for one in model.encoder.parameters() if one.requires_grad], 3e-3)
    model.train()
    losses = []
    for step in range(30):
        terms = model.loss(batches(step), 0.5)
        assert {name for name, term in terms.items() if term.weight and term.count > 0} == {"commitment", "distance"}
        assert float(terms["distance"].count) == sum(len(one.mel) // 4 for one in heard)
        optimizer.zero_grad()
        (terms["distance"].total / terms["distance"].count).backward()
        optimizer.step()
        losses.append(float(terms["distance"].total.detach()))
    assert losses[-1] < 0.6 * losses[0]
    with pytest.raises(ValueError, match="encoder.taught is states: expected a distance_weight above 0"):
        build(checkpoint, quantizer=shape, encoder=encoder, mel_weight=0)


def test_what_a_code_stands_for_is_restored_from_those_around_it(checkpoint, monkeypatch):
    """Nothing is restored before anything is learned; then the code's neighbours tell what it leaves out, and no other clip of
    the batch does. Of the checkpoint the layers behind learn, the text decoder stays."""
    monkeypatch.setattr(speech_tokenizer, "MISREAD", math.inf)
    draw = torch.Generator().manual_seed(0)
    encoder = {"layer": 2, "fixed": True, "silence": 0.2, "restore": 1, "noise": 0.01}
    model = build(
        checkpoint,
        quantizer={"kind": "ema", "decay": 1, "codes": 4, "dim": 8},
        encoder=encoder,
        distance_weight=1.0,
        mel_weight=0,
    )
    whisper, restorer = model.encoder, model.encoder.restorer
    learns = {name.split(".layers.")[0] for name, one in model.named_parameters() if one.requires_grad and "speaker" not in name}
    assert "encoder.restorer" in learns and not any(name.startswith("reader") for name in learns)
    # Vectors before the quantiser whose first half the code knows, and whose other half is that of the vector before.
    rows = [torch.randn(length, DIM, generator=draw) for length in (10, 7, 9, 10)]
    for row in rows:
        row[1:, DIM // 2 :] = row[:-1, : DIM - DIM // 2]
    lengths = torch.tensor([len(row) for row in rows])
    wanted = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    alone = wanted.clone()
    alone[..., DIM // 2 :] = 0
    restorer.begin(torch.cat(rows))
    restorer.eval()
    assert torch.equal(restorer(alone, lengths), alone)
    optimizer = torch.optim.Adam(restorer.parameters(), 1e-3)
    mask = torch.arange(10) < lengths[:, None]
    for _ in range(250):
        error = (restorer(alone, lengths) - wanted)[mask].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    with torch.no_grad():
        found = restorer(alone, lengths)
        assert (found - wanted)[mask].square().mean() < 0.2 * (alone - wanted)[mask].square().mean()
        for number, row in enumerate(rows):
            torch.testing.assert_close(restorer(alone[number : number + 1, : len(row)], lengths[number : number + 1])[0],
                                       found[number, : len(row)], atol=1e-4, rtol=1e-3)  # fmt: skip
    # What is told of a training: both distances, the one relative to the variance of what stood before the quantiser.
    hidden, _, _ = whisper.hear_whole(torch.randn(1, 24, MELS, generator=draw), torch.tensor([6]))
    before = hidden[..., :DIM] - whisper.code_positions.weight[:6]
    terms = whisper.distances(hidden, before + 1, whisper.unquantised(hidden), torch.tensor([6]))
    scale = torch.cat(rows).std(dim=0).rsqrt()
    error = 6 * (scale**2).sum() / (before[0] * scale).var(dim=0, unbiased=False).sum()
    torch.testing.assert_close(terms["restored"].total, error, rtol=1e-4, atol=0)
    assert float(terms["distance"].total) < 1e-6
    assert float(terms["restored"].count) == float(terms["distance"].count) == 6


def test_books_behind_a_fixed_whisper_are_read_from_those_around_with_silence_behind(checkpoint):
    """Whisper's layers get, of each clip, the least squares of its codes, and to the window's end the mean of what was heard
    there behind other clips; no more of the batch than that."""
    quantizer = {"kind": "residual", "stages": 3, "stage": {"codes": 32, "dim": 8, "decay": 1}}
    model = build(checkpoint, quantizer=quantizer, encoder={"fixed": True, "silence_read": True, "around": 2}, mel_weight=0)
    encoder, window = model.encoder, POSITIONS // 2
    draw = torch.Generator().manual_seed(0)
    mels = [torch.randn(4 * codes, MELS, generator=draw) for codes in (12, 25, 9, 18)]
    with torch.no_grad():
        heard = [encoder.hear(mel[None], torch.tensor([len(mel) // 4]))[0] for mel in mels]
        encoder.begin(heard)
        encoder.hear_silence(mels)
        before = [encoder._stem(mel[None], torch.tensor([len(mel) // 4]), encoder.shape) for mel in mels]
        whole = [encoder._layers(*one, encoder.whisper.layers[:2]) for one in before]
        pooled = [states[0].unflatten(0, (-1, 2)).mean(dim=1) for states in whole]
    # At place 20 three clips have ended for longer than a code, at place 27 all four, at place 5 none: place 10 is the nearest.
    known = {20: (0, 2, 3), 27: (0, 1, 2, 3), 10: (2,), 5: (2,)}
    for place, ended in known.items():
        mean = torch.stack([pooled[clip][max(place, 10)] for clip in ended]).mean(dim=0)
        torch.testing.assert_close(encoder.silence[place], mean, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        vectors = [encoder.quantizer(encoder.to_code(row - encoder.code_positions.weight[: len(row)])).states for row in heard]
        seen = [F.pad(F.pad(row, (0, 0, 2, 2)).unfold(0, 5, 1).flatten(1), (0, 1), value=1.0).double() for row in vectors]
        wanted = [(row - encoder.code_positions.weight[: len(row)]).double() for row in heard]
        a, b = torch.cat(seen), torch.cat(wanted)
        ridge = torch.sqrt(1e-3 * a.square().sum(dim=0).mean()) * torch.eye(a.shape[1])
        a = torch.cat([a, ridge])  # rows more, of a problem without a ridge
        best = torch.linalg.lstsq(a, F.pad(b, (0, 0, 0, a.shape[0] - len(b)))).solution
        batch = torch.nn.utils.rnn.pad_sequence(vectors[:2], batch_first=True)
        alone, context, sizes = encoder.read(batch, torch.tensor([12, 25]))
        assert context.shape == (2, window, DIM) and sizes.tolist() == [window, window]
        for clip, length in ((0, 12), (1, 25)):
            torch.testing.assert_close(alone[clip, :length].double(), seen[clip] @ best, atol=2e-3, rtol=1e-2)
            full = torch.cat([alone[clip, :length] + encoder.code_positions.weight[:length], encoder.silence[length:]])[None]
            full = encoder.whisper.layers[2](full, attention_mask=None)
            full = encoder.whisper.layer_norm(full[0] if isinstance(full, tuple) else full)[0]
            torch.testing.assert_close(context[clip], full, atol=1e-5, rtol=1e-4)
    with pytest.raises(DataError, match="silence_read: no clip is shorter than the window of 30 codes"):
        encoder.hear_silence([torch.randn(4 * window, MELS)])


@pytest.mark.parametrize("wrong", [{"fixed": False}, {"block": 5, "overlap": 10}])
@pytest.mark.parametrize("key", ["around", "silence_read"])
def test_what_a_fixed_whisper_alone_can_know_is_refused_of_others(key, wrong):
    with pytest.raises(ValueError, match=f"{key}: .* expected fixed: true and no block"):
        Whisper(**{"checkpoint": "any", "layer": 2, "fixed": True, key: 1, **wrong})


@pytest.mark.parametrize("wrong", [{"fixed": False}, {"block": 5, "overlap": 10}])
def test_codes_are_restored_only_where_a_window_is_seen_whole_and_fixed(wrong):
    with pytest.raises(ValueError, match="restore: codes are restored from those around"):
        Whisper(**{"checkpoint": "any", "layer": 2, "fixed": True, "restore": 1, **wrong})


def test_what_a_fixed_whisper_is_to_read_is_the_checkpoints_own_text(checkpoint):
    """Of its own states of 50 Hz with all the silence it knows, as transformers makes and reads them."""
    model = build(checkpoint, encoder={"layer": 2, "fixed": True, "silence": 0.1})
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint)
    encoder = reference.model.encoder
    mel, lengths = torch.randn(1, 24, MELS), torch.tensor([6])
    with torch.inference_mode():
        hidden, states, sizes = model.encoder.hear_whole(mel, lengths)
        whole = model.encoder._frames(mel, lengths, model.encoder.shape.model_copy(update={"silence": None}))[1]
        theirs = encoder(whole.transpose(1, 2), output_hidden_states=True)
        last = encoder.layers[2](theirs.hidden_states[2], None)
        last = (last[0] if isinstance(last, tuple) else last)[:, :12]
        lesson = model.reader.lesson(states, sizes)
        ids = torch.tensor([[*model.reader.prompt, *lesson.text]])
        logits = reference(encoder_outputs=theirs, decoder_input_ids=ids, use_cache=False).logits[0]
    assert sizes.tolist() == [POSITIONS] and torch.equal(hidden[..., :DIM], model.encoder.hear(mel, lengths))
    torch.testing.assert_close(states, theirs.last_hidden_state, atol=1e-5, rtol=1e-4)
    wanted = encoder.layer_norm(last.unflatten(1, (-1, 2)).mean(dim=2))
    torch.testing.assert_close(model.encoder.unquantised(hidden), wanted, atol=1e-5, rtol=1e-4)
    found = logits[len(model.reader.prompt) - 1 :].log_softmax(dim=-1)
    assert found.argmax(dim=-1)[:-1].tolist() == lesson.text
    assert lesson.likely.shape == (len(lesson.text) + 1, 32)
    torch.testing.assert_close(found.gather(1, lesson.likely.long()), lesson.log_probs.float(), atol=5e-3, rtol=0)


def test_an_utterance_that_is_read_quite_otherwise_is_not_learned_from(checkpoint):
    model = build(checkpoint, encoder={"layer": 2, "fixed": True})
    with pytest.raises(DataError, match="of the letters of its text are read otherwise: .* it is 'zzz'"):
        model.study(torch.randn(24, MELS), "zzz")


@pytest.mark.parametrize(
    ("text", "read", "share"), [("Ab, c 1", "ab c1!", 0), ("abcd", "abd", 0.25), ("ab", "xyz", 1.5), ("", "", 0)]
)
def test_misread_letters_are_counted_whatever_their_case(text, read, share):
    assert misread(text, read) == share


def test_codes_of_a_fixed_whisper_do_not_say_where_they_stand():
    """What is linear in the positions is found and left out, and rows of unequal length are laid on their own positions."""
    draw = torch.Generator().manual_seed(0)
    positions, weights = torch.randn(40, 6, generator=draw), torch.randn(6, 6, generator=draw)
    said = [torch.randn(length, 6, generator=draw) for length in (40, 17, 33, 40, 25) * 40]
    table = explained_by_position([row + positions[: len(row)] @ weights for row in said], positions)
    assert (table - positions @ weights).std(dim=0).max() < 0.25 * (positions @ weights).std(dim=0).min()
    none = explained_by_position(said, positions)
    assert none.abs().max() < 0.3


def test_a_lesson_is_the_text_that_was_read_and_how_likely_each_token_was(checkpoint):
    """KL of the likely tokens and all others as one, by its definition; nothing of it where the same is found, or at the end."""
    model = build(checkpoint)
    states, lengths = torch.randn(2, 6, DIM), torch.tensor([6, 6])
    with torch.no_grad():
        own = [model.reader.lesson(states[n][None], lengths[:1])._replace(text=text) for n, text in enumerate(([5, 6, 7], [9]))]
        logits, wanted = model.reader._logits_of([one.text for one in own], states, lengths)
        edges = [slice(0, 4), slice(4, 6)]
        same = [Lesson(one.text, *[part.flip(0) for part in reversed(logits[edge].log_softmax(-1).flip(0).topk(280))])
                for one, edge in zip(own, edges, strict=True)]  # fmt: skip
        plain, _ = model.reader.losses([one.text for one in own], states, states, lengths)
        taught, _ = model.reader.losses([[1], [1]], states, states, lengths, same)
        assert float(taught.count) == float(plain.count) == 6
        torch.testing.assert_close(taught.total, plain.total, atol=1e-4, rtol=1e-4)
        other = logits + torch.randn_like(logits)
        few = [Lesson(one.text, one.likely[:, :3], one.log_probs[:, :3]) for one in same]
        found = apart(other, few)
    p, q = logits.softmax(-1), other.softmax(-1)
    for row in range(6):
        top = p[row].topk(3).indices
        left, right = (torch.cat([part[row][top], 1 - part[row][top].sum()[None]]) for part in (p, q))
        torch.testing.assert_close(found[row], (left * (left / right).log()).sum(), atol=1e-4, rtol=1e-3)
    assert wanted.tolist() == [5, 6, 7, 271, 9, 271]


def test_long_sound_is_cut_at_its_pauses_and_each_piece_read_by_itself(checkpoint):
    """Of a Whisper without a quantiser: the text of the whole is that of its parts, whatever lies beyond its window."""
    model = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=1, window=POSITIONS)
    parts = [np.concatenate([np.zeros(3200, np.float32), noise(8000, n), np.zeros(3200, np.float32)]) for n in range(5)]
    alone = model.recognize(parts)
    assert all(alone) and model.recognize([np.concatenate(parts)]) != [""]
    cut = model._at_pauses(np.concatenate(parts))
    assert np.array_equal(np.concatenate(cut), np.concatenate(parts)) and len(cut) == 5
    assert model.recognize([np.concatenate(parts)]) == [" ".join(model.recognize([piece])[0] for piece in cut)]
    assert model.recognize([np.concatenate([parts[0], np.zeros(40_000, np.float32), parts[1]])])[0]
