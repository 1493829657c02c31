"""Weights of vision transformers in every published layout: the encoder computes what their source does."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from dynamix import checkpoint, encoders
from dynamix.config import Encoder, paper
from dynamix.encoders.positions import resized, source_grid
from tests import published
from tests.published import dino, noise_like, prefixed, vit

SIZE = (256, 128)
SMALL = Encoder(name="vit_small", dim=384, image=SIZE)


@pytest.fixture(scope="module")
def source():
    return vit()


@pytest.fixture(scope="module")
def state(source):
    return source.state_dict()


@pytest.fixture(scope="module")
def expected(source):
    return published.outputs(source, SIZE)


@pytest.fixture(scope="module")
def encoder():
    """One encoder for tests that change nothing of it, or all of it."""
    return published.emptied(SMALL)


def check(file, expected, base=paper.encoder, **config):
    return published.check(file, expected, base, **config)


CLASSES = {"classifier.weight": torch.zeros(7, 384)}
LAYOUTS = {
    "flat": (lambda s: s | {"fc.weight": torch.zeros(1000, 384)}, "TransReID-SSL", "imagenet", "half"),
    "ordered": (OrderedDict, "TransReID-SSL, PersonViT", "imagenet", "half"),
    "dino": (dino, "DINO training file, teacher", "imagenet", "half"),
    "converted": (lambda s: {"teacher": prefixed("module.backbone.", s)}, "teacher", "imagenet", "half"),
    "student alone": (lambda s: {"student": prefixed("module.backbone.", s)}, "student", "imagenet", "half"),
    "personvit module": (lambda s: {"module": s, "epoch": 220}, "PersonViT", "imagenet", "half"),
    "personvit msn": (lambda s: {"target_encoder": prefixed("module.", s)}, "PersonViT", "imagenet", "half"),
    "nested": (lambda s: {"model": {"state_dict": prefixed("module.backbone.", s)}}, "", "imagenet", "half"),
    "model": (lambda s: {"model": s, "optimizer": {"state": {0: torch.zeros(4)}}}, "", "imagenet", "half"),
    "bau": (
        lambda s: prefixed("module.", prefixed("base.", s) | {"bn_neck.weight": torch.ones(384)} | CLASSES),
        "BAU", "imagenet", "imagenet",
    ),
    "transreid": (
        lambda s: prefixed("base.", s) | {"bottleneck.weight": torch.ones(384)} | CLASSES,
        "fine-tuned for re-identification (TransReID)", "half", "half",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(layout, state, expected, tmp_path):
    write, words, as_is, fine_tuned = LAYOUTS[layout]
    torch.save(write(state), tmp_path / "w.pth")
    report = check(
        tmp_path / "w.pth", expected, base=replace(paper.encoder, neck="affine_free", stem="conv", patch=8),
        name="vit_small", dim=384, stem="patch", patch=16, neck="none", normalization=fine_tuned, image=SIZE,
    )  # fmt: skip
    assert words in report.family and len(report.matched) == len(state) == 150
    assert not report.unexpected and not report.resized
    made = encoders.encoder_config(tmp_path / "w.pth", paper.encoder, as_is=True)
    assert made.normalization == as_is


def test_what_is_left_out_is_named(state, encoder, tmp_path):
    torch.save(dino(state) | {"extra": torch.zeros(1)}, tmp_path / "w.pth")
    report = encoders.load_pretrained(encoder, tmp_path / "w.pth")
    assert report.dropped == ("head.mlp.0.weight", "head.last_layer.weight_g")
    torch.save(state | {"sie_embed": torch.zeros(6, 1, 384)}, tmp_path / "w.pth")
    report = encoders.load_pretrained(encoder, tmp_path / "w.pth")
    assert report.unexpected == ("sie_embed",) and "unexpected: sie_embed" in str(report)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".pt", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_suffixes_and_the_old_format(suffix, zipped, state, encoder, expected, tmp_path):
    file = tmp_path / f"w{suffix}"
    torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=zipped)
    encoders.load_pretrained(encoder, file)
    torch.testing.assert_close(published.outputs(encoder, SIZE), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefixes", [("", ""), ("teacher.backbone.", "student.module.backbone.")])
def test_safetensors(prefixes, state, expected, tmp_path):
    tensors = prefixed(prefixes[0], state)
    if prefixes[1]:
        tensors |= prefixed(prefixes[1], noise_like(state))
    save_file(tensors, tmp_path / "w.safetensors")
    report = check(tmp_path / "w.safetensors", expected, name="vit_small")
    assert len(report.dropped) == (150 if prefixes[1] else 0)


def test_half_precision(state, source, encoder, tmp_path):
    torch.save({k: v.half() for k, v in state.items()}, tmp_path / "w.pth")
    encoders.load_pretrained(encoder, tmp_path / "w.pth")
    assert encoder.body.pos_embed.dtype == torch.float32
    assert torch.equal(encoder.body.cls_token, source.cls_token.half().float())


def test_base(tmp_path):
    source = vit("vit_base")
    torch.save({"teacher": prefixed("backbone.", source.state_dict())}, tmp_path / "w.pth")
    report = check(tmp_path / "w.pth", published.outputs(source, SIZE), base=SMALL, name="vit_base", dim=768)
    assert report.shares == (1.0, 1.0)


@pytest.mark.parametrize("patch", [16, 8])
def test_convolutional_stem(patch, tmp_path):
    size = (256, 128) if patch == 16 else (128, 64)
    source = vit(size=size, patch=patch, embed_layer=published.Stem)
    teacher = prefixed("module.backbone.", source.state_dict())
    torch.save({"teacher": teacher}, tmp_path / "w.pth")
    report = check(
        tmp_path / "w.pth", published.outputs(source, size), base=replace(paper.encoder, image=size),
        stem="conv", patch=patch, name="vit_small", normalization="half",
    )  # fmt: skip
    assert "convolutional stem" in report.family
    assert "body.patch_embed.conv.1.BN.running_var" in report.matched


@pytest.mark.parametrize("size, to", [((256, 128), (256, 128)), ((256, 128), (384, 128))])
def test_pass(size, to, tmp_path):
    source = published.randomized(published.Pass(size))
    torch.save({"teacher": prefixed("backbone.", source.state_dict())}, tmp_path / "w.pth")
    with torch.no_grad():
        if size == to:
            expected = published.outputs(source, to)
        else:
            other = published.randomized(published.Pass(to))
            grid = resample_abs_pos_embed(source.pos_embed, [24, 8], [16, 8], num_prefix_tokens=0)
            other.load_state_dict(source.state_dict() | {"pos_embed": grid})
            expected = published.outputs(other, to)
    report = check(tmp_path / "w.pth", expected, base=replace(paper.encoder, image=to))
    assert "PASS" in report.family and bool(report.resized) == (size != to)
    assert {"backbone.part_token1", "backbone.part3_pos", "backbone.cls_pos"} <= set(report.dropped)


class TestPositions:
    @pytest.mark.parametrize(
        "trained, grid, wanted, target",
        [
            ((224, 224), (14, 14), (256, 128), (16, 8)),
            ((256, 128), (16, 8), (384, 128), (24, 8)),
            ((384, 128), (24, 8), (256, 128), (16, 8)),
            ((256, 128), (16, 8), (128, 256), (8, 16)),  # as many patches, another shape
            ((224, 224), (14, 14), (448, 112), (28, 7)),
        ],
    )
    def test_resized_as_timm_does(self, trained, grid, wanted, target, tmp_path):
        source, other = vit(size=trained), vit(size=wanted)
        moved = resample_abs_pos_embed(source.pos_embed.detach(), list(target), list(grid))
        other.load_state_dict(source.state_dict() | {"pos_embed": moved})
        torch.save(source.state_dict(), tmp_path / "w.pth")
        report = check(
            tmp_path / "w.pth", published.outputs(other, wanted), base=replace(paper.encoder, image=wanted)
        )
        assert report.resized == ("body.pos_embed",) and report.grids == (grid, target)
        assert "{}x{} to {}x{}".format(*grid, *target) in str(report)
        assert ("ImageNet" in report.family) == (trained == (224, 224))

    def test_normalization_of_square_images(self, tmp_path):
        state = vit(size=(224, 224)).state_dict()
        torch.save(state | {"head.weight": torch.zeros(1000, 384)}, tmp_path / "w.pth")
        torch.save(dino(state), tmp_path / "d.pth")
        for name, as_is in (("w.pth", "half"), ("d.pth", "imagenet")):
            made = encoders.encoder_config(tmp_path / name, paper.encoder, as_is=True)
            assert made.normalization == as_is

    def test_distilled(self, tmp_path):
        """A second token, which the class token attends to, and its position; without them only on demand."""
        source = vit(size=(224, 224))
        state = source.state_dict()
        positions = torch.cat(
            (state["pos_embed"][:, :1], torch.ones(1, 1, 384), state["pos_embed"][:, 1:]), 1
        )
        held = state | {"pos_embed": positions, "dist_token": torch.ones(1, 1, 384)}
        torch.save({"model": held | {"head_dist.weight": torch.ones(1000, 384)}}, tmp_path / "w.pth")
        base = replace(paper.encoder, image=(224, 224))
        with pytest.raises(encoders.Misfit, match="it has dist_token as well"):
            check(tmp_path / "w.pth", None, base=base)
        encoder = published.emptied(encoders.encoder_config(tmp_path / "w.pth", base))
        encoders.load_pretrained(encoder, tmp_path / "w.pth", allow_partial=True)
        expected = published.outputs(source, (224, 224))
        torch.testing.assert_close(published.outputs(encoder, (224, 224)), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize(
        "count, target, grid",
        [
            (128, (16, 8), (16, 8)), (128, (24, 8), (16, 8)), (128, (8, 16), (16, 8)),
            (196, (16, 8), (14, 14)), (196, (28, 7), (14, 14)), (256, (16, 8), (16, 16)),
            (576, (16, 8), (24, 24)), (512, (16, 8), (32, 16)), (32, (16, 8), (8, 4)),
            (192, (16, 8), (24, 8)), (192, (24, 8), (24, 8)), (192, (8, 24), (24, 8)),
            (192, (16, 12), (16, 12)), (192, (12, 16), (24, 8)), (48, (8, 6), (8, 6)), (48, (4, 4), (12, 4)),
            (210, (16, 8), (21, 10)), (310, (16, 8), (31, 10)), (324, (16, 8), (18, 18)),
            (160, (20, 8), (20, 8)), (160, (16, 8), None), (129, (16, 8), None), (0, (16, 8), None),
        ],
    )  # fmt: skip
    def test_source_grid(self, count, target, grid):
        assert source_grid(count, target) == grid

    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 40), st.integers(1, 40))
    def test_no_count_has_two_known_shapes(self, unit, other):
        """The square roots of 2, 3 and 3/2 are irrational: the order of the shapes decides nothing."""
        known = {
            unit * unit: (unit, unit),
            2 * unit * unit: (2 * unit, unit),
            3 * unit * unit: (3 * unit, unit),
        }
        for count, grid in known.items():
            assert source_grid(count, (other, 1)) in (grid, (other, 1))
            if count != other:
                assert source_grid(count, (other, 1)) == grid

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_precision_and_first_token(self, dtype):
        positions = torch.randn(1, 1 + 32, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
        out = resized(positions, (8, 4), (6, 5))
        assert out.dtype == dtype and out.shape == (1, 31, 6)
        assert torch.equal(out[:, :1], positions[:, :1])
        assert resized(positions, (8, 4), (8, 4)) is positions
        if dtype == torch.float64:  # a constant stays one, exactly
            flat = resized(torch.full_like(positions, 0.1), (8, 4), (6, 5))
            torch.testing.assert_close(flat, torch.full_like(flat, 0.1), atol=1e-15, rtol=0)

    def test_no_known_shape(self, state, encoder, tmp_path):
        torch.save(state | {"pos_embed": torch.zeros(1, 161, 384)}, tmp_path / "w.pth")
        with pytest.raises(
            ValueError,
            match=r"w\.pth: pos_embed.*\(1, 161, 384\).*\(1, 129, 384\), 16x8: .*\(encoder\.image\)$",
        ):
            encoders.load_pretrained(encoder, tmp_path / "w.pth")

    def test_no_class_position(self, state, encoder, tmp_path):
        torch.save(state | {"pos_embed": state["pos_embed"][:, 1:]}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match=r"\(1, 128, 384\)"):
            encoders.load_pretrained(encoder, tmp_path / "w.pth")


class TestAnotherNetwork:
    """What must not load although most of it would."""

    def refused(self, encoder, held, tmp_path, words, **options):
        torch.save(held, tmp_path / "w.pth")
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        with pytest.raises(ValueError, match=words) as caught:
            encoders.load_pretrained(encoder, tmp_path / "w.pth", **options)
        assert "\n" not in str(caught.value) and "w.pth" in str(caught.value)
        assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())

    @pytest.mark.parametrize("allow", [False, True])
    def test_stem(self, allow, state, encoder, tmp_path):
        conv = vit(embed_layer=published.Stem).state_dict()
        self.refused(encoder, conv, tmp_path, 'set encoder.stem = "conv"', allow_partial=allow)
        other = encoders.build(replace(SMALL, stem="conv"))
        self.refused(other, state, tmp_path, 'set encoder.stem = "patch"', allow_partial=allow)

    def test_width_and_patch(self, encoder, tmp_path):
        with torch.device("meta"):
            shapes = encoders.build(Encoder(name="vit_base", dim=768, image=SIZE)).body.state_dict()
        base = {name: torch.zeros(1).expand(value.shape) for name, value in shapes.items()}
        self.refused(encoder, base, tmp_path, 'set encoder.name = "vit_base", encoder.dim = 768$')
        patch = vit(size=(128, 64), patch=8).state_dict()
        self.refused(encoder, patch, tmp_path, "set encoder.patch = 8$")

    def test_deeper(self, state, encoder, tmp_path):
        more = {k.replace("blocks.11.", "blocks.12."): v for k, v in state.items() if "blocks.11." in k}
        self.refused(encoder, state | more, tmp_path, r"another network: it has blocks\.12\.")
        report = encoders.load_pretrained(encoder, tmp_path / "w.pth", allow_partial=True)
        assert report.matched_share == 1 and len(report.unexpected) == 12
        with pytest.raises(ValueError, match="no encoder here"):
            encoders.encoder_config(tmp_path / "w.pth", paper.encoder)

    def test_branches_of_transreid(self, state, encoder, tmp_path):
        """Local branches keep the last block for themselves: the network's own one was never trained."""
        block = {k.replace("blocks.11.", "b1.0."): v for k, v in state.items() if "blocks.11." in k}
        block |= {k.replace("b1.", "b2."): v for k, v in block.items()}
        self.refused(encoder, prefixed("base.", state) | block, tmp_path, "another network: it has b1")

    @pytest.mark.parametrize("allow", [False, True])
    def test_shape(self, allow, state, encoder, tmp_path):
        held = state | {"norm.weight": torch.zeros(7)}
        self.refused(
            encoder, prefixed("module.", held), tmp_path, r"module\.norm\.weight.*\(7,\).*\(384,\)",
            allow_partial=allow,
        )  # fmt: skip

    @pytest.mark.parametrize("allow", [False, True])
    def test_nothing_fits(self, allow, encoder, tmp_path):
        self.refused(encoder, {"a.b": torch.zeros(2)}, tmp_path, r"fits 0\.0% .* a.b", allow_partial=allow)

    def test_one_name_twice(self, state, encoder, tmp_path):
        held = state | {"module.norm.weight": torch.ones(384)}
        self.refused(encoder, held, tmp_path, r"norm\.weight and module\.norm\.weight are both")

    def test_a_few_blocks(self, state, encoder, tmp_path):
        half = {k: v for k, v in state.items() if not k.startswith(("blocks.1.", "blocks.5."))}
        self.refused(
            encoder,
            half,
            tmp_path,
            r"fits 83\.6% of .* another network: missing body\.blocks\.1\.\S+, \S+, \S+ and 21 more; choose ",
        )
        report = encoders.load_pretrained(encoder, tmp_path / "w.pth", allow_partial=True)
        assert "features are not those of these weights' own network: missing body.blocks.1." in str(report)
        assert len(report.missing) == 24 and report.matched_share == pytest.approx(126 / 150, abs=0.01)
        assert torch.equal(encoder.body.norm.weight, state["norm.weight"])

    def test_no_encoder_has_them(self, tmp_path):
        torch.save({"a.b": torch.zeros(2)}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match=r"w\.pth holds weights of no encoder here \(a\.b\): choose"):
            encoders.encoder_config(tmp_path / "w.pth", paper.encoder)


