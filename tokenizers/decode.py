"""Codes to speech: python tokenizers/decode.py TOKENIZER IN OUT [--voice AUDIO]

IN is a file of lines of codes, or a folder with codes.jsonl, as tokenizers/encode.py writes it; OUT gets a FLAC file for each
line. With --voice, in the voice of that recording. Stopped at any moment, the same command goes on.
"""

import argparse
from pathlib import Path

from mmpt.data.sources.paths import existing_file
from mmpt.data.speech_codes import decode_codes
from mmpt.media import decode_speech
from mmpt.progress import progress_bars
from mmpt.scripts import main_guard
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voice", type=Path, help="a recording whose voice is taken")
    arguments = parser.parse_args()
    tokenizer, voice = SpeechTokenizer.load(arguments.tokenizer), None
    if arguments.voice:
        voice = tokenizer.voice(decode_speech(existing_file(arguments.voice).read_bytes(), tokenizer.sample_rate))
    with progress_bars() as progress:
        speed = decode_codes(tokenizer, arguments.source, arguments.out, progress, voice)
    print(f"{arguments.out}: {speed}")


if __name__ == "__main__":
    main()
