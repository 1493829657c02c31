"""Encoders: shapes, norms against loops, the CLS tap, fixed initial weights, the momentum encoder."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from dynamix import config as settings
from dynamix import encoders
from dynamix.data.views import normalize
from dynamix.encoders.build import Encoder
from dynamix.encoders.ibn import IBN, StripeHead
from dynamix.encoders.neck import neck
from dynamix.encoders.vit import ConvStem
from tests import naive

SMALL = settings.mini.encoder
VIT = settings.Encoder(name="vit_small", image=(32, 16), dim=384, patch=16)


def forced(config, **changes):
    """`config` with values its own type forbids, as untyped callers can make them."""
    made = replace(config)
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def images(count, size, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, *size, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", ["ibn_cnn", "hybrid"])
@pytest.mark.parametrize("size, width, dim", [((64, 32), 24, 128), ((64, 32), 16, 64), ((128, 64), 16, 32)])
@pytest.mark.parametrize("kind", ["none", "affine_free", "bias_frozen"])
def test_small_networks(name, size, width, dim, kind):
    encoder = encoders.build(replace(SMALL, name=name, image=size, width=width, dim=dim, neck=kind))
    assert encoder.training and encoder.dim == dim
    features = encoder(images(3, size))
    assert features.shape == (3, dim)
    features.square().mean().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name


@pytest.mark.parametrize(
    "patch, stem, size", [(16, "patch", (32, 16)), (8, "patch", (32, 16)), (16, "conv", (32, 32))]
)
def test_vit_is_the_normed_cls_token(patch, stem, size):
    encoder = encoders.build(replace(VIT, patch=patch, stem=stem, image=size)).eval()
    x = images(2, size)
    with torch.no_grad():
        features = encoder(x)
        tokens = encoder.body.forward_features(x)  # after the final norm
    assert features.shape == (2, 384)
    assert tokens.shape == (2, 1 + (size[0] // patch) * (size[1] // patch), 384)
    assert torch.equal(features, tokens[:, 0])
    torch.testing.assert_close(features.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)  # LayerNorm's mark


def test_vit_base_shape():
    with torch.device("meta"):
        body = encoders.build(settings.Encoder(image=(256, 128))).body
        assert body(torch.empty(2, 3, 256, 128)).shape == (2, 768)
    assert sum(p.numel() for p in body.parameters()) == pytest.approx(85.7e6, rel=0.01)


@pytest.mark.parametrize("patch, size", [(16, (64, 32)), (8, (64, 32)), (8, (24, 40))])
def test_conv_stem_has_the_stride_of_the_patch(patch, size):
    stem = ConvStem(img_size=size, patch_size=patch, embed_dim=24)
    tokens = stem(images(2, size))
    assert tokens.shape == (2, (size[0] // patch) * (size[1] // patch), 24)
    assert stem.num_patches == tokens.shape[1]


RESNETS = {
    name: settings.Encoder(name=name, image=(64, 32), dim=2048) for name in ("resnet50", "resnet50_ibn")
}


@pytest.mark.parametrize("name", RESNETS)
def test_resnet50(name):
    encoder = encoders.build(RESNETS[name])
    x = images(4, (64, 32))
    features = encoder(x)
    assert features.shape == (4, 2048)
    features.square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    with torch.no_grad():
        encoder.eval()
        seen = {}
        for stage in ("layer3", "layer4"):
            layer = getattr(encoder.body, stage)
            layer.register_forward_hook(lambda _, __, out, stage=stage: seen.update({stage: out}))
        alone = encoder(x[1:2])
        features = encoder(x)
    torch.testing.assert_close(features[1:2], alone, atol=1e-4, rtol=1e-4)
    assert seen["layer3"].shape[2:] == seen["layer4"].shape[2:] == (4, 2)  # last stride 1
    torch.testing.assert_close(seen["layer4"].mean((2, 3)), features, atol=1e-6, rtol=1e-5)


def test_ibn_stands_in_the_first_three_stages():
    """First norm of every block, nowhere else; everything else is the plain network's."""
    ibn, plain = (encoders.build(RESNETS[name]).body for name in ("resnet50_ibn", "resnet50"))
    split = {name for name, module in ibn.named_modules() if isinstance(module, IBN)}
    blocks = {"layer1": 3, "layer2": 4, "layer3": 6}
    assert split == {f"{stage}.{block}.bn1" for stage, count in blocks.items() for block in range(count)}
    kept = {name for name in ibn.state_dict() if not name.startswith(tuple(f"{s}." for s in split))}
    assert kept == {name for name in plain.state_dict() if not name.startswith(tuple(f"{s}." for s in split))}
    assert "layer1.0.bn1.IN.weight" in ibn.state_dict() and not any("fc" in k for k in ibn.state_dict())