def without(*parts):
    return lambda state: {name: value for name, value in state.items() if not name.startswith(parts)}


def with_(**more):
    return lambda state: state | {name.replace("__", "."): value for name, value in more.items()}


# Vision transformers of other kinds, all but a few of whose tensors fit: what of them an error names.
OTHER = {
    "norm before the blocks (CLIP)": ({"pre_norm": True}, r"it has norm_pre\.weight"),
    "mean of the tokens": ({"global_pool": "avg"}, r"missing body\.norm\.weight.*fc_norm\.weight"),
    "attention pooling": ({"global_pool": "map"}, r"it has attn_pool\."),
    "no positions": ({"pos_embed": "none"}, r"missing body\.pos_embed"),
    "scaled layers (DeiT III)": ({"init_values": 1e-5}, r"it has blocks\.0\.ls1\.gamma"),
    "registers": ({"reg_tokens": 4}, "it has reg_token"),
    "DINOv2": (
        {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True, "patch": 14, "size": (252, 126)},
        r"reg_token, blocks\.0\.ls1\.gamma",
    ),
    "no class token": ({"class_token": False, "global_pool": "avg"}, "no encoder here"),
    "class token without a place": ({"no_embed_class": True}, r"pos_embed has shape \(1, 128, 384\)"),
    "normed queries": ({"qk_norm": True}, r"it has blocks\.0\.attn\.q_norm\.weight"),
    "normed outputs": ({"scale_attn_norm": True}, r"it has blocks\.0\.attn\.norm\.weight"),
    "no biases": ({"qkv_bias": False}, r"missing body\.blocks\.0\.attn\.qkv\.bias"),
    "wider layers": ({"mlp_ratio": 3}, r"blocks\.0\.mlp\.fc1\.weight has shape \(1152, 384\)"),
}
TENSORS = {
    "a lost tensor": (without("blocks.7.attn.proj.bias"), r"missing body\.blocks\.7\.attn\.proj\.bias"),
    "camera embeddings": (with_(sie_embed=torch.ones(6, 1, 384)), "it has sie_embed"),
    "relative positions (BEiT)": (
        with_(blocks__0__attn__relative_position_bias_table=torch.ones(9, 6)),
        "relative_position_bias_table",
    ),
    "an adapter": (with_(blocks__3__adapter__weight=torch.zeros(8, 384)), r"blocks\.3\.adapter\.weight"),
    "a layer behind": (with_(embedding__weight=torch.ones(8, 384)), r"it has embedding\.weight"),
    "overlapping patches": (with_(pos_embed=torch.zeros(1, 211, 384)), r"patches overlap \(21x10 of them\)"),
}


