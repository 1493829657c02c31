"""Weights of ResNet-50, ResNet-50-IBN-a and Swin-B in their published layouts, and of this package's runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet101

from dynamix import checkpoint, encoders
from dynamix.config import Encoder, change, paper, tiny, to_json
from dynamix.export import export_timm
from dynamix.methods.dynamix import State
from tests import published
from tests.published import check, prefixed

SIZE = (128, 64)
BASE = replace(paper.encoder, image=SIZE)


@pytest.fixture(scope="module")
def plain():
    """A torchvision ResNet-50's weights and outputs."""
    source = published.resnet()
    return source.state_dict(), published.outputs(source, SIZE)


@pytest.fixture(scope="module")
def ibn():
    source = published.randomized(published.ResNetIBN())
    return source.state_dict(), published.outputs(source, SIZE)


IMAGENET = {"fc.weight": torch.zeros(1000, 16), "fc.bias": torch.zeros(1000)}
LAYOUTS = {
    "imagenet": (lambda s: s | IMAGENET, "ResNet (ImageNet)", "imagenet"),
    "lup_moco_r50": (dict, "without a head, taken for LUPerson's", "luperson"),
    "moco training": (published.moco, "ResNet (LUPerson, MoCo)", "luperson"),
    "luperson_nl": (published.luperson_nl, "ResNet (LUPerson-NL)", "luperson_nl"),
    "luperson_nl flat": (lambda s: s | {"embed_fc.weight": torch.zeros(2, 2)}, "LUPerson-NL", "luperson_nl"),
    "torchreid": (published.torchreid, "fine-tuned for re-identification", "imagenet"),
    "fast-reid": (
        lambda s: {"model": prefixed("backbone.", s) | {"heads.bnneck.weight": torch.ones(1)}}
        | {"optimizer": {}},
        "fine-tuned", "imagenet",
    ),
    "sequence": (lambda s: published.numbered(s, (3, 4, 5, 6)), "fine-tuned", "imagenet"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_resnet50(layout, plain, tmp_path):
    write, words, normalization = LAYOUTS[layout]
    torch.save(write(plain[0]), tmp_path / "w.pth.tar")
    report = check(
        tmp_path / "w.pth.tar", plain[1], BASE, name="resnet50", dim=2048, neck="none", image=SIZE,
        normalization=normalization,
    )  # fmt: skip
    assert words in report.family and len(report.matched) == 265
    assert report.unexpected == (("module.pool.p",) if layout == "sequence" else ())
    as_is = encoders.encoder_config(tmp_path / "w.pth.tar", BASE, as_is=True)
    assert as_is.normalization == normalization


def test_the_second_encoder_and_the_queue_are_left_out(plain, tmp_path):
    torch.save(published.moco(plain[0]), tmp_path / "w.pth")
    report = encoders.load_pretrained(published.emptied(resnet50()), tmp_path / "w.pth")
    assert {"module.queue", "module.encoder_k.conv1.weight", "module.encoder_q.fc.2.bias"} <= set(
        report.dropped
    )
    assert "left out: " in str(report) and "more" in str(report)


def resnet50(**changes):
    return replace(Encoder(name="resnet50", dim=2048, image=SIZE), **changes)


def test_resnet50_ibn(ibn, tmp_path):
    torch.save(ibn[0] | IMAGENET, tmp_path / "resnet50_ibn_a.pth")
    report = check(
        tmp_path / "resnet50_ibn_a.pth", ibn[1], BASE, name="resnet50_ibn", dim=2048,
        normalization="imagenet",
    )  # fmt: skip
    assert "body.layer3.5.bn1.IN.weight" in report.matched and report.missing == ()


@pytest.mark.parametrize("allow", [False, True])
def test_ibn_and_batch_norm_are_not_mixed(allow, plain, ibn, tmp_path):
    torch.save(ibn[0], tmp_path / "ibn.pth")
    torch.save(plain[0], tmp_path / "plain.pth")
    with pytest.raises(
        ValueError, match='holds resnet50_ibn, the encoder is resnet50: set encoder.name = "resn'
    ):
        encoders.load_pretrained(published.emptied(resnet50()), tmp_path / "ibn.pth", allow)
    with pytest.raises(ValueError, match='the encoder is resnet50_ibn: set encoder.name = "resnet50"$'):
        encoders.load_pretrained(
            published.emptied(resnet50(name="resnet50_ibn")), tmp_path / "plain.pth", allow
        )


def test_a_transformer_is_no_resnet(plain, tmp_path):
    torch.save(plain[0], tmp_path / "w.pth")
    vit = published.emptied(Encoder(name="vit_small", dim=384))
    with pytest.raises(ValueError, match='set encoder.name = "resnet50", encoder.dim = 2048'):
        encoders.load_pretrained(vit, tmp_path / "w.pth")


def test_deeper_resnet(tmp_path):
    with torch.device("meta"):
        deep = resnet101(weights=None).to_empty(device="cpu")
    torch.save(deep.state_dict(), tmp_path / "w.pth")
    encoder = published.emptied(resnet50())
    with pytest.raises(ValueError, match=r"of another network: it has layer3\.6\.conv1\.weight"):
        encoders.load_pretrained(encoder, tmp_path / "w.pth")
    assert not encoder.body.conv1.weight.any()
    with pytest.raises(ValueError, match="no encoder here"):
        encoders.encoder_config(tmp_path / "w.pth", BASE)


def test_bau_has_layers_without_weights(plain, tmp_path):
    torch.save(published.numbered(plain[0], (4, 6, 8, 10)), tmp_path / "best.pth")
    encoder = published.emptied(resnet50())
    with pytest.raises(
        ValueError, match="of another network: .* between its stages .*instance normalization"
    ):
        encoders.load_pretrained(encoder, tmp_path / "best.pth")
    report = encoders.load_pretrained(encoder, tmp_path / "best.pth", allow_partial=True)
    assert report.matched_share == 1
    torch.testing.assert_close(published.outputs(encoder, SIZE), plain[1], atol=1e-5, rtol=0)


def shaped(network):
    """A state of zeros: small files of large networks."""
    return {name: torch.zeros((), dtype=v.dtype).expand(v.shape) for name, v in network.state_dict().items()}


def ibn_b(state):
    """Instance norm behind the first two stages and the stem (Pan et al. 2018, IBN-b)."""
    stem = {name: value for name, value in state.items() if not name.startswith("bn1.running")}
    ends = ("layer1.2", "layer2.3")
    return stem | {f"{end}.IN.{part}": torch.ones(256) for end in ends for part in ("weight", "bias")}


FASTREID = {"heads.bottleneck.0.weight": torch.ones(16), "heads.weight": torch.ones(9, 16)}
OTHER = {
    "deep stem": ("resnet50d", r"missing body\.conv1\.weight"),
    "squeeze and excitation": ("seresnet50", r"it has layer1\.0\.se\.fc1\.weight"),
    "groups": ("resnext50_32x4d", r"layer1\.0\.conv1\.weight has shape \(128, 64, 1, 1\)"),
    "wider": ("wide_resnet50_2", r"layer1\.0\.conv1\.weight has shape \(128, 64, 1, 1\)"),
    "normed at the end": ("resnetv2_50", "no encoder here"),
    "not so deep": ("resnet26", "no encoder here"),
    "Swin V2": ("swinv2_base_window8_256", r"missing \S*relative_position_bias_table.*logit_scale"),
    "other windows": ("swin_base_patch4_window12_384", r"relative_position_bias_table has shape \(529, 4\)"),
    "small Swin": ("swin_small_patch4_window7_224", "no encoder here"),
    "IBN-b": (ibn_b, r"missing body\.bn1\.running_mean.*it has layer1\.2\.IN\.weight"),
    "generalized mean": (
        lambda s: prefixed("backbone.", s) | FASTREID | {"heads.pool_layer.p": torch.full((1,), 3.0)},
        r"it has heads\.pool_layer\.p",
    ),
    "non-local": (lambda s: s | {"NL_2.0.g.weight": torch.zeros(1)}, r"it has NL_2\.0\.g\.weight"),
    "embedding": (lambda s: s | {"feat.weight": torch.zeros(8, 2048)}, r"it has feat\.weight"),
    "bias of the stem": (lambda s: s | {"conv1.bias": torch.ones(64)}, r"it has conv1\.bias"),
    "OSNet": (
        lambda s: {
            "conv1.conv.weight": torch.zeros(16, 3, 7, 7),
            "conv2.0.conv2a.conv1.weight": torch.zeros(1),
        },
        r"no encoder here \(conv1\.conv\.weight, .*choose weights of ViT-B, ViT-S, ResNet-50, R",
    ),
}


@pytest.mark.parametrize("kind", OTHER)
def test_networks_of_another_kind(kind, plain, tmp_path):
    made, words = OTHER[kind]
    if isinstance(made, str):
        with torch.device("meta"):
            network = timm.create_model(made)
        held = shaped(network)
    else:
        held = made(plain[0])
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=words) as caught:
        checkpoint.load_encoder(tmp_path / "w.pth")
    assert "w.pth" in str(caught.value) and "\n" not in str(caught.value) and "allow" not in str(caught.value)


@pytest.mark.parametrize(
    "more", [FASTREID | {"heads.pool_layer.p": torch.ones(1)}, {"backbone.conv1.bias": torch.zeros(64)}]
)
def test_what_changes_nothing_may_be_there(more, plain, tmp_path):
    torch.save({"model": prefixed("backbone.", plain[0]) | more}, tmp_path / "w.pth")
    check(tmp_path / "w.pth", plain[1], BASE, name="resnet50")


def test_running_statistics_are_needed(plain, tmp_path):
    weights = {name: value for name, value in plain[0].items() if "running" not in name}
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"fits 60\.0% of the encoder.*missing body\.bn1\.running_mean"):
        encoders.load_pretrained(published.emptied(resnet50()), tmp_path / "w.pth")
    counted = {name: value for name, value in plain[0].items() if "num_batches" not in name}
    torch.save(counted, tmp_path / "w.pth")
    report = encoders.load_pretrained(published.emptied(resnet50()), tmp_path / "w.pth")
    assert report.missing == () and len(report.matched) == 265


