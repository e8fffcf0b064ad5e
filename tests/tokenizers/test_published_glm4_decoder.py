"""GLM-4-Voice's decoder: its sound is that of its authors' code, in pieces as whole, and it is imported from their pickles.

The expected numbers are what THUDM/GLM-4-Voice (commit eb00ce9, with Matcha-TTS dd9105b, diffusers 0.42.1 and torch 2.10, on a
CPU) makes of the files of `glm_decoder`, both nets in eval mode: `flow.inference`, and the loop of web_demo.py over
`AudioDecoder.token2wav`.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_glm_decoder import CODES, MELS, YAML, flow_weights, import_glm, run_import

from mmpt.errors import CheckpointError, DataError
from mmpt.tokenizers.load import load_speech
from mmpt.tokenizers.published._flow_config import released_sections
from mmpt.tokenizers.published._flow_decoder import GoingOn
from mmpt.tokenizers.published.glm4_voice import Glm4Voice
from mmpt.tokenizers.published_folder import import_tokenizer, opened

MEL = [-1.240681, -1.212902, -1.850234, 0.462186, 2.735413, 1.861464, -0.57033, 0.703388, 2.251242, 1.222966, 0.184445, 0.710288]
TWO_PIECES = [
    -0.0253, -0.0394, 0.1204, 0.0573, 0.0055, -0.0416, -0.0227, 0.1618, 0.0819, 0.0124, -0.0235, 0.001,
    0.1991, -0.0056, 0.0239, 0.1337, 0.0538, 0.1656, 0.0567, 0.276, 0.0453, 0.1371, 0.0486, 0.0098,
]  # fmt: skip
SEAM = [0.0717, 0.0927, -0.0271, 0.05, -0.0229, 0.048, 0.073, 0.0514, -0.0229, 0.0576, 0.0033, 0.0811]
FOUR_PIECES = [
    -0.0258, 0.1809, 0.0015, 0.0527, 0.101, -0.0285, 0.0502, 0.0388, 0.0461, -0.0162, -0.0252, 0.1071,
    -0.0213, 0.0896, 0.0324, 0.1583, 0.0833, -0.0134, 0.0711, 0.0805, -0.0065, 0.0483, 0.0714, 0.009,
]  # fmt: skip


def codes(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, CODES, count)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glm")
    return import_glm(folder / "released", folder / "imported")


@pytest.fixture(scope="module")
def folders(imported):
    """(the tokenizer and its decoder as released, the specification that names both)."""
    folder = imported.parent / "released"
    return folder / "tokenizer", folder / "decoder", folder / "glm.yaml"


@pytest.fixture(scope="module")
def codec(imported):
    return load_speech(imported)


def test_mels_are_those_of_the_original(codec):
    prompt = torch.from_numpy(np.random.default_rng(1).normal(size=(MELS, 40)).astype(np.float32))
    decoder = codec.decoder
    with torch.inference_mode():
        mel = decoder.flow(torch.from_numpy(codes(30)), prompt, decoder.frames(30), torch.Generator().manual_seed(42))[:, 40:]
    assert mel.shape == (MELS, 166)
    np.testing.assert_allclose(mel.flatten()[:: mel.numel() // 11], MEL, atol=2e-5)


@pytest.mark.parametrize(("count", "samples", "expected"), [(60, 105_728, TWO_PIECES), (190, 335_104, FOUR_PIECES)])
def test_sound_is_that_of_the_original(count, samples, expected, codec):
    # The second with the frame that the vocoder hears again taken out of the next prompt, which in the original moves all that
    # comes after the second piece by a frame. The phase of the harmonics is a sum over a piece: errors of rounding add up.
    (sound,) = codec.decode([codes(count)])
    assert sound.shape == (samples,) and sound.dtype == np.float32
    np.testing.assert_allclose(sound[np.linspace(0, samples - 1, 24).astype(int)], expected, atol=1e-3)


def test_pieces_meet_as_in_the_original(codec):
    (sound,) = codec.decode([codes(60)])
    around = codec.decoder.frames(25) - codec.decoder.overlap - 1  # frames that the first piece gives
    np.testing.assert_allclose(sound[256 * around - 60 : 256 * around + 300 : 30], SEAM, atol=1e-3)


def test_sound_is_as_long_as_its_codes_and_the_same_in_any_company(codec):
    rows = [codes(count) for count in (1, 25, 7, 32, 25)]
    sounds = codec.decode(rows)
    assert [len(sound) for sound in sounds] == [count * 441 // 64 * 256 for count in (1, 25, 7, 32, 25)]
    assert codec.sound_rate == 22_050 and len(sounds[3]) / codec.sound_rate == pytest.approx(
        32 / codec.figures.rate, abs=256 / 22_050
    )
    back = codec.decode(rows[::-1])[::-1]
    assert all(np.array_equal(one, other) for one, other in zip(sounds, back, strict=True))
    assert np.array_equal(sounds[1], sounds[4]) and not np.array_equal(sounds[1], codec.decode([codes(25)[::-1]])[0])


@pytest.mark.parametrize("portions", [[1] * 80, [25, 55], [26, 49, 5], [80]], ids=len)
def test_sound_in_a_stream_is_that_of_the_whole(portions, codec):
    row = codes(80)
    assert codec.speaks_in_blocks
    with codec.speaking() as stream:
        pieces = [stream.push(part) for part in np.split(row, np.cumsum(portions)[:-1])]
        pieces.append(stream.finish())
    if len(portions) > 1:
        assert sum(map(len, pieces[:-1])) > 10_000  # long before the end
    assert np.array_equal(np.concatenate(pieces), codec.decode([row])[0])


def test_what_lies_far_back_is_forgotten_and_what_follows_stays_in_place(codec, monkeypatch):
    decoder, row = codec.decoder, codes(140)[:, None]
    assert decoder.period == 320
    monkeypatch.setattr("mmpt.tokenizers.published._flow_decoder.PIECES", (25, 105))
    whole = GoingOn(decoder, torch.device("cpu"))(row, True)
    monkeypatch.setattr(decoder, "period", 64)  # the least that has whole frames
    going = GoingOn(decoder, torch.device("cpu"))
    sound = going(row, True)
    until = (decoder.frames(130) - decoder.overlap - 1) * 256  # of the second piece: with it, what it was made of is forgotten
    assert len(sound) == len(whole) and np.array_equal(sound[:until], whole[:until]) and not np.array_equal(sound, whole)
    assert len(going._codes) == 140 - 64 and going._mel.shape[1] == decoder.frames(140) - decoder.frames(64)


def test_it_stands_alone_after_the_import_and_speaks_in_one_voice(folders, codec, tmp_path):
    decoder = shutil.copytree(folders[1], tmp_path / "decoder")
    run_import(folders[2], tmp_path / "out", f"published.decoder={decoder}")
    shutil.rmtree(decoder)
    settings = opened(tmp_path / "out").settings
    assert isinstance(settings, Glm4Voice) and settings.decoder == str(decoder)
    again = load_speech(tmp_path / "out")
    assert np.array_equal(again.decode([codes(9)])[0], codec.decode([codes(9)])[0])
    assert again.encode([np.zeros(9_000, dtype=np.float32)])[0].shape == (8,)
    with pytest.raises(DataError, match="one voice: no other can be chosen"):
        again.voice(np.zeros(16_000, dtype=np.float32))
    with pytest.raises(DataError, match="one voice, no other can be chosen"):
        again.decode([codes(3)], np.zeros(4, dtype=np.float32))


def test_files_that_are_no_decoder_are_told_by_name(folders, tmp_path, capsys):
    def refused(decoder: Path) -> str:
        with pytest.raises(SystemExit) as end:
            run_import(folders[2], tmp_path / "out", f"published.decoder={decoder}")
        assert end.value.code == 2 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    def other(name: str) -> Path:
        return shutil.copytree(folders[1], tmp_path / name)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty: lacks config.yaml, flow.pt, hift.pt; download them: hf download THUDM/glm-4-voice-decoder" in refused(empty)
    shutil.copyfile(folders[1] / "flow.pt", other("swapped") / "hift.pt")
    assert "swapped/hift.pt: lacks" in refused(tmp_path / "swapped")
    torch.save({**flow_weights(), "encoder.up.weight": torch.ones(2)}, other("more") / "flow.pt")
    assert "more/flow.pt: 1 weights are of something else: encoder.up.weight" in refused(tmp_path / "more")
    unlike = YAML.replace("macaron_style: False", "macaron_style: True").replace("euler", "heun")
    (other("unlike") / "config.yaml").write_text(unlike)
    said = refused(tmp_path / "unlike")
    assert "unlike/config.yaml: 2 mistakes" in said and "flow.encoder.macaron_style" in said and "solver" in said
    (other("fewer") / "config.yaml").write_text(YAML.replace("vocab_size: 32", "vocab_size: 31"))
    assert "fewer/config.yaml: flow.vocab_size is 31, the tokenizer has 32 codes" in refused(tmp_path / "fewer")
    torch.save({"state": flow_weights()}, other("nested") / "flow.pt")
    assert "nested/flow.pt: expected tensors by name" in refused(tmp_path / "nested")


class Trap:
    """Something whose unpickling runs code."""

    def __reduce__(self):
        return print, ("run",)


def test_neither_pickles_nor_the_configuration_run_code(folders, tmp_path, capsys):
    torch.save({**flow_weights(), "encoder_proj.bias": Trap()}, shutil.copytree(folders[1], tmp_path / "trap") / "flow.pt")
    with pytest.raises(SystemExit):
        run_import(folders[2], tmp_path / "out", f"published.decoder={tmp_path / 'trap'}")
    said = capsys.readouterr()
    assert "trap/flow.pt: cannot be read" in said.err and "run" not in said.out.split()
    path = tmp_path / "config.yaml"
    path.write_text(YAML.replace("!apply:random.seed [1986]", "!apply:builtins.print [run]"))
    assert released_sections(path)["hift"]["sampling_rate"] == 22_050 and not capsys.readouterr().out
    path.write_text(YAML.replace("!apply:random.seed [1986]", "!!python/object/apply:builtins.print [run]"))
    with pytest.raises(CheckpointError, match=r"config\.yaml: cannot be read"):
        released_sections(path)
    with pytest.raises(CheckpointError, match=r"pickles are read by tokenizers/import\.py alone"):
        import_tokenizer(Glm4Voice(model=str(folders[0]), decoder=str(folders[1])), tmp_path / "out")


def test_files_of_an_earlier_import_stay_as_they_are(imported, folders, tmp_path):
    path = imported / "model" / "flow.safetensors"
    before = path.read_bytes()
    new = shutil.copytree(folders[1], tmp_path / "new")
    torch.save({name: 2 * value for name, value in flow_weights().items()}, new / "flow.pt")
    overrides = [f"published.model={imported / 'model'}", f"published.decoder={new}"]
    run_import(folders[2], tmp_path / "out", *overrides)
    assert path.read_bytes() == before != (tmp_path / "out" / "model" / "flow.safetensors").read_bytes()
