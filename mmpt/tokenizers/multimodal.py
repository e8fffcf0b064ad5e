"""The three tokenizers as one: parts of a document to ids of the one vocabulary, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from mmpt.chat import ChatConfig, ChatFormat, ChatMarker
from mmpt.document import Image, Part, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_image, decode_speech, encode_png, encode_wav
from mmpt.tokenizers.figures import NO_IMAGES, NO_SPEECH
from mmpt.tokenizers.image.renderers import Renderer
from mmpt.tokenizers.in_turn import Alternate, spoken_in_turn
from mmpt.tokenizers.interface import AnyImageTokenizer, AnySpeechTokenizer
from mmpt.tokenizers.load import load_image, load_speech
from mmpt.tokenizers.text import decode_text, encode_text, load_text_tokenizer, text_fingerprint
from mmpt.vocabulary import Vocabulary


@dataclass(frozen=True)
class MultimodalTokenizer:
    """A text tokenizer with a speech and an image tokenizer, either of which may be absent, and the vocabulary over them; `chat`
    marks the turns of conversations (None: they cannot be marked)."""

    vocabulary: Vocabulary
    text: PreTrainedTokenizerBase
    speech: AnySpeechTokenizer | None
    image: AnyImageTokenizer | None
    chat: ChatMarker | None = None

    @classmethod
    def load(
        cls, text: Path | str, speech: Path | None, image: Path | None, chat: ChatConfig | ChatFormat | None = None
    ) -> "MultimodalTokenizer":
        """Load each from its folder, or by the Hugging Face name of a published one, and lay out the vocabulary over them.

        Raises `ConfigError` where one cannot be loaded, or `chat` does not go with the text tokenizer.
        """
        text_tokenizer = load_text_tokenizer(text)
        speech_tokenizer = load_speech(speech) if speech else None
        image_tokenizer = load_image(image) if image else None
        vocabulary = Vocabulary(
            text_size=len(text_tokenizer),
            text_fingerprint=text_fingerprint(text_tokenizer),
            **(image_tokenizer.figures.in_vocabulary() if image_tokenizer else NO_IMAGES),
            **(speech_tokenizer.figures.in_vocabulary() if speech_tokenizer else NO_SPEECH),
        )
        form = chat.of(text_tokenizer) if isinstance(chat, ChatConfig) else chat
        marker = ChatMarker(form, text_tokenizer, vocabulary) if form else None
        return cls(vocabulary, text_tokenizer, speech_tokenizer, image_tokenizer, marker)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "MultimodalTokenizer":
        """Those that lie in a checkpoint."""
        folders = (checkpoint / name for name in ("speech_tokenizer", "image_tokenizer"))
        speech, image = (folder if folder.is_dir() else None for folder in folders)
        return cls.load(checkpoint / "text_tokenizer", speech, image, ChatFormat.load(checkpoint))

    def render_by(self, renderer: Renderer | None) -> None:
        """Draw images by `renderer` from now on (None: as before). Raises `ConfigError` where it cannot be loaded or does not
        fit, or there is no image tokenizer."""
        if renderer is None:
            return
        if self.image is None:
            raise ConfigError("renderer: there is no image tokenizer whose codes it could draw")
        self.image.render_by(renderer)

    def encode(self, sequences: Sequence[Sequence[Part]]) -> list[list[list[int]]]:
        """Ids of each part of each sequence; the images and utterances of all sequences are encoded together.

        Raises `DataError` where a part cannot be decoded or has no tokenizer here.
        """
        parts = [part for sequence in sequences for part in sequence]
        images = [part for part in parts if isinstance(part, Image)]
        utterances = [part for part in parts if isinstance(part, Speech)]
        image, speech = self._image() if images else None, self._speech() if utterances else None
        image_codes = iter(image.encode([decode_image(part.data) for part in images]) if image else ())
        sounds = [decode_speech(part.data, speech.sample_rate) for part in utterances] if speech else []
        speech_codes = iter(speech.encode(sounds) if speech else ())

        def ids(part: Part) -> list[int]:
            if isinstance(part, Text):
                return encode_text(self.text, part.text)
            if isinstance(part, Image):
                return self.vocabulary.encode_image(next(image_codes))
            return self.vocabulary.encode_speech(next(speech_codes))

        return [[ids(part) for part in sequence] for sequence in sequences]

    def alternate(self, asked: Alternate | None = None) -> Alternate | None:
        """How many tokens of text and codes of speech come in turn: as `asked`, else as conversations were learned."""
        return asked or (self.chat.format.alternate if self.chat else None)

    def decode(self, ids: Sequence[int], voice: np.ndarray | None = None, alternate: Alternate | None = None) -> tuple[Part, ...]:
        """Parts that a sequence of ids stands for: text, PNG images and WAV utterances, in order; text and speech in turn are
        one text and one utterance (`alternate`: as it was asked for, if it was).

        Raises `VocabularyError` where the ids break the grammar of blocks.
        """
        parts: list[Part] = []
        blocks = self.vocabulary.split(list(ids))
        for modality, values in spoken_in_turn(blocks, self.vocabulary, self.alternate(alternate)):
            if modality == "text":
                parts.append(Text(decode_text(self.text, values.tolist())))
            elif modality == "image":
                (image,) = self._image().render(values[None])
                parts.append(Image(encode_png(image), "png", image.width, image.height))
            elif len(values):
                speech = self._speech()
                (samples,) = speech.decode([values], voice)
                rate = speech.sound_rate
                parts.append(Speech(encode_wav(samples, rate), "wav", rate, len(samples) / rate))
        return tuple(parts)

    def _image(self) -> AnyImageTokenizer:
        if self.image is None:
            raise DataError("an image, but no image tokenizer is configured")
        return self.image

    def _speech(self) -> AnySpeechTokenizer:
        if self.speech is None:
            raise DataError("an utterance, but no speech tokenizer is configured")
        return self.speech