def test_elements_count_as_well_as_tensors(plain, tmp_path):
    """Nine in ten tensors, but little of the network; and the reverse."""
    large = sorted(plain[0], key=lambda name: plain[0][name].numel())[-12:]
    torch.save({k: v for k, v in plain[0].items() if k not in large}, tmp_path / "w.pth")
    encoder = published.emptied(resnet50())
    with pytest.raises(ValueError, match=r"fits 31\.3% of the encoder"):
        encoders.load_pretrained(encoder, tmp_path / "w.pth")
    report = encoders.load_pretrained(encoder, tmp_path / "w.pth", allow_partial=True)
    by_tensors, by_elements = report.shares
    elements = {k: v.numel() for k, v in plain[0].items() if "num_batches" not in k}
    assert by_tensors == 253 / 265 and report.matched_share == by_elements
    assert by_elements == 1 - sum(elements[k] for k in large) / sum(elements.values())
    assert set(report.missing) == {f"body.{name}" for name in large}


@pytest.fixture(scope="module")
def swin():
    return published.randomized(published.Isr())


class TestSwin:
    def test_isr(self, swin, tmp_path):
        torch.save(published.isr(swin.state_dict()), tmp_path / "swin.pth")
        expected = published.outputs(swin, (224, 224))
        report = check(
            tmp_path / "swin.pth", expected, BASE, name="swin_base", dim=512, image=(224, 224),
            normalization="imagenet",
        )  # fmt: skip
        assert "ISR" in report.family and "body.feat.weight" in report.matched and not report.unexpected
        assert any(name.endswith("attn_mask") for name in report.dropped)
        assert "model.head.weight" in report.dropped

    def test_without_the_head(self, swin, tmp_path):
        """timm's ImageNet weights, as timm names them now."""
        torch.save(swin.model.state_dict(), tmp_path / "swin.pth")
        with torch.no_grad():
            x = published.images(2, (224, 224))
            expected = swin.model.forward_head(swin.model.forward_features(x), pre_logits=True)
        report = check(tmp_path / "swin.pth", expected, BASE, name="swin_base", dim=1024, image=(224, 224))
        assert report.dropped == ("head.fc.weight", "head.fc.bias")
        headed = published.emptied(Encoder(name="swin_base", dim=512, image=(224, 224)))
        report = encoders.load_pretrained(headed, tmp_path / "swin.pth")
        assert report.missing == ("body.feat.weight", "body.feat.bias")


