"""The tools behind build.py on one set, and what each leaves counted anew: score, select, dedup, semantic dedup, to_tokens."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
from all_tools.sets import Record, decoded, held, lost, records, tool, words, write
from all_tools.tower import SIDE, make, vector

from mmpt.media import decode_image
from mmpt.results import Figure
from mmpt.tokenizers.image.pixels import picture_bytes

PICTURE_ROWS, SPEECH_ROWS = 4, 8
SHARE, LEAST = 0.5, 2
SIMILARITY = 0.98
NGRAM, JACCARD, MIN_WORDS = 13, 0.8, 20
"""As dedup.py has them where nothing is said."""


def through(folder: Path, raw: list[Record]) -> tuple[list[Figure], Counter]:
    """Figures of the set `folder`/raw, and by tool whether a count is off; what is off is told in `off`."""
    off: Counter = Counter()
    figures = [*scored_and_selected(folder, raw, off), *deduplicated(folder, raw, off)]
    unique, last = records(folder / "unique"), "unique"
    if any(one.pictures for one in unique):
        figures += seen(folder, unique, off)
        last = "seen"
    tool(folder, "../tokenizers/train.py", write(folder, "text.yaml", {"kind": "text", "data": [last], "ids": 600}), "text")
    step = {"text": "text/tokenizer", "features": {"image": PICTURE_ROWS, "speech": SPEECH_ROWS}}
    tool(folder, "to_tokens.py", write(folder, "tokens.yaml", step), last, "tokens")
    left = records(folder / last)
    tokens, there = decoded(folder / "tokens", folder / "text" / "tokenizer"), held(left)
    sounds = sum(part["type"] == "speech" for one in left for part in one.about["parts"])
    off["to_tokens"] = (tokens.words, tokens.pictures, tokens.marked, tokens.sounds) != (
        there.words, there.pictures, there.pictures, sounds,
    ) or tokens.slots != PICTURE_ROWS * there.pictures + SPEECH_ROWS * sounds  # fmt: skip
    sets = ["raw", "best", "unique", *(["seen"] if last == "seen" else []), "tokens"]
    off["lint after"] = tool(folder, "lint.py", *sets).count(": 0 problems") != len(sets)
    print(f"after {last}: {there}, {tokens}", {name: 1 for name, one in off.items() if one})
    return [*figures, Figure("words of the tokens", tokens.words), Figure("pictures of the tokens", tokens.marked),
            Figure("tokens", tokens.tokens)], off  # fmt: skip


def scored_and_selected(folder: Path, raw: list[Record], off: Counter) -> list[Figure]:
    """Half of the documents by how much they say what the others say, of those of more than two words."""
    tool(folder, "score.py", write(folder, "words.yaml", {"scorer": {"kind": "signal", "of": "words"}, "name": "words"}), "raw")
    tool(folder, "score.py", write(folder, "fit.yaml", {"scorer": {"kind": "zip_fit", "target": "raw"}, "name": "fit"}), "raw")
    count, fit = (
        np.nan_to_num(np.concatenate([np.load(path) for path in sorted((folder / "raw" / "scores" / name).glob("*.npy"))]))
        for name in ("words", "fit")
    )
    spaced = np.array([sum(len(text.split()) for text in one.texts) for one in raw], np.float32)
    off["score"] = not np.array_equal(count, spaced) or not (fit[spaced > 0] != 0).all()
    settings = write(folder, "select.yaml", {"where": f"words > {LEAST}", "by": "fit", "share": SHARE})
    tool(folder, "select_documents.py", settings, "raw", "best")
    best, by_id = records(folder / "best"), {one.id: place for place, one in enumerate(raw)}
    candidates = np.sort(fit[spaced > LEAST])[::-1]
    wanted, kept = candidates[: round(SHARE * len(candidates))], [by_id[one.id] for one in best]
    gone = [by_id[one["document"]] for one in lost(folder / "best")]
    off["select"] = (
        sorted(kept + gone) != list(range(len(raw)))
        or not np.array_equal(np.sort(fit[kept])[::-1], wanted)
        or any(raw[place].content != one.content for place, one in zip(kept, best, strict=True))
        or held(best).words + sum(raw[place].words for place in gone) != held(raw).words
        or held(best).pictures + sum(len(raw[place].pictures) for place in gone) != held(raw).pictures
    )
    return [Figure("selected", len(best))]


def deduplicated(folder: Path, raw: list[Record], off: Counter) -> list[Figure]:
    tool(folder, "dedup.py", "raw", "unique")
    unique, by_id = records(folder / "unique"), {one.id: one for one in raw}
    gone, parts = whole_and_parts(folder / "unique")
    contents = [one.content for one in raw]
    equal = len(contents) - len(set(contents))
    there = {one.id for one in unique}
    off["dedup"] = (
        adds_up(raw, unique, gone, parts)
        or len({one.content for one in (by_id[name] for name in there)}) != len(there)
        or equal > len(gone)
    )
    pairs = alike(raw)
    found = sum(one.id not in there or other.id not in there for one, other in pairs)
    return [
        Figure("unique", len(unique)),
        Figure("copies in equal bytes", equal),
        Figure("pairs of texts at 0.8 and more", len(pairs)),
        Figure("share of them found", found / len(pairs) if pairs else 1, 0.95),
        Figure("pictures that dedup.py leaves", held(unique).pictures),
    ]


def seen(folder: Path, unique: list[Record], off: Counter) -> list[Figure]:
    """Pictures alike under a tower whose vectors are computed anew, each with each."""
    settings = {"kind": "dedup_semantic_pictures", "tower": make(folder / "tower"), "side": SIDE, "clusters": 1, "keep": "first"}
    name = write(folder, "semantic.yaml", settings | {"similarity": SIMILARITY})
    tool(folder, "dedup.py", "unique", "seen", "--settings", name)
    left = records(folder / "seen")
    gone, parts = whole_and_parts(folder / "seen")
    pictures = [data for one in unique for data in one.pictures]
    vectors = np.stack([vector(picture_bytes(decode_image(data), SIDE)) for data in pictures])
    cosine = np.tril(vectors @ vectors.T, -1).max(axis=1)
    blank = (np.abs(vectors).sum(axis=1) == 0).sum()  # rounding is all that a tower sees of them
    wanted, near = (cosine >= SIMILARITY).sum(), (np.abs(cosine - SIMILARITY) < 1e-5).sum() + blank
    went = len(pictures) - held(left).pictures
    off["semantic dedup"] = adds_up(unique, left, gone, parts) or abs(int(wanted) - went) > near
    return [
        Figure("pictures alike to a tower", went),
        Figure("pictures alike, each with each", int(wanted)),
        Figure("pictures left", held(left).pictures),
    ]


def whole_and_parts(folder: Path) -> tuple[set[str], Counter]:
    """(Documents that went, pictures that went of each of the others)."""
    gone, parts = set(), Counter()
    for one in lost(folder):
        if one["whole"]:
            gone.add(one["document"])
        else:
            parts[one["document"]] += 1
    return gone, parts


def adds_up(before: list[Record], after: list[Record], gone: set[str], parts: Counter) -> bool:
    """Whether documents, words or pictures are off: what stays and what goes is what there was, in the same order."""
    stays = [one for one in before if one.id not in gone]
    return (
        [one.id for one in stays] != [one.id for one in after]
        or [one.words for one in stays] != [one.words for one in after]
        or [len(one.pictures) - parts[one.id] for one in stays] != [len(one.pictures) for one in after]
    )


def alike(raw: list[Record]) -> list[tuple[Record, Record]]:
    """Pairs of documents without media whose sets of n-grams of words are alike, by the definition."""
    grams = []
    for one in raw:
        found = [word.lower() for text in one.texts for word in words(text)]
        if not one.media and len(found) >= MIN_WORDS + NGRAM:
            grams.append((one, {tuple(found[at : at + NGRAM]) for at in range(len(found) - NGRAM + 1)}))
    where: dict[tuple, list[int]] = {}
    for number, (_, own) in enumerate(grams):
        for gram in own:
            where.setdefault(gram, []).append(number)
    met = Counter(pair for own in where.values() if 1 < len(own) <= 100 for pair in combinations(own, 2))
    return [
        (grams[one][0], grams[other][0])
        for (one, other), shared in met.items()
        if shared / (len(grams[one][1]) + len(grams[other][1]) - shared) >= JACCARD
    ]
