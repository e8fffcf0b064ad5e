"""The shipped specifications can be used, and are those that the quickstarts' figures were measured with."""

from pathlib import Path

import pytest
import yaml

from mmpt.config import load_config
from mmpt.training.specs import TokenizerSpec

ROOT = Path(__file__).resolve().parent.parent.parent
SPECS = sorted((ROOT / "tokenizers").glob("*.yaml"))
MEASURED_IN = {"scenes": "quickstart", "digits": "quickstart_real", "garments": "quickstart_real"}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_specification_can_be_read(path):
    assert load_config(path, TokenizerSpec).root.kind in path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "tokenizers" / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_ablation_changes_the_queries_or_the_codebook_alone(path):
    base, other = (load_config(path.with_name(name), TokenizerSpec).root for name in ("base.yaml", path.name))
    freed = {"qformer": base.tokenizer.qformer, "quantizer": base.tokenizer.quantizer}
    assert other.tokenizer.model_copy(update=freed) == base.tokenizer and other.stages == base.stages


@pytest.mark.parametrize("path", [one for one in SPECS if one.stem.partition("_")[2] in MEASURED_IN], ids=lambda path: path.stem)
def test_a_specification_is_the_measured_one(path):
    spec = load_config(path, TokenizerSpec).root
    recipe = yaml.safe_load((ROOT / "recipes" / f"{MEASURED_IN[path.stem.split('_')[1]]}.yaml").read_text(encoding="utf-8"))
    extra = {"text_tokenizer": "x"} if spec.kind == "speech" else {}
    measured = TokenizerSpec.model_validate({**recipe[spec.kind], "data": ["x"], **extra}).root
    assert spec.tokenizer == measured.tokenizer
    if spec.kind == "image":
        assert spec.stages == measured.stages
    else:
        assert spec.fit.model_copy(update={"save_every": 0}) == measured.fit.model_copy(update={"save_every": 0})
