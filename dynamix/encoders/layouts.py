"""Published weights told apart by the names and shapes of their tensors, and brought to our names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynamix.encoders import swin
from dynamix.encoders.positions import source_grid
from dynamix.encoders.resnet_ibn import DIM
from dynamix.encoders.vit import LAYERS, WIDTHS
from dynamix.encoders.weight_files import WeightFile

# What features do not depend on: what follows them, and what only training needs. PASS's part tokens, which
# its papers leave out too. `b2`: TransReID's local branch.
HEADS = re.compile(
    r"(?!.*\.p$)"  # of a pooling by generalized means, which features do depend on
    r"(?:(?:\w*_)?heads?\d*|fc\d*|dist|head_dist|pre_logits|(?:\w*_)?classifiers?\w*|embed_fc|queue\w*|prototypes"
    r"|bottleneck\w*|bn_?neck\w*|neck|feat_bn|part_token\d|part\d_pos|cls_pos|pixel_mean|pixel_std|b2"
    r"|decoder\w*|mask_token|masked_embed|predictor|projector|criterion\w*|loss\w*)(?:\.|$)"
    r"|(?:.*\.)?(?:attn_mask|relative_position_index)$"
)
# Layers that papers put on weights which do not have them: ISR's, on Swin.
NEW = re.compile(r"feat\.")
SUPPORTED = "ViT-B, ViT-S, ResNet-50, ResNet-50-IBN or Swin-B"


@dataclass(frozen=True)
class Architecture:
    """What `config.Encoder` has to say for weights to fit."""

    name: str
    dim: int
    stem: str = "patch"
    patch: int = 16

    def __str__(self) -> str:
        """The network in words."""
        if not self.name.startswith("vit"):
            return self.name
        return f'{self.name} (stem "{self.stem}", patch {self.patch})'


@dataclass(frozen=True)
class Family:
    """Where weights come from, and the normalization of images that they were trained and fine-tuned with."""

    words: str
    as_is: str
    fine_tuned: str


@dataclass(frozen=True, eq=False)
class Given:
    """A file's tensors under our names."""

    tensors: dict[str, Tensor]
    names: dict[str, str]  # the same tensors' names in the file
    others: tuple[str, ...] = ()  # tensors of the file that others take the place of
    differs: str = ""  # how the file's network differs from ours although its tensors fit


