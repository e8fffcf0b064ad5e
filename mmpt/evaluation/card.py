"""A model card of what a run has left: what was learned from what, how far, the figures, and how to load it."""

import json
from pathlib import Path
from typing import Any

import yaml

from mmpt.config import read_yaml
from mmpt.errors import CheckpointError
from mmpt.storage import MANIFEST, read_json
from mmpt.vocabulary import FILE, Vocabulary

UNKNOWN = "unknown"
"""The hub's word for a licence that nobody has named."""
_NLL = {"text": "text", "special": "special tokens", "image": "picture codes", "speech": "speech codes"}


def model_card(checkpoint: Path, name: str, license: str | None = None, exported: bool = False) -> str:
    """Markdown with the hub's header. `name`: what it is loaded by; `exported`: transformers loads it."""
    recipe, manifest = read_yaml(checkpoint / "recipe.yaml"), read_json(checkpoint / MANIFEST, CheckpointError)
    step = manifest.get("step")
    run = checkpoint.resolve().parents[1]
    learned, measured = _line(run / "metrics.jsonl", step), _line(run / "evaluations.jsonl", step)
    title = name.rstrip("/").rpartition("/")[2]
    results = [("held-out", key, value) for key, value in measured.get("held_out", {}).items()]
    results += [("suite", key, value) for key, value in measured.get("suite", {}).items()]
    return "\n".join(
        [
            "---",
            _header(title, recipe, license, results),
            "---",
            "",
            f"# {title}",
            "",
            f"A {_modality_words(checkpoint)} model, trained with mmpt {manifest.get('packages', {}).get('mmpt', '')}".rstrip()
            + (f", after step {step} of {recipe['steps']}." if step else "."),
            "",
            *_loading(name, exported),
            *_data(recipe),
            *_figures(learned, results),
            "## Settings",
            "",
            "```yaml",
            yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).rstrip(),
            "```",
            "",
            "Made with " + ", ".join(f"{package} {version}" for package, version in manifest.get("packages", {}).items()) + ".",
            "",
        ]
    )


def _header(title: str, recipe: dict[str, Any], license: str | None, results: list[tuple[str, str, float]]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    backbone = (recipe.get("backbone") or {}).get("path")
    data = ModelCardData(
        license=license or UNKNOWN,
        library_name="mmpt",
        pipeline_tag="any-to-any",
        tags=["mmpt", "multimodal"],
        base_model=backbone if backbone and backbone.count("/") == 1 and not Path(backbone).exists() else None,
        model_name=title if results else None,
        eval_results=[
            EvalResult(
                task_type="any-to-any",
                dataset_type=kind,
                dataset_name=key.partition("/")[0] if kind == "held-out" else key,
                metric_type="loss" if kind == "held-out" else key,
                metric_name=key,
                metric_value=round(value, 6),
            )
            for kind, key, value in results
            if "/" not in key
        ]
        or None,
    )
    return data.to_yaml()


def _modality_words(checkpoint: Path) -> str:
    if not (checkpoint / FILE).is_file():
        return "language"
    vocabulary = Vocabulary.load(checkpoint)
    media = (("picture", vocabulary.image_codes), ("speech", vocabulary.speech_codes))
    *first, last = ["text", *(word for word, codes in media if codes)]
    return f"{', '.join(first)} and {last} language" if first else f"{last} language"


def _loading(name: str, exported: bool) -> list[str]:
    if exported:
        code = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("{name.removeprefix("hf://")}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{name.removeprefix("hf://")}")',
        ]
        return ["```python", *code, "```", ""]
    code = [
        "import mmpt",
        "from mmpt.document import Text",
        "",
        f'model = mmpt.load("{name}")',
        'print(model.answer([[Text("Once")]], max_new_tokens=64)[0].parts)',
    ]
    return ["```python", *code, "```", "", f"Or `mmpt generate {name} --text Once`, `mmpt serve {name}`.", ""]


def _data(recipe: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{one['path']}` | {one.get('tokens') or one.get('weight', 1.0)} | {one.get('loss', 1.0)} |"
        for one in recipe.get("data", [])
    ]
    held_out = (recipe.get("evaluate") or {}).get("shards", {})
    said = [f"Held out: {', '.join(f'`{path}` ({name})' for name, path in held_out.items())}.", ""] if held_out else []
    return ["## Data", "", "| token shards | weight or tokens | factor on the loss |", "| --- | --- | --- |", *rows, "", *said]


def _figures(learned: dict[str, Any], results: list[tuple[str, str, float]]) -> list[str]:
    rows = [f"| {kind} | {key} | {value:.4g} |" for kind, key, value in results]
    if "loss" in learned:
        rows.append(f"| learned from | loss | {learned['loss']:.4g} |")
        rows += [f"| learned from | {_NLL.get(key, key)} | {value:.4g} |" for key, value in learned.get("nll", {}).items()]
    if not rows:
        return []
    return ["## Figures", "", "Losses in nats a token.", "", "| of | figure | value |", "| --- | --- | --- |", *rows, ""]


def _line(path: Path, step: int | None) -> dict[str, Any]:
    """The line of a step in a log, empty where there is none."""
    if step is None or not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return next((line for line in lines if line["step"] == step), {})
