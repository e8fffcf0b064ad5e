"""Take over a published tokenizer: python tokenizers/import.py SPEC.yaml OUT [key=value ...]

SPEC says which and how (`published: {kind: mimi, codebooks: 8}`; tokenizers/published/ has one of each kind). OUT is a tokenizer
like those that tokenizers/train.py writes: for encode.py, decode.py, datasets/to_tokens.py, and the recipes. Weights are linked
where they can be, and of a tokenizer inside of a language model only its own are taken.
"""

import shutil
import tempfile
from pathlib import Path
from pickle import UnpicklingError

from mmpt.config import load_config
from mmpt.errors import CheckpointError
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.storage import link_files, write_json
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published
from mmpt.tokenizers.published_folder import CONFIG, ImportSpec, import_tokenizer, local_folder


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new folder")
    add_overrides(parser)
    arguments = parser.parse_args()
    settings = load_config(arguments.spec, ImportSpec, arguments.overrides).published
    with tempfile.TemporaryDirectory() as scratch:
        figures = import_tokenizer(settings, arguments.out, unpickled(settings, Path(scratch))).figures
    unit = "a second" if isinstance(figures, SpeechFigures) else "a picture"
    often = figures.rate if isinstance(figures, SpeechFigures) else figures.codes_per_image
    print(f"{arguments.out}: {settings.kind}, {figures.codes} codes, {often:g} {unit}, {figures.bits:.0f} bits {unit}")


def unpickled(settings: Published, scratch: Path) -> Path | None:
    """`scratch`, with all of the checkpoint where some of it was released as pickles; None where nothing was."""
    folder, parts, released = Path(settings.model), settings.parts(), None
    if settings.pickle and not (folder / "model.safetensors").is_file():
        released = scratch
        download = f"hf download {type(settings).model_fields['model'].default}"
        save(folder / settings.pickle, scratch / "model.safetensors", download)
        if (folder / CONFIG).is_file():
            shutil.copyfile(folder / CONFIG, scratch / CONFIG)
        else:
            write_json(scratch / CONFIG, settings.released)
    elif parts:
        released = scratch
        link_files(local_folder(settings.model), scratch, (".json", ".safetensors"))
    for part, path in parts.items():
        save(path, scratch / f"{part}.safetensors", prefix=f"{part}.")
    return released


def save(path: Path, target: Path, download: str = "", prefix: str = "") -> None:
    """What torch reads of the pickle `path` without running code, as `target`, under names that begin with `prefix`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; download it: {download}")
    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, UnpicklingError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path}: expected tensors by name, and nothing else")
    target.unlink(missing_ok=True)  # it may be a link to a file of the same name
    save_file({f"{prefix}{name}": value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}, target)


if __name__ == "__main__":
    main()
