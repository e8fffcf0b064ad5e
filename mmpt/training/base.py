"""The frozen checkpoint under a finetuning run."""

from pathlib import Path

from peft import PeftModel

from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adapters import add_adapter, load_adapter
from mmpt.model.loading import FORMAT, load_parts
from mmpt.storage import check_folder
from mmpt.training.config import FinetuneConfig
from mmpt.vocabulary import Vocabulary


def open_base(config: FinetuneConfig, checkpoint: Path | None) -> tuple[PeftModel, Vocabulary, FinetuneConfig]:
    """The frozen model of `config.base` with new adapters, or with those of `checkpoint`; its vocabulary; and `config` with the
    base's tokenizers where it names none.

    Raises `CheckpointError` where the base is damaged, or is not the one `checkpoint` was trained on; `ConfigError` where it
    holds adapters itself.
    """
    manifest = check_folder(config.base, FORMAT)
    if (config.base / "adapter").is_dir():
        raise ConfigError(f"from: {config.base} holds adapters itself; merge them into a backbone first")
    if checkpoint is not None and _backbone(check_folder(checkpoint, FORMAT)) != _backbone(manifest):
        raise CheckpointError(f"{checkpoint}: it was trained on another backbone than that of from: {config.base}")
    base, vocabulary = load_parts(config.base)
    if checkpoint is None:
        model = add_adapter(base, config.adapter, config.seed)
    else:
        model = load_adapter(base, checkpoint / "adapter", trainable=True)
    names = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")
    inherited = {name: config.base / name for name in names if name not in config.tokenizers and (config.base / name).is_dir()}
    return model, vocabulary, config.model_copy(update=inherited)


def _backbone(manifest: dict) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in manifest["files"].items() if name.startswith("backbone/")}