def architecture(known: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    """The encoder that has tensors of these names and shapes; None where there is no such encoder."""
    if "cls_token" in known and len(known.get("patch_embed.proj.weight", ())) == 4:
        return _vit(known)
    if _blocks(known, r"layer(\d)\.(\d+)\.conv3\.weight") == [3, 4, 6, 3]:
        return Architecture("resnet50_ibn" if "layer1.0.bn1.IN.weight" in known else "resnet50", DIM)
    if _blocks(known, r"layers\.(\d)\.blocks\.(\d+)\.attn\.qkv\.weight") == [2, 2, 18, 2]:
        if known.get("patch_embed.proj.weight") == (swin.WIDTH // 8, 3, 4, 4):
            return Architecture("swin_base", known.get("feat.weight", (swin.WIDTH,))[0])
    return None


def _vit(known: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    dim, kernel = known["cls_token"][-1], known["patch_embed.proj.weight"][-1]
    name = next((name for name, width in WIDTHS.items() if width == dim), None)
    conv = any(key.startswith("patch_embed.conv.") for key in known)
    if name is None or _blocks(known, r"blocks(\.)(\d+)\.attn\.qkv\.weight") != [LAYERS]:
        return None
    if not conv and known["patch_embed.proj.weight"][1] != 3:  # on the maps of another network
        return None
    return Architecture(name, dim, "conv" if conv else "patch", 2 * kernel if conv else kernel)


def _blocks(known: Mapping[str, tuple[int, ...]], pattern: str) -> list[int]:
    """Blocks in each stage."""
    found = [match.groups() for key in known if (match := re.fullmatch(pattern, key))]
    stages = sorted({stage for stage, _ in found})
    return [sum(stage == other for other, _ in found) for stage in stages]


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """What `architecture` looks at."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def family(file: WeightFile) -> Family:
    """Where a file's weights come from, as far as its names tell."""
    names, tensors = set(file.tensors), file.tensors
    if "momentum" in file.trail or "config" in file.metadata:
        return Family("a run of this package", "", "")
    if "cls_token" in names:
        return _vit_family(file)
    if any(name.startswith("layers.3.blocks.") for name in names):
        words = "Swin with ISR's head" if "feat.weight" in names else "Swin (ImageNet)"
        return Family(words, "imagenet", "imagenet")
    tops = {
        name.split(".")[0] for name in (*names, *(other.removeprefix("module.") for other in file.others))
    }
    if tops & {"embed_fc", "prototypes", "queue_id"} or {"fc1", "fc2", "classifier"} <= tops:
        return Family("ResNet (LUPerson-NL)", "luperson_nl", "luperson_nl")
    if "encoder_q" in file.trail or "fc.2.weight" in names:
        return Family("ResNet (LUPerson, MoCo)", "luperson", "luperson")
    if tops & {"classifier", "bottleneck", "bn_neck", "feat_bn", "heads"}:
        return Family("ResNet fine-tuned for re-identification", "imagenet", "imagenet")
    if "fc.weight" in names and tensors["fc.weight"].shape[0] == 1000:
        return Family("ResNet (ImageNet)", "imagenet", "imagenet")
    if "layer1.0.conv1.weight" in names:
        return Family("ResNet without a head, taken for LUPerson's", "luperson", "luperson")
    return Family("of unknown origin", "", "")


def _vit_family(file: WeightFile) -> Family:
    """Self-supervised weights saw ImageNet's normalization; papers fine-tune them with 0.5."""
    names = set(file.tensors)
    tops = {name.split(".")[0] for name in names}
    source = "DINO training file, teacher" if "teacher" in file.trail else ""
    source = source or ("DINO training file, student" if "student" in file.trail else "")
    end = f"; {source}" if source else ""
    if "bn_neck" in tops:
        return Family("ViT fine-tuned for re-identification (BAU)", "imagenet", "imagenet")
    if tops & {"bottleneck", "classifier"}:
        branches = ", its local branches left out" if "b1" in tops else ""
        return Family(f"ViT fine-tuned for re-identification (TransReID){branches}", "half", "half")
    if "part_token1" in names:
        return Family(f"ViT of PASS, its part tokens left out{end}", "imagenet", "half")
    if any(name.startswith("patch_embed.conv.") for name in names):
        return Family(f"ViT of TransReID-SSL, convolutional stem{end}", "imagenet", "half")
    rows, columns = _patches(file.tensors)
    if rows == columns:
        # timm's and TransReID's ImageNet weights are 0.5; DINO's own are not.
        return Family(f"ViT of square images (ImageNet){end}", "imagenet" if source else "half", "half")
    return Family(f"ViT self-supervised on people (TransReID-SSL, PersonViT){end}", "imagenet", "half")


def _patches(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    positions = with_class_position(tensors).get("pos_embed")
    count = 0 if positions is None else positions.shape[1] - 1
    return source_grid(count, (0, 1)) or (0, 1)


def translated(file: WeightFile) -> Given:
    """The file's tensors under our names: what its family calls differently, or keeps in other pieces."""
    tensors, differs = with_class_position(file.tensors), ""
    renamed = _swin_names(tensors) or _branch_names(tensors)
    if not renamed:
        renamed, differs = _stage_names(tensors)
    replaced = set(renamed.values()) - renamed.keys()
    names = {renamed.get(name, name): file.names[name] for name in tensors if name not in replaced}
    others = tuple(file.names[name] for name in tensors if name in replaced)
    tensors = {renamed.get(name, name): value for name, value in tensors.items() if name not in replaced}
    return Given(tensors, names, others, differs)


def idle(name: str, value: Tensor) -> bool:
    """Whether features are the same without this tensor: a bias or embedding of zeros, a mean of power 1."""
    if name.endswith(".p"):
        return bool((value == 1).all())
    return name.endswith(("bias", "_embed")) and not value.any()


def with_class_position(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with `pos_embed` as ours: the class token's position, then the patches'.

    PASS keeps the first one apart; distilled transformers have a second one, for another token.
    """
    out = dict(tensors)
    positions = out.get("pos_embed")
    if positions is not None and "cls_pos" in out:
        out["pos_embed"] = torch.cat((out["cls_pos"], positions), dim=1)
    elif positions is not None and "dist_token" in out:
        out["pos_embed"] = torch.cat((positions[:, :1], positions[:, 2:]), dim=1)
    return out


def _swin_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """timm before 0.9 halves the resolution at a stage's end, later at the next one's beginning."""
    if "layers.0.downsample.reduction.weight" not in tensors:
        return {}
    parts = [re.fullmatch(r"layers\.(\d)\.(downsample\..*)", name) for name in tensors]
    return {part[0]: f"layers.{int(part[1]) + 1}.{part[2]}" for part in parts if part}


def _branch_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """TransReID with local branches: the global feature's last block and norm are those of `b1`."""
    last = f"blocks.{LAYERS - 1}."
    names = {f"b1.0.{name.removeprefix(last)}": name for name in tensors if name.startswith(last)}
    names |= {"b1.1.weight": "norm.weight", "b1.1.bias": "norm.bias"}
    return names if names.keys() <= tensors.keys() else {}


def _stage_names(tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], str]:
    """A ResNet as a numbered sequence: stem, its norm, then four stages; and how it differs from ours.

    A gap between the stages' numbers is a layer without weights.
    """
    found = (re.fullmatch(r"(\d+)\.0\.conv3\.weight", name) for name in tensors)
    stages = sorted(int(match[1]) for match in found if match)
    if len(stages) != 4 or "0.weight" not in tensors:
        return {}, ""
    tops = {"0": "conv1", "1": "bn1"} | {str(n): f"layer{i}" for i, n in enumerate(stages, 1)}
    parts = [(name, *name.partition(".")) for name in tensors]
    renamed = {name: f"{tops[top]}.{rest}" for name, top, _, rest in parts if top in tops}
    gap = (
        "" if stages[3] - stages[0] == 3 else "it has layers between its stages (BAU: instance normalization)"
    )
    return renamed, gap