class TestOwn:
    CONFIG = change(tiny, encoder__neck="bias_frozen", encoder__dim=16, encoder__width=8)

    def run(self, folder, config=CONFIG):
        """A run's checkpoint; its momentum encoder differs from the trained one."""
        encoder, momentum = (published.randomized(encoders.build(config.encoder), seed) for seed in (0, 400))
        optimizer = torch.optim.SGD(encoder.parameters())
        none = np.zeros(4, np.int64)
        checkpoint.save(
            folder, config, 0, encoder, momentum, optimizer, State(none, None, ()), none, none.astype(bool)
        )
        return folder / checkpoint.NAME, momentum

    def test_a_run(self, tmp_path):
        file, momentum = self.run(tmp_path)
        base = replace(paper.encoder, seed=3, weights="before")
        made = encoders.encoder_config(file, base)
        assert made == replace(self.CONFIG.encoder, seed=3, weights="before")
        expected = published.outputs(momentum, made.image)
        report = check(file, expected, base, neck="bias_frozen", normalization="half")
        assert report.family == "a run of this package"
        assert "neck.running_mean" in report.matched and "encoder.neck.weight" in report.dropped

    def test_the_neck_counts_only_where_the_file_has_one(self, tmp_path):
        without = change(self.CONFIG, encoder__neck="none")
        file, _ = self.run(tmp_path, without)
        encoder = encoders.build(self.CONFIG.encoder)
        report = encoders.load_pretrained(encoder, file)
        assert report.missing == () and not any(name.startswith("neck") for name in report.matched)
        assert encoder.neck.weight.eq(1).all()

    def test_a_run_knows_its_grid(self, tmp_path):
        """192 patches as 16x12, which without the run's settings would be 24x8."""
        config = change(tiny, encoder=Encoder(name="vit_small", dim=384, image=(256, 192)))
        file, _ = self.run(tmp_path, config)
        encoder = published.emptied(replace(config.encoder, image=(256, 128)))
        report = encoders.load_pretrained(encoder, file)
        assert report.grids == ((16, 12), (16, 8)) and report.resized == ("body.pos_embed",)

    def test_settings_of_another_version(self, tmp_path):
        tensors = {"momentum.body.layers.0.weight": torch.zeros(8, 3, 3, 3)}
        text = to_json(self.CONFIG).replace('"width"', '"breadth"')
        save_file(tensors, tmp_path / "w.safetensors", {"config": text, "epoch": "1", "queue": "[]"})
        with pytest.raises(ValueError, match="w.safetensors: its settings cannot be used.*breadth"):
            encoders.encoder_config(tmp_path / "w.safetensors", paper.encoder)

    def test_plain_tensors(self, tmp_path):
        _, momentum = self.run(tmp_path)
        save_file(momentum.state_dict(), tmp_path / "w.safetensors")
        encoder = published.emptied(self.CONFIG.encoder)
        report = encoders.load_pretrained(encoder, tmp_path / "w.safetensors")
        assert report.matched_share == 1 and "neck.running_var" in report.matched
        size = self.CONFIG.encoder.image
        assert torch.equal(published.outputs(encoder, size), published.outputs(momentum, size))

    @pytest.mark.parametrize("name", ["ibn_cnn", "vit_small"])
    def test_exported(self, name, tmp_path):
        config = self.CONFIG
        if name == "vit_small":
            values = Encoder(name=name, dim=384, image=(64, 32), normalization="imagenet")
            config = change(config, encoder=values)
        encoder = published.randomized(encoders.build(config.encoder))
        export_timm(encoder, config, tmp_path)
        file = tmp_path / "model.safetensors"
        made = encoders.encoder_config(file, replace(paper.encoder, weights="w"), as_is=True)
        assert made == replace(config.encoder, weights="w", width=made.width)
        expected = published.outputs(encoder, made.image)
        loaded = published.emptied(made)
        report = encoders.load_pretrained(loaded, file)
        assert name == "vit_small" or report.family == "a run of this package"
        torch.testing.assert_close(published.outputs(loaded, made.image), expected, atol=1e-6, rtol=0)
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ValueError, match="config.json is not JSON"):
            encoders.encoder_config(file, paper.encoder)

    def test_timm_describes_its_images(self, tmp_path):
        """A folder of timm's hub; for training, the images stay those asked for."""
        state = published.vit(size=(224, 224)).state_dict()
        save_file(state, tmp_path / "model.safetensors")
        images = {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": images}))
        made = encoders.encoder_config(tmp_path / "model.safetensors", paper.encoder, as_is=True)
        assert (made.image, made.normalization) == ((224, 224), "imagenet")
        made = encoders.encoder_config(tmp_path / "model.safetensors", paper.encoder)
        assert (made.image, made.normalization) == ((256, 128), "half")


def test_the_loaded_encoder_trains(plain, tmp_path):
    """Weights are copied, not mapped: the file may go."""
    torch.save(plain[0], tmp_path / "w.pth")
    encoder = encoders.build(resnet50(image=(64, 32)))
    encoders.load_pretrained(encoder, tmp_path / "w.pth")
    (tmp_path / "w.pth").unlink()
    encoder(published.images(2, (64, 32))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_timm_names_resnets_as_torchvision_does(tmp_path):
    with torch.device("meta"):
        state = timm.create_model("resnet50").state_dict()
    assert {name for name in state if "fc." not in name} <= {
        name.removeprefix("body.") for name in published.emptied(resnet50()).state_dict()
    }
