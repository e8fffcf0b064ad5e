"""Codes to speech or pictures: python tokenizers/decode.py TOKENIZER IN OUT [--voice AUDIO] [--first N] [--seed N] [--renderer R]

IN is a file of lines of codes, or a folder with codes.jsonl, as tokenizers/encode.py writes it; OUT gets a FLAC or PNG file for
each line. Speech: with --voice, in the voice of that recording. Pictures: with --first, of the first codes alone; --seed chooses
the noise that a flow draws from; --renderer draws by something else than the tokenizer's own choice. Stopped at any moment, the
same command goes on.
"""

from pathlib import Path

from mmpt.data.formats.paths import existing_file
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer
from mmpt.tokenizers.kind import tokenizer_kind


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "tokenizer", type=Path, metavar="TOKENIZER", help="a tokenizer's folder, or a published one's Hugging Face name"
    )
    parser.add_argument("source", metavar="IN", type=Path, help="lines of codes, or a folder with codes.jsonl")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the result")
    parser.add_argument("--voice", type=Path, help="a recording whose voice is taken")
    parser.add_argument("--first", type=int, help="codes of each picture to draw from, by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    arguments = parser.parse_args()
    renderer = chosen_renderer(arguments.renderer)
    kind = tokenizer_kind(arguments.tokenizer)  # before torch is loaded, which takes seconds
    from mmpt.data.image_codes import draw_codes
    from mmpt.data.speech_codes import decode_codes
    from mmpt.media import decode_speech
    from mmpt.tokenizers.load import load_image, load_speech

    with progress_bars() as progress:
        if kind == "image":
            images = load_image(arguments.tokenizer)
            if renderer:
                images.render_by(renderer)
            speed = draw_codes(images, arguments.source, arguments.out, progress, arguments.first, arguments.seed)
        else:
            speech, voice = load_speech(arguments.tokenizer), None
            if arguments.voice:
                voice = speech.voice(decode_speech(existing_file(arguments.voice).read_bytes(), speech.sample_rate))
            speed = decode_codes(speech, arguments.source, arguments.out, progress, voice)
    print(f"{arguments.out}: {speed}")


if __name__ == "__main__":
    main()
