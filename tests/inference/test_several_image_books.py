"""Pictures of several codebooks, from shards to packs to what a model draws of them, and of their first codes alone."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.inference.load import load
from mmpt.media import decode_image
from mmpt.vocabulary import Vocabulary

from .tiny import image_tokenizer, write_checkpoint

BOOKS, SIZE, QUERIES = 3, 8, 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    residual = {"kind": "residual", "stages": BOOKS, "stage": {"codes": SIZE, "dim": 6}}
    return write_checkpoint(tmp_path_factory.mktemp("books"), image=image_tokenizer(quantizer=residual))


def drawn(seed: int) -> Image:
    value = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(value).save(buffer, "PNG")
    return Image(buffer.getvalue(), "png", 16, 16)


def test_shards_become_packs_with_the_first_codebook_first(run, tmp_path):
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for seed in range(3):
            writer.write(Document(f"d{seed}", "s", (Text("a red circle"), drawn(seed))))
    parts = run.parent / "parts"
    curate(
        ToTokens(text=str(parts / "text_tokenizer"), image=parts / "image_tokenizer"), [tmp_path / "shards"], tmp_path / "tokens"
    )
    shards = TokenShards(tmp_path / "tokens")
    vocabulary = shards.vocabulary
    figures = (vocabulary.image_codes, vocabulary.codes_per_image, vocabulary.image_codebooks)
    assert figures == (BOOKS * SIZE, BOOKS * QUERIES, BOOKS)
    (batch,) = next(iter(Loader([shards], pack_tokens=256, packs_per_step=1, seed=0)))
    found = [codes for kind, codes in vocabulary.split(batch.input_ids.reshape(-1).tolist()) if kind == "image"]
    assert len(found) == 3
    for codes in found:
        assert (codes // SIZE).tolist() == [book for book in range(BOOKS) for _ in range(QUERIES)]


def test_a_model_writes_them_and_the_first_are_a_picture_too(run):
    model = load(run)
    (answer,) = model.answer([[Text("a red circle")]], outputs=["image"], max_new_tokens=BOOKS * QUERIES + 3)
    (codes,) = (codes for kind, codes in model.tokenizer.vocabulary.split(answer.ids) if kind == "image")
    assert (codes // SIZE).tolist() == [book for book in range(BOOKS) for _ in range(QUERIES)]
    tokenizer = model.tokenizer.image
    (whole,) = tokenizer.render(codes[None])
    part = next(one for one in answer.parts if isinstance(one, Image))
    assert np.array_equal(np.asarray(decode_image(part.data)), np.asarray(whole))
    coarse = [np.asarray(tokenizer.render(codes[None], first=count)[0]) for count in (QUERIES, QUERIES + 2, 0)]
    assert not np.array_equal(coarse[0], coarse[1]) and not np.array_equal(coarse[0], coarse[2])
    # Of the first codebook alone, whatever the others are.
    other = codes.copy()
    other[QUERIES:] = np.roll(other[QUERIES:].reshape(BOOKS - 1, QUERIES), 1, axis=1).reshape(-1)
    assert np.array_equal(np.asarray(tokenizer.render(other[None], first=QUERIES)[0]), coarse[0])


def test_one_codebook_leaves_the_vocabulary_as_it_was():
    """The fingerprint that a vocabulary of these figures had before pictures could have several."""
    one = Vocabulary(10, "f" * 64, image_codes=6, codes_per_image=3, speech_codes=5, speech_rate=12.5)
    assert one.fingerprint == "2810ef8fe3e1a37f5c7cfa10a5c90f0de07db00584806d740fce7aa5e8ececc8"
    assert one.fingerprint != Vocabulary(10, "f" * 64, 6, 3, 5, 12.5, image_codebooks=3).fingerprint
