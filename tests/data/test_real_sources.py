"""The sources on real data, where it lies beside the repository."""

from pathlib import Path

import pytest
import yaml

from mmpt.data.build import BuildConfig, documents
from mmpt.document import Image, Speech, Text

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA.name}/ beside the repository")


@pytest.fixture
def corpus(monkeypatch):
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load((ROOT / "recipes" / "quickstart_real.yaml").read_text())["corpus"]
    return {side: BuildConfig.model_validate(content[side]) for side in ("train", "test")}


@pytest.mark.slow
def test_garments_are_split_four_to_one_with_every_class_on_both_sides(corpus):
    for side, count in (("train", 720 * 8), ("test", 180)):  # training tiles in eight variants each
        source = corpus[side].model_copy(update={"sources": corpus[side].sources[1:]})
        found = list(documents(source))
        assert len(found) == count
        names = [document.parts[1].text for document in found]
        assert {names.count(name) for name in set(names)} == {count // 10}
        assert all(isinstance(d.parts[0], Image) and d.parts[0].width == 28 for d in found)


def test_digit_strings_use_every_speaker_and_only_their_side(corpus):
    settings = corpus["test"].sources[0].model_copy(update={"count": 25})
    found = [document for document in settings.documents()]
    assert len({document.meta["voice"] for document in found}) == 5
    for document in found:
        speech, text = document.parts
        assert isinstance(speech, Speech) and isinstance(text, Text)
        assert 1 <= len(text.text.split()) <= 5 and set(text.text.split()) <= set(settings.words.values())
