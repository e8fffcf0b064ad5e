"""The page of a run with evaluations: every figure, samples to see and hear, and the best step."""

import json

import numpy as np
import PIL.Image
import pytest

from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.evaluation.pages.samples import samples_page
from mmpt.evaluation.pages.training import write_training_page
from mmpt.media import encode_png, encode_wav


def documents(step: int) -> list[Document]:
    picture = Image(encode_png(PIL.Image.new("RGB", (8, 8), (step, 0, 0))), "png", 8, 8)
    sound = Speech(encode_wav(np.zeros(160, dtype=np.float32), 16_000), "wav", 16_000, 0.01)
    return [
        Document("0", "samples", (Text("draw"), Text("a <b> circle"), picture), {"asked": 2, "tokens": 5}),
        Document("1", "samples", (Text("say"), sound), {"asked": 1, "tokens": 5}),
        Document("2", "samples", (Text("broken"),), {"asked": 1, "tokens": 7, "problem": "a block is not closed"}),
    ]


@pytest.mark.slow
def test_a_run_with_evaluations_and_samples(tmp_path):
    line = {"loss": 2.0, "seconds": 1.0, "data_seconds": 0.1}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step, **line}) + "\n" for step in range(1, 13)))
    evaluations = [
        {"step": step, "held_out": {"loss": 3.25 / step, "loss/text": 1.0, "books": 2.0, "books/text": 2.5}}
        for step in range(2, 13, 2)
    ]
    evaluations[-1]["suite"] = {"which_acc": 0.875}
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in evaluations))
    (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    (tmp_path / "best").symlink_to("checkpoints/step-00000004")
    for step in range(2, 13, 2):
        with ShardWriter(tmp_path / "samples" / f"step-{step:08d}", built={}) as writer:
            for document in documents(step):
                writer.write(document)
    content = write_training_page(tmp_path).read_text()
    assert "step 4, the best" in content and "0.8125" in content and "0.875" in content and "held out books/text" in content
    # Three of the six steps beside each other, the first and the last among them; nothing that a prompt says is read as HTML.
    assert [f"<th>step {step}</th>" in content for step in (2, 4, 6, 8, 10, 12)] == [True, False, True, False, False, True]
    assert content.count("data:image/png") == 3 and content.count("<audio") == 3 and "a &lt;b&gt; circle" in content
    assert content.count("7 tokens that stand for nothing: a block is not closed") == 3
    one = samples_page(4, documents(4))
    assert "Samples of step 4" in one and one.count("data:image/png") == 1
