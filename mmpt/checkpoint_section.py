"""Settings that lie in a checkpoint, each section in a file of its own."""

from pathlib import Path
from typing import ClassVar, Self

from mmpt.config import Schema, parse_config
from mmpt.errors import CheckpointError
from mmpt.storage import read_json, write_json


class CheckpointSection(Schema):
    """A section that is kept as `file`, which says its `schema_format`."""

    file: ClassVar[str]
    schema_format: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write the file into `folder`."""
        write_json(Path(folder) / self.file, {"format": self.schema_format, **self.model_dump(mode="json")})

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read it from `folder`, None where there is none. Raises `CheckpointError` where it is damaged."""
        path = Path(folder) / cls.file
        if not path.is_file():
            return None
        content = read_json(path, CheckpointError)
        if content.pop("format", None) != cls.schema_format:
            raise CheckpointError(f"{path}: expected the format {cls.schema_format!r}")
        return parse_config(content, cls, str(path))
