"""Codes that a language model gives for captions: python tokenizers/generate.py MODEL SHARDS OUT [--prompt "draw {}"]

MODEL is a checkpoint or a run folder of recipes/; `{}` in the prompt stands for the caption of each picture in the document
shards. OUT/codes.jsonl has lines as tokenizers/encode.py writes them, under the same ids: the `generated_codes` of the image
tokenizer's stages `draw` and `harden`, which then learn to draw a picture from codes with a language model's errors.
"""

import json
from pathlib import Path

from mmpt.data.codes_file import CODES_FILE
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image
from mmpt.errors import ConfigError
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser
from mmpt.storage import write_bytes


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a checkpoint or a run folder of recipes/")
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="a set of document shards")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the result")
    parser.add_argument("--prompt", default="{}", help="what is asked; {} stands for the caption")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the sampling")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--limit", type=int, help="pictures, from the first; by default all")
    arguments = parser.parse_args()
    if "{}" not in arguments.prompt:
        raise ConfigError(f"--prompt {arguments.prompt!r}: expected {{}} where the caption goes")
    from mmpt.inference.load import load
    from mmpt.inference.picture_codes import generated_picture_codes

    model = load(arguments.model)
    captions = {
        f"{document.id}/{place}": part.alt
        for document in DocumentShards(arguments.shards)
        for place, part in enumerate(document.parts)
        if isinstance(part, Image) and part.alt.strip()
    }
    names = list(captions)[: arguments.limit]
    prompts = [arguments.prompt.replace("{}", captions[name]) for name in names]
    lines = []
    with progress_bars() as progress:
        found = generated_picture_codes(model, prompts, arguments.temperature, arguments.seed)
        for name, codes in zip(names, progress.track(found, total=len(names), description="generating"), strict=True):
            lines.append(json.dumps({"id": name, "codes": codes.tolist()}))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_bytes(arguments.out / CODES_FILE, "".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main()
