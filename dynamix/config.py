"""One `Config` type; a profile is a value of it: `tiny`, `mini`, `gpu`, `paper`.

Defaults are the paper's; every switch offers the other readings where the paper is silent. Profiles
differ in numbers and switches, never in code paths. Make a variant with `dataclasses.replace` (or
`change`, for nested fields).
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from dynamix import fields
from dynamix.fields import Amount, Cosine, Count, Decay, Number, Positive, Range, Section, Share

Negatives = Literal["mixed", "same_type"]
Size = tuple[Count, Count]
Sizes = tuple[Count, Count, Count]
READING = ("workers", "memory_gb", "on_bad_image")  # how images are read; nothing that is learned goes by it
ELSEWHERE = {"profile": "--profile", "encoder.weights": "--weights"}  # options that do more than set a field


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Instance(Section, section="ins"):
    """Instance loss, Sec. 3.5; ReMix Eq. 3-4."""

    negatives: Negatives = "mixed"  # paper: "all negative instances in a mini-batch"
    include_self: bool = True  # the 1/N_K normaliser counts the anchor's own key
    denominator: Literal["one_pos", "all_pos"] = "one_pos"
    tau_multi: Positive = 0.1
    tau_single: Positive = 0.2
    use_single: bool = True  # ReMix Table 5


@dataclass(frozen=True, kw_only=True)
class Augmentation(Section, section="aug"):
    """Augmentation loss, ReMix Eq. 6, and which views the encoders see."""

    tau: Positive = 0.1
    views: Literal["A", "B", "C", "economy"] = "A"
    negatives: Negatives = "mixed"
    use_single: bool = True


@dataclass(frozen=True, kw_only=True)
class CentroidTerm(Section, section="cen"):
    """Centroids loss, ReMix Eq. 9."""

    feature: Literal["raw", "unit"] = "raw"
    centroid: Literal["asis", "unit"] = "asis"
    scope: Literal["batch", "all"] = "batch"
    tau_multi: Positive = 0.5
    tau_single: Positive = 0.6
    use_single: Literal["on", "off", "centroids_only"] = "on"  # centroids_only: negatives, no anchors


@dataclass(frozen=True, kw_only=True)
class CameraTerm(Section, section="cc"):
    """Camera centroids loss, ReMix Eq. 7-8; multi-camera rows only."""

    exclude_own: bool = False
    denominator: Literal["joint", "per_positive"] = "joint"
    reduction: Literal["mean", "camera_sum"] = "mean"
    hard_negatives: Number = 50
    tau: Positive = 0.07
    weight: Amount = 0.5  # gamma


@dataclass(frozen=True, kw_only=True)
class Relabeling(Section, section="rm"):
    """Relabeling Module, Sec. 3.2."""

    on: bool = True
    start_epoch: Count = 1  # first epoch = 0: there is no memory to compare with yet
    reading: Literal["all", "others", "own_filter"] = "all"
    tau_rel: Cosine = 0.6  # Table 10
    tau_remove: Cosine = 0.5
    tau_merge: Cosine = 0.8
    merging: bool = True  # False: filter and relabel only, as in the early blocks of Table 10
    merge_centroid: Literal["weighted", "mean"] = "weighted"
    scope: Literal["global", "video"] = "global"
    compare: Literal["previous", "blended"] = "previous"
    calibrate: Literal["off", "cross_video"] = "off"  # ours, not the paper's
    reset_labels_each_epoch: bool = False  # True: refine the tracker's labels afresh each epoch

    def _agree(self) -> None:
        _require(
            self.tau_remove <= self.tau_rel,
            f"rm.tau_remove ({self.tau_remove}) exceeds rm.tau_rel ({self.tau_rel}): "
            "an image would be removed and relabeled at once; lower tau_remove",
        )


@dataclass(frozen=True, kw_only=True)
class EfficientCentroids(Section, section="ecm"):
    """Efficient Centroids Module, Sec. 3.3, Eq. 3."""

    K: Count | Literal["all"] = 4  # images drawn per PID and epoch, Table 5
    alpha: Decay = 0.3  # weight of the old centroid, Table 7
    renorm: bool = False
    naive: bool = False  # True: recomputed every epoch from all images (no K, no alpha)
    before_merge: bool = False  # True: Eq. 3 on refined labels, then merge


@dataclass(frozen=True, kw_only=True)
class DataSampling(Section, section="dsm"):
    """Data Sampling Module, Sec. 3.4."""

    mode: Literal["median", "mean", "hard", "soft", "random", "off"] = "median"  # Table 8
    target: Literal["global", "row"] = "global"
    queue_epochs: Amount | None = 30.0  # FIFO length, Table 9
    queue_fraction: Amount | None = None  # of the live PIDs; replaces queue_epochs on small worlds
    min_images: Count = 1  # PIDs with fewer images are not sampled

    def _agree(self) -> None:
        _require(
            (self.queue_epochs is None) != (self.queue_fraction is None),
            f"dsm.queue_epochs is {self.queue_epochs}, dsm.queue_fraction {self.queue_fraction}: set exactly "
            "one of the two, and the other to none (0 is no queue)",
        )


@dataclass(frozen=True, kw_only=True)
class Remix(Section, section="remix"):
    """ReMix's pseudo-labels: videos clustered by DBSCAN each epoch (its Algorithm 2, Sec. 4.2)."""

    labels: Literal["clusters", "given"] = "clusters"  # given: the dataset's own (DynaMix Table 3, row 1)
    eps: Positive = 0.8  # ReMix Table 8
    min_samples: Count = 4  # paper silent; ICE
    metric: Literal["euclidean", "cosine", "jaccard"] = "euclidean"  # on unit features; paper silent
    k1: Count = 30  # neighbors of the k-reciprocal Jaccard distance; ICE takes eps 0.55 with it
    k2: Count = 6


