"""How much likelier a model finds preferred answers than rejected ones."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument, sequences
from mmpt.document import Text
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._items import first
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.metrics.likelihood import preferred, token_scores

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class PreferredAnswers(Benchmark):
    """ln p of the preferred answer less that of the rejected one, summed over their tokens, and how often the first is the larger
    (the margin of Rafailov et al. 2023, arXiv:2305.18290, without its reference)."""

    folder: Path
    """Token shards of pairs, as of the source `preferences`."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`. Raises `VocabularyError` where the ids mean other things than the model's."""
        vocabulary = model.tokenizer.vocabulary
        documents = first(iter(TokenShards(self.folder, vocabulary)), self.limit)
        pairs = [one for one in documents if one.rejected]
        halves = [half for one in pairs for half in sequences(one)]
        scores = token_scores(model.model, vocabulary, [half.ids.tolist() for half in halves])
        sums = [float(found.log_probability[_learned(half)].sum()) for half, found in zip(halves, scores, strict=True)]
        margins = [chosen - rejected for chosen, rejected in zip(sums[::2], sums[1::2], strict=True)]
        outcomes = tuple(
            Outcome(one.id, (), (Text(f"{len(one.ids)} tokens"),), "the first is likelier", f"margin {margin:.3f}", margin)
            for one, margin in zip(pairs, margins, strict=True)
        )
        wins = [preferred(*own) for own in zip(sums[::2], sums[1::2], strict=True)]
        measures = (mean_measure("margin", margins), mean_measure("accuracy", wins))
        missing = tuple(f"{one.id}: it has no rejected answer" for one in documents if not one.rejected)
        return Result(self.name, "ln p summed over each answer; ties count half", measures, outcomes, missing)


def _learned(document: TokenDocument) -> np.ndarray:
    """Which of the ids behind the first are the answer, bool [length − 1]."""
    return np.ones(len(document.ids) - 1, bool) if document.weights is None else document.weights[1:] > 0
