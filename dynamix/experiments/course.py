"""The README's pictures of the course, out of the notebooks: `python -m dynamix.experiments.course`.

As the stored outputs have them, so that page and notebook cannot differ.
"""

import base64
import json
from pathlib import Path

import tyro

PICTURES = {  # notebook -> id of the cell whose picture the README shows
    "01_data": "01-12",
    "02_evaluation": "02-07",
    "03_encoders": "03-20",
    "05_efficient_centroids": "05-17",
    "06_relabeling": "06-13",
    "07_sampling": "07-11",
}
SUFFIXES = {"image/png": "png", "image/jpeg": "jpeg"}


def picture(notebook: Path, cell_id: str) -> tuple[bytes, str]:
    """The picture that a cell shows, and its file's suffix. Raises ValueError where it shows none."""
    cells = json.loads(notebook.read_text())["cells"]
    for output in next((cell["outputs"] for cell in cells if cell.get("id") == cell_id), []):
        for kind in SUFFIXES.keys() & output.get("data", {}).keys():
            return base64.b64decode(output["data"][kind]), SUFFIXES[kind]
    raise ValueError(f"{notebook}: cell {cell_id} shows no picture; execute it, or name another in PICTURES")


def main(notebooks: Path = Path("notebooks"), out: Path = Path("figures/course")) -> None:
    """Write the pictures of the course into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for name, cell_id in PICTURES.items():
        content, suffix = picture(notebooks / f"{name}.ipynb", cell_id)
        (out / f"{name}.{suffix}").write_bytes(content)
        print(out / f"{name}.{suffix}")


if __name__ == "__main__":
    tyro.cli(main)