@dataclass(frozen=True, kw_only=True)
class Optimization(Section, section="opt"):
    """Optimizer, schedule and momentum encoder, Sec. 4.2."""

    name: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: Amount = 1e-3
    weight_decay: Amount = 1e-4
    sgd_momentum: Decay = 0.9  # paper silent; TransReID-SSL
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_epochs: Amount = 10.0
    warmup_factor: Share = 0.1
    ema: Decay = 0.999  # lambda, Eq. 2
    ema_ramp: bool = False  # min(ema, (1 + t) / (10 + t)): a slow EMA cannot follow a short run
    ema_buffers: Literal["own", "ema", "copy"] = "own"
    # auto: bf16 on CUDA. A CPU that multiplies bf16 gains too, 1.4 to 1.7 times (tests/benchmarks/step.py).
    amp: Literal["auto", "off", "bf16"] = "auto"
    compile: bool = False  # torch.compile both encoders: a minute at the start, for long runs on a GPU


@dataclass(frozen=True, kw_only=True)
class Batch(Section, section="batch"):
    """Composition of a mini-batch, Sec. 4.2: N_P identities x N_K images per type."""

    ids_multi: Number = 8
    ids_single: Number = 8
    images_multi: Count = 4
    images_single: Count = 4

    def _agree(self) -> None:
        _require(self.size > 0, "batch.ids_multi and batch.ids_single are both 0: a batch needs identities")

    @property
    def size(self) -> int:
        """Rows of one mini-batch, multi-camera first."""
        return self.ids_multi * self.images_multi + self.ids_single * self.images_single


@dataclass(frozen=True, kw_only=True)
class Encoder(Section, section="encoder"):
    """Which encoder and what follows it."""

    name: Literal[
        "vit_base", "vit_small", "resnet50", "resnet50_ibn", "swin_base", "ibn_cnn", "plain_cnn", "hybrid"
    ] = "vit_base"
    image: Size = (256, 128)  # height, width
    dim: Count = 768  # embedding size D
    width: Count = 24  # first channels of the small IBN networks
    stem: Literal["patch", "conv"] = "patch"
    patch: Count = 16
    neck: Literal["none", "affine_free", "bias_frozen"] = "none"  # batch norm that centers the embedding
    normalization: Literal["imagenet", "half", "luperson", "luperson_nl"] = "half"
    seed: Number = 0  # of the initial weights; `train` adds the run's seed
    weights: str = ""  # checksum of the file of pretrained weights that training starts from


@dataclass(frozen=True, kw_only=True)
class Moco(Section, section="moco"):
    """Pre-training without labels, MoCo v2; the cited paper's numbers."""

    epochs: Count = 200
    batch: Count = 256
    queue: Count = 65536  # keys of earlier batches
    dim: Count = 128  # of the projection, which only pre-training uses
    tau: Positive = 0.2
    least_crop: Annotated[float, Range(above=0, high=1)] = (
        0.2  # smallest share of the area that a random resized crop keeps
    )
    jitter: Share = 0.4  # of brightness, contrast and saturation; of each channel half as much
    ema: Decay = 0.999
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Amount = 0.03
    weight_decay: Amount = 1e-4
    warmup_epochs: Amount = 0.0


