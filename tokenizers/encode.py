"""Speech or pictures to codes: python tokenizers/encode.py TOKENIZER IN OUT

IN is a folder of audio (wav, flac, ogg, mp3; any rate, any length), of pictures (png, jpeg, webp, gif), or of document shards.
OUT/codes.jsonl gets a line for each utterance or picture, OUT/lost.jsonl one for each that could not be read. Stopped at any
moment, the same command goes on.
"""

from pathlib import Path

from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.kind import tokenizer_kind


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "tokenizer", type=Path, metavar="TOKENIZER", help="a tokenizer's folder, or a published one's Hugging Face name"
    )
    parser.add_argument("source", metavar="IN", help="folder of audio, of pictures, or of document shards")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the result")
    arguments = parser.parse_args()
    kind = tokenizer_kind(arguments.tokenizer)  # before torch is loaded, which takes seconds
    from mmpt.data.image_codes import encode_pictures
    from mmpt.data.speech_codes import encode_speech
    from mmpt.tokenizers.load import load_image, load_speech_coder

    with progress_bars() as progress:
        if kind == "image":
            speed = encode_pictures(load_image(arguments.tokenizer), arguments.source, arguments.out, progress)
        else:
            speed = encode_speech(load_speech_coder(arguments.tokenizer), arguments.source, arguments.out, progress)
    print(f"{arguments.out}: {speed}")


if __name__ == "__main__":
    main()
