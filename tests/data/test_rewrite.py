"""What is asked about documents, and what becomes of them by the answers: nothing vanishes, and bad answers change nothing."""

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpt.data.lost import Lost
from mmpt.data.passages import in_place, passages
from mmpt.data.rewrite.checks import Checks, copied, repeated, shared
from mmpt.data.rewrite.operations import Operation
from mmpt.data.rewrite.operations.question_answers import QuestionAnswers
from mmpt.data.rewrite.operations.recaption import Recaption
from mmpt.data.rewrite.operations.refine import Refine
from mmpt.data.rewrite.operations.rephrase import Rephrase
from mmpt.data.rewrite.operations.tasks import Tasks
from mmpt.data.rewrite.operations.think import Think
from mmpt.data.rewrite.programs import Call, parse, run
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Document, Image, Text
from mmpt.errors import DataError

PICTURE = Image(b"png", "png", 3, 2, "old words")


def done(operation: Operation, document: Document, *answers: str | Answer) -> tuple[list[Document], list[Lost]]:
    """(documents, losses) by the answers, checked as a run checks them."""
    prompts = operation.ask(document)
    assert len(prompts) == len(answers)
    said = [one if isinstance(one, Answer) else Answer(one) for one in answers]
    checked = [operation.checks.checked(prompt, one) for prompt, one in zip(prompts, said, strict=True)]
    found = list(operation.take(document, checked))
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Lost)]


def document(*parts) -> Document:
    return Document("d", "test", tuple(Text(one) if isinstance(one, str) else one for one in parts), {"language": "en"})


@given(st.text(st.sampled_from("ab .\n!。"), max_size=200), st.integers(1, 9))
def test_passages_are_the_text_and_no_longer_than_asked_for(text, most):
    found = passages(text, most)
    assert "".join(found) == text
    assert all(len(one.split()) <= most for one in found)


def test_passages_end_where_paragraphs_do_if_they_can():
    assert passages("a b c\n\nd e\n\nf g h i j. k l.", 5) == ["a b c\n\nd e\n\n", "f g h i j. ", "k l."]
    assert in_place("  a b\n\n", "x y \n") == "  x y\n\n" and in_place(" \n", "x") == " \nx"


WORDS = "one two three four five six seven eight nine ten eleven twelve"


def test_what_an_answer_is_held_against():
    # By hand: of 2 x 6 words there are 7 runs of six, of which the last is the first again; 12 words have 5 runs of eight.
    assert repeated(WORDS.split()[:6] * 2) == pytest.approx(1 / 7)
    assert copied(WORDS.split(), WORDS.split()[:10]) == pytest.approx(3 / 5)
    assert shared("The planets circle a bright star: planets, stars!", "Planets around a star") == 1.0, "four long words"
    assert shared("Planets circle bright stars and other suns", "planets around bright suns, stars") == pytest.approx(3 / 5)
    prompt = Prompt(f"Say again: {WORDS}", WORDS)
    for checks, answer, rule in (
        (Checks(), Answer("fine"), ""),
        (Checks(), Answer(""), "answer_length"),
        (Checks(), Answer("", refused="too long"), "answer_refused"),
        (Checks(), Answer("fine", finished=False), "answer_unfinished"),
        (Checks(finished=False), Answer("fine", finished=False), ""),
        (Checks(least_share=0.5), Answer("a b c d e"), "answer_length"),
        (Checks(least_share=0.5), Answer("a b c d e f"), ""),
        (Checks(most_share=0.5), Answer("a b c d e f g"), "answer_length"),
        (Checks(most_words=3), Answer("a b c d"), "answer_length"),
        (Checks(), Answer("la " * 40), "answer_repetition"),
        (Checks(most_copied=0.5), Answer(WORDS), "answer_copy"),
        (Checks(), Answer(WORDS), ""),
        (Checks(least_shared=0.5), Answer("this short lesson neatly counts upwards"), "answer_off_topic"),
        (Checks(least_shared=0.5), Answer("seven eight eleven three twelve"), ""),
        (Checks(languages=("en",)), Answer("Das ist ein ganz gewöhnlicher deutscher Satz."), "answer_language"),
        (Checks(languages=("de",)), Answer("Das ist ein ganz gewöhnlicher deutscher Satz."), ""),
    ):
        found = checks.checked(prompt, answer)
        assert (found.rule, bool(found.reason)) == (rule, bool(rule)), answer


