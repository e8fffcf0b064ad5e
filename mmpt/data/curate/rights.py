"""What may be said of a document that was put together from several."""

from collections.abc import Iterable
from typing import Any

from mmpt.document import Document

AND = " AND "
"""What stands between licences that hold together (SPDX 2.3, annex D)."""


def shared_meta(documents: Iterable[Document]) -> dict[str, Any]:
    """The meta of the first, with the licences of all, `CC-BY-4.0 AND CC0-1.0`; none where one of them names none."""
    metas = [one.meta for one in documents]
    licences = [str(meta.get("license") or "") for meta in metas]
    found = {name: value for name, value in metas[0].items() if name != "license"}
    if not all(licences):
        return found
    return {**found, "license": AND.join(sorted({part for one in licences for part in one.split(AND)}))}
