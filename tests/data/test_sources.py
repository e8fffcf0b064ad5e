"""Sources give documents that are what they say, and say what is wrong with a folder."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from mmpt.data.lost import Lost
from mmpt.data.sources import recordings as recordings_source
from mmpt.data.sources.recordings import Recordings
from mmpt.data.sources.sprites import Sprites
from mmpt.data.synthetic import scenes
from mmpt.document import Image, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, decode_speech, encode_png, encode_wav


def recordings(config: Recordings) -> list:
    return list(config.documents())


def sprites(config: Sprites) -> list:
    return list(config.documents())


@pytest.mark.slow
def test_every_sixth_scene_is_read_back_from_its_pixels():
    for index, scene in enumerate(scenes.all_scenes()[::16]):
        assert scenes.read_picture(scenes.draw(scene, index)) == scene


def test_a_slightly_blurred_picture_is_still_read():
    chosen = scenes.all_scenes()[::101]
    blurred = [scenes.draw(scene, 1).filter(ImageFilter.GaussianBlur(0.7)) for scene in chosen]
    assert [scenes.read_picture(picture) for picture in blurred] == [scene for scene in chosen]


def test_captions_read_back_and_nonsense_does_not():
    for scene in scenes.all_scenes()[::31]:
        assert scenes.read_caption(scene.caption()) == scene
    assert scenes.read_caption("a small red circle above a small") is None


def test_reading_notices_each_attribute():
    """A reader that ignored an attribute would make the accuracy meaningless: each change must change what is read."""
    base = scenes.read_caption("a small red circle above a large blue square on gray")
    seen = {scenes.read_picture(scenes.draw(base, 0))}
    for old, new in (
        ("small", "large"),
        ("red", "green"),
        ("circle", "triangle"),
        ("above", "left of"),
        ("blue", "purple"),
        ("gray", "black"),
    ):
        seen.add(scenes.read_picture(scenes.draw(scenes.read_caption(base.caption().replace(old, new, 1)), 0)))
    assert len(seen) == 7 and None not in seen


def test_held_out_scenes_are_in_no_way_in_training():
    train, test = scenes.split_scenes(0.1, 0)
    assert len(train) + len(test) == len(scenes.all_scenes())
    assert not set(train) & set(test)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for label in "01":
        for index in range(4):
            data = encode_wav(random.uniform(-0.1, 0.1, 1600 + 100 * index).astype(np.float32), 8000)
            (tmp_path / f"{label}_ann_{index}.wav").write_bytes(data)
    return tmp_path


def config(folder: Path, **changes) -> Recordings:
    values = {"kind": "recordings", "folder": str(folder), "count": 12, "indices": (1, 3), "words": {"0": "zero", "1": "one"}}
    return Recordings(**{**values, **changes})


def test_recordings_are_joined_with_exact_word_times(folder):
    documents = list(recordings(config(folder)))
    assert len({document.id for document in documents}) == 12
    for document in documents:
        speech, text = document.parts
        assert isinstance(speech, Speech) and text == Text(" ".join(word for word, _, _ in speech.words))
        samples = decode_speech(speech.data, 16000)
        assert len(samples) / 16000 == pytest.approx(speech.duration) == speech.words[-1][2]
        for (_, _, end), (_, start, _) in zip(speech.words, speech.words[1:], strict=False):
            assert np.abs(samples[round(end * 16000) : round(start * 16000)]).max() == 0  # only silence between words


def test_recordings_are_deterministic_and_respect_the_split(folder):
    digest = [hashlib.sha256(d.parts[0].data).hexdigest() for d in recordings(config(folder))]
    assert digest == [hashlib.sha256(d.parts[0].data).hexdigest() for d in recordings(config(folder))]
    (folder / "0_ann_0.wav").write_bytes(b"not audio")  # index 0 is held out: its content cannot matter
    assert digest == [hashlib.sha256(d.parts[0].data).hexdigest() for d in recordings(config(folder))]


def test_recordings_of_some_speakers_and_of_some_lengths(folder):
    for path in list(folder.glob("*_ann_*.wav")):
        shutil.copy(path, folder / path.name.replace("ann", "bob"))
    assert {document.meta["voice"] for document in recordings(config(folder))} == {"ann", "bob"}
    found = list(recordings(config(folder, speakers=("bob",), shortest=3, longest=4)))
    assert {document.meta["voice"] for document in found} == {"bob"}
    assert {len(document.parts[0].words) for document in found} == {3, 4}
    with pytest.raises(ConfigError, match="no file of cid, eve named like"):
        list(recordings(config(folder, speakers=("ann", "cid", "eve"))))
    with pytest.raises(ValueError, match="longest 2 is less than shortest 3"):
        config(folder, shortest=3, longest=2)


def test_recordings_say_what_is_wrong(folder):
    with pytest.raises(ConfigError, match="no such folder"):
        list(recordings(config(folder / "none")))
    with pytest.raises(ConfigError, match="pattern"):
        list(recordings(config(folder, pattern="{label}.wav")))
    with pytest.raises(ConfigError, match="no file named like"):
        list(recordings(config(folder, indices=(90, 99))))
    sound = recordings(config(folder))
    (folder / "1_ann_2.wav").write_bytes(b"")
    found = recordings(config(folder))
    lost = [one for one in found if isinstance(one, Lost)]
    assert 0 < len(lost) < len(found) == len(sound)
    assert all(one.item.endswith("1_ann_2.wav") and "no audio" in one.reason and "0x" not in one.reason for one in lost)
    kept = {document.id: document for document in found if document not in lost}
    assert kept.keys() | {one.document for one in lost} == {document.id for document in sound}
    assert all(kept[document.id] == document for document in sound if document.id in kept)


def test_without_a_count_every_recording_comes_once_as_it_is(folder):
    (folder / "1_ann_3.wav").write_bytes(b"not audio")
    found = recordings(config(folder, count=None))
    names = ["0_ann_1", "0_ann_2", "0_ann_3", "1_ann_1", "1_ann_2"]
    assert [one.id for one in found[:5]] == [f"{folder.name}/{name}" for name in names] and isinstance(found[5], Lost)
    assert found[4].parts[0].data == (folder / "1_ann_2.wav").read_bytes() and found[4].parts[1] == Text("one")


def test_a_run_of_strings_does_not_depend_on_the_others(folder, monkeypatch):
    monkeypatch.setattr(recordings_source, "UNIT", 5)
    units = config(folder).units()
    assert list(config(folder).read(units[1])) == recordings(config(folder))[5:10]


def test_sprites_hold_out_every_fifth_tile(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (4 * 10, 5 * 10, 3), dtype=np.uint8)
    (tmp_path / "sheet.png").write_bytes(encode_png(Pillow.fromarray(pixels)))
    both = {}
    for split in ("train", "test"):
        settings = Sprites(
            kind="sprites",
            file=str(tmp_path / "sheet.png"),
            classes=("cat", "dog"),
            split=split,
            tile=10,
            margin=1,
            rows_per_class=2,
        )
        both[split] = list(sprites(settings))
    assert (len(both["train"]), len(both["test"])) == (16, 4)
    picture, text = both["test"][2].parts  # tile 10: first of the third row
    assert isinstance(picture, Image) and text == Text("dog")
    assert np.array_equal(np.asarray(decode_image(picture.data)), pixels[21:29, 1:9])
    varied = list(sprites(settings.model_copy(update={"variants": 3})))
    assert len({document.id for document in varied}) == 12 and [d.parts[1].text for d in varied[:3]] == ["cat"] * 3
    assert varied[::3] == both["test"]  # the first of each is the tile itself
    assert varied[1].parts[0].data != varied[0].parts[0].data
    assert varied == list(sprites(settings.model_copy(update={"variants": 3})))
    with pytest.raises(DataError, match="expected 6 rows"):
        list(sprites(settings.model_copy(update={"classes": ("a", "b", "c")})))