def test_rephrase_keeps_the_original_and_everything_in_its_place():
    text = f"{WORDS}.\n\nTitle\n\n{WORDS} again.\n"
    given_ = document(text, PICTURE, Text("What is it?", 0.0, "user"))
    step = Rephrase(styles=("easy", "mine"), instructions={"mine": "Shout it."}, least_words=5, max_words=14)
    asked = step.ask(given_)
    assert [one.about for one in asked] == [f"{WORDS}.\n\nTitle\n\n", f"{WORDS} again.\n"] * 2
    assert asked[2].text.startswith("Shout it.") and asked[0].text.endswith(f"\n\n{WORDS}.\n\nTitle")
    answers = ["one to twelve, and a title", "", "ONE UP TO TWELVE TITLE", "AND ONE UP TO TWELVE AGAIN"]
    found, lost = done(step, given_, *answers)
    assert found[0] is given_ and [one.id for one in found] == ["d", "d/easy", "d/mine"]
    assert found[1].parts == (Text(f"{answers[0]}\n\n{WORDS} again.\n"), *given_.parts[1:])
    assert found[2].parts == (Text(f"{answers[2]}\n\n{answers[3]}\n"), *given_.parts[1:])
    assert found[2].meta == {
        "language": "en", "rewritten": {"from": "d", "by": "rephrase", "style": "mine", "passages": 2},
    }  # fmt: skip
    assert [(one.rule, one.whole) for one in lost] == [("answer_length", False)]
    found, lost = done(Rephrase(original=False, least_words=5), given_, "")
    assert not found and [(one.rule, one.whole) for one in lost] == [("answer_length", False), ("rephrase", True)]
    with pytest.raises(ValueError, match="styles"):
        Rephrase(styles=("rude",))


def test_programs_are_read_and_run():
    text = "menu\nThe sun is a star.\nclick www.here.com\nIt is hot.\n"
    calls = parse("```python\nremove_lines(line_start=0, line_end=0)\nnormalize(source_str=\"www.here.com\", target_str='')\n```")
    assert calls == [Call("remove_lines", (0, 0)), Call("normalize", ("www.here.com", ""))]
    assert run(calls, text) == "The sun is a star.\nclick \nIt is hot.\n"
    assert run(parse("keep_chunk()"), text) == text and run(parse("drop_doc()\n"), text) is None
    assert parse(r'normalize("a\"b\n", "\\")') == [Call("normalize", ('a"b\n', "\\"))]


@pytest.mark.parametrize("program", [
    "", "I would keep it.", "__import__('os').system('x')", "remove_lines(0)", "remove_lines(0, '1')", "remove_lines(2, 1)",
    "remove_lines(0, 9)", "remove_lines(0, 0) or x", "remove_lines(-1, 0)", "normalize('', 'x')", "normalize('not there', '')",
    "keep_chunk()\ndrop_doc()", "keep_chunk()\nremove_lines(0, 0)", "keep_chunk(\n" * 70, "normalize('" + "(" * 10_000,
    "remove_lines(0 0)", "drop_doc()",
])  # fmt: skip
def test_a_bad_program_leaves_the_text_as_it_was_and_is_counted(program):
    given_ = document("a\nb\n", PICTURE)
    found, lost = done(Refine(), given_, program)
    assert found == [given_]
    assert [one.rule for one in lost] == ["answer_length" if not program else "bad_program"] and not lost[0].whole


@given(st.text(max_size=60))
def test_no_program_breaks_the_parser(program):
    with suppress(DataError):
        run(parse(program), "a\nb\n")


def test_refine_removes_lines_and_drops_documents():
    given_ = document("menu\nThe sun is a star.\nmenu\n", PICTURE, "menu\n")
    found, lost = done(Refine(), given_, "remove_lines(0, 0)\nremove_lines(2, 2)", "remove_lines(0, 0)")
    assert found[0].parts == (Text("The sun is a star.\n"), PICTURE) and not lost
    assert "[002] menu" in Refine().ask(given_)[0].text
    step = Refine(stage="document")
    assert done(step, given_, "keep_doc()") == ([given_], [])
    found, lost = done(step, given_, "drop_doc()")
    assert not found and lost[0].whole and lost[0].rule == "refine" and not lost[0].bad
    found, lost = done(Refine(), document("menu\n"), "remove_lines(0, 0)")
    assert not found and lost[0].rule == "refine"


