"""Views: the batch and the per-image path agree, and what is drawn is distributed as documented."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dynamix.data import views
from dynamix.data.views import ViewParameters, apply, apply_one, draw, make, make_one, normalize, plan
from tests import naive


def random_images(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def parameters(dy=0, dx=0, flip=False, sigma=0.0, gray=False):
    return ViewParameters(
        np.array([dy]), np.array([dx]), np.array([flip]), np.array([float(sigma)]), np.array([gray])
    )


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
    @given(
        st.integers(1, 5), st.sampled_from([(64, 32), (16, 8), (9, 5), (3, 2), (1, 1)]),
        st.integers(0, 2**32), st.sampled_from(["full", "light", "none"]),
    )  # fmt: skip
    @settings(deadline=None, max_examples=40)
    def test_batch_equals_one_by_one(self, count, size, seed, augment):
        images = random_images(count, size, seed % 1000)
        drawn = draw(count, size, np.random.default_rng(seed), augment=augment)
        together = apply(images, drawn)
        alone = torch.stack([apply_one(images[i], drawn, i) for i in range(count)])
        assert together.dtype == torch.uint8 and together.shape == images.shape
        assert (together.int() - alone.int()).abs().max() <= 1

    def test_large_images_agree_on_the_papers_size(self):
        images = random_images(16, (256, 128))
        drawn = draw(16, (256, 128), np.random.default_rng(4))
        alone = torch.stack([apply_one(images[i], drawn, i) for i in range(16)])
        assert (drawn.sigma > 0).any() and drawn.gray.any()
        assert (apply(images, drawn).int() - alone.int()).abs().max() <= 1

    @pytest.mark.parametrize("dy, dx, flip, sigma, gray", [
        (0, 0, False, 0, False), (3, -2, False, 0, False), (-3, 1, True, 0, False), (0, 0, True, 0, False),
        (9, 0, False, 0, False), (1, 0, False, 0.9, False), (0, 0, False, 1.4, False),
        (2, 2, True, 0.5, True),
    ])  # fmt: skip
    def test_both_equal_the_loops(self, dy, dx, flip, sigma, gray):
        image = random_images(1, (8, 6), seed=4)
        wanted = torch.tensor(naive.view(image[0].tolist(), dy, dx, flip, sigma, gray))
        drawn = parameters(dy, dx, flip, sigma, gray)
        bound = (0.5 if sigma else 0.0) + (1.0 if gray else 0.0) + 1e-4  # blur rounds, grayscale truncates
        assert (apply(image, drawn)[0].double() - wanted).abs().max() <= bound
        assert (apply_one(image[0], drawn, 0).double() - wanted).abs().max() <= bound

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
        assert (apply(images.cuda(), drawn).cpu().int() - apply(images, drawn).int()).abs().max() <= 1


class TestMake:
    @pytest.mark.parametrize("setting, wanted", [
        ("A", {"v1": "full", "v2": "full", "v0": "none"}), ("B", {"v1": "full", "v0": "none"}),
        ("C", {"v1": "full", "v0": "none"}), ("economy", {"v1": "full", "v2": "light"}),
    ])  # fmt: skip
    def test_views_of_each_setting(self, setting, wanted):
        assert views.names(setting) == wanted
        images = random_images(5, (64, 32))
        made = make(images, setting, np.random.default_rng(2))
        assert set(made) == set(wanted)
        if "v0" in made:
            assert torch.equal(made["v0"], images)
        planned = plan(setting, 5, (64, 32), np.random.default_rng(2))
        for index in range(5):
            for name, view in make_one(images[index], planned, index).items():
                assert (view.int() - made[name][index].int()).abs().max() <= 1
        if "v2" in planned:
            assert not planned["v2"].sigma.any() if wanted["v2"] == "light" else planned["v2"].sigma.any()

    def test_unknown_setting(self):
        with pytest.raises(ValueError, match="'D'; there are A, B, C, economy"):
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
