"""Lines and paragraphs that came before go, whatever the shards; the rest of a text stays as it is, to the byte."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.dedup_lines import DedupLines, pieces
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import Lost, from_lines
from mmpt.data.shards.lint import lint
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech, Text


def write(folder: Path, documents: list[Document], size: int = 10_000) -> str:
    with ShardWriter(folder, built={}, max_documents=size) as writer:
        for document in documents:
            writer.write(document)
    return str(folder)


def result(folder: Path) -> tuple[list[Document], list[Lost]]:
    return list(DocumentShards(folder)), from_lines((folder / "lost.jsonl").read_bytes())


def text(name: str, *texts: str) -> Document:
    return Document(name, "t", tuple(map(Text, texts)))


def test_lines_that_came_before_go_and_short_ones_stay(tmp_path):
    documents = [
        text("a", "Sign in to read more!\nThe first text of all.\n\nRead 12 replies here\n"),
        text("b", "sign in, to read MORE\nThe second text of all.\nOK\n", "Réad 99 replies, here"),
        text("c", "Own line of three words.\nOK\nOwn line of three words.\n  Own end of it"),
        text("d", "The first text of all\nThe second text of all"),
    ]
    folder = write(tmp_path / "in", documents, 2)
    curate(DedupLines(), [folder], tmp_path / "out")
    kept, lost = result(tmp_path / "out")
    assert kept == [
        documents[0],
        text("b", "The second text of all.\nOK\n"),
        text("c", "Own line of three words.\nOK\n  Own end of it"),
    ]
    assert [(one.document, one.whole, one.rule, one.reason) for one in lost] == [
        ("b", False, "line_before", "1 came before: 'sign in, to read MORE'"),
        ("b", False, "line_before", "1 came before: 'Réad 99 replies, here'"),
        ("c", False, "line_before", "1 came before: 'Own line of three words.'"),
        ("d", False, "line_before", "2 came before: 'The first text of all'"),
        ("d", True, "line_before", "no part left: each line came before"),
    ]
    assert lint(tmp_path / "out") == []


def test_paragraphs_go_whole_and_lines_of_them_do_not_count(tmp_path):
    first, second = "One line.\nAnd another line.", "And another line.\nOne line."
    documents = [text("a", f"{first}\n\n{second}"), text("b", f"{second}\n \n\nNew words in here.\n\n{first}\n")]
    curate(DedupLines(unit="paragraph"), [write(tmp_path / "in", documents)], tmp_path / "out")
    assert result(tmp_path / "out")[0] == [documents[0], text("b", "New words in here.")]


def test_shards_processes_and_earlier_sets_change_nothing(tmp_path):
    draw = np.random.default_rng(0)
    documents = [
        text(f"d{n}", "\n".join(f"line of {chr(97 + k % 26)} and {chr(97 + k // 26)}" for k in draw.integers(0, 150, 6)))
        for n in range(60)
    ]
    found = []
    for name, size, processes in (("a", 60, 1), ("b", 7, 2)):
        curate(DedupLines(), [write(tmp_path / name, documents, size)], tmp_path / f"{name}-out", RunConfig(processes=processes))
        found.append(result(tmp_path / f"{name}-out"))
    assert found[0] == found[1]
    seen: set[str] = set()
    for one in documents:  # by the definition
        own = [line for line in one.parts[0].text.split("\n") if not (line in seen or seen.add(line))]
        kept = next((other for other in found[0][0] if other.id == one.id), None)
        assert (kept.parts[0].text.split("\n") if kept else []) == own
    early, late = write(tmp_path / "early", documents[:25], 10), write(tmp_path / "late", documents[25:], 10)
    curate(DedupLines(), [early], tmp_path / "early-out")
    curate(DedupLines(against=(f"{tmp_path}/early-out.lines",)), [late], tmp_path / "late-out")
    own = {one.id for one in documents[25:]}
    assert result(tmp_path / "late-out")[0] == [one for one in found[0][0] if one.id in own]


@given(st.text(st.sampled_from("ab1 \n\té.")), st.sampled_from(["line", "paragraph"]))
def test_pieces_lie_in_the_text_in_order_and_nothing_goes_without_reason(content, unit):
    step = DedupLines(unit=unit, min_words=1)
    document = Document("d", "t", (Speech(b"", "flac", 1, 1.0), Text(content), Text("b " + content)))
    assert list(step.run([document])) == [document]
    found = pieces(document, step)
    assert found == sorted(found, key=lambda one: one[:3])
    every = list(step.run([document], range(len(found))))
    left = [one for one in every if isinstance(one, Document)][0]
    words = [one.text for one in left.parts if isinstance(one, Text)]
    assert not any(character.isalnum() for one in words for character in one)


@pytest.mark.parametrize("same", ["ÉCOLE du 12 mai", "ecole, du 34 mai!"])
def test_normalised_as_ccnet_does(same):
    one, other = (pieces(text("d", value), DedupLines())[0].key for value in ("école du 00 mai", same))
    assert one == other
