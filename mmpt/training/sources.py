"""The token shards of a training configuration, all of one vocabulary."""

from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError
from mmpt.training.config import TrainingConfig
from mmpt.vocabulary import Vocabulary, check_same


def open_sources(config: TrainingConfig) -> tuple[list[TokenShards], Vocabulary]:
    """The sources of `config.data`, and their vocabulary.

    Raises `VocabularyError` naming two sources that disagree, and `ConfigError` naming each tokenizer folder that does not exist.
    """
    missing = [f"{name}: {folder}: no such folder" for name, folder in config.tokenizers.items() if not folder.is_dir()]
    if missing:
        raise ConfigError("\n".join(missing))
    sources = [TokenShards(source.path) for source in config.data]
    for source in sources[1:]:
        check_same(sources[0].vocabulary, str(sources[0].folder), source.vocabulary, str(source.folder))
    return sources, sources[0].vocabulary
