"""A model whose decoder runs in vLLM, and its tokenizers here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from mmpt.errors import ConfigError
from mmpt.inference.engine import MAX_ROWS, Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings
from mmpt.inference.vllm.engine import VllmEngine, streamed
from mmpt.inference.vllm.following import KEY
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.export_vllm import CODES
from mmpt.model.feature_inputs import FOLDER
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.vocabulary import FILE

WITHOUT = "--logits-processors mmpt.inference.vllm.grammar_v2:GrammarProcessor (grammar_v1 on CPUs and in older releases)"


@dataclass(frozen=True)
class VllmModel(MultimodalModel):
    """`client` of vLLM's server, the `name` of the model there, and its `context`."""

    client: httpx.Client = None  # pyright: ignore[reportAssignmentType] (fields of the class above have defaults)
    name: str = ""
    context: int | None = None

    def engine(self, max_rows: int = MAX_ROWS, **options: Any) -> Any:
        """See `MultimodalModel.engine`; whatever else is asked of an engine is vLLM's own."""
        return VllmEngine(self.client, self.name, self.context, self.tokenizer.vocabulary, max_rows)


def tokenizers_folder(path: Path) -> Path:
    """Where the tokenizers of an exported folder lie, or those of a run."""
    return path / CODES if (path / CODES / FILE).is_file() else find_checkpoint(path)


def connect(folder: Path, url: str, key: str | None = None) -> VllmModel:
    """The model that vLLM serves at `url`, with the tokenizers in `folder` (see `tokenizers_folder`). `key`: vLLM's --api-key.

    Raises `ConfigError` where no vLLM answers, or it runs without the grammar, or with another model.
    """
    if (folder / FOLDER).is_dir():
        raise ConfigError(f"{folder}: its media enter as features ({FOLDER}/), which vLLM does not get as ids")
    tokenizer = MultimodalTokenizer.of_checkpoint(folder)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    every = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    client = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(None, connect=10.0), limits=every)
    try:
        (served,) = client.get("/v1/models").raise_for_status().json()["data"][:1]
        refused = {"model": served["id"], "prompt": [0], "max_tokens": 1, "vllm_xargs": {KEY: "?"}}
        wrong = client.post("/v1/completions", json=refused)
        if wrong.status_code != 400 or KEY not in wrong.text:
            raise ConfigError(f"{url}: vLLM runs without the grammar, start it with {WITHOUT}")
        probe = Settings(outputs=("text",), max_new_tokens=2)
        begin = Prompt([tokenizer.vocabulary.special("<|begin|>")])
        written = [token for ids in streamed(client, served["id"], begin, probe, tokenizer.vocabulary) for token in ids]
    except (httpx.HTTPError, ValueError, KeyError) as problem:
        raise ConfigError(f"{url}: no vLLM answers there ({problem or type(problem).__name__})") from None
    if not written or written[0] >= tokenizer.vocabulary.text_size:  # text comes first where the two understand each other
        raise ConfigError(f"{url}: the model that vLLM serves there ({served['id']}) has another vocabulary than {folder}")
    return VllmModel(cast(Any, None), tokenizer, None, client, served["id"], served.get("max_model_len"))
