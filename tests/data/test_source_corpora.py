"""Sources of speech corpora in the layouts of other tools, written by those tools' own libraries where there are any."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, build
from mmpt.data.formats.textgrid import read_textgrid
from mmpt.data.lost import Lost
from mmpt.data.shards.read import DocumentShards
from mmpt.data.sources import Source
from mmpt.data.sources.gigaspeech import GigaSpeech
from mmpt.data.sources.kaldi import Kaldi
from mmpt.data.sources.lhotse_shar import LhotseShar
from mmpt.data.sources.nemo_tarred import NemoTarred
from mmpt.data.sources.textgrid import TextGrid
from mmpt.data.sources.voxpopuli import VoxPopuli
from mmpt.data.store import Store
from mmpt.document import Document, Speech
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech, encode_flac, encode_wav

ROOT = Path(__file__).parents[2]
ALIGNED = ROOT.parent / "shared" / "data" / "librispeech" / "aligned"


def tone(seconds: float, number: int, rate: int = 8000) -> np.ndarray:
    return (0.4 * np.sin(np.arange(int(seconds * rate)) * 0.1 * (number + 1))).astype(np.float32)


def read(config: Source) -> tuple[list[Document], list[Lost]]:
    found = list(config.documents())
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Lost)]


def samples(document: Document) -> np.ndarray:
    (speech,) = [part for part in document.parts if isinstance(part, Speech)]
    return decode_speech(speech.data, speech.sample_rate)


def texts(documents: list[Document]) -> list[str]:
    return [document.parts[1].text for document in documents]


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def shar(tmp_path) -> tuple[Path, list]:
    """A set written by lhotse itself, and its own cuts read back."""
    lhotse = pytest.importorskip("lhotse")
    from lhotse.supervision import AlignmentItem

    (tmp_path / "shar").mkdir()
    cuts = []
    for number in range(5):
        soundfile.write(tmp_path / f"{number}.wav", tone(2.0, number), 8000)
        recording = lhotse.Recording.from_file(tmp_path / f"{number}.wav")
        words = {"word": [AlignmentItem("two", 0.3, 0.2), AlignmentItem("words", 0.6, 0.25)]}
        said = lhotse.SupervisionSegment(
            f"s{number}", recording.id, 0.25, 1.0, text="two words", speaker="ann", language="en", alignment=words
        )
        other = lhotse.SupervisionSegment(f"t{number}", recording.id, 1.5, 0.5, text=f"number {number}")
        cuts.append(lhotse.MonoCut(f"cut.{number}", 0, 2.0, 0, supervisions=[said, other], recording=recording))
    cuts[4] = cuts[4].truncate(offset=0.25, duration=1.75)  # a stretch: lhotse writes that alone, its words' times as they were
    cuts[4].id = "cut.4"
    lhotse.CutSet.from_cuts(cuts).to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=2)
    return tmp_path / "shar", list(lhotse.CutSet.from_shar(in_dir=tmp_path / "shar"))


def test_shar_as_lhotse_writes_and_reads_it(shar):
    folder, cuts = shar
    documents, lost = read(LhotseShar(folder=str(folder), words=True, license="CC0-1.0"))
    expected = [(cut, one, number) for cut in cuts for number, one in enumerate(cut.supervisions)]
    assert len(documents) == len(expected) == 10 and [one.reason[:30] for one in lost] == []
    for document, (cut, supervision, number) in zip(documents, expected, strict=True):
        assert document.id == f"shar/{cut.id}/{number}" and document.parts[1].text == supervision.text
        piece = cut.truncate(offset=supervision.start, duration=supervision.duration).load_audio()[0]
        assert np.array_equal(samples(document), piece)
    assert documents[0].meta == {"language": "en", "voice": "ann", "license": "CC0-1.0"}
    found = [(word, round(start, 6), round(end, 6)) for word, start, end in documents[0].parts[0].words]
    assert found == [("two", 0.05, 0.25), ("words", 0.35, 0.6)]
    assert [bool(one.parts[0].words) for one in read(LhotseShar(folder=str(folder)))[0]] == [False] * 10
    assert len(LhotseShar(folder=str(folder)).units()) == 3


def test_shar_lists_what_lacks_its_other_half(shar):
    folder, _ = shar
    (folder / "recording.000001.tar").unlink()
    cuts = list(map(json.loads, gzip.decompress((folder / "cuts.000000.jsonl.gz").read_bytes()).splitlines()))
    other = {**cuts[0], "id": "gone"}
    stereo = {**cuts[1], "recording": {**cuts[1]["recording"], "channel_ids": [0, 1]}}
    with gzip.open(folder / "cuts.000000.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(one) + "\n" for one in (other, stereo)))
    documents, lost = read(LhotseShar(folder=str(folder)))
    assert {one.id.rpartition("/")[0] for one in documents} == {"shar/cut.4"}
    assert [one.reason[:24] for one in lost] == [
        "no recording of its id i", "one of the channels [0, ", "no cut of that id in cut", "no recording.*.tar of it",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no cuts.000000"):
        LhotseShar(folder=str(ALIGNED if ALIGNED.is_dir() else ROOT / "datasets")).units()


@pytest.mark.parametrize("shared", [False, True])
def test_nemo_tarred(tmp_path, shared):
    """Names as convert_to_tarred_audio_dataset.py makes them: pieces of one recording share its member."""
    rows = [
        {"audio_filepath": "a_1.wav", "text": "first", "duration": 1.0, "shard_id": 0, "lang": "en", "speaker": 3},
        {"audio_filepath": "long-sub1.wav", "text": "piece", "offset": 0.5, "duration": 0.25, "shard_id": 0},
        {"audio_filepath": "long-sub2.wav", "text": "other", "offset": 1.0, "duration": 0.5, "shard_id": 0},
        {"audio_filepath": "none.wav", "text": "x", "duration": 1.0, "shard_id": 0},
        {"audio_filepath": "b.wav", "text": "second", "duration": 1.0, "shard_id": 1},
        {"audio_filepath": "c.wav", "text": "wrong", "duration": 9.0, "shard_id": 1},
    ]
    members = {0: {"a_1.wav": 1, "long.wav": 2, "alone.wav": 3}, 1: {"b.wav": 4, "c.wav": 5}}
    for number, names in members.items():
        with tarfile.open(tmp_path / f"audio_{number}.tar", "w") as tar:
            for name, pitch in names.items():
                put(tar, name, encode_wav(tone(2.0 if name == "long.wav" else 1.0, pitch), 8000))
    if shared:
        (tmp_path / "tarred_audio_manifest.json").write_text("\n".join(map(json.dumps, rows)))
    else:
        (tmp_path / "sharded_manifests").mkdir()
        for number in members:
            own = [row for row in rows if row["shard_id"] == number]
            (tmp_path / "sharded_manifests" / f"manifest_{number}.json").write_text("\n".join(map(json.dumps, own)))
    documents, lost = read(NemoTarred(folder=str(tmp_path), name="n"))
    assert texts(documents) == ["first", "piece", "other", "second"] and documents[0].meta == {"language": "en", "voice": "3"}
    assert np.allclose(samples(documents[1]), tone(2.0, 2)[4000:6000], atol=1e-4)
    assert np.allclose(samples(documents[2]), tone(2.0, 2)[8000:12000], atol=1e-4)
    assert documents[1].id == "n/long-sub1.wav"
    assert [one.reason[:15] for one in lost] == ["no row of it in", "not in audio_0.", "1.00 s of audio"]
    (tmp_path / ("tarred_audio_manifest.json" if shared else "sharded_manifests/manifest_1.json")).unlink()
    with pytest.raises(ConfigError, match="no manifest_"):
        NemoTarred(folder=str(tmp_path)).units()


@pytest.mark.skipif(not ALIGNED.is_dir(), reason="no real TextGrids beside the repository")
def test_textgrids_of_librispeech_as_praatio_reads_them():
    textgrid = pytest.importorskip("praatio.textgrid")
    documents, lost = read(TextGrid(folder=str(ALIGNED), voice=2, license="CC-BY-4.0"))
    files = sorted(ALIGNED.rglob("*.TextGrid"))
    found = {document.id.removeprefix("aligned/"): document for document in documents}
    gaps = [path for path in files if re.search(r'"(<unk>|spn)"', path.read_text().split('name = "phones"')[0])]
    assert len(documents) + len(lost) == len(files) == 127 and len(lost) == len(gaps)
    assert all("does not know" in one.reason for one in lost)
    for path in files:
        name = str(path.relative_to(ALIGNED).with_suffix(""))
        if path in gaps:
            assert name not in found
            continue
        document, grid = found[name], textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
        words = [tuple(one) for one in grid.getTier("words").entries if one.label not in ("sil", "sp")]
        speech = document.parts[0]
        assert [(start, end, word) for word, start, end in speech.words] == [tuple(one) for one in words]
        phones = [tuple(one) for one in grid.getTier("phones").entries if one.label not in ("sil", "sp")]
        assert [(start, end, phone) for phone, start, end in document.meta["phones"]] == phones
        assert speech.text == " ".join(word for _, _, word in words) and document.meta["voice"] == path.parts[-3]
        assert abs(speech.duration - grid.maxTimestamp) < 0.1 and speech.data == path.with_suffix(".flac").read_bytes()


def test_both_forms_of_textgrids_hold_the_same(tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid")
    grid = textgrid.Textgrid()
    entries = [(0.0, 0.25, 'say "yes"!'), (0.25, 0.5, "item [1]: 7"), (0.5, 1.0, "xmin = 3\nnext")]
    grid.addTier(textgrid.IntervalTier("words", entries, 0, 1))
    grid.addTier(textgrid.PointTier("bells", [(0.5, "ding")], 0, 1))
    grid.addTier(textgrid.IntervalTier("phones", [(0.0, 1.0, "ɑː")], 0, 1))
    for form in ("long_textgrid", "short_textgrid"):
        grid.save(str(tmp_path / form), form, includeBlankSpaces=True)
        data = (tmp_path / form).read_bytes()
        for encoded in (data, b"\xef\xbb\xbf" + data, data.decode().encode("utf-16")):
            tiers = read_textgrid(encoded)
            assert list(tiers) == ["words", "phones"] and [tuple(one) for one in tiers["words"]] == entries
            assert tiers["phones"][0].text == "ɑː"
    whole = (tmp_path / "long_textgrid").read_bytes()
    for cut in range(0, whole.rindex(b'"') - 1, 7):
        with pytest.raises(DataError):
            read_textgrid(whole[:cut])
    with pytest.raises(DataError, match="order of time"):
        read_textgrid(whole.replace(b"xmax = 0.25", b"xmax = 0.75"))


def kaldi(folder: Path, **tables: list[str]) -> Kaldi:
    folder.mkdir()
    for name, lines in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text("\n".join(lines) + "\n")
    return Kaldi(folder=str(folder), audio=str(folder.parent), license="CC-BY-4.0")


def test_kaldi_folders_with_and_without_segments(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.flac").write_bytes(encode_flac(tone(2.0, number), 8000))
    wavs = ["r0 0.flac", f"r1 {tmp_path}/1.flac", "r2 sph2pipe -f wav 2.flac |", "r3 ../../etc/passwd"]
    plain = kaldi(tmp_path / "plain", wav_scp=wavs, text=["r0 one  two", "r1 three", "r2 x", "r3 y", "r9 z"],
                  utt2spk=["r0 ann", "r1 bob"], utt2lang=["r0 en"])  # fmt: skip
    documents, lost = read(plain)
    assert texts(documents) == ["one  two", "three"]
    assert documents[0].meta == {"language": "en", "voice": "ann", "license": "CC-BY-4.0"}
    assert documents[1].parts[0].data == (tmp_path / "1.flac").read_bytes()
    assert [one.reason[:30] for one in lost] == [
        "wav.scp: a command, which is n", "'../../etc/passwd': no name of", "recording r9 is not in wav.scp"
    ]  # fmt: skip
    segments = ["u1 r0 0.5 0.75", "u2 r0 1.0 -1", "u3 r1 1.5 3.5", "u4 r2 0 1", "u5 r1 one two", "u6 r1 0 0.5"]
    cut = kaldi(tmp_path / "cut", wav_scp=wavs, segments=segments, text=[f"u{n} SAID {n}" for n in (1, 2, 3, 4, 5, 9)])
    documents, lost = read(cut.model_copy(update={"lowercase": True}))
    assert texts(documents) == ["said 1", "said 2"]
    assert np.allclose(samples(documents[0]), tone(2.0, 0)[4000:6000], atol=1e-4)
    assert np.allclose(samples(documents[1]), tone(2.0, 0)[8000:], atol=1e-4)
    assert [one.document for one in lost] == ["cut/u3", "cut/u4", "cut/u5", "cut/u6", "cut/u9"]
    assert "has no piece" in lost[0].reason and "no transcript" in lost[3].reason and "not in segments" in lost[4].reason
    with pytest.raises(ConfigError, match="there twice"):
        kaldi(tmp_path / "twice", wav_scp=wavs, text=["a x", "a y"]).units()
    with pytest.raises(ConfigError, match=r"no wav\.scp"):
        kaldi(tmp_path / "none", text=["a x"]).units()


def test_no_command_of_a_kaldi_folder_runs(tmp_path):
    mark = tmp_path / "ran"
    commands = [f"a touch {mark} |", f"b | touch {mark}", f"c $(touch {mark})", f"d `touch {mark}`", "e -"]
    documents, lost = read(kaldi(tmp_path / "data", wav_scp=commands, text=[f"{name} text" for name in "abcde"]))
    assert not documents and len(lost) == 5 and not mark.exists()


def test_kaldi_as_lhotse_reads_it(tmp_path):
    pytest.importorskip("lhotse")
    from lhotse.kaldi import load_kaldi_data_dir

    (tmp_path / "r.flac").write_bytes(encode_flac(tone(2.0, 1), 8000))
    tables = {"wav_scp": [f"r {tmp_path}/r.flac"], "segments": ["u1 r 0.25 0.75", "u2 r 1.0 1.5"],
              "text": ["u1 one two", "u2 three"], "utt2spk": ["u1 ann", "u2 bob"]}  # fmt: skip
    documents, lost = read(kaldi(tmp_path / "data", **tables))
    recordings, supervisions, _ = load_kaldi_data_dir(tmp_path / "data", 8000)
    assert not lost
    for document, one in zip(documents, supervisions, strict=True):
        piece = recordings[one.recording_id].load_audio(offset=one.start, duration=one.duration)[0]
        assert np.array_equal(samples(document), piece) and document.parts[1].text == one.text
        assert document.meta["voice"] == one.speaker


def test_voxpopuli(tmp_path):
    """The table and the names that facebookresearch/voxpopuli's get_asr_data writes."""
    folder = tmp_path / "en"
    (folder / "2012").mkdir(parents=True)
    name = "20120613-0900-PLENARY-3-en_20120613-09:05:29_4"
    soundfile.write(folder / "2012" / f"{name}.ogg", tone(1.0, 1, 16000), 16000, format="OGG")
    header = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender"
    rows = [
        header,
        f"{name}\tYes, we can.\tyes we can\t96\ttrain\tmale",
        f"{name}-x\t\tgone\tNone\ttrain\tfemale",
        "bad\ta\tb\tc\ttrain\td",
    ]
    (folder / "asr_train.tsv").write_text("\n".join(rows) + "\n")
    (document,), lost = read(VoxPopuli(folder=str(folder)))
    assert document.id == f"en/{name}" and document.parts[1].text == "Yes, we can." and len(document.meta["voice"]) == 12
    assert document.meta["language"] == "en" and document.meta["license"] == "CC0-1.0"
    assert ["no such file" in lost[0].reason, "begins with a year" in lost[1].reason] == [True, True]
    assert texts(read(VoxPopuli(folder=str(folder), normalized=True))[0]) == ["yes we can"]


