"""Documents of Multimodal C4: lists of sentences with pictures placed by their similarity to them.

    sources: [{kind: mmc4, rows: mmc4/, images: pictures/, min_similarity: 0.24}]

Zhu et al. 2023, "Multimodal C4", section 3: each picture goes before the sentence that a linear assignment on the similarity
matrix gives it, at most one to a sentence.
"""

import numpy as np
import pydantic

from mmpt.data.formats.downloads import check_downloads, finder
from mmpt.data.formats.row_parts import row_document, row_documents
from mmpt.data.formats.row_range import RowRange
from mmpt.data.formats.rows import MEDIA_BYTES, named_rows, row_units
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import NamedSource
from mmpt.data.unit import Unit
from mmpt.document import Text
from mmpt.errors import DataError


class Mmc4(NamedSource):
    """Lists of sentences with pictures placed by similarity: Zhu et al. 2023, "Multimodal C4" (arXiv:2304.06939), section 3.

    Each picture goes before the sentence that a linear assignment on the similarity matrix gives it, at most one to a sentence.
    """

    rows: str
    """JSON lines, also gzipped, a file or a folder."""
    images: str = ""
    """Folder with each `image_name`."""
    downloads: str = ""
    """Folder that img2dataset filled, instead: pictures are found by their `raw_url`."""
    min_similarity: float = -1.0
    """Pictures whose similarity to their sentence is less are dropped, each listed (0.24 in OpenFlamingo, arXiv:2308.01390)."""
    language: str = "en"
    """Code of the language of the documents, for their meta."""
    license: str = ""
    """License of the documents, for their meta."""

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> "Mmc4":
        if bool(self.images) == bool(self.downloads):
            raise ValueError("expected either images or downloads: where the pictures are")
        return self

    def units(self) -> list[Unit[RowRange]]:
        """Ranges of rows. Raises `ConfigError` where there are none, or no download."""
        check_downloads(self.downloads)
        return row_units(self.rows, MEDIA_BYTES)

    def read(self, unit: Unit[RowRange]) -> Documents:
        """One document for each row: sentences in order, each picture before its own."""
        find, name = finder(self.images, "path", self.downloads), self.source_name(self.rows)

        def document(where: str, document_id: str, row: dict) -> Documents:
            sentences, names, similarity = _lists(row, "raw_url" if self.downloads else "image_name")
            before, scores = {}, {}
            placed = assign(similarity)  # for the document as a whole: a picture may have to give way to a better one
            for number, reference in enumerate(names):
                item = f"{where}, image {number}: {reference}"
                if number not in placed:
                    yield Lost(item, "no sentence left for it", document_id, False, "assignment")
                elif (score := float(similarity[number, placed[number]])) < self.min_similarity:
                    yield Lost(item, f"similarity {score:.3f}, at least {self.min_similarity}", document_id, False, "similarity")
                else:
                    try:
                        before[placed[number]] = find(reference, sentences[placed[number]])
                        scores.setdefault(reference, round(score, 4))  # a picture that comes twice: its first place's
                    except DataError as problem:
                        yield Lost(item, str(problem), document_id, whole=False, part="image")
            parts = [
                part
                for number, text in enumerate(sentences)
                for part in ([before[number]] if number in before else []) + ([Text(text)] if text else [])
            ]
            meta = {"language": self.language, "license": self.license, "url": row.get("url"), "scores": {"similarity": scores}}
            yield row_document(document_id, name, parts, {key: value for key, value in meta.items() if value})

        return row_documents(named_rows(name, self.rows, unit.what), document)


def assign(similarity: np.ndarray) -> dict[int, int]:
    """Picture → sentence for which the sum of `similarity` [pictures, sentences] is largest, no sentence twice."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _lists(row: dict, name: str) -> tuple[list[str], list[str], np.ndarray]:
    sentences, infos = row.get("text_list"), row.get("image_info")
    if not isinstance(sentences, list) or not isinstance(infos, list) or not sentences:
        raise DataError("text_list and image_info must be lists, the first not empty")
    if not all(isinstance(text, str) for text in sentences) or not all(isinstance(info, dict) for info in infos):
        raise DataError("expected texts in text_list and objects in image_info")
    try:
        similarity = np.array(row.get("similarity_matrix") if infos else np.zeros((0, len(sentences))), dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("similarity_matrix is no matrix of numbers") from None
    if similarity.shape != (len(infos), len(sentences)) or not np.isfinite(similarity).all():
        raise DataError(f"similarity_matrix of {similarity.shape}, expected {(len(infos), len(sentences))} finite numbers")
    return sentences, [str(info.get(name, "")) for info in infos], similarity