def test_swin():
    encoder = encoders.build(settings.Encoder(name="swin_base", image=(224, 224), dim=512))
    x = images(1, (224, 224))
    with torch.no_grad():
        features = encoder(x)
        tokens = encoder.body.model.forward_features(x)  # equal only if nothing is dropped at random
    assert tokens.shape == (1, 7, 7, 1024) and features.shape == (1, 512)
    by_hand = tokens.mean((1, 2)) @ encoder.body.feat.weight.T + encoder.body.feat.bias
    torch.testing.assert_close(features, by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "kind, mean, std",
    [
        ("luperson", (0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505)),
        ("luperson_nl", (0.3452, 0.3070, 0.3114), (0.2633, 0.2500, 0.2480)),
    ],
)
def test_normalization_of_luperson(kind, mean, std):
    levels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    ready = normalize(levels, kind, torch.float64)
    for channel in range(3):
        by_hand = [(level / 255 - mean[channel]) / std[channel] for level in (0, 128, 255)]
        assert ready[0, channel, 0].tolist() == pytest.approx(by_hand, abs=1e-12)


def test_conv_stem_fits_published_weights():
    # Names and shapes of TransReID-SSL's ViT-S/16 with its IBN stem, as its code defines them.
    expected = {
        "patch_embed.conv.0.weight": (64, 3, 7, 7), "patch_embed.conv.1.IN.weight": (32,),
        "patch_embed.conv.1.BN.running_mean": (32,), "patch_embed.conv.3.weight": (64, 64, 3, 3),
        "patch_embed.conv.7.running_var": (64,), "patch_embed.proj.weight": (384, 64, 8, 8),
        "cls_token": (1, 1, 384), "pos_embed": (1, 3, 384), "blocks.11.mlp.fc2.weight": (384, 1536),
        "norm.weight": (384,),
    }  # fmt: skip
    body = encoders.build(replace(VIT, stem="conv")).body
    state = {name: tuple(value.shape) for name, value in body.state_dict().items()}
    assert {name: state.get(name) for name in expected} == expected


