"""Text to speech-text documents: random spans of words are spoken, or cut from utterances with word times.

python datasets/interleave.py SPEC.yaml IN OUT [key=value ...] [--processes N]

With `speech: {kind: text_to_codes, …}` OUT are token shards, made without any waveform; else document shards.
"""

from pathlib import Path
from typing import Annotated

import pydantic

from mmpt.config import load_config
from mmpt.data.curate import interleave, speak_codes
from mmpt.data.curate.interleave import InterleaveConfig, InterleaveJob
from mmpt.data.curate.speak_codes import SpeakCodesConfig, SpeakCodesJob
from mmpt.data.engine.options import add_run_options, run_config
from mmpt.data.engine.run import write_set
from mmpt.data.sources.shards import hashes
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser


def result(spec: object) -> str:
    """What a specification makes: "codes" or "sound"."""
    speech = spec.get("speech") if isinstance(spec, dict) else None
    return "codes" if isinstance(speech, dict) and speech.get("kind") == "text_to_codes" else "sound"


class Spec(pydantic.RootModel):
    """One of the two, by `speech.kind`."""

    root: Annotated[
        Annotated[SpeakCodesConfig, pydantic.Tag("codes")] | Annotated[InterleaveConfig, pydantic.Tag("sound")],
        pydantic.Discriminator(result),
    ]


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, metavar="SPEC.yaml", help="specification")
    parser.add_argument("folder", metavar="IN", help="a set of document shards, a folder or a URL")
    parser.add_argument("out", metavar="OUT", help="folder of the result, or a URL that fsspec knows")
    add_overrides(parser)
    add_run_options(parser)
    arguments = parser.parse_args()
    spec = load_config(arguments.spec, Spec, arguments.overrides).root
    in_codes = isinstance(spec, SpeakCodesConfig)
    job = (SpeakCodesJob if in_codes else InterleaveJob)(folder=arguments.folder, spec=spec)
    with progress_bars() as progress:
        summary = write_set(
            arguments.out,
            read=speak_codes.read if in_codes else interleave.read,
            config=job,
            units=interleave.units(job),
            built={"interleave": spec.model_dump(mode="json"), "shards": hashes(arguments.folder)},
            run=run_config(arguments),
            progress=progress,
            title="speaking",
            **({"vocabulary": speak_codes.vocabulary(spec)} if in_codes else {}),
        )
    print(f"{arguments.out}: {summary}")


if __name__ == "__main__":
    main()
