"""Composed documents: parts in order, nothing vanishes, the same every time, and sound mixed as was asked for."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from mmpt.data.curate.compositions.figure_choices import FigureChoices
from mmpt.data.curate.compositions.generator_samples import GeneratorSamples
from mmpt.data.curate.compositions.in_context import InContext
from mmpt.data.curate.compositions.list_items import Item, ListItems, draw_marks
from mmpt.data.curate.compositions.mixture import Mixture
from mmpt.data.curate.compositions.read_aloud import ReadAloud
from mmpt.data.curate.compositions.several_pictures import SeveralPictures
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.compose import Compose
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost
from mmpt.data.rewrite.operations.tasks import Tasks
from mmpt.data.rewrite.prompt import Answer
from mmpt.data.shards.write import ShardWriter
from mmpt.data.sources.spoken_scenes import SpokenScenes
from mmpt.data.synthetic import scenes
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image, decode_speech, encode_png, encode_wav

RATE = 16_000


def image(number: int) -> Image:
    return Image(encode_png(Pillow.new("RGB", (4, 4), (number % 256, 3, 9))), "png", 4, 4)


def pair(number: int) -> Document:
    return Document(f"p{number}", "test", (image(number), Text(f"a thing {number}")), {"n": number})


def talk(number: int) -> Document:
    asked = (Text("what? ", 0.0, "user"), Image(**vars(image(number)) | {"role": "user", "weight": 0.0}))
    return Document(f"t{number}", "test", (*asked, Text(f"it is {number}", 1.0, "assistant", 1)))


def other(number: int) -> Document:
    return Document(f"o{number}", "test", (Text("alone"),))


def flat(document: Document) -> str:
    """A conversation as one line: pictures by the number that is in their bytes."""
    said = ""
    for (role, turn), parts in itertools.groupby(document.parts, key=lambda part: (part.role, part.turn)):
        said += f"[{role} {turn}] "
        said += "".join(
            f"<{decode_image(part.data).getpixel((0, 0))[0]}>" if isinstance(part, Image) else part.text for part in parts
        )
    return said


def test_examples_stand_before_the_question_each_picture_declared():
    documents = [pair(0), other(0), talk(1), pair(2), pair(3)]
    found = list(InContext(examples=2).compose(documents))
    assert [one.id for one in found] == ["o0", "p0", "p3"] and found[0] is documents[1] and found[2] is documents[4]
    assert flat(found[1]) == (
        "[user 0] image 0: <0>\nWhat does image 0 show? a thing 0\n\nimage 1: <1>\nOf image 1: what? it is 1\n\n"
        "image 2: <2>\nWhat does image 2 show?[assistant 1] a thing 2"
    )
    assert found[1].meta == {"n": 0, "composed": ["p0", "t1", "p2"]}
    assert [part.weight for part in found[1].parts] == [0.0] * 7 + [1.0], "only what is asked for is learned"


def test_figures_are_asked_about_with_captions_of_others():
    def article(name: str, *captions: str) -> Document:
        figures = [replace(image(number), alt=caption) for number, caption in enumerate(captions)]
        parts = [part for figure in figures for part in (figure, Text("in between"))]
        return Document(name, "test", tuple(parts), {"license": "CC-BY"})

    second = article("two", "a dog", "", "a  cow", "a dog")
    given_ = [article("one", "a cat"), second, other(1), article("three", "a pig", "a hen")]
    found = list(FigureChoices(choices=3).compose(given_))
    assert [one for one in found if "/" not in one.id] == given_  # articles stay as they are
    wanted = {"two/figure-0": "a dog", "two/figure-4": "a cow", "two/figure-6": "a dog", "three/figure-0": "a pig",
              "three/figure-2": "a hen"}  # fmt: skip
    asked = [one for one in found if "/" in one.id]
    assert [one.id for one in asked] == list(wanted)
    for one in asked:
        picture, question, answer = one.parts
        choices = dict(line.split(" ", 1) for line in question.text.splitlines()[1:])
        assert list(choices) == ["(A)", "(B)", "(C)"] and len(set(choices.values())) == 3
        assert choices[answer.text] == wanted[one.id] and one.meta == {"license": "CC-BY"}
        assert (picture.role, picture.weight, question.weight, answer.weight, answer.turn) == ("user", 0.0, 0.0, 1.0, 1)
        assert picture.alt == ""  # else the answer would stand beside the question
    assert all(choice in asked[0].parts[1].text for choice in ("a cow", "a cat", "a dog"))
    several = [one for seed in range(20) for one in FigureChoices(choices=2, seed=seed).compose(given_)]
    right = [one.parts[2].text for one in several if "/" in one.id]
    assert 0.3 < right.count("(A)") / len(right) < 0.7


def test_which_picture_a_text_belongs_to_is_asked_of_each():
    documents = [pair(number) for number in range(6)]
    found = list(InContext(examples=2, ask="which", declaration="{image} is image {index}. ").compose(documents))
    assert len(found) == 2
    assert flat(found[0]).startswith("[user 0] <0> is image 0. <1> is image 1. <2> is image 2. Which image is this: a thing ")
    answers = {
        part.text: found[0].parts[place + 1].text
        for place, part in enumerate(found[0].parts)
        if "Which" in getattr(part, "text", "")
    }
    assert sorted((asked[-1], said) for asked, said in answers.items()) == [(str(n), f"image {n}") for n in range(3)]
    orders = {tuple(part.text for part in one.parts if part.role == "assistant")
              for seed in range(9) for one in InContext(examples=2, ask="which", seed=seed).compose(documents)}  # fmt: skip
    assert len(orders) > 3


def test_several_pictures_are_marked_by_number():
    several = Document("s", "test", (Text("see "), image(7), image(8), Text(" there")), {"boxes": [], "n": 1})
    documents = [pair(0), several, talk(1)]
    found = list(SeveralPictures(pictures=3).compose(documents))
    assert flat(found[0]) == "[None 0] see (image 1: <7>)(image 2: <8>) there"
    assert found[0].meta == {"n": 1}, "boxes are named by parts, which have moved"
    assert flat(found[1]) == (
        "[user 0] (image 1: <0>)(image 2: <1>)\nWhat does image 1 show?[assistant 1] a thing 0"
        "[user 2] Of image 2: what?[assistant 3] it is 1"
    )
    assert [part.text for part in found[0].parts if isinstance(part, Text)] == ["see (image 1: ", ")(image 2: ", ") there"]
    unmarked = list(SeveralPictures(pictures=2, mark="{image}").compose([pair(0), pair(1)]))
    assert flat(unmarked[0]).startswith("[user 0] <0><1>\nWhat")
    for wrong in ({"mark": "image"}, {"question": "What?"}, {"about": "{number}"}):
        with pytest.raises(ValueError):
            SeveralPictures(**wrong)


makers = st.lists(st.sampled_from([pair, talk, other]), max_size=14)


@settings(deadline=None, max_examples=30)
@given(makers, st.integers(1, 4), st.sampled_from(["describe", "which"]))
def test_every_picture_and_text_is_there_once_and_in_order(made, size, ask):
    documents = [make(number) for number, make in enumerate(made)]
    lost = Lost("x", "broken")
    for step in (InContext(examples=size, ask=ask), SeveralPictures(pictures=size + 1)):
        found = list(step.compose([lost, *documents]))
        assert found[0] is lost and found == list(step.compose([lost, *documents]))
        shown = [part.data for one in found[1:] for part in one.parts if isinstance(part, Image)]
        assert shown == [part.data for one in documents for part in one.parts if isinstance(part, Image)]
        text = "\n".join(flat(one) for one in found[1:]) + "\n"
        for number, make in enumerate(made):
            wanted = {pair: f"a thing {number}", talk: f"it is {number}", other: "alone"}[make]
            assert wanted in text
        ids = [name for one in found[1:] for name in one.meta.get("composed", [one.id])]
        assert sorted(ids) == sorted(one.id for one in documents)


def test_marks_lie_on_what_they_name_and_the_list_is_in_their_order(tmp_path):
    source = SpokenScenes(split="train", count=4, boxes=True)
    plain = list(SpokenScenes(split="train", count=4).documents())
    documents = list(source.documents())
    assert [one.parts for one in plain] == [one.parts for one in documents] and "boxes" not in plain[0].meta
    orders = set()
    for document in documents:
        original, marked = ListItems(size=9).compose([document])
        assert original is document and marked.id == f"{document.id}/marks-0"
        shown, asked, said = marked.parts
        assert (shown.role, asked.role, said.role, said.turn, said.weight) == ("user", "user", "assistant", 1, 1.0)
        listed = dict(line.split(". ", 1) for line in said.text.splitlines())
        assert sorted(listed) == ["1", "2"] and sorted(listed.values()) == sorted(one["text"] for one in document.meta["boxes"])
        orders.add(listed["1"] == document.meta["boxes"][0]["text"])
        before, after = (np.asarray(decode_image(part.data)).astype(int) for part in (document.parts[0], shown))
        changed = np.abs(before - after).sum(-1) > 0
        for number, box in enumerate(marked.meta["marks"], start=1):
            left, top, right, bottom = (round(one) for one in box)
            inside = changed[top:bottom, left:right]
            assert inside.sum() > 60, "a number is drawn on each"
            (item,) = [one["text"] for one in document.meta["boxes"] if one["box"] == box]
            middle = before[(top + bottom) // 2, (left + right) // 2]
            assert np.abs(middle - scenes.COLORS[item.split()[2]]).max() < 30, "the box is where the shape is"
            assert listed[str(number)] == item
            changed[top:bottom, left:right] = False
        assert not changed.any(), "and nothing else is changed"
    assert orders == {True, False}


def test_numbers_can_be_read():
    picture = draw_marks(Pillow.new("RGB", (400, 100), "gray"), [Item((n * 80, 20, n * 80 + 60, 80), "x") for n in range(5)], 20)
    tiles = [np.asarray(picture)[30:70, n * 80 + 10 : n * 80 + 50] for n in range(5)]
    alone = [
        np.asarray(
            draw_marks(Pillow.new("RGB", (400, 100), "gray"), [Item((0, 0, 1, 1), "")] * n + [Item((0, 20, 60, 80), "x")], 20)
        )[30:70, 10:50]
        for n in range(5)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(tiles, alone, strict=True))
    assert len({one.tobytes() for one in tiles}) == 5


def test_boxes_that_are_none_are_listed():
    boxes = [{"part": 0, "box": [0, 0, 9, 2], "text": "x"}, {"part": 1, "box": [0, 0, 2, 2], "text": "x"}, "box",
             {"part": 0, "box": [0, 0, 2, "2"], "text": "x"}, {"part": 0, "box": [1, 1, 3, 3], "text": "yes"}]  # fmt: skip
    document = Document("d", "test", (image(1), Text("a")), {"boxes": boxes})
    found = list(ListItems(original=False).compose([document, other(0)]))
    assert [one.rule for one in found if isinstance(one, Lost)] == ["list_items"] * 4
    assert [one.id for one in found if isinstance(one, Document)] == ["d/marks-0", "o0"] and found[-2].parts[2].text == "1. yes"
    document = Document("d", "test", (Image(b"none", "png", 4, 4),), {"boxes": [{"part": 0, "box": [1, 1, 3, 3], "text": "yes"}]})
    part, whole = ListItems(original=False).compose([document])
    assert (part.bad_part, whole.whole, whole.rule) == (True, True, "list_items")


def test_samples_for_a_generator_are_what_it_is_asked_and_what_is_read_of_it():
    """There and back: what a sample teaches to write, the operation `tasks` reads as the conversation that it was made of."""
    text = "The sun is a star.\n\nIt is hot."
    talk_ = Document(
        "d", "test", (Text(f"{text}\n\nWhat is it?", 0.0, "user"), Text("A star.", 1.0, "assistant", 1)), {"task": "qa"}
    )
    sample, other_ = GeneratorSamples().compose([talk_, other(0)])
    assert other_ == other(0) and sample.id == "d" and [part.weight for part in sample.parts] == [0.0, 1.0]
    step = Tasks(tasks=("qa",), form="bonito", least_words=1)
    (prompt,) = step.ask(Document("d", "test", (Text(text),)))
    assert sample.parts[0].text == prompt.text
    (found,) = step.take(Document("d", "test", (Text(text),)), [Answer(sample.parts[1].text)])
    assert found.parts == talk_.parts


def clip(number: int, seconds: float, rate: int = RATE, text: bool = True) -> Document:
    samples = np.random.default_rng(number).standard_normal(int(seconds * rate)) * 0.02 * (number % 5 + 1)
    said = f"word{number} again"
    speech = Speech(
        encode_wav(samples.astype(np.float32), rate),
        "wav",
        rate,
        seconds,
        said,
        ((f"word{number}", 0.1, 0.2), ("again", 0.2, 0.3)),
    )
    return Document(f"c{number}", "test", (speech, Text(said)) if text else (speech,))


@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(st.floats(0.5, 1.5), min_size=1, max_size=6), speakers=st.integers(1, 3),
    noise=st.sampled_from(["white", "pink"]),
    ratio=st.floats(-5, 30), share=st.floats(0, 1), level=st.floats(-10, 10), seed=st.integers(0, 3),
)  # fmt: skip
def test_speech_and_noise_are_mixed_as_was_asked_for(lengths, speakers, noise, ratio, share, level, seed):
    clips = [clip(number, seconds, text=False) for number, seconds in enumerate(lengths)]
    asked = {"overlap": (share, share), "levels": (level, level), "snr": (ratio, ratio)}
    step = Mixture(speakers=speakers, noise=noise, seed=seed, **asked)
    found = list(step.compose(clips))
    assert found == list(step.compose(clips))
    assert [name for one in found for name in one.meta["mixed"]["of"]] == [one.id for one in clips]
    for one in found:
        told, (part,) = one.meta["mixed"], one.parts
        mixed = decode_speech(part.data).astype(np.float64)
        sources = [decode_speech(clips[int(name[1:])].parts[0].data).astype(np.float64) for name in told["of"]]
        speech = np.zeros_like(mixed)
        powers = []
        for source, start, gain in zip(sources, told["starts"], told["gains"], strict=True):
            first = round(start * RATE)
            speech[first : first + len(source)] += gain * source
            powers.append(10 * np.log10(np.square(gain * source).mean()))
        rest = mixed - speech
        assert 10 * np.log10(np.square(speech).mean() / np.square(rest).mean()) == pytest.approx(ratio, abs=0.1)
        assert [power - powers[0] for power in powers[1:]] == pytest.approx([level] * (len(powers) - 1), abs=0.1)
        edges = zip(sources, sources[1:], told["starts"], told["starts"][1:], strict=False)
        for before, after, start, following in edges:
            both = start + len(before) / RATE - following
            assert both <= share * min(len(before), len(after)) / RATE + 1e-4
        if len(sources) == 2:
            assert both == pytest.approx(share * min(map(len, sources)) / RATE, abs=1e-4)
        assert part.text == "\n".join(f"word{name[1:]} again" for name in told["of"])
        assert [word for word, *_ in part.words if word != "again"] == [f"word{name[1:]}" for name in told["of"]]
        assert part.words[0][1] == pytest.approx(0.1) and np.abs(mixed).max() < 1


def test_noise_of_a_folder_and_what_cannot_be_mixed(tmp_path):
    tone = np.sin(np.arange(4000) * 0.3).astype(np.float32) * 0.1
    (tmp_path / "hum.wav").write_bytes(encode_wav(tone, RATE))
    broken = Document("b", "test", (Speech(b"x", "wav", RATE, 1.0, "b"),))
    documents = [clip(0, 1.0), other(0), broken, clip(1, 0.6, rate=8000)]
    found = list(Mixture(noise=str(tmp_path), change=" <sc> ").compose(documents))
    assert found[0] is documents[1] and isinstance(found[1], Lost) and found[1].bad is False and found[1].rule == "mixture"
    assert found[2].meta["mixed"]["noise"] == "hum.wav" and found[2].parts[1] == Text("word0 again <sc> word1 again")
    (alone,) = Mixture().compose([clip(0, 1.0)])
    assert alone == clip(0, 1.0), "nothing to mix it with"
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(ConfigError, match="noise"):
            list(Mixture(noise=str(folder)).compose(documents))


def test_speakers_of_a_mixture_differ_where_they_can():
    clips = [replace(clip(number, 0.3), meta={"voice": voice}) for number, voice in enumerate("aaabba")]
    found = list(Mixture().compose(clips))
    assert [one.meta["mixed"]["of"] for one in found] == [["c0", "c3"], ["c1", "c4"], ["c2", "c5"]]
    found = list(Mixture(window=2).compose(clips))
    assert [one.meta["mixed"]["of"] for one in found] == [["c0", "c1"], ["c2", "c3"], ["c4", "c5"]]


@pytest.mark.parametrize("voice", ["en-us", "flite:slt"])
def test_whole_texts_are_read_aloud(voice):
    pytest.importorskip("espeakng_loader")
    if voice.startswith("flite"):
        flite = pytest.importorskip("mmpt.data.synthetic.flite")
        try:
            flite.speak("a")
        except ConfigError as problem:
            pytest.skip(str(problem))
    text = "The sun is a star. It is hot.\n\n* * *\n\nPlanets go around it, year after year, in the dark."
    document = Document("d", "test", (Text(text), image(1), Text("Why?", 0.0, "user"), Text("So.", 1.0, "assistant", 1)))
    step = ReadAloud(voices=(voice,), max_words=8, roles=("user",))
    (found,) = step.compose([document])
    assert [found] == list(step.compose([document])), "the same bytes twice"
    cut = [type(part) for part in found.parts].index(Image)
    assert "".join(part.text for part in found.parts[:cut]) == text
    assert [type(part) for part in found.parts[cut:]] == [Image, Speech, Text] and found.parts[cut + 1].role == "user"
    assert all(isinstance(part, Speech) == any(map(str.isalnum, part.text)) for part in found.parts[:cut])
    spoken = [part for part in found.parts if isinstance(part, Speech)]
    assert all(len(decode_speech(part.data)) > 0.2 * RATE for part in spoken) and found.meta["voice"] == voice
    (both,) = ReadAloud(voices=(voice,), max_words=8, text="behind").compose([document])
    assert [part for part in both.parts if not isinstance(part, Speech)] == list(document.parts)


@pytest.mark.slow
def test_shards_are_the_same_bytes_for_any_number_of_processes(tmp_path):
    with ShardWriter(tmp_path / "in", built={}, max_documents=7) as writer:
        for number in range(40):
            writer.write([pair, talk, other][number % 3](number))
    step = Compose(composition=SeveralPictures())
    for processes in (1, 2):
        curate(step, [tmp_path / "in"], tmp_path / f"out{processes}", RunConfig(processes=processes))
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / f"out{n}").iterdir()} for n in (1, 2))
    assert one == two and io.BytesIO(one["manifest.json"]).read()