@pytest.mark.parametrize("channels", [4, 5])
def test_ibn_is_the_split_norm(channels):
    layer = IBN(channels).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(3, channels, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = layer.IN.weight.tolist() + layer.BN.weight.tolist()
    bias = layer.IN.bias.tolist() + layer.BN.bias.tolist()
    slow = naive.ibn(x.flatten(2).tolist(), weight, bias)
    torch.testing.assert_close(
        layer(x).flatten(2), torch.tensor(slow, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_ibn_gradient():
    layer = IBN(4).double()
    x = torch.randn(
        2, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True
    )
    assert torch.autograd.gradcheck(layer, (x,))


def test_stripes_stay_apart():
    head = StripeHead(2, 8).double()
    nn.init.eye_(head.linear.weight)
    x = torch.arange(2 * 8 * 3, dtype=torch.float64).view(1, 2, 8, 3)
    by_hand = [x[0, c, 2 * s : 2 * s + 2].mean() for c in range(2) for s in range(4)]
    assert torch.equal(head(x)[0], torch.stack(by_hand))


@pytest.mark.parametrize("kind", ["affine_free", "bias_frozen"])
def test_neck_centers(kind):
    layer = neck(kind, 6).double()
    x = 3 + torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = layer(x)
    torch.testing.assert_close(
        out, torch.tensor(naive.centered(x.tolist()), dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert out.mean(dim=0).abs().max() < 1e-12
    trainable = [name for name, p in layer.named_parameters() if p.requires_grad]
    assert trainable == ([] if kind == "affine_free" else ["weight"])
    if kind == "bias_frozen":
        assert layer.weight.eq(1).all() and layer.bias.eq(0).all()


def test_no_neck_changes_nothing():
    x = images(1, (2, 2)).flatten(1)
    assert torch.equal(neck("none", 12)(x), x)


def test_half_precision_body_float_neck():
    encoder = encoders.build(replace(SMALL, width=16, dim=16))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(images(4, (64, 32))).dtype == torch.float32


def test_float64_throughout():
    encoder = encoders.build(replace(SMALL, width=16, dim=16)).double()
    assert encoder(images(4, (64, 32), dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, width=16, dim=16), replace(SMALL, name="hybrid", width=16), VIT,
        settings.Encoder(name="resnet50_ibn", image=(64, 32), dim=2048),
    ],
)  # fmt: skip
def test_initial_weights_depend_on_the_seed_alone(config):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = encoders.build(config).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(321)
    again, other = encoders.build(config).state_dict(), encoders.build(replace(config, seed=1)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, name="hybrid"), replace(VIT, image=(64, 32), stem="conv")]
)
def test_rows_are_independent_in_eval_mode(config):
    config = replace(config, neck="affine_free")
    encoder = encoders.build(config)
    x = images(6, (64, 32))
    with torch.no_grad():
        encoder(x)  # running statistics that are not the initial ones
        encoder.eval()
        whole = encoder(x)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(encoder(x[order]), whole[order], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder(x[:1]), whole[:1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.cat((encoder(x[:4]), encoder(x[4:]))), whole, atol=1e-5, rtol=1e-5)


def test_camera_cast_is_forgotten_by_the_instance_half():
    layer = IBN(4).double().eval()
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    # eps in the variance keeps this from being exact
    torch.testing.assert_close(layer(2 * x + 1)[:, :2], layer(x)[:, :2], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"name": "resnet"}, "encoder.name 'resnet'"),
        ({"name": "vit_base", "dim": 128}, "128 but vit_base has width 768"),
        ({"name": "vit_small", "dim": 384, "patch": 24}, "encoder.patch = 24"),
        ({"name": "vit_small", "dim": 384, "stem": "wide"}, "encoder.stem is 'wide'"),
        ({"neck": "long"}, "encoder.neck is 'long'"),
        ({"width": 15}, "encoder.width is 15"),
        ({"image": (72, 32)}, r"encoder.image is \(72, 32\)"),
        ({"name": "hybrid", "image": (64, 30)}, r"encoder.image is \(64, 30\)"),
        ({"name": "resnet50"}, "128 but resnet50 has width 2048: set encoder.dim"),
        ({"name": "resnet50_ibn", "dim": 512}, "512 but resnet50_ibn has width 2048"),
        ({"name": "resnet50_ibn", "dim": 2048, "image": (64, 24)}, "resnet50_ibn needs sides of at least 32"),
        ({"name": "swin_base"}, "128 but swin_base has width 1024, or 512 with ISR's head"),
        (
            {"name": "swin_base", "dim": 512},
            r"\(64, 32\): swin_base needs whole windows, sides divisible by 224",
        ),
        ({"name": "swin_base", "dim": 512, "image": (256, 224)}, "sides divisible by 224"),
        ({"name": "swin_base", "dim": 512, "image": (224, 256)}, "sides divisible by 224"),
        ({"name": "swin_base", "dim": 512, "image": (448, 0)}, "sides divisible by 224"),
    ],
)
def test_impossible_settings_raise(changes, words):
    with pytest.raises(ValueError, match=words):
        encoders.build(forced(SMALL, **changes))


