"""Backbones, tokenizer and heads."""

import numpy as np
import open_clip
import pytest
import torch

from mergebook.errors import BackboneError, CheckpointError
from mergebook.suites import load_suite
from mergebook.towers import clip
from mergebook.towers.backbones import build_head
from mergebook.weights import save_checkpoint


@pytest.mark.parametrize("name", clip.MINI)
def test_mini_backbones_ship_with_weights(name):
    backbone = clip.load_backbone(name)
    inputs = backbone.preprocess(np.full((2, 32, 32, 3), 128, np.uint8))
    assert backbone.visual(inputs).shape == (2, 64)
    assert 10 < backbone.logit_scale <= 100.01
    blocks = backbone.visual.transformer.resblocks
    assert len(blocks) >= 6


def test_large_is_larger():
    small, large = (
        sum(p.numel() for p in clip.load_backbone(n).visual.parameters()) for n in clip.MINI
    )
    assert large > 3 * small


@pytest.mark.parametrize("name", clip.MINI)
def test_all_class_names_are_told_apart(name):
    tokenize = clip.load_backbone(name).tokenize
    for task in load_suite():
        for template in task.templates:
            tokens = tokenize([template.format(c) for c in task.class_names])
            assert len({tuple(row.tolist()) for row in tokens}) == len(task.class_names), task.name


def test_tokenizer_by_hand():
    tokenize = clip.WordTokenizer(["A", "a", "cat"], vocab_size=10, context_length=6)
    a_cat, upper, unseen = tokenize(["a  Cat!", "A", "zebra"])
    assert a_cat.tolist() == [1, 3, 4, 9, 0, 0]
    assert upper.tolist() == [1, 2, 9, 0, 0, 0]
    assert 5 <= unseen[1] < 9 and unseen[2] == 9
    assert tokenize("a a a a a a a a")[0].tolist() == [1, 3, 3, 3, 3, 9]


def test_tokenizer_needs_room():
    with pytest.raises(BackboneError, match="3 words leave no room in a vocabulary of 6"):
        clip.WordTokenizer(["a", "b", "c"], 6, 4)


def test_preprocess_by_hand():
    backbone = clip.load_backbone("mini-small")
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected = (image[0].astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(backbone.preprocess(image)[0].permute(1, 2, 0), expected, atol=1e-6)
    assert backbone.preprocess(np.zeros((3, 48, 40, 3), np.uint8)).shape == (3, 3, 32, 32)


def test_head_by_hand():
    backbone, task = clip.load_backbone("mini-small"), load_suite()["shapes"]
    head = build_head(backbone, task)
    assert head.shape == (10, 64)
    texts = [template.format("heart") for template in task.templates]
    with torch.inference_mode():
        features = backbone.model.encode_text(backbone.tokenize(texts))
    mean = (features / features.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(head[9], mean / mean.norm())


def test_visual_encoder_has_the_given_weights():
    base = clip.load_backbone("mini-small").visual.state_dict()
    state = {key: value + 0.01 for key, value in base.items()}
    encoder = clip.visual_encoder("mini-small", state)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, state[key])
    again = clip.visual_encoder("mini-small", base)  # the template was not changed
    assert torch.equal(again.state_dict()["proj"], base["proj"])


def test_bad_weights_are_named(tmp_path):
    base = clip.load_backbone("mini-small").visual.state_dict()
    with pytest.raises(BackboneError, match=r"(?s)mini-small.*proj"):
        clip.visual_encoder("mini-small", {k: v for k, v in base.items() if k != "proj"})
    with pytest.raises(BackboneError, match=r"(?s)mini-large.*size mismatch"):
        clip.visual_encoder("mini-large", base)
    save_checkpoint({"proj": torch.zeros(2)}, tmp_path / "wrong.safetensors")
    with pytest.raises(BackboneError, match=r"wrong\.safetensors"):
        clip.load_backbone("mini-small", tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        clip.load_backbone("mini-small", tmp_path / "none.safetensors")
    with pytest.raises(BackboneError, match=r"unknown backbone 'mini'.*mini-small"):
        clip.load_backbone("mini")


# ViT-B/32: 87,849,216 entries in the image tower, as in the released checkpoints.
def test_paper_architecture_at_random_weights(tmp_path):
    backbone = clip.create("ViT-B-32")
    assert sum(p.numel() for p in backbone.visual.parameters()) == 87_849_216
    assert backbone.image_size == 224
    tiny = backbone.preprocess(np.zeros((1, 32, 32, 3), np.uint8))
    assert tiny.shape == (1, 3, 224, 224)
    with torch.inference_mode():
        assert backbone.visual(tiny).shape == (1, 512)
    assert build_head(backbone, load_suite()["cells"]).shape == (2, 512)


def test_weights_that_cannot_be_had_say_so(monkeypatch):
    def offline(*args, **kwargs):
        if kwargs.get("pretrained"):
            raise OSError("no route to host")
        return create(*args, **kwargs)

    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", offline)
    clip.load_backbone.cache_clear()
    with pytest.raises(BackboneError, match=r"'ViT-B-32'.*no route to host.*give `path`"):
        clip.load_backbone("ViT-B-32")