def test_thoughts_stand_behind_the_document():
    given_ = document(WORDS, PICTURE)
    step = Think(least_words=5, max_words=6)
    assert step.ask(given_)[0].about.split() == WORDS.split()[:6] and not step.ask(document("short"))
    found, lost = done(step, given_, "it counts from one up to twelve")
    assert found[0].parts == (*given_.parts, Text("\n\n<think>\nit counts from one up to twelve\n</think>")) and not lost
    assert found[0].meta["rewritten"]["words"] == 7
    found, lost = done(step, given_, Answer("it counts on and on", finished=False))
    assert found == [given_] and lost[0].rule == "answer_unfinished"


def test_tasks_in_the_form_of_the_released_generator():
    step = Tasks(tasks=("yes-no question answering", "summarization"), form="bonito", least_words=5)
    given_ = document(f"{WORDS}\n")
    asked = step.ask(given_)
    assert asked[0] == Prompt(
        f"<|tasktype|>\nyes-no question answering\n<|context|>\n{WORDS}\n<|task|>\n", f"{WORDS}\n", plain=True
    )
    found, lost = done(step, given_, "{{context}}\nIs nine in it?<|pipe|>\nYes", "Sum it up.")
    assert [one.id for one in found] == ["d/task-0"] and found[0].meta["rewritten"]["task"] == "yes-no question answering"
    assert found[0].parts == (Text(f"{WORDS}\nIs nine in it?", 0.0, "user"), Text("Yes", 1.0, "assistant", 1))
    assert [(one.rule, one.whole) for one in lost] == [("no_task", False)]
    found, lost = done(Tasks(least_words=5), given_, "Instruction: How many are there?\nResponse: Twelve.")
    assert [part.text for part in found[0].parts] == [f"{WORDS}\n\nHow many are there?", "Twelve."] and not lost
    found, lost = done(Tasks(least_words=5), given_, "no idea at all")
    assert not found and Counter(one.rule for one in lost) == {"no_task": 1, "tasks": 1}


PAIRS = """Question: What is the sun?
Answer: A  star.

Q2: How hot is it?
A2: 5,800 K

**Question:** Who lives there?
**Answer:** nobody at all
Question: Which art?
Answer: tar"""


def test_answers_to_questions_stand_in_the_text():
    text = "The Sun is a star, and its surface has 5,800 K."
    given_ = document(text, PICTURE, "short")
    found, lost = done(QuestionAnswers(least_words=5), given_, PAIRS)
    assert found[0] is given_ and found[1].id == "d/questions-0"
    assert [(part.role, part.turn, part.weight, part.text) for part in found[1].parts] == [
        ("user", 0, 0.0, f"{text}\n\nWhat is the sun?"), ("assistant", 1, 1.0, "A  star."),
        ("user", 2, 0.0, "How hot is it?"), ("assistant", 3, 1.0, "5,800 K"),
    ]  # fmt: skip
    assert [(one.rule, one.whole) for one in lost] == [("answer_not_in_text", False)] * 2, "nobody at all; tar is in no word"
    found, _ = done(QuestionAnswers(least_words=5, to="text"), given_, PAIRS)
    expected = f"{text}\n\nQuestion: What is the sun?\nAnswer: A  star.\n\nQuestion: How hot is it?\nAnswer: 5,800 K"
    assert [part.text for part in found[0].parts if isinstance(part, Text)] == [expected, "short"]
    assert found[0].parts[1] is PICTURE
    found, lost = done(QuestionAnswers(least_words=5, original=False), given_, "What a nice text it is.")
    assert not found and [one.rule for one in lost] == ["no_pair", "question_answers"]


def test_pictures_are_described_anew_and_their_old_words_kept():
    given_ = document(PICTURE, "between", PICTURE)
    step = Recaption(tell=True)
    assert [one.image for one in step.ask(given_)] == [PICTURE, PICTURE] and "old words" in step.ask(given_)[0].text
    found, lost = done(step, given_, "A red square.", "")
    assert [getattr(part, "alt", None) for part in found[0].parts] == ["A red square.", None, "old words"]
    assert found[0].meta["rewritten"] == {"from": "d", "by": "recaption", "alt": {"0": "old words"}}
    assert [one.rule for one in lost] == ["answer_length"]
    found, _ = done(Recaption(to="text"), given_, "A red square.", "A blue one, too.")
    assert found[0].parts == (PICTURE, Text("A red square."), Text("between"), PICTURE, Text("A blue one, too."))