def giga(folder: Path, audios: list) -> Path:
    content = {"dataset": "GigaSpeech", "language": "EN", "version": "v1.0.0 – é", "audios": audios}
    (folder / "GigaSpeech.json").write_text(json.dumps(content, ensure_ascii=False, indent=1))
    return folder


def segment(sid: str, start: float, end: float, text: str, *subsets: str) -> dict:
    return {"sid": sid, "speaker": "N/A", "begin_time": start, "end_time": end, "text_tn": text,
            "subsets": [f"{{{one}}}" for one in subsets]}  # fmt: skip


def test_gigaspeech(tmp_path, monkeypatch):
    audios = []
    for number in range(4):
        name = f"audio/podcast/P0000/POD{number}.opus"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, tone(2.0, number, 16000), 16000, format="OGG", subtype="OPUS")
        segments = [
            segment(f"POD{number}_S0", 0.25, 0.75, "HELLO <COMMA> ÉMILE <PERIOD>", "XL", "S"),
            segment(f"POD{number}_S1", 1.0, 1.5, "<MUSIC>", "XL"),
            segment(f"POD{number}_S2", 1.0, 1.5, "IS IT <QUESTIONMARK>", "XL"),
            segment(f"POD{number}_S3", 1.0, 5.0, "BEYOND", "XL"),
        ]
        audios.append(
            {"aid": f"POD{number}", "path": name, "duration": 2.0, "sample_rate": 16000, "title": "é", "segments": segments}
        )
    audios.append({"aid": "x", "path": 7})
    config = GigaSpeech(folder=str(giga(tmp_path, audios)), name="g")
    documents, lost = read(config)
    assert texts(documents) == ["hello, émile.", "is it?"] * 4 and documents[2].id == "g/POD1_S0"
    whole, _ = soundfile.read(tmp_path / "audio/podcast/P0000/POD1.opus", dtype="float32")
    assert np.allclose(samples(documents[2]), whole[len(whole) // 8 : len(whole) * 3 // 8], atol=1e-3)
    assert sorted(one.rule for one in lost) == [""] * 5 + ["no_speech"] * 4 and lost[-1].reason.startswith("path must")
    assert texts(read(config.model_copy(update={"subset": "S"}))[0]) == ["hello, émile."] * 4
    bare = config.model_copy(update={"punctuation": False, "lowercase": False, "subset": "S"})
    assert texts(read(bare)[0]) == ["HELLO ÉMILE"] * 4
    monkeypatch.setattr("mmpt.data.sources.gigaspeech.UNIT_BYTES", 10_000)  # pieces of two recordings
    assert len(config.units()) == 3 and read(config)[0] == documents
    for content in ("{", '{"audios": [', '{"audios": [{"a"', "[]", '{"audios": []}'):
        (tmp_path / "GigaSpeech.json").write_text(content)
        with pytest.raises(ConfigError, match=r"GigaSpeech\.json"):
            config.units()


def test_all_of_them_build_from_urls(shar, tmp_path):
    """As documents in shards, from a store where nothing is a path."""
    folder, _ = shar
    (tmp_path / "k").mkdir()
    for name, text in (("wav.scp", "a a.flac"), ("text", "a one")):
        (tmp_path / "k" / name).write_text(text)
    (tmp_path / "k" / "a.flac").write_bytes(encode_flac(tone(1.0, 1), 8000))
    for path in [*folder.iterdir(), *(tmp_path / "k").iterdir()]:
        Store(f"memory://corpora-{tmp_path.name}/{path.parent.name}").write(path.name, path.read_bytes())
    where = f"memory://corpora-{tmp_path.name}"
    config = parse_config(
        {"sources": [{"kind": "lhotse_shar", "folder": f"{where}/shar"}, {"kind": "kaldi", "folder": f"{where}/k"}]},
        BuildConfig,
        "x",
    )
    assert build(config, f"{where}/built").documents == 11
    assert [one.id for one in DocumentShards(f"{where}/built")][-1] == "k/a"


def test_they_stand_in_the_list_of_sources():
    kinds = {one["kind"] for one in yaml.safe_load((ROOT / "datasets" / "specs" / "sources.yaml").read_text())["sources"]}
    assert {"lhotse_shar", "nemo_tarred", "kaldi", "textgrid", "voxpopuli", "gigaspeech"} <= kinds