def test_wrong_images_raise():
    encoder = encoders.build(replace(SMALL, width=16, dim=16))
    for shape in ((2, 3, 128, 64), (2, 1, 64, 32)):
        with pytest.raises(ValueError, match=r"images \(3, 64, 32\), got"):
            encoder(torch.zeros(shape))
    with pytest.raises(ValueError, match="batch of 1 row"):
        encoder(images(1, (64, 32)))
    assert encoder.eval()(images(1, (64, 32))).shape == (1, 16)


# --- momentum


def pair():
    """Two networks that differ in weights and buffers."""
    config = replace(SMALL, width=8, dim=8)
    encoder, momentum = encoders.build(config).double(), encoders.build(replace(config, seed=1)).double()
    for seed, network in enumerate((encoder, momentum)):
        with torch.no_grad():
            network(images(4, (64, 32), seed=seed, dtype=torch.float64))
    encoder(images(4, (64, 32), seed=9, dtype=torch.float64))  # one more: counters differ, too
    return encoder, encoders.momentum_copy(momentum)


def test_momentum_copy_takes_no_gradient():
    encoder, _ = pair()
    momentum = encoders.momentum_copy(encoder)
    assert isinstance(momentum, Encoder) and not any(p.requires_grad for p in momentum.parameters())
    assert all(p.requires_grad for p in encoder.parameters())
    mine, theirs = momentum.state_dict(), encoder.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not {p.data_ptr() for p in momentum.parameters()} & {p.data_ptr() for p in encoder.parameters()}


@pytest.mark.parametrize("buffers", ["own", "ema", "copy"])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_momentum_update(buffers, decay):
    encoder, momentum = pair()
    before = {name: value.clone() for name, value in momentum.state_dict().items()}
    encoders.update_momentum(momentum, encoder, decay, buffers)
    names = [name for name, _ in momentum.named_parameters()]
    for name, now in momentum.state_dict().items():
        old, theirs = before[name], encoder.state_dict()[name]
        if name in names or (buffers == "ema" and old.is_floating_point()):
            slow = naive.momentum_update(old.flatten().tolist(), theirs.flatten().tolist(), decay)
            expected = torch.tensor(slow, dtype=old.dtype).view_as(old)
        else:
            expected = old if buffers == "own" else theirs
        torch.testing.assert_close(now, expected, atol=1e-12, rtol=0)
    counter = "neck.num_batches_tracked"
    assert momentum.state_dict()[counter].item() == (1 if buffers == "own" else 2)


def test_momentum_update_leaves_the_encoder():
    encoder, momentum = pair()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoders.update_momentum(momentum, encoder, 0.5, "ema")
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_momentum_without_buffers():
    encoder, momentum = nn.Linear(2, 2), encoders.momentum_copy(nn.Linear(2, 2))
    for buffers in ("own", "ema", "copy"):
        encoders.update_momentum(momentum, encoder, 0.0, buffers)
    assert torch.equal(momentum.weight, encoder.weight)


def test_momentum_errors():
    encoder, momentum = pair()
    for decay in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="momentum decay"):
            encoders.update_momentum(momentum, encoder, decay)
    with pytest.raises((ValueError, TypeCheckError), match="buffers"):
        encoders.update_momentum(momentum, encoder, 0.5, "mine")
    with pytest.raises(ValueError, match="differ at"):
        encoders.update_momentum(nn.Linear(3, 2), nn.Linear(2, 2), 0.5)
    with pytest.raises(ValueError, match="differ at"):
        encoders.update_momentum(nn.Linear(2, 2, bias=False), nn.Linear(2, 2), 0.5)


def test_decay_ramp():
    assert encoders.decay_at(0, 0.999, False) == 0.999
    assert encoders.decay_at(0, 0.99, True) == 0.1
    assert encoders.decay_at(8, 0.99, True) == 0.5
    assert encoders.decay_at(10**6, 0.99, True) == 0.99
    ramp = [encoders.decay_at(t, 0.99, True) for t in range(2000)]
    assert ramp == sorted(ramp)
