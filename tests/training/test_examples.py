"""What tokenizers learn from is found once, in one order for all ranks, and decoded when it is asked for."""

from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from examples_in_memory import image_batches, speech_batches
from PIL import Image as Pictures

from mmpt.config import parse_config
from mmpt.data.lost import from_lines
from mmpt.data.shards import read as shards_read
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_speech, encode_flac, encode_png
from mmpt.storage import write_bytes
from mmpt.tokenizers.image.batches import ImageExample, picture_batches
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.speech.batches import SpeechExample, utterance_batches
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.vocoder import vocoder_batches
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.training import scan, tokenizers
from mmpt.training.ahead import ahead
from mmpt.training.config import FitConfig
from mmpt.training.distributed import World
from mmpt.training.examples import Examples, features, pictures, recordings, utterances, with_codes

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)
PLAN = FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3})
SPEECH = SpeechConfig(quantizer={"kind": "fsq", "levels": [4, 4]}, mels=16, window=20)
CONTENT = {
    "side": 16,
    "tower": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    "qformer": {"queries": 4, "width": 16, "depth": 1, "heads": 2},
    "quantizer": {"kind": "ema", "codes": 16, "dim": 4},
    "decoder": {"patch": 4, "width": 16, "depth": 0, "heads": 2},
    "captions": {"words": 3, "buckets": 32, "width": 16, "depth": 1, "heads": 2, "dim": 8},
}
IMAGES = parse_config(CONTENT, ImageTokenizerConfig, "test")
BROKEN = (3, 7)
COUNT = 12


