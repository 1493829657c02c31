"""The text of `dynamix bench`: every figure with its unit, and whether it was measured, scaled or assumed."""

from collections.abc import Iterator, Sequence

from dynamix.config import Config
from dynamix.experiments.bench import model
from dynamix.experiments.bench.measure import FORMATS, Machine, Sizes, Timing
from dynamix.experiments.bench.model import Data, Forecast
from dynamix.experiments.plan import rate_text, time_text

QUERIES, GALLERY = 3368, 15_913  # Market-1501
NAMES = {
    "steps": "training steps",
    "embedding": "refresh: embedding",
    "search": "refresh: nearest centroid",
    "merging": "refresh: merging",
    "sampling": "sampling",
}
Line = tuple[str, str, str]  # what, how much, how it is known


def rates(found: Machine, config: Config, sizes: Sizes) -> Iterator[Line]:
    """What the machine does: one line a measurement."""
    for name in FORMATS:
        rate = found.matrix.get(name)
        how = "no such product on this device" if rate is None else f"measured, {sizes.matrix:,} square"
        value = "not run" if rate is None else f"{rate_text(rate / 1e9)} GFLOP/s"
        yield f"matrix product, {name}", value, how
    yield (
        "memory copy",
        f"{rate_text(found.copy / 1e9)} GB/s",
        f"measured, {sizes.copy >> 20:,} MiB read and written",
    )
    yield from _network(found, config, sizes)
    busy = _busy(2 * found.nearest.work / found.nearest.seconds)
    images = rate_text(_per_second(found, found.nearest))
    yield "nearest centroid", f"{images} images/s", _on(found.nearest, busy)
    yield "  faiss.IndexFlatIP", *_against_faiss(found)
    yield "refresh, features given", time_text(found.search.seconds), _on(found.search)
    yield "  memory", f"{found.peak:.1f} x P D 4 B", "measured: all tensors at the peak, centroids included"
    yield "merging", time_text(found.merging.seconds), _on(found.merging)
    yield "sampling an epoch", time_text(found.sampling.seconds), _on(found.sampling)
    market = found.evaluation.scaled(QUERIES * GALLERY)
    how = (
        _on(found.evaluation) if market == found.evaluation.seconds else f"scaled from {found.evaluation.on}"
    )
    yield "evaluation, Market-1501 size", time_text(market), how


def _network(found: Machine, config: Config, sizes: Sizes) -> Iterator[Line]:
    encoder, cost, batch = config.encoder, found.cost, config.batch.size
    size = f"{encoder.image[0]} x {encoder.image[1]}"
    count = sizes.batch(config).size
    scaled = "measured" if cost.images == batch else f"scaled from {cost.images} images"
    files = f"JPEG {size}, {found.jpeg / 1e3:.0f} kB each"
    busy = _busy(found.flop * cost.embed)
    yield "reading images", f"{rate_text(cost.read)} images/s", f"measured, one loader, {files}"
    yield (
        "embedding",
        f"{rate_text(cost.embed)} images/s",
        f"measured, {cost.images} at a time, {encoder.name} {size}; {busy}",
    )
    about = f"batch of {batch}: forward, backward, momentum encoder"
    yield "training step", time_text(cost.step), f"{scaled}, {about}"
    how = "measured" if count == batch else f"scaled from {count} images"
    yield "reading its batch", time_text(cost.load), f"{how}, one loader, views included"


def _on(timing: Timing, more: str = "") -> str:
    return f"measured, {timing.on}" + (f"; {more}" if more else "")


def _per_second(found: Machine, timing: Timing) -> float:
    return found.features / timing.seconds


def _busy(operations: float) -> str:
    return f"{rate_text(operations / 1e9)} GFLOP/s"


def _against_faiss(found: Machine) -> tuple[str, str]:
    if found.faiss is None:
        return "not run", "faiss has no GPU support here"
    ratio = found.faiss.seconds / found.nearest.seconds
    same = "the same decisions" if not found.differ else f"{found.differ} other decisions"
    return (
        f"{rate_text(_per_second(found, found.faiss))} images/s",
        f"measured, in turns with ours: ours {ratio:.1f} x, {same}",
    )


def epoch(
    found: Machine, config: Config, forecasts: Sequence[Forecast], link: float, device: str
) -> Iterator[str]:
    """What the profile takes on the paper's data, a column for each number of ranks."""
    data, first = Data(), forecasts[0]
    drawn = data.drawn(config)
    yield (
        f"profile {config.profile}: {config.epochs} epochs of {config.iterations} steps, "
        f"batch {config.batch.size}, {config.encoder.name}"
    )
    yield (
        f"data: MSMT17-merged ({data.multi:,} images) and LUPerson-NL ({data.single:,} images, "
        f"{data.pids:,} PIDs, K = {config.ecm.K}: {drawn:,} embedded at each refresh)"
    )
    yield ""
    one = "GPU" if device == "cuda" else "machine"
    heads = [f"{each.ranks} {one}{'s' if each.ranks > 1 else ''}" for each in forecasts]
    yield _row("an epoch", heads, "scaled from the lines above")
    how = _how(config, drawn, data, first, device)
    for part, name in NAMES.items():
        yield _row(f"  {name}", [time_text(each.seconds[part]) for each in forecasts], how[part])
    yield _row("  sum", [time_text(each.epoch) for each in forecasts], "")
    yield _row(f"{config.epochs} epochs", [time_text(config.epochs * each.epoch) for each in forecasts], "")
    yield ""
    if drawn:
        yield from _table6(found, config, forecasts)
        yield ""
    yield from _assumed(config, link, device, first)


def _how(config: Config, drawn: int, data: Data, first: Forecast, device: str) -> dict[str, str]:
    beside = "" if device == "cpu" else "; what outlasts the steps"
    limit = ", waiting for images" if first.waiting else ""
    return {
        "steps": f"{config.iterations} steps{limit}",
        "embedding": f"{data.multi + drawn:,} images",
        "search": f"x N P D, {drawn:,} x {data.pids:,} x {config.encoder.dim}",
        "merging": f"x P^2 D, {data.pids:,} squared",
        "sampling": f"x batches x P, {config.iterations} x {data.pids:,}{beside}",
    }


def _table6(found: Machine, config: Config, forecasts: Sequence[Forecast]) -> Iterator[str]:
    memory = model.refresh_memory(found, config)
    printed = model.paper_refresh(config.ecm.K)
    paper = "" if printed is None else f"paper, Table 6: {time_text(printed[0])} on two RTX 3090"
    yield _row("a refresh, images included", [time_text(each.refresh) for each in forecasts], paper)
    paper = "" if printed is None else f"paper, Table 6: {printed[1] / 1e9:.1f} GB"
    yield _row(
        "  its memory", [f"{memory / 1e9:.1f} GB"] * len(forecasts), f"{paper}; scaled x P D, no K in it"
    )


def _assumed(config: Config, link: float, device: str, first: Forecast) -> Iterator[str]:
    together = "take turns on the same cores" if device == "cpu" else "go on beside each other"
    yield "assumed, not measured"
    yield f"  several ranks: as fast as this one each, exchanging {link:g} GB/s in a ring, nothing hidden"
    yield "  steps, embedding and search are divided among them; merging and sampling are not"
    yield f"  reading images, planning batches and the network {together}"
    if device == "cuda":
        yield "  a share of a batch takes its share of the time"
    if config.rm.on:
        yield "  every epoch is like the others, though the first has no labels to refine yet"


def _row(what: str, values: Sequence[str], how: str) -> str:
    return f"{what:<30}{''.join(f'{value:>13}' for value in values)}   {how}".rstrip()
