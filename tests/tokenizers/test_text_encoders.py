"""Published text encoders beside the image tokenizer: what the library computes, kept, and no part of what is saved; and the
matching of images and captions."""

import shutil

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.matching import Matcher, matching_term
from mmpt.tokenizers.image.stages import AlignConfig, AlignStage
from mmpt.tokenizers.image.text_encoders.open_clip import OpenClip
from mmpt.tokenizers.image.text_encoders.transformers import Transformers
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

from .tiny_image import config, loss_of, pictures

CAPTIONS = {"words": 6, "buckets": 64, "width": 16, "depth": 1, "heads": 2, "dim": 8}
TEXTS = ["a red cat", "the blue dog sits", "", "a red cat", "cat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A BERT, a T5 and a LLaMA with a tokenizer of words; the first token is 0, as some tokenizers have it."""
    words = ["a", "the", "red", "blue", "cat", "dog", "sits", "[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 8), ("[SEP]", 9)])
    own = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    bert = BertModel(BertConfig(max_position_embeddings=16, pad_token_id=10, **sizes))
    t5 = T5Model(T5Config(vocab_size=11, d_model=12, d_kv=6, d_ff=24, num_layers=2, num_heads=2, pad_token_id=10))
    llama = LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, initializer_range=0.5, **sizes))
    found = {}
    for name, model in (("bert", bert), ("t5", t5), ("llama", llama)):
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        own.save_pretrained(found[name])
    return found


def batch_of(encoder, texts):
    captions = config(captions={**CAPTIONS, "encoder": encoder.model_dump() | {"kind": encoder.kind}}).captions
    rows = [torch.tensor(encoder.ids(text, captions), dtype=torch.long) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), captions


@pytest.mark.parametrize(
    "name, layer, writes", [("bert", -1, 0), ("bert", -2, 0), ("t5", -1, 0), ("llama", -1, 0), ("llama", 1, 1)]
)
def test_states_are_those_of_the_library_for_each_caption_alone(folders, name, layer, writes):
    encoder = Transformers(model=str(folders[name]), layer=layer, writes=bool(writes))
    ids, captions = batch_of(encoder, TEXTS)
    module = encoder.build(captions)
    found = module(ids)
    kind = {"bert": BertModel, "t5": T5Model, "llama": LlamaModel}[name]
    model = kind.from_pretrained(folders[name]).eval()
    model = model.get_encoder() if name == "t5" else model
    reader = AutoTokenizer.from_pretrained(folders[name])
    for row, text in zip(found, TEXTS, strict=True):
        if not text:
            continue
        with torch.no_grad():
            states = model(**_known(reader(text, return_tensors="pt")), output_hidden_states=True).hidden_states[layer]
        wanted = module.project(F.layer_norm(states, states.shape[-1:])[0])
        torch.testing.assert_close(row[: len(wanted)], wanted, rtol=0, atol=5e-3)  # kept in float16
    assert len(module._kept) == 3 and not any("model" in key for key in module.state_dict())
    torch.testing.assert_close(module(ids[1:2]), found[1:2, : int((ids[1] != 0).sum())], rtol=0, atol=0)


def _known(inputs):
    return {key: value for key, value in inputs.items() if key != "token_type_ids"}


def test_states_that_are_kept_stay_within_their_room(folders):
    encoder = Transformers(model=str(folders["bert"]), cache_mib=0)
    ids, captions = batch_of(encoder, TEXTS)
    module = encoder.build(captions)
    kept = Transformers(model=str(folders["bert"])).build(captions)
    kept(ids)
    first = module(ids)
    assert not module._kept and module._bytes == 0 and kept._bytes == sum(one.nbytes for one in kept._kept.values()) > 0
    assert torch.equal(module(ids), first)


