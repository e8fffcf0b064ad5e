"""The chat template of a vision language model as mmpt marks conversations."""

from collections.abc import Iterator
from pathlib import Path

import jinja2
from transformers import PreTrainedTokenizerBase

from mmpt.chat import ChatFormat, ChatMarker
from mmpt.chat_template import pinned
from mmpt.errors import CheckpointError, ConfigError
from mmpt.storage import read_json
from mmpt.vocabulary import Vocabulary

SAID = "said"
PARTED = (
    "{{%- set own = namespace(messages=[]) %}}{{%- for one in messages %}}"
    "{{%- set own.messages = own.messages + "
    "[{{'role': one['role'], 'content': [{{'type': 'text', 'text': one['content']{end}}}]}}] %}}"
    "{{%- endfor %}}{{%- set messages = own.messages %}}"
)
"""In front of a template that takes each turn as a list of parts."""
ENDED = " + (eos_token if one['role'] == 'assistant' else '')"
"""Where the template is of questions alone and ends no answer: the end that the model writes itself."""


def chat_of(tokenizer: PreTrainedTokenizerBase, folder: Path, picture: str, vocabulary: Vocabulary) -> ChatFormat | None:
    """The template that lies in `folder`, in which pictures stand as the token `picture`; None where there is none, or none
    that can be used."""
    template = tokenizer.chat_template
    if not isinstance(template, str) and (folder / "chat_template.json").is_file():  # as processors had it
        template = read_json(folder / "chat_template.json", CheckpointError).get("chat_template")
    if not isinstance(template, str):
        return None
    tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    pictures = _pictures(tokenizer, template, picture)
    for form in _forms(tokenizer, template):
        try:
            chat = ChatFormat(template=pinned(form, tokens, {}), pictures=pictures)
            ChatMarker(chat, tokenizer, vocabulary)
        except ConfigError:
            continue
        return chat
    return None


def _forms(tokenizer: PreTrainedTokenizerBase, template: str) -> Iterator[str]:
    if SAID in _rendered(tokenizer, template, SAID):
        yield template
    yield PARTED.format(end="") + template
    yield PARTED.format(end=ENDED) + template


def _pictures(tokenizer: PreTrainedTokenizerBase, template: str, picture: str) -> str:
    """How a picture stands in front of text."""
    text = _rendered(tokenizer, template, [{"type": "image"}, {"type": "text", "text": SAID}])
    before, found, behind = text.partition(picture)
    between, said, _ = behind.partition(SAID)
    return f"{{image}}{between}" if found and said and "{" not in between else "{image}"


def _rendered(tokenizer: PreTrainedTokenizerBase, template: str, content: str | list[dict[str, str]]) -> str:
    messages = [{"role": "user", "content": content}]
    try:
        return str(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False))
    except (jinja2.TemplateError, TypeError, ValueError):
        return ""
