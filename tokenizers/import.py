"""Take over a published tokenizer: python tokenizers/import.py SPEC.yaml OUT [key=value ...]

SPEC says which and how (`published: {kind: mimi, codebooks: 8}`; tokenizers/published/ has one of each kind). OUT is a tokenizer
like those that tokenizers/train.py writes: for encode.py, decode.py, datasets/to_tokens.py, and the recipes. Weights are linked
where they can be, and of a tokenizer inside of a language model only its own are taken.
"""

import shutil
import tempfile
from pathlib import Path

from mmpt.config import load_config
from mmpt.errors import CheckpointError
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.storage import write_json
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.published import Published
from mmpt.tokenizers.published_folder import CONFIG, ImportSpec, import_tokenizer


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new folder")
    add_overrides(parser)
    arguments = parser.parse_args()
    settings = load_config(arguments.spec, ImportSpec, arguments.overrides).published
    with tempfile.TemporaryDirectory() as scratch:
        figures = import_tokenizer(unpickled(settings, Path(scratch)), arguments.out).figures
    unit = "a second" if isinstance(figures, SpeechFigures) else "a picture"
    often = figures.rate if isinstance(figures, SpeechFigures) else figures.codes_per_image
    print(f"{arguments.out}: {settings.kind}, {figures.codes} codes, {often:g} {unit}, {figures.bits:.0f} bits {unit}")


def unpickled(settings: Published, scratch: Path) -> Published:
    """`settings`, and of weights that were released as a pickle alone, what torch reads of it without running code."""
    folder = Path(settings.model)
    if not settings.pickle or (folder / "model.safetensors").is_file():
        return settings
    path = folder / settings.pickle
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; download it: hf download {type(settings).model_fields['model'].default}")
    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, ValueError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem})") from None
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, scratch / "model.safetensors")
    if (folder / CONFIG).is_file():
        shutil.copyfile(folder / CONFIG, scratch / CONFIG)
    else:
        write_json(scratch / CONFIG, settings.released)
    return settings.model_copy(update={"model": str(scratch)})


if __name__ == "__main__":
    main()
