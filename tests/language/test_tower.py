"""The functional text tower against BERT of transformers."""

import pytest
import torch
from torch.nn import functional as F

from language.conftest import LENGTHS, random_weights, texts
from mergebook.errors import BackboneError
from mergebook.towers import minilm
from mergebook.towers.backbones import build_encoder, build_tower
from mergebook.towers.bert import BATCH
from mergebook.towers.mixed import Mixture, mixed_tower
from mergebook.towers.tape import Tape
from mergebook.towers.tokens import joined, present, token_mean

transformers = pytest.importorskip("transformers")

ENDS = (".attention", ".residual", ".ln_1", ".mlp", ".ln_2", "")  # in the order of a block


def bert(weights):
    """BertModel with its own padding masks, and the mean over tokens that are there."""
    config = transformers.BertConfig.from_pretrained(minilm.minilm_folder())
    net = transformers.BertModel(config).eval()
    net.load_state_dict(weights)

    def features(tokens):
        mask = (tokens != 0).long()
        states = net(input_ids=tokens, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    return net, features


def drawn(seed=0):
    return texts(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_equals_transformers_with_mean_pooling(seed):
    weights, tokens = random_weights(seed), drawn(seed)
    with torch.inference_mode():
        expected = bert(weights)[1](tokens)
        got = build_tower("minilm")(weights, tokens)
        module = build_encoder("minilm", weights)(tokens)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(module, got)


def test_padding_and_the_other_texts_of_a_batch_do_not_matter():
    weights, tokens, tower = random_weights(), drawn(), build_tower("minilm")
    with torch.inference_mode():
        together = tower(weights, tokens)
        for row, length, own in zip(tokens, LENGTHS, together, strict=True):
            torch.testing.assert_close(tower(weights, row[None])[0], own, rtol=1e-5, atol=1e-5)
            alone = tower(weights, row[None, :length])[0]
            torch.testing.assert_close(alone, own, rtol=1e-5, atol=1e-5)


def test_many_texts_come_back_in_order():
    weights, tower = random_weights(), build_tower("minilm")
    many = torch.cat([drawn(seed) for seed in range(12)])
    assert len(many) > 2 * BATCH
    with torch.inference_mode():
        parts = torch.cat([tower(weights, row[None]) for row in many])
        torch.testing.assert_close(tower(weights, many), parts, rtol=1e-5, atol=1e-5)
    lengths = []
    watched = tower.with_hooks(edit=lambda p, x: lengths.append(x.shape[1]) or x)
    watched(weights, many)  # hooks see all texts at once, in their order
    assert set(lengths[:-1]) == {20}


def test_places_have_what_transformers_computes_there():
    weights, tokens, number = random_weights(), drawn(), 2
    net, features = bert(weights)
    layer, seen, expected = net.encoder.layer[number], {}, {}

    def keep(end, value):
        expected[f"blocks.{number}{end}"] = value[0] if isinstance(value, tuple) else value

    first, second = layer.attention.output, layer.output
    parts = (first.dense, first.LayerNorm, second.dense, second.LayerNorm, layer)
    for end, part in zip((".attention", ".ln_1", ".mlp", ".ln_2", ""), parts, strict=True):
        part.register_forward_hook(lambda _, given, got, end=end: keep(end, got))
    first.LayerNorm.register_forward_pre_hook(lambda _, given: keep(".residual", given[0]))
    order = []

    def edit(place, x):
        order.append(place)
        return seen.setdefault(place, x)

    with torch.inference_mode():
        features(tokens)
        build_tower("minilm", edit=edit)(weights, tokens)
    there = (tokens != 0)[..., None]
    assert set(expected) == {f"blocks.{number}{end}" for end in ENDS}
    for place, value in expected.items():
        torch.testing.assert_close(seen[place], value * there, rtol=1e-4, atol=1e-5)
        assert torch.equal(present(seen[place]), there)
    blocks = [f"blocks.{b}{end}" for b in range(4) for end in ENDS]
    assert order == ["embedding", *blocks, "features"]


def test_an_edit_reaches_the_features_and_never_padding():
    weights, tokens, plain = random_weights(), drawn(), build_tower("minilm")
    for place in (*(f"blocks.1{end}" for end in ENDS), "features"):
        moved = plain.with_hooks(edit=lambda p, y, place=place: y + (p == place))
        seen = {}
        watched = moved.with_hooks(
            edit=lambda p, y, edit=moved.edit, seen=seen: seen.setdefault(p, edit(p, y))
        )
        watched(weights, tokens)
        negated = plain.with_hooks(edit=lambda p, y, place=place: -y if p == place else y)
        change = negated(weights, tokens) - plain(weights, tokens)
        assert change.norm() > 0.05 * plain(weights, tokens).norm(), place
        alone = torch.cat(
            [moved(weights, row[None, :n]) for row, n in zip(tokens, LENGTHS, strict=True)]
        )
        torch.testing.assert_close(moved(weights, tokens), alone, rtol=1e-4, atol=1e-4)


def test_the_rest_of_a_tower_starts_at_any_block_and_at_the_readout():
    weights, tokens, entered = random_weights(), drawn(), {}
    tower = build_tower("minilm", edit=lambda place, y: entered.setdefault(place, y))
    wanted = tower(weights, tokens)
    plain = build_tower("minilm")
    padded = F.pad(plain.embed(weights, tokens), (0, 0, 0, 4))  # longer than the longest text
    torch.testing.assert_close(plain.rest(weights, padded), wanted)
    for block in range(1, 5):
        torch.testing.assert_close(
            plain.rest(weights, entered[f"blocks.{block - 1}"], block), wanted
        )
    readout = plain.readout(entered["blocks.3"])
    assert readout.shape == (len(tokens), 1, 32)
    torch.testing.assert_close(plain.rest(weights, readout, 4), wanted)


def test_the_tape_keeps_every_map_and_counts_no_padding():
    weights, tokens = random_weights(), drawn()
    tape = Tape("minilm")
    with torch.no_grad():
        expected = build_tower("minilm")(weights, tokens)
        torch.testing.assert_close(tape(weights, tokens), expected, rtol=1e-5, atol=1e-5)
    inner = {k for k in weights if k.startswith("encoder.") and k.endswith("weight")}
    name = "embeddings."
    assert set(tape.taps) == inner | {f"{name}word_embeddings.weight", f"{name}LayerNorm.weight"}
    for key in inner:
        tap = tape.taps[key]
        assert tap.count == sum(LENGTHS)
        assert torch.equal(present(tap.x), (tokens != 0)[..., None]), key


def test_roles_and_parts_of_all_tensors():
    tower = build_tower("minilm")
    roles = {key: tower.role(key) for key in random_weights()}
    found = {role: [k for k, own in roles.items() if own == role] for role in set(roles.values())}
    sizes = {role: len(names) for role, names in found.items()}
    assert sizes == {
        "embedding": 3, "norm": 2 + 4 * 4, "query_key_value": 4 * 6, "attention": 4 * 2,
        "mlp": 4 * 4, "unused": 2,
    }  # fmt: skip
    assert all("pooler" in key for key in found["unused"])
    assert tower.part_of("encoder.layer.3.output.dense.bias") == "3"
    assert tower.part_of("embeddings.LayerNorm.bias") == "embedding"


def test_texts_may_have_weights_of_their_own():
    weights, tokens = random_weights(), drawn()
    other = random_weights(1)
    vectors = {k: torch.stack([other[k] - weights[k], weights[k] * 0.1]) for k in weights}
    rows = torch.rand(len(tokens), 2, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        got = mixed_tower("minilm")(Mixture(weights, vectors, rows), tokens)
        for text, row, own in zip(tokens, rows, got, strict=True):
            mixed = {k: weights[k] + row[0] * v[0] + row[1] * v[1] for k, v in vectors.items()}
            alone = build_tower("minilm")(mixed, text[None])[0]
            torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-5)


def test_means_and_joints_leave_padding_out():
    x = torch.tensor([[[1.0], [3.0], [0.0]], [[2.0], [0.0], [0.0]]])
    assert token_mean(x, present(x)).tolist() == [[2.0], [2.0]]
    assert torch.equal(token_mean(x), x.mean(1))  # all tokens are there
    assert joined([x[:, :2], x]).shape == (4, 3, 1)
    assert torch.equal(joined([x[:1, :1], x[:1]])[0], F.pad(x[0, :1], (0, 0, 0, 2)))


def test_weights_that_do_not_fit_are_named():
    weights = random_weights()
    name = "encoder.layer.2.output.dense.weight"
    for wrong, message in (
        ({k: v for k, v in weights.items() if k != name}, "is missing"),
        ({**weights, name: weights[name].T}, r"should have the shape \(32, 40\), has \(40, 32\)"),
    ):
        with pytest.raises(BackboneError, match=f"{name}.*{message}"):
            build_encoder("minilm", wrong)
