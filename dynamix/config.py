"""One `Config` type; a profile is a value of it: `tiny`, `mini`, `gpu`, `paper`.

Defaults are the paper's; every switch offers the other readings where the paper is silent. Profiles
differ in numbers and switches, never in code paths. Make a variant with `dataclasses.replace` (or
`change`, for nested fields).
"""

import ast
import dataclasses
import functools
import hashlib
import json
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

Negatives = Literal["mixed", "same_type"]
READING = ("workers", "memory_gb", "on_bad_image")  # how images are read; nothing that is learned goes by it


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@functools.cache  # asked for every config that is made, and a ledger makes thousands
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_choices(section: Any, prefix: str = "") -> None:
    """Refuse a value that is none of a setting's choices, naming both: a typo must not pick a default."""
    kind: Any = type(section)
    for name, hint in _hints(kind).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(value):
            _check_choices(value, f"{prefix}{name}.")
        elif get_origin(hint) is Literal and value not in get_args(hint):
            _require(False, f"{prefix}{name} is {value!r}: choose one of {', '.join(get_args(hint))}")
        elif hint is int:
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            _require(whole, f"{prefix}{name} is {value!r}: it must be a whole number")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Instance loss, Sec. 3.5; ReMix Eq. 3-4."""

    negatives: Negatives = "mixed"  # paper: "all negative instances in a mini-batch"
    include_self: bool = True  # the 1/N_K normaliser counts the anchor's own key
    denominator: Literal["one_pos", "all_pos"] = "one_pos"
    tau_multi: float = 0.1
    tau_single: float = 0.2
    use_single: bool = True  # ReMix Table 5


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation loss, ReMix Eq. 6, and which views the encoders see."""

    tau: float = 0.1
    views: Literal["A", "B", "C", "economy"] = "A"
    negatives: Negatives = "mixed"
    use_single: bool = True


@dataclass(frozen=True, kw_only=True)
class CentroidTerm:
    """Centroids loss, ReMix Eq. 9."""

    feature: Literal["raw", "unit"] = "raw"
    centroid: Literal["asis", "unit"] = "asis"
    scope: Literal["batch", "all"] = "batch"
    tau_multi: float = 0.5
    tau_single: float = 0.6
    use_single: Literal["on", "off", "centroids_only"] = "on"  # centroids_only: negatives, no anchors


@dataclass(frozen=True, kw_only=True)
class CameraTerm:
    """Camera centroids loss, ReMix Eq. 7-8; multi-camera rows only."""

    exclude_own: bool = False
    denominator: Literal["joint", "per_positive"] = "joint"
    reduction: Literal["mean", "camera_sum"] = "mean"
    hard_negatives: int = 50
    tau: float = 0.07
    weight: float = 0.5  # gamma


@dataclass(frozen=True, kw_only=True)
class Relabeling:
    """Relabeling Module, Sec. 3.2."""

    on: bool = True
    start_epoch: int = 1  # first epoch = 0: there is no memory to compare with yet
    reading: Literal["all", "others", "own_filter"] = "all"
    tau_rel: float = 0.6  # Table 10
    tau_remove: float = 0.5
    tau_merge: float = 0.8
    merging: bool = True  # False: filter and relabel only, as in the early blocks of Table 10
    merge_centroid: Literal["weighted", "mean"] = "weighted"
    scope: Literal["global", "video"] = "global"
    compare: Literal["previous", "blended"] = "previous"
    calibrate: Literal["off", "cross_video"] = "off"  # ours, not the paper's
    reset_labels_each_epoch: bool = False  # True: refine the tracker's labels afresh each epoch

    def __post_init__(self) -> None:
        _require(
            self.tau_remove <= self.tau_rel,
            f"rm.tau_remove ({self.tau_remove}) exceeds rm.tau_rel ({self.tau_rel}): "
            "an image would be removed and relabeled at once; lower tau_remove",
        )
        for name in ("tau_rel", "tau_remove", "tau_merge"):
            value = getattr(self, name)
            _require(-1 <= value <= 1, f"rm.{name} is a cosine: {value} is outside [-1, 1]")
        _require(self.start_epoch >= 1, "rm.start_epoch must be at least 1: epoch 0 has no memory yet")


