"""Pictures and texts told from each other, beside generation."""

import sys
from pathlib import Path

import pytest
import torch

from mmpt.config import parse_config
from mmpt.data.loading.packing import pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.config import FeatureInputConfig
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.language_model import LanguageModel
from mmpt.training.objectives.contrastive import Contrastive
from mmpt.training.objectives.next_token import NextToken

sys.path.insert(0, str(Path(__file__).parent))
import feature_ranks  # noqa: E402
from ranks import BACKBONE, VOCABULARY, settings  # noqa: E402

TOWER = {"side": 32, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}}
QUERIES = {"kind": "resampler", "depth": 1, "heads": 2, "width": 16, "rows": 3}
CROSS = {"kind": "cross", "decoder": [1], "heads": 2}


def student(*objectives) -> LanguageModel:
    torch.manual_seed(2)
    model = build_backbone(BackboneConfig(config={**BACKBONE, "num_hidden_layers": 2}), VOCABULARY.size, seed=3)
    config = parse_config({"encoder": TOWER, "connector": QUERIES, "enters": CROSS}, FeatureInputConfig, "test")
    return LanguageModel(model, VOCABULARY, objectives, World(0, 1, torch.device("cpu")), FeatureInputs({"image": config}, model))


def packed(trained: LanguageModel, *documents: TokenDocument):
    return pack(list(documents), [[trained.inputs.read(medium) for medium in one.media] for one in documents])


def shown(colour: str, number: int, word: int) -> TokenDocument:
    return feature_ranks.document(f"{colour}-{number}", "image", feature_ranks.picture(colour, number), word, 1)


TEXT = TokenDocument("text", "test", torch.tensor([3, 9, 4, 7]).numpy())


def test_the_loss_is_clips_over_the_documents_of_a_pack():
    """By its definition, with pictures pooled one by one and texts pooled one by one."""
    trained = student(NextToken(), Contrastive(layer=1, width=6, temperature=0.5, weight=2.0))
    documents = [shown("red", 1, 5), TEXT, shown("blue", 2, 7), shown("green", 3, 6)]
    batch = packed(trained, *documents)
    share = trained.share([batch])
    term = trained.loss(share.batches[0], 0.0)["contrastive"]
    pools, sides = trained.heads["contrastive"], {"text": [], "image": []}
    with torch.no_grad():
        for document in documents[:1] + documents[2:]:
            ids = torch.tensor(document.ids.astype("int64"))
            states = trained.model.base_model(input_ids=ids[None], use_cache=False, output_hidden_states=True).hidden_states[1][0]
            features = trained.inputs.encode("image", trained.inputs.read(document.media[0]))
            rows = trained.inputs.connectors["image"](features)[0]
            for side, vectors in (("text", states[ids < VOCABULARY.text_size]), ("image", rows)):
                pool = getattr(pools, side)
                normed = pool.norm(vectors)
                shares = torch.softmax(normed @ pool.query.weight[0] / normed.shape[1] ** 0.5, dim=0)
                found = pool.out((shares[:, None] * normed).sum(dim=0))
                sides[side].append(found / found.norm())
        cosines = torch.stack(sides["text"]) @ torch.stack(sides["image"]).T / 0.5
        wanted = -(cosines.log_softmax(dim=1).diagonal() + cosines.log_softmax(dim=0).diagonal()).sum() / 2
    assert term.weight == 2.0 and float(term.count) == float(share.counts["contrastive"]) == 3
    assert float(term.total) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("documents", [[TEXT], [shown("red", 1, 5), TEXT]])
def test_without_two_pairs_nothing_is_learned_and_the_same_modules_run(documents):
    trained = student(NextToken(), Contrastive(layer=1, width=6))
    share = trained.share([packed(trained, *documents)])
    term = trained.loss(share.batches[0], 0.0)["contrastive"]
    term.total.backward()
    assert float(term.total) == float(term.count) == float(share.counts["contrastive"]) == 0.0
    assert all(weight.grad is not None and not weight.grad.any() for weight in trained.heads.parameters())


def test_pictures_and_their_words_come_to_each_other():
    trained = student(NextToken(), Contrastive(layer=1, width=16))
    batch = packed(trained, *(shown(colour, number, 5 + number) for number, colour in enumerate(feature_ranks.COLOURS)))
    share = trained.share([batch])
    optimizer, losses = torch.optim.Adam([weight for _, weight in trained.weights()], 0.01), []
    for _ in range(60):
        optimizer.zero_grad()
        terms = trained.loss(share.batches[0], 0.0)
        means = [terms[name].total / terms[name].count for name in ("next_token", "contrastive")]
        torch.stack(means).sum().backward()
        optimizer.step()
        losses.append([float(mean.detach()) for mean in means])
    assert losses[0][1] > 1 and losses[-1][1] < 0.6 and losses[-1][0] < losses[0][0] - 1


@pytest.mark.parametrize(
    ("enters", "message"),
    [
        ("rows", "expected cross"),
        ({**CROSS, "decoder": [0, 1]}, "layer is 1, but layer 0 sees pictures already"),
        (None, "expected cross"),
    ],
)
def test_where_text_would_see_pictures_it_is_told(tmp_path, enters, message):
    features = {} if enters is None else {"image": {"encoder": TOWER, "connector": QUERIES, "enters": enters}}
    content = settings(tmp_path, "run", 0, features=features, objectives=["next_token", {"kind": "contrastive", "layer": 1}])
    with pytest.raises(ConfigError, match=message):
        parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, "test")
