"""Views: batches agree with torchvision image by image, and what is drawn is distributed as documented."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms.v2 import functional as tv

from dynamix.data import views
from dynamix.data.views import ViewParameters, apply, draw, made, make, normalize, plan
from tests import naive


def random_images(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def parameters(dy=0, dx=0, flip=False, sigma=0.0, gray=False):
    return ViewParameters(
        np.array([dy]), np.array([dx]), np.array([flip]), np.array([float(sigma)]), np.array([gray])
    )


def by_torchvision(image, drawn, index):
    """One image's view, as a loader worker would make it with torchvision."""
    height, width = image.shape[1:]
    dy, dx, sigma = int(drawn.dy[index]), int(drawn.dx[index]), float(drawn.sigma[index])
    if dy or dx:
        pad = max(abs(dy), abs(dx))
        image = tv.crop(tv.pad(image, [pad]), pad + dy, pad + dx, height, width)
    if drawn.flip[index]:
        image = tv.horizontal_flip(image)
    if sigma > 0:
        reach = min(max(1, int(np.ceil(3 * sigma))), min(height, width) - 1)
        image = tv.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    return tv.rgb_to_grayscale(image, num_output_channels=3) if drawn.gray[index] else image


def one_by_one(images, drawn):
    return torch.stack([by_torchvision(image, drawn, i) for i, image in enumerate(images)])


def furthest(first, second):
    return (first.int() - second.int()).abs().max().item() if first.numel() else 0


# The way views are made on a GPU, where `apply` takes it; here on the CPU.
EITHER_WAY = pytest.mark.parametrize("way", [apply, views._on_gpu], ids=["cpu", "gpu"])