@dataclass(frozen=True, kw_only=True)
class EfficientCentroids:
    """Efficient Centroids Module, Sec. 3.3, Eq. 3."""

    K: int | Literal["all"] = 4  # images drawn per PID and epoch, Table 5
    alpha: float = 0.3  # weight of the old centroid, Table 7
    renorm: bool = False
    naive: bool = False  # True: recomputed every epoch from all images (no K, no alpha)
    before_merge: bool = False  # True: Eq. 3 on refined labels, then merge

    def __post_init__(self) -> None:
        _require(self.K == "all" or self.K >= 1, f"ecm.K must be at least 1 or 'all', got {self.K}")
        _require(0 <= self.alpha < 1, f"ecm.alpha must lie in [0, 1), got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class DataSampling:
    """Data Sampling Module, Sec. 3.4."""

    mode: Literal["median", "mean", "hard", "soft", "random", "off"] = "median"  # Table 8
    target: Literal["global", "row"] = "global"
    queue_epochs: float | None = 30.0  # FIFO length, Table 9
    queue_fraction: float | None = None  # of the live PIDs; replaces queue_epochs on small worlds
    min_images: int = 1  # PIDs with fewer images are not sampled

    def __post_init__(self) -> None:
        _require(
            (self.queue_epochs is None) != (self.queue_fraction is None),
            "set exactly one of dsm.queue_epochs and dsm.queue_fraction (0 disables the queue)",
        )
        length = self.queue_epochs if self.queue_fraction is None else self.queue_fraction
        _require(length is not None and length >= 0, f"the queue length must not be negative, got {length}")


@dataclass(frozen=True, kw_only=True)
class Remix:
    """ReMix's pseudo-labels: videos clustered by DBSCAN each epoch (its Algorithm 2, Sec. 4.2)."""

    labels: Literal["clusters", "given"] = "clusters"  # given: the dataset's own (DynaMix Table 3, row 1)
    eps: float = 0.8  # ReMix Table 8
    min_samples: int = 4  # paper silent; ICE
    metric: Literal["euclidean", "cosine", "jaccard"] = "euclidean"  # on unit features; paper silent
    k1: int = 30  # neighbors of the k-reciprocal Jaccard distance; ICE takes eps 0.55 with it
    k2: int = 6

    def __post_init__(self) -> None:
        _require(self.eps > 0, f"remix.eps must be positive, got {self.eps}")
        for name in ("min_samples", "k1", "k2"):
            _require(getattr(self, name) >= 1, f"remix.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Optimizer, schedule and momentum encoder, Sec. 4.2."""

    name: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    sgd_momentum: float = 0.9  # paper silent; TransReID-SSL
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_epochs: float = 10.0
    warmup_factor: float = 0.1
    ema: float = 0.999  # lambda, Eq. 2
    ema_ramp: bool = False  # min(ema, (1 + t) / (10 + t)): a slow EMA cannot follow a short run
    ema_buffers: Literal["own", "ema", "copy"] = "own"
    # auto: bf16 on CUDA. A CPU that multiplies bf16 gains too, 1.4 to 1.7 times (tests/benchmarks/step.py).
    amp: Literal["auto", "off", "bf16"] = "auto"
    compile: bool = False  # torch.compile both encoders: a minute at the start, for long runs on a GPU


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Composition of a mini-batch, Sec. 4.2: N_P identities x N_K images per type."""

    ids_multi: int = 8
    ids_single: int = 8
    images_multi: int = 4
    images_single: int = 4

    def __post_init__(self) -> None:
        for name, least in (("ids_multi", 0), ("ids_single", 0), ("images_multi", 1), ("images_single", 1)):
            value = getattr(self, name)
            _require(value >= least, f"batch.{name} must be at least {least}, got {value}")

    @property
    def size(self) -> int:
        """Rows of one mini-batch, multi-camera first."""
        return self.ids_multi * self.images_multi + self.ids_single * self.images_single


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Which encoder and what follows it."""

    name: Literal[
        "vit_base", "vit_small", "resnet50", "resnet50_ibn", "swin_base", "ibn_cnn", "plain_cnn", "hybrid"
    ] = "vit_base"
    image: tuple[int, int] = (256, 128)  # height, width
    dim: int = 768  # embedding size D
    width: int = 24  # first channels of the small IBN networks
    stem: Literal["patch", "conv"] = "patch"
    patch: int = 16
    neck: Literal["none", "affine_free", "bias_frozen"] = "none"  # batch norm that centers the embedding
    normalization: Literal["imagenet", "half", "luperson", "luperson_nl"] = "half"
    seed: int = 0  # of the initial weights; `train` adds the run's seed
    weights: str = ""  # checksum of the file of pretrained weights that training starts from


@dataclass(frozen=True, kw_only=True)
class Moco:
    """Pre-training without labels, MoCo v2; the cited paper's numbers."""

    epochs: int = 200
    batch: int = 256
    queue: int = 65536  # keys of earlier batches
    dim: int = 128  # of the projection, which only pre-training uses
    tau: float = 0.2
    least_crop: float = 0.2  # smallest share of the area that a random resized crop keeps
    jitter: float = 0.4  # of brightness, contrast and saturation; of each channel half as much
    ema: float = 0.999
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.03
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "queue", "dim"):
            _require(getattr(self, name) >= 1, f"moco.{name} must be at least 1, got {getattr(self, name)}")
        _require(self.tau > 0, f"moco.tau must be positive, got {self.tau}")


@dataclass(frozen=True, kw_only=True)
class Mannequins:
    """Sizes and noise of the embedded benchmark; documented in `data.mannequins.worlds`."""

    image: tuple[int, int] = (64, 32)
    plaza: tuple[int, int, int] = (150, 5, 2)  # people, cameras, images per person and camera
    campus: tuple[int, int, int] = (150, 6, 1)
    hall: tuple[int, int, int] = (200, 2, 3)
    station: tuple[int, int, int] = (200, 6, 1)
    studio: tuple[int, int, int] = (150, 8, 1)
    videos: tuple[int, int, int] = (150, 4, 10)  # clips, people per clip, frames per person
    moments: int = 6  # scenes and exposures a clip passes through; a person is seen in up to 3
    fragment: float = 0.5  # chance that a track is cut and renamed
    switch: float = 0.3  # chance that a track swaps identity with another one
    junk: float = 0.12  # share of boxes that hold no (whole) person
    clumping: float = 0.3  # share of people in dark clothes, uniforms, school classes
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run depends on besides the data. Defaults: the paper's."""

    profile: str = "paper"
    method: Literal["dynamix", "remix"] = "dynamix"
    seed: int = 0
    epochs: int = 100
    iterations: int = 400
    ins: Instance = field(default_factory=Instance)
    aug: Augmentation = field(default_factory=Augmentation)
    cen: CentroidTerm = field(default_factory=CentroidTerm)
    cc: CameraTerm = field(default_factory=CameraTerm)
    rm: Relabeling = field(default_factory=Relabeling)
    ecm: EfficientCentroids = field(default_factory=EfficientCentroids)
    dsm: DataSampling = field(default_factory=DataSampling)
    remix: Remix = field(default_factory=Remix)
    opt: Optimization = field(default_factory=Optimization)
    batch: Batch = field(default_factory=Batch)
    encoder: Encoder = field(default_factory=Encoder)
    moco: Moco = field(default_factory=Moco)
    mannequins: Mannequins = field(default_factory=Mannequins)
    workers: int = 4  # loader processes, used when the images do not fit in memory
    memory_gb: float = 4.0  # images up to this size are kept decoded in memory
    on_bad_image: Literal["error", "skip"] = "error"  # skip: leave unreadable images out, and say so

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("iterations", 1), ("seed", 0)):
            value = getattr(self, name)
            _require(value >= least, f"{name} must be at least {least}, got {value}")
        _check_choices(self)

    @property
    def clusters(self) -> bool:
        """Whether identities of the videos are found anew, whatever labels their images come with."""
        return self.method == "remix" and self.remix.labels == "clusters"