def test_a_tokenizer_trained_with_a_published_encoder_is_read_without_it(folders, tmp_path):
    here = tmp_path / "bert"
    shutil.copytree(folders["bert"], here)
    captions = {**CAPTIONS, "encoder": {"kind": "transformers", "model": str(here)}}
    torch.manual_seed(0)
    model = ImageTokenizer(config(captions=captions))
    assert all("bert" not in key and "encoder.layer" not in key for key in model.state_dict())
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(model.config.captions.encoder.ids(text, model.config.captions)) for text in TEXTS[:2]], batch_first=True
    )
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    batch = ImageBatch(pixels, ids, torch.full((2, model.codes_per_image), -1))
    stage = AlignStage(model, AlignConfig(describe=0.1, match=0.5))
    loss_of(stage.loss(batch, 0.0)).backward()
    assert model.text.words.project.weight.grad.abs().sum() > 0 and stage.matcher.project.weight.grad.abs().sum() > 0
    model.eval().save(tmp_path / "saved")
    texts = model.embed_texts(TEXTS)
    again = ImageTokenizer.load(tmp_path / "saved")
    assert np.array_equal(again.embed_texts(TEXTS), texts)
    shutil.rmtree(here)
    without = ImageTokenizer.load(tmp_path / "saved")
    assert np.array_equal(without.embed(pictures(2)), model.embed(pictures(2)))
    with pytest.raises(ConfigError, match="captions.encoder"):
        without.embed_texts(["another cat"])


def writing(folder) -> tuple[ImageTokenizer, torch.Tensor]:
    """A tokenizer whose captions a published LLM writes, and ids of two captions."""
    torch.manual_seed(0)
    encoder = {"kind": "transformers", "model": str(folder), "writes": True}
    model = ImageTokenizer(config(captions={**CAPTIONS, "encoder": encoder}))
    rows = [torch.tensor(model.config.captions.encoder.ids(text, model.config.captions)) for text in TEXTS[:2]]
    return model, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def test_a_published_llm_writes_captions_behind_the_codes(folders):
    model, ids = writing(folders["llama"])
    vectors = torch.randn(2, 5, 6, requires_grad=True)
    loss = model.describer(vectors, ids)
    llm = AutoModelForCausalLM.from_pretrained(folders["llama"])
    # One caption after the other, token by token, by the library.
    expected, count = 0.0, 0
    for row, one in zip(vectors, ids, strict=True):
        tokens = one[one != 0] - 1
        inputs = torch.cat([row @ model.describer.project.weight, llm.get_input_embeddings()(tokens)])[None]
        chances = llm(inputs_embeds=inputs).logits[0].log_softmax(dim=-1)
        expected -= sum(float(chances[len(row) - 1 + place, token]) for place, token in enumerate(tokens))
        count += len(tokens)
    assert count == 11 and loss.item() == pytest.approx(expected / count, rel=1e-4)
    loss.backward()
    assert vectors.grad is not None and (vectors.grad.abs().sum(dim=(1, 2)) > 0).all()
    assert model.describer.project.weight.grad is not None and len(list(model.describer.parameters())) == 1


def test_what_a_published_llm_writes_teaches_the_states_and_it_is_no_part_of_what_is_saved(folders, tmp_path):
    model, ids = writing(folders["llama"])
    batch = ImageBatch(torch.rand(2, 3, 16, 16) * 2 - 1, ids, torch.full((2, model.codes_per_image), -1))
    stage = AlignStage(model, AlignConfig(describe=1.0))
    optimizer = torch.optim.AdamW([one for one in stage.parameters() if one.requires_grad], 0.01)
    told = []
    for _ in range(30):
        terms = stage.loss(batch, 0.0)
        told.append(float(terms["describe"].total / terms["describe"].count))
        optimizer.zero_grad()
        loss_of(terms).backward()
        optimizer.step()
    assert told[-1] < 0.9 * told[0]
    assert [key for key in model.state_dict() if key.startswith("describer.")] == ["describer.project.weight"]
    model.eval().save(tmp_path / "saved")
    again = ImageTokenizer.load(tmp_path / "saved")
    assert torch.equal(again.describer(torch.ones(2, 5, 6), ids), model.describer(torch.ones(2, 5, 6), ids))


