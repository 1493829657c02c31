"""The papers' evaluation protocols by name: what is trained on, what is tested on.

DynaMix's own add LUPerson-NL as single-camera data; the others are the common protocols of domain
generalization, to which single-camera data may be added with `--single`.
"""

from dataclasses import dataclass

BIG = ("market1501", "dukemtmc", "cuhk03_detected", "msmt17")
SMALL = ("prid", "grid", "viper", "ilids")


@dataclass(frozen=True)
class Protocol:
    """Names of parts (`NAME` or `NAME:SPLIT`) to train on, and of datasets to test on."""

    about: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    single: tuple[str, ...] = ()


MANNEQUINS = Protocol("the embedded benchmark", ("plaza",), (), ("videos",))


def _cross(source: str, *targets: str) -> Protocol:
    about = f"cross-dataset, {source} to others (DynaMix Table 2a)"
    return Protocol(about, (source,), targets, ("luperson_nl",))


def _leave_out(target: str) -> Protocol:
    sources = tuple(name for name in BIG if name != target)
    about = f"train splits of three datasets to {target} (DynaMix Table 2b)"
    return Protocol(about, sources, (target,), ("luperson_nl",))


def _three(number: int, target: str) -> Protocol:
    """CDVM protocols 2 (train splits) and 3 (everything); CUHK-SYSU always gives all it has."""
    split = "" if number == 2 else ":all"
    others = [f"{name}{split}" for name in ("market1501", "msmt17", "cuhk03_detected") if name != target]
    what = "train splits" if number == 2 else "all images"
    about = f"{what} of two datasets and CUHK-SYSU to {target} (CDVM protocol {number})"
    return Protocol(about, (*others, "cuhk_sysu"), (target,))


PROTOCOLS: dict[str, Protocol] = {
    "cross-market1501": _cross("market1501", "cuhk03_detected", "msmt17"),
    "cross-msmt17": _cross("msmt17", "cuhk03_detected", "market1501"),
    "cross-msmt17-merged": _cross("msmt17_merged", "cuhk03_detected", "market1501"),
    "cross-randperson": _cross("randperson", "cuhk03_detected", "market1501", "msmt17"),
    **{f"leave-out-{name.removesuffix('_detected')}": _leave_out(name) for name in BIG},
    "all-to-small": Protocol(
        "all images of five datasets to the four small ones (ISR protocol 2)",
        ("market1501:all", "dukemtmc:all", "cuhk02:all", "cuhk03_detected:all", "cuhk_sysu"),
        SMALL,
    ),
    "cdvm-1": Protocol(
        "all images of four datasets to the four small ones (CDVM protocol 1)",
        ("market1501:all", "cuhk02:all", "cuhk03_detected:all", "cuhk_sysu"),
        SMALL,
    ),
    **{
        f"cdvm-{number}-{target.removesuffix('_detected')}": _three(number, target)
        for number in (2, 3)
        for target in ("cuhk03_detected", "msmt17", "market1501")
    },
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`; raises ValueError listing those that exist."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
