"""Chat templates: those that mmpt has, and any other made to depend on nothing but the messages."""

import json
import re
from datetime import date

import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

from mmpt.errors import ConfigError

TODAY = date(2024, 7, 26)
"""The day that a template is told which writes the date: one for training, answering and export."""
NAMED = {
    # OpenAI's ChatML, as Hugging Face's documentation of chat templates gives it.
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # With special tokens of mmpt's own vocabulary alone: for text tokenizers that have none.
    "plain": "{{ '<|begin|>' }}{% for message in messages %}{{ message['role'].upper() + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:\n' }}{% endif %}",
}


def pinned(template: str, tokens: dict[str, str], options: dict[str, bool | int | float | str]) -> str:
    """`template` with the `options`, the special `tokens` that it names (bos_token, …) and the date written down in front of it,
    so that it gives the same text whoever renders it, and whenever. Raises `ConfigError` where it is no Jinja text."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        # `{% generation %}`, which transformers adds to Jinja, only says where answers are.
        tree = environment.parse(re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template))
    except jinja2.TemplateSyntaxError as problem:
        raise ConfigError(f"chat.template: not a Jinja text: line {problem.lineno}: {problem.message}") from None
    asked = jinja2.meta.find_undeclared_variables(tree)
    if unknown := options.keys() - asked:
        raise ConfigError(f"chat.options: {', '.join(sorted(unknown))}: the template does not ask for that")
    values = {name: value for name, value in tokens.items() if name in asked} | options
    lines = [f"{{%- set {name} = {_literal(value)} %}}" for name, value in sorted(values.items())]
    if "strftime_now" in asked:
        calls = [node for node in tree.find_all(jinja2.nodes.Call) if getattr(node.node, "name", None) == "strftime_now"]
        formats = [node.args[0].value for node in calls if node.args and isinstance(node.args[0], jinja2.nodes.Const)]
        if len(formats) < len(calls):
            raise ConfigError("chat.template: it writes the date in a form that only rendering tells")
        days = json.dumps({form: TODAY.strftime(form) for form in formats}, ensure_ascii=False)
        lines.append(f"{{%- macro strftime_now(form) %}}{{{{ {days}[form] }}}}{{%- endmacro %}}")
    # A newline after a block is not written: what follows is at the beginning of a line as it was.
    return "".join(lines) + ("\n" if lines else "") + template


def _literal(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