@dataclass(frozen=True, kw_only=True)
class Mannequins(Section, section="mannequins"):
    """Sizes and noise of the embedded benchmark; documented in `data.mannequins.worlds`."""

    image: Size = (64, 32)
    plaza: Sizes = (150, 5, 2)  # people, cameras, images per person and camera
    campus: Sizes = (150, 6, 1)
    hall: Sizes = (200, 2, 3)
    station: Sizes = (200, 6, 1)
    studio: Sizes = (150, 8, 1)
    videos: Sizes = (150, 4, 10)  # clips, people per clip, frames per person
    moments: Count = 6  # scenes and exposures a clip passes through; a person is seen in up to 3
    fragment: Share = 0.5  # chance that a track is cut and renamed
    switch: Share = 0.3  # chance that a track swaps identity with another one
    junk: Share = 0.12  # share of boxes that hold no (whole) person
    clumping: Share = 0.3  # share of people in dark clothes, uniforms, school classes
    seed: Number = 0


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """Everything a run depends on besides the data. Defaults: the paper's."""

    profile: Literal["tiny", "mini", "gpu", "paper"] = "paper"
    method: Literal["dynamix", "remix"] = "dynamix"
    seed: Number = 0
    epochs: Count = 100
    iterations: Count = 400
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
    workers: Number = 4  # loader processes, used when the images do not fit in memory
    memory_gb: Amount = 4.0  # images up to this size are kept decoded in memory
    on_bad_image: Literal["error", "skip"] = "error"  # skip: leave unreadable images out, and say so

    @property
    def clusters(self) -> bool:
        """Whether identities of the videos are found anew, whatever labels their images come with."""
        return self.method == "remix" and self.remix.labels == "clusters"


def change(config: Config, **changes: Any) -> Config:
    """`config` with `section__field=value` (nested) or `field=value` replaced.

    Raises ValueError on a setting there is not, a value of another type or out of its range.
    """
    nested: dict[str, dict[str, Any]] = {}
    known = _flat(config)
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        whole = key in fields.hints(Config)  # a whole section, or a field beside them
        _require(whole or f"{section}.{name}" in known, f"there is no setting {key.replace('__', '.')}")
        nested.setdefault(section, {})[name] = value
    flat = nested.pop("", {})
    for section, values in nested.items():
        flat[section] = replace(flat.get(section, getattr(config, section)), **values)
    return replace(config, **flat)


def differences(saved: Config, asked: Config) -> list[str]:
    """Settings that differ, but for those of how images are read, which change nothing that is learned."""
    a, b = _flat(saved), _flat(asked)
    different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return [name for name in different if name not in READING]


def override(config: Config, texts: Sequence[str]) -> Config:
    """`config` with settings given as text, `section.field=value`, all at once.

    Raises ValueError naming the setting, the value and what is allowed.
    """
    known, changes = _flat(config), {}
    for text in texts:
        name, mark, value = text.partition("=")
        name = name.strip()
        _require(bool(mark), f"--set {text}: write section.field=value, as rm.tau_rel=0.6")
        near = [field for field in known if field.partition(".")[0] == name.partition(".")[0]] or list(known)
        _require(
            name in known,
            f"--set {text}: no setting {name}; write section.field=value with one of {', '.join(near)}",
        )
        _require(name not in ELSEWHERE, f"--set {text}: give it as {ELSEWHERE.get(name)}")
        _require(name not in changes, f"--set {text}: {name} is set twice")
        try:
            changes[name] = fields.read(value, _hint(name))
        except ValueError as error:
            raise ValueError(f"--set {text}: {error}") from None
    return change(config, **{name.replace(".", "__"): value for name, value in changes.items()})


def _hint(name: str) -> Any:
    section, _, field = name.rpartition(".")
    return fields.hints(fields.hints(Config)[section] if section else Config)[field]


def to_json(config: Config) -> str:
    """`config` as JSON text, as it stands beside every result."""
    return json.dumps(dataclasses.asdict(config), indent=1)


def from_json(text: str) -> Config:
    """The inverse of `to_json`; a field that is missing has its default.

    Raises ValueError on text that is not JSON, an unknown field, and a value that no config may have.
    """
    return _build(Config, json.loads(text), "the settings")


def of_file(path: Path, text: str) -> Config:
    """`from_json` of settings in the file `path`; ValueError naming it where they cannot be used."""
    try:
        return from_json(text)
    except Exception as error:  # settings of another version, or edited by hand
        raise ValueError(
            f"{path}: its settings cannot be used by this version of dynamix ({error}): take the version "
            "that wrote it, or train again in another folder"
        ) from error


def _build(kind: Any, values: Any, name: str) -> Any:
    _require(isinstance(values, dict), f"{name} must be an object of JSON, not {values!r:.60}")
    known = fields.hints(kind)
    unknown = sorted(set(values) - set(known))
    _require(not unknown, f"unknown settings for {kind.__name__}: {', '.join(unknown)}")
    made = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(known[key]):
            made[key] = _build(known[key], value, key)
        else:
            made[key] = tuple(value) if isinstance(value, list) else value
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
