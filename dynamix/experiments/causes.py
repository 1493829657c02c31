"""The measurements behind each "why" of `conclusions`, as it quotes them."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from dynamix.experiments import camera_bias, records


def quoted(results: Path) -> dict[str, str]:
    """What `conclusions` calls a number -> the number as text.

    Raises FileNotFoundError naming a measurement that is absent.
    """
    made = (read(results) for read in (_contributions, _sensitivities, _stages, _camera_biases))
    return {name: text for texts in made for name, text in texts.items()}


def signed(points: Sequence[float]) -> str:
    """Mean ± standard deviation of differences."""
    return f"{statistics.mean(points):+.1f}{spread(points)}".replace("-", "−")


def spread(values: Sequence[float]) -> str:
    """What follows a mean: ± the sample standard deviation, or that there is one seed."""
    return f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else " (one seed)"


def _contributions(results: Path) -> dict[str, str]:
    """Share of the push that single-camera images send, and of that the chosen identity."""
    rows, texts = records.read(results / "contribution.mini.json")["rows"], {}
    for mode in ("median", "random", "hard"):
        for name in ("single", "partner"):
            share = statistics.mean(row[name] for row in rows if row["mode"] == mode)
            texts[f"{name}, {mode}"] = f"{100 * share:.0f} %"
    return texts


def _sensitivities(results: Path) -> dict[str, str]:
    """Points of mAP on plaza that altered queries lose; each run's first row is without a change."""
    rows, texts = records.read(results / "sensitivity.mini.json")["rows"], {}
    plain = {row["run"]: row["mAP"] for row in rows if row["change"] == "as they are"}
    for kind, encoder in (("CNN", "ibn_cnn"), ("transformer", "hybrid")):
        for change in ("color cast", "darker"):
            chosen = [row for row in rows if (row["encoder"], row["change"]) == (encoder, change)]
            lost = statistics.mean(plain[row["run"]] - row["mAP"] for row in chosen)
            texts[f"{change}, {kind}"] = f"{100 * lost:.0f}"
    return texts


def _stages(results: Path) -> dict[str, str]:
    """Points of mAP on plaza that the last layers add to those that both encoders share."""
    rows, texts = records.read(results / "stages.mini.json")["rows"], {}
    for encoder, last in (("ibn_cnn", "residual 3"), ("hybrid", "attention 2")):
        for what in ("plain", "altered"):
            of = {
                stage: statistics.mean(
                    row[what] for row in rows if (row["encoder"], row["stage"]) == (encoder, stage)
                )
                for stage in ("residual 2", last)
            }
            texts[f"{last} adds, {what}"] = f"{100 * (of[last] - of['residual 2']):+.1f}".replace("-", "−")
    return texts


def _camera_biases(results: Path) -> dict[str, str]:
    """Queries that find their own camera first, and mAP with every camera's mean taken off."""
    rows, texts = records.read(results / "camera_bias.mini.json")["rows"], {}
    for kind, encoder in (("IBN", "ibn_cnn"), ("plain", "plain_cnn")):
        for where, found in camera_bias.VIDEOS_IN.items():
            own = [
                row for row in rows if (row["encoder"], row["pretrained"], row["videos"]) == (encoder, *found)
            ]
            for world in ("hall", "station"):
                here = [row for row in own if row["world"] == world]
                at, centered = f"{kind} CNN, {where} on {world}", [100 * row["centered"] for row in here]
                texts[f"centered, {at}"] = f"{statistics.mean(centered):.1f}{spread(centered)}"
                if world == "hall":  # of two cameras, where it shows most
                    first = statistics.mean(row["own_first"] for row in here)
                    texts[f"own camera first, {at}"] = f"{100 * first:.0f} %"
    return texts
