"""Conversations about pictures and sound in the forms of LLaVA, Mantis, ms-swift, Qwen and OpenAI-style messages.

sources: [{kind: conversations, rows: llava_instruct.json, images: pictures/, audio: recordings/}]
"""

from dataclasses import replace
from typing import ClassVar

from mmpt.data.formats.conversation_turns import Medium, Turn, read_turns
from mmpt.data.formats.row_media import medium_bytes
from mmpt.data.formats.row_parts import row_document, row_documents
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, folder_of, named_rows, row_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.parts import image_part, speech_part
from mmpt.data.sources import NamedSource
from mmpt.data.store import Store
from mmpt.data.unit import Unit
from mmpt.document import Part, Text

NOT_UNDERSTOOD = "not understood"
"""The rule under which keys are listed whose content is in no document."""


class Conversations(NamedSource):
    """Conversations in the forms of LLaVA (Liu et al. 2023, arXiv:2304.08485), Mantis (Jiang et al. 2024, arXiv:2405.01483),
    ms-swift, Qwen and OpenAI-style messages.

    Each part has the role of who says it and the number of its turn; how turns are marked is chosen where tokens are made
    (`chat` of to_tokens). Only what the assistant says is learned: all else, pictures and recordings too, has weight 0.

    Media stand in place: `<image>` and `<audio>` in the text, filled from the row's `images` or `image` and `audios` or `audio`,
    and pieces of the types image, image_url, audio, audio_url and input_audio, filled from the same lists where they hold no
    file name, data: URL or base64 themselves. Those without a place go to the front of the first user turn, as in Mantis. Video
    is not read: such a conversation is listed. A key that says something and is not understood is listed once for each unit.
    """

    carries: ClassVar[tuple[str, ...]] = (
        "MMICL (multi-modal in-context learning)",
        "MANTIS (interleaved multi-image instruction tuning)",
    )

    rows: str
    """JSON lines, a JSON array or Parquet, a file or a folder."""
    images: str = ""
    """Folder that the pictures' names are relative to; empty: that of the rows."""
    audio: str = ""
    """Folder that the recordings' names are relative to; empty: `images`."""
    language: str = ""
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of rows. Raises `ConfigError` where there are none."""
        return row_units(self.rows, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each conversation. One of which a picture is missing is listed and left out: its text speaks of it."""
        name, images = self.source_name(self.rows), self.images or folder_of(self.rows)
        stores = {"image": Store(images), "audio": Store(self.audio or images)}
        seen: set[str] = set()

        def document(where: str, document_id: str, row: dict) -> Documents:
            parts, unknown = self.row_parts(row, stores)
            for key in sorted(unknown - seen):
                yield Lost(
                    where, f"{key}: not understood, left out here and in rows after it", document_id, False, NOT_UNDERSTOOD
                )
            seen.update(unknown)
            meta = {"language": self.language, "license": self.license, "conversation": row.get("id")}
            yield row_document(document_id, name, parts, {key: value for key, value in meta.items() if value})

        return row_documents(named_rows(name, self.rows, unit.what), document)

    def row_parts(self, row: dict, stores: dict[str, Store]) -> tuple[list[Part], set[str]]:
        """See `conversation_parts`."""
        return conversation_parts(row, stores)


def conversation_parts(row: dict, stores: dict[str, Store]) -> tuple[list[Part], set[str]]:
    """The parts of a row, with roles, and the keys in it that are not understood; `stores` of media of the kinds image and audio.
    Raises `DataError` where something in it cannot be read."""
    turns, unknown = read_turns(row)
    return [part for number, turn in enumerate(turns) for part in turn_parts(number, turn, stores)], unknown


def turn_parts(number: int, turn: Turn, stores: dict[str, Store]) -> list[Part]:
    """The parts of a turn, with its role; of the assistant's alone the weight is not 0. Raises `DataError` where a medium cannot
    be read."""
    parts: list[Part] = []
    for piece in turn.pieces:
        if isinstance(piece, Medium):
            data = medium_bytes(stores[piece.kind], piece.reference)
            parts.append(image_part(data) if piece.kind == "image" else speech_part(data))
        elif parts and isinstance(parts[-1], Text):
            parts[-1] = Text(parts[-1].text + piece)
        else:
            parts.append(Text(piece))
    weight = 1.0 if turn.role == "assistant" else 0.0
    return [replace(part, weight=weight, role=turn.role, turn=number) for part in parts or [Text("")]]