def picture(number: int) -> Image:
    pixels = np.random.default_rng(number).integers(0, 255, (20, 16, 3), dtype=np.uint8)
    data = encode_png(Pictures.fromarray(pixels))
    return Image(data[: len(data) // 2] if number in BROKEN else data, "png", 16, 20, alt=" ".join(["word"] * (number % 5)))


def sound(number: int) -> Speech:
    samples = np.random.default_rng(number).normal(0, 0.1, 3000 + 900 * number).astype(np.float32)
    data = b"fLaC" if number in BROKEN else encode_flac(samples, 16_000)
    return Speech(data, "flac", 16_000, len(samples) / 16_000, "" if number == 5 else f"text {number}")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two pictures and an utterance in each document, three documents in a shard; the last document has text alone."""
    folder = tmp_path_factory.mktemp("examples") / "shards"
    with ShardWriter(folder, built={}, max_documents=3) as writer:
        for number in range(COUNT):
            parts = (picture(number), Text("between"), sound(number), picture(100 + number))
            writer.write(Document(f"d{number}", "test", parts))
        writer.write(Document("text", "test", (Text("no more"),)))
    return folder


def all_parts(shards: Path, kind: type) -> list:
    return [part for document in DocumentShards(shards) for part in document.parts if isinstance(part, kind)]


def whole_pictures(shards: Path) -> list[ImageExample]:
    import io

    kept = [part for number, part in enumerate(all_parts(shards, Image)) if number not in [2 * one for one in BROKEN]]
    return [ImageExample(Pictures.open(io.BytesIO(part.data)), part.alt) for part in kept]


def whole_sounds(shards: Path) -> list[tuple[np.ndarray, str]]:
    found = [part for number, part in enumerate(all_parts(shards, Speech)) if number not in BROKEN]
    return [(decode_speech(part.data), part.text) for part in found]


def same(one, other) -> bool:
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_pictures_from_shards_make_the_batches_of_pictures_in_memory(shards, tmp_path, cache_mib):
    examples = pictures([shards], IMAGES, None, tmp_path, ALONE, cache_mib)
    assert len(examples) == 2 * COUNT - 2 and examples.sizes.max() == 3  # as many words as a caption may have
    one = picture_batches(examples, 3, IMAGES, PLAN)
    other = image_batches(whole_pictures(shards), IMAGES, PLAN)
    assert all(same(one(step), other(step)) for step in (0, 9, 3, 4, 5))
    halves = [one(5, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([half.pixels for half in halves]), other(5).pixels)


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_utterances_from_shards_make_the_batches_of_those_in_memory(shards, tmp_path, cache_mib):
    why_not = lambda example: "nine" if example.text.endswith("9") else ""  # noqa: E731
    examples = features([shards], SPEECH, 16_000, None, tmp_path, ALONE, cache_mib, why_not, {"without": 9})
    kept = [SpeechExample(*pair) for pair in whole_sounds(shards) if pair[1] and not pair[1].endswith("9")]
    assert examples.sizes.tolist() == [len(example.samples) for example in kept] and len(kept) == COUNT - 4
    one, other = utterance_batches(examples, examples.sizes, SPEECH, PLAN), speech_batches(kept, SPEECH, PLAN)
    assert all(same(vars(one(step)).values(), vars(other(step)).values()) for step in (0, 7, 1))
    lost = from_lines((tmp_path / "lost.jsonl").read_bytes())
    assert [one.item for one in lost] == ["d3/2", "d7/2", "d9/2"] and lost[2].reason == "nine"
    again = utterances([shards], 16_000, None, tmp_path, ALONE)[2:4]
    assert isinstance(again, Examples) and [one.text for one in again] == ["text 2", "text 4"]
    made = examples.made_by(lambda part: part.text)
    assert [*made[:2]] == ["text 0", "text 1"]


def test_recordings_that_cannot_be_decoded_are_left_out_listed_and_counted(shards, tmp_path, capsys):
    sounds = recordings([shards], 16_000, None, tmp_path, ALONE, 1)
    kept, config = [samples for samples, _ in whole_sounds(shards)], Istft(mels=16, crop=20)
    assert all(np.array_equal(a, b) for a, b in zip(sounds, kept, strict=True)) and len(kept) == COUNT - 2
    assert same(vocoder_batches(sounds, config, PLAN, sounds.sizes)(4), vocoder_batches(kept, config, PLAN)(4))
    lost = from_lines((tmp_path / "lost.jsonl").read_bytes())
    assert [(one.item, one.part, one.whole) for one in lost] == [("d3/2", "speech", False), ("d7/2", "speech", False)]
    assert "2 of 12 recordings are left out" in capsys.readouterr().err


def test_what_was_found_is_not_looked_for_again(shards, tmp_path, monkeypatch, capsys):
    first = recordings([shards], 16_000, None, tmp_path, ALONE, 0)
    (tmp_path / "lost.jsonl").unlink()
    capsys.readouterr()
    looked = []
    monkeypatch.setattr(scan, "_look", lambda *_: looked.append(1) or scan.Found(first.rows[:1], b""))
    again = recordings([shards], 16_000, None, tmp_path, ALONE, 0)
    assert np.array_equal(again.rows, first.rows) and not looked
    assert "2 of 12" in capsys.readouterr().err and (tmp_path / "lost.jsonl").exists()
    assert len(recordings([shards], 16_000, 4, tmp_path, ALONE, 0)) == 1 and looked  # other examples are asked for
    assert not (tmp_path / "lost.jsonl").exists()
    write_bytes(tmp_path / scan.FILE, b"damaged")
    recordings([shards], 16_000, None, tmp_path, ALONE, 0)
    assert len(looked) == 2
    for _ in range(2):  # nobody knows what the function depends on
        utterances([shards], 16_000, None, tmp_path, ALONE, lambda example: "")
    assert len(looked) == 4


def test_the_first_parts_alone_are_taken_and_none_is_said(shards, tmp_path):
    examples = pictures([shards], IMAGES, 5, tmp_path / "a", ALONE, 0)
    assert [examples.name(number) for number in range(5)] == ["d0/0", "d0/3", "d1/0", "d1/3", "d2/0"]
    assert len(pictures([shards], IMAGES, 7, tmp_path / "b", ALONE, 0)) == 6  # the seventh is broken
    with pytest.raises(DataError, match="no utterance to learn from, with a transcript, in .*: d0/2: x"):
        utterances([shards], 16_000, 3, tmp_path / "c", ALONE, lambda example: "x")


def test_generated_codes_go_to_the_pictures_that_they_are_of(shards, tmp_path):
    examples = pictures([shards], IMAGES, None, tmp_path, ALONE, 1)
    file = tmp_path / "codes.jsonl"
    file.write_text('{"id": "d1/3", "codes": [1, 2, 3, 15]}\n{"id": "elsewhere/0", "codes": [99]}\n')
    chosen = with_codes(examples, file, IMAGES)
    assert [one.generated.tolist() for one in chosen if one.generated.min() >= 0] == [[1, 2, 3, 15]]
    assert chosen[3].generated.tolist() == [1, 2, 3, 15] and chosen[3:4][0].generated[0] == 1
    assert with_codes(examples, None, IMAGES) is examples
    file.write_text('{"id": "d1/3", "codes": [1, 2, 3, 16]}\n')
    with pytest.raises(DataError, match="d1/3: expected 4 from 0 to 15"):
        with_codes(examples, file, IMAGES)
    file.write_text('{"id": "elsewhere/0", "codes": [1, 2, 3, 4]}\n')
    with pytest.raises(DataError, match="such as 'd0/0'"):
        with_codes(examples, file, IMAGES)


class Together(World):
    """Ranks that are threads: what they sum lies in a list that they share."""

    def __init__(self, rank: int, size: int, shared: list, barrier: Barrier) -> None:
        super().__init__(rank, size, CPU)
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "barrier", barrier)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self.shared[self.rank] = values.clone()
        self.barrier.wait()
        values.copy_(sum(self.shared[1:], self.shared[0]))
        self.barrier.wait()
        return values


@pytest.mark.parametrize("together", [2, 4096])
def test_ranks_share_the_pass_and_find_the_same(shards, tmp_path, monkeypatch, together):
    monkeypatch.setattr(scan, "TOGETHER", together)
    decoded: list[list[str]] = [[], [], []]
    one = pictures([shards], IMAGES, None, tmp_path / "one", ALONE, 0)
    alone = (tmp_path / "one" / "lost.jsonl").read_bytes()

    def run(folder: Path) -> list[Examples]:
        found, shared, barrier = [None] * 3, [None] * 3, Barrier(3)

        def work(rank: int) -> None:
            world = Together(rank, 3, shared, barrier)
            found[rank] = pictures([shards], IMAGES, None, folder if rank == 0 else folder / str(rank), world, 1)

        threads = [Thread(target=work, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    looked_at = scan._look_at
    monkeypatch.setattr(scan, "_look_at", lambda *args: decoded[0].append(int(args[2]["document"])) or looked_at(*args))
    for _ in range(2):  # the second time rank 0 alone has the file, as on disks of their own: all look again
        found = run(tmp_path / "three")
        assert all(np.array_equal(each.rows, one.rows) for each in found)
        assert (tmp_path / "three" / "lost.jsonl").read_bytes() == alone
        for each in found:  # what each kept from the pass is at the right number
            assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(each, one, strict=True))
    assert len(decoded[0]) == 2 * COUNT  # each document once, by one of the ranks


def test_decoded_examples_stay_within_their_bytes():
    kept = scan.Kept(3200, lambda value: len(value))
    for number in range(10):
        kept.put(number, bytes(700))
    assert [number for number in range(10) if kept.get(number) is not None] == [0, 1, 2]
    assert not kept.claim(bytes(700)) and kept.claim(b"")
    kept.put(0, b"")
    assert len(kept.get(0)) == 700


def test_of_a_large_document_the_part_alone_is_read(shards, tmp_path, monkeypatch):
    reader = DocumentShards(shards)
    expected = [(document.id, part) for document in reader for part in document.parts]
    where = [(shard, number) for shard, count in enumerate(reader.shard_documents) for number in range(count)]
    monkeypatch.setattr(shards_read, "WHOLE", 0)
    places = [(*one, place) for one in where for place in range(len(reader.read(*one).parts))]
    assert [reader.part(*place) for place in places] == expected
    size, read = [], shards_read.os.pread
    monkeypatch.setattr(shards_read.os, "pread", lambda file, count, start: size.append(count) or read(file, count, start))
    reader.part(0, 0, 3)
    tar = Path(reader.shard_path(0)).stat().st_size
    assert sum(size) < tar / 3
    monkeypatch.setattr(shards_read.os, "pread", lambda file, count, start: read(file, count, start)[: count // 2])
    with pytest.raises(DataError, match="shard-00000.tar: sample 00000-000000"):
        reader.part(0, 0, 3)


def test_batches_made_ahead_are_those_that_are_asked_for():
    asked = []

    def batches(step: int, rank: int, ranks: int) -> tuple[int, int, int]:
        asked.append(step)
        if step == 8:
            raise DataError("the eighth")
        return step, rank, ranks

    with ahead(batches) as made:
        assert [made(step, 1, 2) for step in (3, 4, 5)] == [(step, 1, 2) for step in (3, 4, 5)]
        assert made(1, 1, 2) == (1, 1, 2) and made(2, 0, 2) == (2, 0, 2)
        with pytest.raises(DataError, match="the eighth"):
            for step in range(3, 10):
                made(step, 0, 2)
    count = len(asked)
    assert set(range(1, 9)) <= set(asked)
    with ahead(batches):
        pass
    assert len(asked) == count  # nothing is made before it is asked for


@pytest.mark.parametrize("together", [1, 5000, 10_000, 10**9])
def test_utterances_are_encoded_some_at_a_time_and_each_once(monkeypatch, together):
    monkeypatch.setattr(tokenizers, "ENCODED_TOGETHER", together)
    samples = np.array([1000, 6000, 100, 100, 4900, 12_000, 1])
    examples = [SpeechExample(np.zeros(size, np.float32), str(number)) for number, size in enumerate(samples)]
    groups = list(tokenizers._groups(examples, samples))
    assert [example for group in groups for example in group] == examples
    assert all(sum(len(example.samples) for example in group[1:]) <= together for group in groups)
    assert len(groups) == (1 if together > samples.sum() else len(groups)) and (len(groups) > 2 or together > 10_000)
