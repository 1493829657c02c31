"""Feature extraction: unit rows in order, whatever the chunk; modes restored; bad rows named."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dynamix import encoders, features
from dynamix.config import mini
from dynamix.data.views import normalize

CONFIG = replace(mini.encoder, width=8, dim=16)
N = 11


def pixels(count=N):
    return torch.randint(
        0, 256, (count, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def chunks(images, size, rows=None):
    rows = torch.arange(len(images)) if rows is None else rows
    for at in range(0, len(images), size):
        yield images[at : at + size], rows[at : at + size]


@pytest.fixture
def encoder():
    network = encoders.build(CONFIG)
    with torch.no_grad():
        network(normalize(pixels(), "half"))
    return network


def test_unit_rows_in_order(encoder):
    rows = torch.tensor([40, 3, 17, 5, 6, 90, 8, 2, 1, 0, 33])
    found = list(features.extract(encoder, chunks(pixels(), 4, rows), device="cpu", normalization="half"))
    assert [len(r) for r, _ in found] == [4, 4, 3]
    assert torch.equal(torch.cat([r for r, _ in found]), rows)
    every = torch.cat([f for _, f in found])
    assert every.shape == (N, 16) and not every.requires_grad
    torch.testing.assert_close(every.norm(dim=1), torch.ones(N), atol=1e-6, rtol=0)
    with torch.no_grad():
        whole = encoder.eval()(normalize(pixels(), "half"))
    torch.testing.assert_close(every, nn.functional.normalize(whole, dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_chunk_size_does_not_matter(encoder, size):
    whole = features.gather(features.extract(encoder, chunks(pixels(), N), normalization="half"))
    parts = features.gather(features.extract(encoder, chunks(pixels(), size), normalization="half"), N)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_streams(encoder):
    taken = []

    def counted():
        for number, chunk in enumerate(chunks(pixels(), 2)):
            taken.append(number)
            yield chunk

    stream = features.extract(encoder, counted(), normalization="half")
    assert taken == []
    next(stream)
    assert taken == [0]


def test_modes_and_statistics_are_left_alone(encoder):
    encoder.neck.eval()  # a mixed state must survive, too
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    for number, _ in enumerate(features.extract(encoder, chunks(pixels(), 4), normalization="half")):
        assert encoder.training and encoder.body.training and not encoder.neck.training
        if number == 1:
            break  # abandoned half-way
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_normalization_is_used(encoder):
    half, imagenet = (
        features.gather(features.extract(encoder, chunks(pixels(), 4), normalization=kind))
        for kind in ("half", "imagenet")
    )
    assert not torch.allclose(half, imagenet)


def test_dtype_follows_the_encoder(encoder):
    found = features.gather(features.extract(encoder.double(), chunks(pixels(), 4), normalization="half"))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.norm(dim=1), torch.ones(N, dtype=torch.float64), atol=1e-14, rtol=0)


def test_mixed_precision_is_close_and_unit(encoder):
    exact = features.gather(features.extract(encoder, chunks(pixels(), 4), normalization="half"))
    mixed = features.gather(features.extract(encoder, chunks(pixels(), 4), normalization="half", amp=True))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(N), atol=1e-6, rtol=0)
    assert (exact * mixed).sum(dim=1).min() > 0.99


class Broken(nn.Module):
    """Says `value` for the images whose first pixel is 255."""

    def __init__(self, value):
        super().__init__()
        self.value, self.weight = value, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        first = images[:, 0, 0, :1]
        return torch.where(first > 0.999, self.value, torch.ones(len(images), 2))


@pytest.mark.parametrize(
    "value, words", [(float("nan"), "is not finite"), (float("inf"), "is not finite"), (0.0, "is all zeros")]
)
def test_bad_rows_are_named(value, words):
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    images[4, 0, 0, 0] = images[5, 0, 0, 0] = 255
    rows = torch.tensor([9, 8, 7, 6, 42, 4])
    encoder = Broken(value).train()
    with pytest.raises(ValueError, match=f"row 42 {words}"):
        list(features.extract(encoder, chunks(images, 3, rows), normalization="half"))
    assert encoder.training


def test_what_came_before_a_bad_row_is_yielded(encoder):
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    images[4, 0, 0, 0] = 255
    found = features.extract(Broken(float("nan")), chunks(images, 2), normalization="half")
    assert [next(found)[0].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="row 4"):
        next(found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [1, 4, 100])
def test_gpu(encoder, size):
    on_cpu = features.gather(features.extract(encoder, chunks(pixels(), size), normalization="half"), N)
    found = list(features.extract(encoder.cuda(), chunks(pixels(), size), normalization="half"))
    assert torch.cat([rows for rows, _ in found]).tolist() == list(range(N))
    torch.testing.assert_close(features.gather(iter(found), N).cpu(), on_cpu, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_gpu_names_bad_rows_before_yielding_them(value):
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    images[4, 0, 0, 0] = 255
    encoder = Broken(value).cuda()
    found = features.extract(encoder, chunks(images, 2), normalization="half")
    assert [next(found)[0].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="row 4"):
        next(found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_host_does_not_wait_for_the_gpu(encoder):
    pinned = [(images.pin_memory(), rows) for images, rows in chunks(pixels(), 2)]
    encoder = encoder.cuda()
    list(features.extract(encoder, pinned, normalization="half"))
    torch.cuda.set_sync_debug_mode("error")  # events may be waited for: they are late
    try:
        list(features.extract(encoder, pinned, normalization="half"))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_to_extract(encoder):
    assert list(features.extract(encoder, iter(()), normalization="half")) == []


@pytest.mark.parametrize("count", [N - 1, N + 1])
def test_gather_checks_the_count(encoder, count):
    with pytest.raises(ValueError, match=str(count)):
        features.gather(features.extract(encoder, chunks(pixels(), 4), normalization="half"), count)


def test_gather_of_nothing():
    for count in (None, 3):
        with pytest.raises(ValueError, match="no features|0 features"):
            features.gather(iter(()), count)