def change(config: Config, **changes: Any) -> Config:
    """`config` with `section__field=value` (nested) or `field=value` replaced."""
    nested: dict[str, dict[str, Any]] = {}
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            flat[key] = value
    for section, fields in nested.items():
        flat[section] = replace(getattr(config, section), **fields)
    return replace(config, **flat)


def differences(saved: Config, asked: Config) -> list[str]:
    """Settings that differ, but for those of how images are read, which change nothing that is learned."""
    a, b = _flat(saved), _flat(asked)
    different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return [name for name in different if name not in READING]


def override(config: Config, texts: Sequence[str]) -> Config:
    """`config` with settings given as text, `section.field=value`; an unknown or malformed one raises."""
    for text in texts:
        name, mark, value = text.partition("=")
        known = _flat(config)
        _require(bool(mark), f"--set {text}: write section.field=value, as rm.tau_rel=0.6")
        near = [field for field in known if field.partition(".")[0] == name.partition(".")[0]] or list(known)
        _require(
            name in known,
            f"--set {text}: no setting {name}; write section.field=value with one of {', '.join(near)}",
        )
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed = value  # a word, such as median
        parsed = float(parsed) if isinstance(known[name], float) and isinstance(parsed, int) else parsed
        config = change(config, **{name.replace(".", "__"): parsed})
    return config


