"""How many images, pids and cameras each split of each dataset has when complete, to hold a copy against.

As published by the datasets' authors and in Table 1 of the paper; test sets as protocols count them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Counts of one split; None where nothing is published."""

    images: int | None = None
    pids: int | None = None  # without the distractors of Market-1501 and GRID (pid 0)
    cameras: int | None = None
    videos: int | None = None


def _tested(train: Published, query: Published, gallery: Published) -> dict[str, Published]:
    return {"train": train, "query": query, "gallery": gallery}


def _small(train: Published, query: int, gallery: int, gallery_pids: int) -> dict[str, Published]:
    """One division of a small set: one query per pid."""
    return _tested(train, Published(query, query), Published(gallery, gallery_pids))


PUBLISHED: dict[str, dict[str, Published]] = {
    "market1501": _tested(
        Published(12_936, 751, 6),
        Published(3_368, 750, 6),
        Published(15_913, 750, 6),
    ),
    "dukemtmc": _tested(
        Published(16_522, 702, 8),
        Published(2_228, 702, 8),
        Published(17_661, 1_110, 8),  # 408 of them seen by one camera only
    ),
    "cuhk03_detected": _tested(Published(7_365, 767, 2), Published(1_400, 700, 2), Published(5_332, 700, 2)),
    "cuhk03_labeled": _tested(Published(7_368, 767, 2), Published(1_400, 700, 2), Published(5_328, 700, 2)),
    "msmt17": _tested(
        Published(32_621, 1_041, 15),  # list_train + list_val
        Published(11_659, 3_060, 15),
        Published(82_161, 3_060, 15),
    ),
    "msmt17_merged": {"all": Published(126_441, 4_101, 15)},
    "randperson": {"all": Published(132_145, 8_000, 19)},  # the subset
    # Pairs 1-4 train, pair 5 tests: 971 + 306 + 107 + 193 and 239 pids, two images in either camera.
    "cuhk02": _tested(Published(6_308, 1_577, 8), Published(478, 239, 1), Published(478, 239, 1)),
    "cuhk_sysu": {"all": Published(34_574, 11_934)},
    "prid": _small(Published(200, 100, 2), query=100, gallery=649, gallery_pids=649),
    "grid": _small(Published(250, 125), query=125, gallery=900, gallery_pids=125),
    "viper": _small(Published(632, 316, 2), query=316, gallery=316, gallery_pids=316),
    "ilids": _small(Published(None, 59), query=60, gallery=60, gallery_pids=60),
    "luperson": {"all": Published(4_180_243, videos=46_260)},
    "luperson_nl": {"all": Published(10_683_716, 433_997, videos=21_697)},
}
JUNK_OF_MARKET = 3_819  # pid -1 in bounding_box_test: neither right nor wrong
