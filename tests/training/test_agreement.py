"""What a run names must belong to its shards, and is asked before anything is trained."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_published import mimi

from mmpt.chat import ChatFormat
from mmpt.config import parse_config
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.errors import CheckpointError, ConfigError, VocabularyError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.prompts import Prompts, chosen_prompts
from mmpt.storage import link_tree
from mmpt.tokenizers.published.mimi import Mimi
from mmpt.tokenizers.published_folder import import_tokenizer
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.agreement import backbone_vocabulary, check_parts, settled
from mmpt.training.config import TrainingConfig
from mmpt.training.sources import chat_format, trained_prompts
from mmpt.vocabulary import Vocabulary

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "inference"):
    sys.path.insert(0, str(folder))
import ranks  # noqa: E402
import tiny  # noqa: E402

NAMES = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.write_checkpoint(tmp_path_factory.mktemp("agreement"))


@pytest.fixture(scope="module")
def vocabulary(run):
    return Vocabulary.load(find_checkpoint(run))


def config(run: Path, **changes) -> TrainingConfig:
    parts = {name: str(find_checkpoint(run) / name) for name in NAMES}
    content = {**ranks.settings(Path("x"), "run", 0), "backbone": {"config": ranks.BACKBONE}, **parts, **changes}
    return parse_config(content, TrainingConfig, "test")


def said(config, vocabulary) -> str:
    with pytest.raises(VocabularyError) as caught:
        check_parts(config, vocabulary)
    return str(caught.value)


def test_the_tokenizers_and_the_backbone_of_the_shards_are_taken(run, vocabulary):
    backbone = find_checkpoint(run) / "backbone"
    check_parts(config(run), vocabulary)
    check_parts(config(run, backbone={"path": str(backbone)}, speech_tokenizer=None), vocabulary)
    assert backbone_vocabulary(str(backbone)) == vocabulary


def test_every_wrong_folder_is_named_at_once_with_both_sides(run, vocabulary, tmp_path):
    train_text_tokenizer(["other words"] * 3, 290).save_pretrained(tmp_path)
    swapped = {"text_tokenizer": str(tmp_path), "image_tokenizer": str(find_checkpoint(run) / "speech_tokenizer")}
    message = said(config(run, **swapped), vocabulary)
    size = len(tiny.train_text_tokenizer(["other words"] * 3, 290))
    assert f"text_tokenizer: {tmp_path}: text_size is {size}, {vocabulary.text_size} in" in message
    assert "image_tokenizer: " in message and "speech_tokenizer: a tokenizer of speech, expected one of image" in message
    changed = Vocabulary(vocabulary.text_size, "x" * 64, 16, 7, 99, 3.0)
    message = said(config(run), changed)
    for expected in (
        "of as many ids, but other ones",
        "codes_per_image is 5, 7 in",
        "speech_codes is 16, 99 in",
        "speech_rate is",
    ):
        assert expected in message
    assert "image_codes" not in message


def test_a_published_tokenizer_belongs_to_the_shards_of_its_codebooks_in_their_order(run, vocabulary, tmp_path, monkeypatch):
    mimi(tmp_path / "mimi")
    for layout in ("flatten", "delay"):
        import_tokenizer(Mimi(model=str(tmp_path / "mimi"), codebooks=2, layout=layout), tmp_path / layout)
    changes = {"speech_codes": 32, "speech_rate": 25.0, "speech_codebooks": 2, "speech_layout": "delay"}
    delayed = replace(vocabulary, **changes)
    check_parts(config(run, speech_tokenizer=str(tmp_path / "delay")), delayed)
    message = said(config(run, speech_tokenizer=str(tmp_path / "flatten")), delayed)
    assert "speech_layout is flatten, delay in" in message and "speech_codes" not in message
    # By name: its files are what each checkpoint gets. A folder that is missing stays as it is, and is told by `check_parts`.
    monkeypatch.setattr("mmpt.training.agreement.local_folder", lambda path: tmp_path / str(path).replace("/", "-"))
    named = {"speech_tokenizer": "kyutai/mimi", "image_tokenizer": str(tmp_path / "none")}
    found = settled(config(run, **named))
    assert found.speech_tokenizer == tmp_path / "kyutai-mimi" and found.image_tokenizer == tmp_path / "none"
    assert f"image_tokenizer: {tmp_path / 'none'}: no such folder" in said(
        config(run, image_tokenizer=tmp_path / "none"), vocabulary
    )


def text_model(folder: Path, rows: int) -> dict:
    build_backbone(BackboneConfig(config=ranks.BACKBONE), rows, seed=0).save_pretrained(folder)
    return {"path": str(folder)}


def test_a_backbone_of_another_text_vocabulary_is_refused(run, vocabulary, tmp_path):
    size = vocabulary.text_size
    check_parts(config(run, backbone=text_model(tmp_path / "padded", size + 40)), vocabulary)
    assert f"it has {size - 1} embedding rows" in said(config(run, backbone=text_model(tmp_path / "s", size - 1)), vocabulary)
    assert f"it has {size + 2000} embedding rows" in said(
        config(run, backbone=text_model(tmp_path / "l", size + 2000)), vocabulary
    )
    train_text_tokenizer(["other words"] * 3, 290).save_pretrained(tmp_path / "padded")
    message = said(config(run, backbone={"path": str(tmp_path / "padded")}), vocabulary)
    assert f"the tokenizer of backbone {tmp_path / 'padded'}: text_size is" in message
    link_tree(find_checkpoint(run) / "text_tokenizer", tmp_path / "l")
    check_parts(config(run, backbone={"path": str(tmp_path / "l")}), vocabulary)  # padded that far, but by its own tokenizer


def test_a_backbone_that_learned_another_whole_vocabulary_is_refused(run, vocabulary, tmp_path):
    link_tree(find_checkpoint(run) / "backbone", tmp_path / "export")
    Vocabulary(vocabulary.text_size, vocabulary.text_fingerprint, 1, 1, 1, 1.0).save(tmp_path / "export")
    message = said(config(run, backbone={"path": str(tmp_path / "export")}), vocabulary)
    assert "image_codes: 16 in" in message and "speech_codes: 16 in" in message


def test_finetuning_starts_from_a_run_folder_and_takes_its_tokenizers(run, tmp_path):
    checkpoint = find_checkpoint(run)
    own = {"from": str(run), "text_tokenizer": str(tmp_path), "new_rows": True}
    found = settled(parse_config({**ranks.settings(Path("x"), "run", 0), **own}, TrainingConfig, "test"))
    assert found.base == checkpoint and found.text_tokenizer == tmp_path
    assert found.image_tokenizer == checkpoint / "image_tokenizer" and found.speech_tokenizer == checkpoint / "speech_tokenizer"
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        settled(
            parse_config({**ranks.settings(Path("x"), "run", 0), "from": str(tmp_path), "new_rows": True}, TrainingConfig, "test")
        )


def test_a_checkpoint_keeps_the_words_by_which_its_data_asks_or_those_of_its_base(run, tmp_path):
    known = Vocabulary(9, "f" * 64, 0, 0, 0, 0.0)
    arrangements = [
        {"order": ["text", "speech"], "prompt": ""},
        {"order": ["text", "speech"], "prompt": "read"},
        {"order": ["speech", "image"], "prompt": "show"},
        {"order": ["text", "image"], "prompt": "paint"},
    ]
    for name, built in {"plain": {}, "asking": {"to_tokens": {"arrangements": arrangements}}}.items():
        with TokenShardWriter(tmp_path / name, vocabulary=known, built=built) as writer:
            writer.write(TokenDocument("d", "s", np.array([9, 1, 10])))
    plain, asking = (TokenShards(tmp_path / name) for name in ("plain", "asking"))
    fresh = config(run)
    found = trained_prompts(fresh, [plain, asking])
    assert found == Prompts(speech="read", image="paint") and trained_prompts(fresh, [plain]) is None
    found.save(tmp_path)
    assert Prompts.load(tmp_path) == found == chosen_prompts(None, tmp_path) and Prompts.load(tmp_path / "plain") is None
    going_on = parse_config(
        {**ranks.settings(Path("x"), "run", 0), "from": str(tmp_path), "new_rows": True}, TrainingConfig, "test"
    )
    assert trained_prompts(going_on, [plain]) == found


def sets(tmp_path, **chats) -> list[TokenShards]:
    """Sets of one text each, that say what `chats` has for them of how turns are marked."""
    known = Vocabulary(9, "f" * 64, 0, 0, 0, 0.0)
    for name, chat in chats.items():
        built = {} if chat is None else {"chat": chat.model_dump(mode="json")}
        with TokenShardWriter(tmp_path / name, vocabulary=known, built=built) as writer:
            writer.write(TokenDocument("d", "s", np.array([9, 1, 10])))
    return [TokenShards(tmp_path / name) for name in chats]


def test_a_run_keeps_how_the_turns_of_its_data_are_marked_or_those_of_its_base(run, tmp_path):
    one, other = ChatFormat(template="one", alternate=(13, 26)), ChatFormat(template="other")
    plain, marked, same, unlike = sets(tmp_path, plain=None, marked=one, same=one, unlike=other)
    fresh = config(run)
    assert chat_format(fresh, [plain, marked, same]) == one and chat_format(fresh, [plain]) is None
    with pytest.raises(ConfigError, match=r"marked and .*unlike: the turns of their conversations are marked in different ways"):
        chat_format(fresh, [marked, unlike])
    other.save(tmp_path)
    (tmp_path / "backbone").mkdir()
    going_on = config(run, backbone={"path": str(tmp_path / "backbone")})
    assert chat_format(going_on, [plain]) == other and chat_format(going_on, [marked]) == one