def to_json(config: Config) -> str:
    """`config` as JSON text, as it stands beside every result."""
    return json.dumps(dataclasses.asdict(config), indent=1)


def from_json(text: str) -> Config:
    """The inverse of `to_json`; unknown or missing fields raise."""
    return _build(Config, json.loads(text))


def of_file(path: Path, text: str) -> Config:
    """`from_json` of settings in the file `path`; ValueError naming it where they cannot be used."""
    try:
        return from_json(text)
    except Exception as error:  # settings of another version, or edited by hand
        raise ValueError(
            f"{path}: its settings cannot be used by this version of dynamix ({error}): take the version "
            "that wrote it, or train again in another folder"
        ) from error


def _build(kind: Any, values: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    _require(not unknown, f"unknown settings for {kind.__name__}: {', '.join(unknown)}")
    made = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            made[name] = _build(hints[name], value)
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)


PROFILE_VERSION = 1  # raised when a profile's numbers change, so that old results are not mistaken


def identity(config: Config) -> str:
    """A run's name: hash of the fields that differ from its profile, plus the profile's version.

    A new option whose default keeps the behaviour therefore does not invalidate old runs. How images are read
    is no part of it.
    """
    base = _flat(PROFILES[config.profile])
    changed = {k: v for k, v in _flat(config).items() if base.get(k) != v and k not in READING}
    text = json.dumps([config.profile, PROFILE_VERSION, sorted(changed.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        name = f"{prefix}{item.name}"
        out |= _flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return out


paper = Config()

# From scratch, in a few hundred to a few thousand steps: slow EMA, SGD and raw logits cannot work.
mini = Config(
    profile="mini",
    epochs=16,
    iterations=75,
    aug=Augmentation(views="economy"),
    cen=CentroidTerm(feature="unit"),
    cc=CameraTerm(exclude_own=True, denominator="per_positive"),
    rm=Relabeling(scope="video", compare="blended", reset_labels_each_epoch=True, merge_centroid="mean"),
    ecm=EfficientCentroids(K="all", before_merge=True),
    dsm=DataSampling(queue_epochs=None, queue_fraction=0.22, min_images=2),
    opt=Optimization(
        name="adamw",
        lr=1e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=2.0,
        ema=0.99,
        ema_ramp=True,
        ema_buffers="ema",
    ),
    encoder=Encoder(name="ibn_cnn", image=(64, 32), dim=128, width=24, neck="affine_free"),
    moco=Moco(
        epochs=20,
        batch=128,
        queue=4096,
        ema=0.99,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_epochs=2.0,
    ),
)

tiny = replace(
    mini,
    profile="tiny",
    epochs=5,
    iterations=30,
    encoder=replace(mini.encoder, dim=64, width=16),
    mannequins=Mannequins(
        plaza=(80, 4, 2),
        campus=(60, 4, 1),
        hall=(60, 2, 2),
        station=(80, 5, 1),
        studio=(60, 4, 1),
        videos=(40, 3, 8),
    ),
)

gpu = replace(
    mini,
    profile="gpu",
    epochs=100,
    iterations=100,
    aug=Augmentation(views="A"),
    ecm=EfficientCentroids(K=4, before_merge=True),
    opt=replace(mini.opt, ema=0.999),
    encoder=Encoder(name="vit_small", image=(128, 64), dim=384, stem="conv", patch=8, neck="affine_free"),
    mannequins=Mannequins(
        image=(128, 64),
        plaza=(1000, 8, 2),
        campus=(750, 8, 2),
        hall=(750, 2, 4),
        station=(750, 15, 2),
        studio=(1000, 19, 1),
        videos=(1500, 6, 12),
    ),
)

PROFILES: dict[str, Config] = {"tiny": tiny, "mini": mini, "gpu": gpu, "paper": paper}


def profile(name: str) -> Config:
    """The named profile; unknown names raise, listing those that exist."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
