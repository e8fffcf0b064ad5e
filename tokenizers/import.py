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
        figures = import_tokenizer(settings, arguments.out, unpickled(settings, Path(scratch))).figures
    unit = "a second" if isinstance(figures, SpeechFigures) else "a picture"
    often = figures.rate if isinstance(figures, SpeechFigures) else figures.codes_per_image
    print(f"{arguments.out}: {settings.kind}, {figures.codes} codes, {often:g} {unit}, {figures.bits:.0f} bits {unit}")


def unpickled(settings: Published, scratch: Path) -> Path | None:
    """`scratch`, with what torch reads without running code of weights that were released as a pickle alone; None of others."""
    folder = Path(settings.model)
    if not settings.pickle or (folder / "model.safetensors").is_file():
        return None
    path = folder / settings.pickle
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; download it: hf download {type(settings).model_fields['model'].default}")
    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, UnpicklingError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem})") from None
    save_file({name: value.contiguous() for name, value in tensors.items()}, scratch / "model.safetensors")
    if (folder / CONFIG).is_file():
        shutil.copyfile(folder / CONFIG, scratch / CONFIG)
    else:
        write_json(scratch / CONFIG, settings.released)
    return scratch


if __name__ == "__main__":
    main()