class TestDraw:
    @pytest.mark.parametrize("height, pad", [(256, 10), (128, 5), (64, 2), (8, 1)])
    def test_full_has_the_documented_distribution(self, height, pad):
        count = 20_000
        drawn = draw(count, (height, height // 2), np.random.default_rng(7), augment="full")
        for shift in (drawn.dy, drawn.dx):
            found = np.bincount(shift + pad, minlength=2 * pad + 1)
            assert len(found) == 2 * pad + 1
            assert stats.chisquare(found).pvalue > 1e-3
        blurred = drawn.sigma[drawn.sigma > 0] * 256 / height
        assert stats.kstest(blurred, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
        for share, wanted in ((drawn.flip, 0.5), (drawn.sigma > 0, 0.5), (drawn.gray, 0.2)):
            assert stats.binomtest(int(share.sum()), count, wanted).pvalue > 1e-3

    def test_columns_are_independent(self):
        drawn = draw(20_000, (256, 128), np.random.default_rng(1))
        columns = np.stack([drawn.dy, drawn.dx, drawn.flip, drawn.sigma > 0, drawn.gray]).astype(float)
        assert np.abs(np.corrcoef(columns) - np.eye(5)).max() < 0.03

    def test_light_is_crop_and_flip_and_none_is_nothing(self):
        light = draw(2_000, (64, 32), np.random.default_rng(0), augment="light")
        assert not light.sigma.any() and not light.gray.any()
        assert set(light.dy) == set(range(-2, 3)) and 900 < light.flip.sum() < 1100
        images = random_images(4, (64, 32))
        unchanged = apply(images, draw(4, (64, 32), np.random.default_rng(0), augment="none"))
        assert torch.equal(unchanged, images) and unchanged.data_ptr() != images.data_ptr()

    def test_select(self):
        drawn = draw(6, (64, 32), np.random.default_rng(0))
        part = drawn.select(np.array([5, 1]))
        assert part.sigma.tolist() == drawn.sigma[[5, 1]].tolist() and part.flip[0] == drawn.flip[5]

    def test_generators_are_keyed(self):
        firsts = {
            views.generator_of(*key).integers(2**60) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
        }
        assert len(firsts) == 4
        assert views.generator_of(1, 2, 3).integers(2**60) == views.generator_of(1, 2, 3).integers(2**60)


class TestApply:
    @EITHER_WAY
    @given(
        st.integers(1, 5), st.sampled_from([(64, 32), (128, 64), (16, 8), (9, 5), (3, 2), (1, 1)]),
        st.integers(0, 2**32), st.sampled_from(["full", "light", "none"]),
    )  # fmt: skip
    @settings(deadline=None, max_examples=40)
    def test_batch_equals_one_by_one(self, way, count, size, seed, augment):
        images = random_images(count, size, seed % 1000)
        drawn = draw(count, size, np.random.default_rng(seed), augment=augment)
        together, alone = way(images, drawn), one_by_one(images, drawn)
        assert together.dtype == torch.uint8 and together.shape == images.shape
        unblurred = torch.from_numpy(drawn.sigma == 0)
        assert furthest(together, alone) <= 1
        assert furthest(together[unblurred], alone[unblurred]) <= bool(drawn.gray.any())

    @EITHER_WAY
    def test_large_images_agree_on_the_papers_size(self, way):
        images = random_images(16, (256, 128))
        drawn = draw(16, (256, 128), np.random.default_rng(4))
        assert (drawn.sigma > 0).any() and drawn.gray.any()
        found, wanted = way(images, drawn), one_by_one(images, drawn)
        assert furthest(found, wanted) <= 1
        assert (found != wanted).float().mean() < 1e-3  # roundings at one half, no more

    @EITHER_WAY
    def test_shift_and_flip_are_exact(self, way):
        images = random_images(64, (20, 12))
        drawn = draw(64, (20, 12), np.random.default_rng(4), augment="light")
        assert torch.equal(way(images, drawn), one_by_one(images, drawn))

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads_do_not_matter(self, threads):
        before = torch.get_num_threads()
        images, drawn = random_images(8, (128, 64)), draw(8, (128, 64), np.random.default_rng(0))
        wanted = apply(images, drawn)
        torch.set_num_threads(threads)
        try:
            assert torch.equal(apply(images, drawn), wanted) and torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("dy, dx, flip, sigma, gray", [
        (0, 0, False, 0, False), (3, -2, False, 0, False), (-3, 1, True, 0, False), (0, 0, True, 0, False),
        (9, 0, False, 0, False), (1, 0, False, 0.9, False), (0, 0, False, 1.4, False),
        (2, 2, True, 0.5, True),
    ])  # fmt: skip
    @pytest.mark.parametrize("dense", [0, 10**6], ids=["taps", "dense"])
    def test_every_way_equals_the_loops(self, monkeypatch, dense, dy, dx, flip, sigma, gray):
        monkeypatch.setattr(views, "DENSE", dense)
        image = random_images(1, (8, 6), seed=4)
        wanted = torch.tensor(naive.view(image[0].tolist(), dy, dx, flip, sigma, gray))
        drawn = parameters(dy, dx, flip, sigma, gray)
        bound = (0.5 if sigma else 0.0) + (1.0 if gray else 0.0) + 1e-4  # blur rounds, grayscale truncates
        for found in (
            apply(image, drawn)[0],
            views._on_gpu(image, drawn)[0],
            by_torchvision(image[0], drawn, 0),
        ):
            assert (found.double() - wanted).abs().max() <= bound

    def test_batch_order_and_size_do_not_matter(self):
        images = random_images(6, (64, 32))
        drawn = draw(6, (64, 32), np.random.default_rng(0))
        whole = apply(images, drawn)
        order = np.array([4, 0, 5, 2, 1, 3])
        permuted = apply(images[order], drawn.select(order))
        assert (permuted.int() - whole[order].int()).abs().max() <= 1
        parts = [apply(images[i : i + 1], drawn.select(slice(i, i + 1))) for i in range(6)]
        assert (torch.cat(parts).int() - whole.int()).abs().max() <= 1

    def test_the_input_stays(self):
        images = random_images(2, (16, 8))
        before = images.clone()
        blur = ViewParameters(
            *(np.repeat(column, 2) for column in vars(parameters(sigma=1.0, gray=True)).values())
        )
        apply(images, blur)
        assert torch.equal(images, before)

    def test_constant_images_survive_blur_and_gray(self):
        image = torch.full((1, 3, 12, 10), 77, dtype=torch.uint8)
        assert (apply(image, parameters(sigma=2.0)) == 77).all()
        assert ((apply(image, parameters(gray=True)).int() - 77).abs() <= 1).all()

    def test_empty_and_mismatched(self):
        empty = apply(random_images(0, (8, 4)), draw(0, (8, 4), np.random.default_rng(0)))
        assert empty.shape == (0, 3, 8, 4)
        with pytest.raises(ValueError, match="3 images but parameters for 2"):
            apply(random_images(3, (8, 4)), draw(2, (8, 4), np.random.default_rng(0)))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_gpu(self):
        images, drawn = random_images(32, (64, 32)), draw(32, (64, 32), np.random.default_rng(0))
        assert furthest(apply(images.cuda(), drawn).cpu(), apply(images, drawn)) <= 1

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_the_host_does_not_wait(self):
        images = random_images(32, (64, 32)).cuda()
        drawn = draw(32, (64, 32), np.random.default_rng(0))
        apply(images, drawn)
        torch.cuda.set_sync_debug_mode("error")
        try:
            normalize(apply(images, drawn), "half")
        finally:
            torch.cuda.set_sync_debug_mode("default")


class TestMake:
    @pytest.mark.parametrize("setting, wanted", [
        ("A", {"v1": "full", "v2": "full", "v0": "none"}), ("B", {"v1": "full", "v0": "none"}),
        ("C", {"v1": "full", "v0": "none"}), ("economy", {"v1": "full", "v2": "light"}),
    ])  # fmt: skip
    def test_views_of_each_setting(self, setting, wanted):
        assert views.names(setting) == wanted
        images = random_images(5, (64, 32))
        found = make(images, setting, np.random.default_rng(2))
        assert set(found) == set(wanted)
        if "v0" in found:
            assert torch.equal(found["v0"], images)
        planned = plan(setting, 5, (64, 32), np.random.default_rng(2))
        for name, drawn in planned.items():
            assert furthest(found[name], one_by_one(images, drawn)) <= 1
        assert all(torch.equal(view, found[name]) for name, view in made(images, planned).items())
        if "v2" in planned:
            assert not planned["v2"].sigma.any() if wanted["v2"] == "light" else planned["v2"].sigma.any()

    def test_unknown_setting(self):
        with pytest.raises(ValueError, match="'D'; there are A, B, C, two, economy"):
            make(random_images(1, (8, 4)), "D", np.random.default_rng(0))


class TestNormalize:
    @pytest.mark.parametrize("kind, mean, std", [
        ("half", [0.5] * 3, [0.5] * 3), ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    def test_values(self, kind, mean, std):
        images = random_images(2, (4, 3))
        exact = normalize(images, kind, torch.float64)
        for channel in range(3):
            wanted = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
            assert (exact[:, channel] - wanted).abs().max() < 1e-12
        assert normalize(images, kind).dtype == torch.float32
        assert (normalize(images, kind).double() - exact).abs().max() < 1e-5

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="'zero'; there are imagenet, half"):
            normalize(random_images(1, (4, 3)), "zero")