class TestOfAnotherKind:
    """The share of matched tensors is high; the features would be another network's."""

    def refused(self, file, words):
        with pytest.raises(ValueError, match=words) as caught:
            checkpoint.load_encoder(file)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
        assert "allow" not in str(caught.value)

    @pytest.mark.parametrize("kind", OTHER)
    def test_networks(self, kind, tmp_path):
        options, words = OTHER[kind]
        torch.save(vit(**options).state_dict(), tmp_path / "w.pth")
        self.refused(tmp_path / "w.pth", words)

    @pytest.mark.parametrize("kind", TENSORS)
    def test_tensors(self, kind, state, encoder, tmp_path):
        change, words = TENSORS[kind]
        torch.save(change(state), tmp_path / "w.pth")
        self.refused(tmp_path / "w.pth", words)
        report = encoders.load_pretrained(encoder, tmp_path / "w.pth", allow_partial=True)
        assert "features are not those of these weights' own network: " in str(report)

    @pytest.mark.parametrize(
        "where", ["cls_token", "norm.bias", "blocks.0.norm1.weight", "patch_embed.proj.bias"]
    )
    def test_every_tensor_is_needed(self, where, state, encoder, tmp_path):
        torch.save(without(where)(state), tmp_path / "w.pth")
        with pytest.raises(encoders.Misfit, match=f"missing body.{where};"):
            encoders.load_pretrained(encoder, tmp_path / "w.pth")

    @pytest.mark.parametrize(
        "more",
        [
            {"blocks__0__attn__extra_bias": torch.zeros(3)},
            {"base__sie_embed": torch.zeros(6, 1, 384)},
            {"cls_head__weight": torch.ones(9, 384), "id_classifier__bias": torch.ones(9)},
            {
                "mask_token": torch.ones(1, 1, 384),
                "decoder_blocks__0__attn__qkv__weight": torch.ones(99, 384),
            },
            {"criterion__centers": torch.ones(9, 384), "neck__bn__weight": torch.ones(384)},
        ],
    )
    def test_what_changes_nothing_may_be_there(self, more, state, expected, tmp_path):
        torch.save(with_(**more)(state), tmp_path / "w.pth")
        check(tmp_path / "w.pth", expected)

    def test_another_librarys_neck_is_not_ours(self, state, tmp_path):
        """mmengine calls what lies between backbone and head so."""
        torch.save(
            {"state_dict": prefixed("backbone.", state) | {"neck.gap.bias": torch.ones(3)}},
            tmp_path / "w.pth",
        )
        report = encoders.load_pretrained(
            published.emptied(replace(SMALL, neck="bias_frozen")), tmp_path / "w.pth"
        )
        assert report.dropped == ("neck.gap.bias",) and len(report.matched) == 150

    def test_patches_of_14_pixels(self, tmp_path):
        """The nearest size of whole patches; positions of another grid are resized to it."""
        source = vit(size=(252, 126), patch=14)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        check(tmp_path / "w.pth", published.outputs(source, (252, 126)), patch=14, image=(252, 126))

    def test_branches_of_transreid_are_read(self, state, expected, tmp_path):
        """The global feature's last block and norm are the branch's; the network's own were never trained."""
        last = {name: name.replace("blocks.11.", "b1.0.") for name in state if name.startswith("blocks.11.")}
        last |= {"norm.weight": "b1.1.weight", "norm.bias": "b1.1.bias"}
        branch = {new: state[old] for old, new in last.items()}
        local = {name.replace("b1.", "b2."): value + 1 for name, value in branch.items()}
        untrained = {name: state[name] + 1 for name in last}
        held = (
            prefixed("base.", state | untrained) | branch | local | {"bottleneck_1.weight": torch.ones(384)}
        )
        torch.save(held | CLASSES, tmp_path / "w.pth")
        report = check(tmp_path / "w.pth", expected, normalization="half")
        assert "(TransReID), its local branches left out" in report.family
        assert {"base.norm.weight", "b2.1.weight", "bottleneck_1.weight"} <= set(report.dropped)
        torch.save(held | CLASSES | {"base.sie_embed": torch.ones(6, 1, 384)}, tmp_path / "w.pth")
        self.refused(tmp_path / "w.pth", r"it has base\.sie_embed")

    def test_the_average_is_named(self, state, expected, tmp_path):
        torch.save({"model": noise_like(state), "model_ema": state}, tmp_path / "w.pth")
        assert check(tmp_path / "w.pth", expected).family.endswith(", its model_ema")

    @pytest.mark.parametrize(
        "prefix", ["_orig_mod.", "model._orig_mod.module.", "image_encoder.trunk.", "net."]
    )
    def test_prefixes(self, prefix, state, expected, tmp_path):
        torch.save(prefixed(prefix, state) | CLASSES, tmp_path / "w.pth")
        check(tmp_path / "w.pth", expected)


def test_the_maps_of_another_network(state, tmp_path):
    """A hybrid: its patches are taken from a ResNet's maps."""
    torch.save(state | {"patch_embed.proj.weight": torch.zeros(384, 1024, 1, 1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="weights of no encoder here"):
        encoders.encoder_config(tmp_path / "w.pth", paper.encoder)