@pytest.mark.parametrize("name, said", [("bert", "its tokens see those behind them"), ("t5", "cannot be used")])
def test_what_is_no_decoder_llm_does_not_write(folders, name, said):
    with pytest.raises(ConfigError, match=said):
        writing(folders[name])


def test_the_text_side_of_open_clip_gives_its_own_embedding(tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt").eval()
    weights = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    encoder = OpenClip(model="ViT-S-32-alt", pretrained=str(weights))
    long = " ".join(["word"] * 40)
    ids, captions = batch_of(encoder, ["a red cat", long])
    module = encoder.build(captions)
    found = module(ids)
    with torch.no_grad():
        wanted = model.encode_text(open_clip.get_tokenizer("ViT-S-32-alt")(["a red cat", "word word word word"]))
    wanted = module.project(F.layer_norm(wanted, wanted.shape[-1:]))
    assert found.shape == (2, 1, captions.width) and ids.shape[1] == captions.words
    torch.testing.assert_close(found[:, 0], wanted, rtol=0, atol=5e-3)


class Known(torch.nn.Module):
    """Says of image i and caption j, which tell their numbers, `table[i, j]`."""

    def __init__(self, table):
        super().__init__()
        self.table, self.asked = table, []

    def forward(self, hidden, words, told):
        pairs = list(zip(hidden[:, 0, 0].long().tolist(), words[:, 0, 0].long().tolist(), strict=True))
        self.asked += pairs
        return torch.tensor([self.table[i][j] for i, j in pairs])


class Reader:
    def read(self, ids):
        return ids[..., None].float(), ids != 0


def test_wrong_pairs_are_those_that_look_right_and_never_an_equal_caption():
    """Images 0, 1 with caption 5, image 2 without any, images 3, 4 with captions 6 and 7; by hand."""
    ids = torch.tensor([[5], [5], [0], [6], [7]])
    hidden = torch.arange(5.0)[:, None, None].expand(-1, 2, -1)
    alike = torch.full((5, 5), -50.0)
    alike[0, 1] = alike[1, 0] = 100.0  # equal captions: never a wrong pair
    alike[0, 3] = alike[1, 4] = alike[3, 4] = alike[4, 0] = alike[4, 1] = (
        50.0  # image 0 is like caption 6, 1 like 7, 3 like 7, 4 like 5
    )
    table = {i: {j: 0.25 * i - 0.5 * j for j in (5, 6, 7)} for i in (0, 1, 3, 4)}
    known = Known(table)
    term = matching_term(known, Reader(), hidden, ids, alike, 0.5)
    right, images = [(0, 5), (1, 5), (3, 6), (4, 7)], [(0, 6), (1, 7), (3, 7), (4, 5)]
    assert known.asked[:4] == right and known.asked[4:8] == images
    # For each caption the image that is most like it: 5 → 4 (of images 0 and 1), 6 → 0, 7 → 1 or 3.
    assert known.asked[8:11] == [(4, 5), (4, 5), (0, 6)] and known.asked[11] in [(1, 7), (3, 7)]
    wanted = sum(np.log1p(np.exp(-table[i][j])) for i, j in known.asked[:4])
    wanted += sum(np.log1p(np.exp(table[i][j])) for i, j in known.asked[4:])
    assert term.weight == 0.5 and float(term.count) == 12 and float(term.total) == pytest.approx(wanted, rel=1e-5)


def test_without_captions_or_with_one_for_all_there_is_no_wrong_pair():
    matcher = Matcher(config(captions=CAPTIONS).captions, 4)
    text = ImageTokenizer(config(captions=CAPTIONS)).text
    hidden = torch.randn(3, 5, 4)
    nothing = matching_term(matcher, text, hidden, torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 3), 1.0)
    assert nothing.total.item() == nothing.count.item() == 0
    nothing.total.backward()
    assert matcher.project.weight.grad is not None
    assert float(matching_term(matcher, text, hidden, torch.ones(3, 2, dtype=torch.long), torch.zeros(3, 3), 1.0).count) == 3
