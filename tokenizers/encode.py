"""Speech or pictures to codes: python tokenizers/encode.py TOKENIZER IN OUT

IN is a folder of audio (wav, flac, ogg, mp3; any rate, any length), of pictures (png, jpeg, webp, gif), or of document shards.
OUT/codes.jsonl gets a line for each utterance or picture, OUT/lost.jsonl one for each that could not be read. Stopped at any
moment, the same command goes on.
"""

import argparse
from pathlib import Path

from mmpt.data.image_codes import encode_pictures
from mmpt.data.speech_codes import encode_speech
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.kind import tokenizer_kind
from mmpt.tokenizers.speech.coder import SpeechCoder


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with progress_bars() as progress:
        if tokenizer_kind(arguments.tokenizer) == "image":
            speed = encode_pictures(ImageTokenizer.load(arguments.tokenizer), arguments.source, arguments.out, progress)
        else:
            speed = encode_speech(SpeechCoder.load(arguments.tokenizer), arguments.source, arguments.out, progress)
    print(f"{arguments.out}: {speed}")


if __name__ == "__main__":
    main()
