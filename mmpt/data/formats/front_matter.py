"""What a Markdown file says of itself before it begins: YAML between `---`, or TOML between `+++`."""

import re
import tomllib

import yaml

_YAML = re.compile(r"\A---[ \t]*\n(.*?\n)?(---|\.\.\.)[ \t]*(\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?\n)?\+\+\+[ \t]*(\n|\Z)", re.DOTALL)
MAX_CHARACTERS = 1 << 18


def yaml_of(text: str) -> dict:
    """The mapping in the YAML before it; empty where there is none. Raises `yaml.YAMLError`."""
    match = _YAML.match(text)
    found = yaml.safe_load(match[1] or "") if match else None
    return found if isinstance(found, dict) else {}


def front_matter(text: str) -> tuple[str, str]:
    """The title in it ("" where there is none) and the text, on as many lines, without it.

    What is no mapping is text like any other.
    """
    match = _YAML.match(text) or _TOML.match(text)
    if not match or match.end() > MAX_CHARACTERS:
        return "", text
    said = match[1] or ""
    try:
        found = yaml.safe_load(said) if text[0] == "-" else tomllib.loads(said)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
        # A theme's templates may stand in it, which are no YAML; the keys at its lines still say what it is.
        found = dict(re.findall(r"^([\w-]+):[ \t]*(.*?)[ \t]*$", said, re.MULTILINE))
    if said.strip() and not (isinstance(found, dict) and found):
        return "", text
    title = (found or {}).get("title", "")
    title = " ".join(str(title).strip("\"'").split()) if isinstance(title, str | int | float) else ""
    return title, "\n" * match[0].count("\n") + text[match.end() :]
