"""People's own crops in miniature: in folders, in Market's folders, or listed in a .csv file."""

from pathlib import Path

from tests.layouts import Entry, draw

FOLDERS = {
    "folders": {"train": "train", "query": "query", "gallery": "gallery"},
    "market": {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"},
}
NAMES = ("{}_c{}.png", "{:04d}_c{}_door.bmp", "{:04d}_c{}s1_000451_03.jpg", "{}_c{}_1.webp")


def write_own(root: Path, form: str = "folders") -> list[Entry]:
    """Six people who train and three who test, each in four of twelve cameras, in all kinds of formats."""
    shots = [
        ("train" if pid < 6 else ("query", "gallery")[number > 0], pid, (3 * pid + number) % 12, number)
        for pid in range(9)
        for number in range(4)
    ]
    if form == "csv":
        entries = [Entry(split, f"crops/{pid}/{number}.tif", pid, cam) for split, pid, cam, number in shots]
        lines = [f"{entry.path},{entry.pid},{entry.camid},{entry.split}\n" for entry in entries]
        root.mkdir(parents=True, exist_ok=True)
        (root / "labels.csv").write_text("path,pid,camid,split\n" + "".join(lines))
    else:
        entries = [
            Entry(split, f"{FOLDERS[form][split]}/{NAMES[number].format(pid, cam)}", pid, cam)
            for split, pid, cam, number in shots
        ]
    for number, entry in enumerate(entries):
        draw(root / entry.path, entry.pid, number)
    return sorted(entries, key=lambda entry: (["train", "query", "gallery"].index(entry.split), entry.path))


def write_own_videos(root: Path) -> list[Entry]:
    """Four clips, each with three people of its own."""
    entries = [
        Entry("train", f"clip{clip}/{pid:02d}_{number}.jpg", pid, -1)
        for clip in range(4)
        for pid in range(3 * clip, 3 * clip + 3)
        for number in range(4)
    ]
    for number, entry in enumerate(entries):
        draw(root / entry.path, entry.pid, number)
    lines = [f"{entry.path},{entry.pid},-1,{entry.path.split('/')[0]}\n" for entry in entries]
    (root / "videos.csv").write_text("path,pid,camid,video\n" + "".join(lines))
    return entries
