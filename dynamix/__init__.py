"""DynaMix, reproduced: generalizable person re-identification from labeled multi-camera data mixed with
huge pseudo-labeled single-camera data.

The modules, from the images to the tables; each imports only from those above it:

    fields        what a setting may be: its type and its range
    config        settings; the profiles tiny, mini, gpu, paper
    disk          places that can be written, files that are whole or not there, the cache
    storage       tensors in safetensors files
    forks         lets a fork wait for the work of another thread
    distributed   several processes that train as one
    data          tables of images from real layouts, decoding, views; the embedded benchmark
    encoders      the encoder, published weights for it, its momentum copy (Eq. 2)
    features      the encoder over rows, in chunks
    similarity    exact blocked search among centroids
    centroids     Efficient Centroids Module (Sec. 3.3, Eq. 3)
    relabeling    Relabeling Module (Sec. 3.2): filter, relabel, merge
    sampling      Data Sampling Module (Sec. 3.4): Hungarian, median, queue
    losses        instance, augmentation, centroids, camera centroids (Eq. 1)
    methods       one paper, one file: the epoch and the objective
    checkpoint    what a run needs to go on, and the encoder it trained
    trainer       one loop for every method: a generator of records
    evaluation    CMC, mAP, mINP; pseudo-label quality
    retrieval     a searchable gallery of person crops
    export        ONNX, and weights that timm reads
    plots         every picture
    experiments   trainings by dataset name, protocols, runs, the demo
    cli           the commands

Words: a *row* is an image's number in its table; *pid* the dataset's number of a person, *label* the
training identity (-1 = ignored), *camid* the camera, *video* the clip of a single-camera image. *Query*
images are searched for in the *gallery*; *junk* is neither right nor wrong, a *distractor* always wrong.
Letters: B batch, D feature, N images, P identities, C cameras, Q query, G gallery.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamix.centroids import CentroidsMemory as CentroidsMemory
    from dynamix.config import Config as Config
    from dynamix.evaluation import evaluate as evaluate
    from dynamix.evaluation import label_quality as label_quality
    from dynamix.losses import augmentation_loss as augmentation_loss
    from dynamix.losses import camera_centroids_loss as camera_centroids_loss
    from dynamix.losses import centroids_loss as centroids_loss
    from dynamix.losses import instance_loss as instance_loss
    from dynamix.relabeling import RelabelingReport as RelabelingReport
    from dynamix.relabeling import merge_pids as merge_pids
    from dynamix.relabeling import relabel as relabel
    from dynamix.sampling import MixedBatches as MixedBatches
    from dynamix.sampling import match_pids as match_pids
    from dynamix.similarity import components as components
    from dynamix.similarity import nearest as nearest
    from dynamix.similarity import pairs_above as pairs_above
    from dynamix.trainer import train as train

__version__ = "0.1.0"

MODULES = ("config", "data", "encoders", "features", "similarity", "centroids", "relabeling", "sampling",
           "losses", "methods", "checkpoint", "trainer", "evaluation", "retrieval", "export", "plots",
           "experiments")  # fmt: skip
PUBLIC = {
    "Config": "config", "CentroidsMemory": "centroids", "evaluate": "evaluation",
    "label_quality": "evaluation", "instance_loss": "losses", "augmentation_loss": "losses",
    "centroids_loss": "losses", "camera_centroids_loss": "losses", "relabel": "relabeling",
    "merge_pids": "relabeling", "RelabelingReport": "relabeling", "match_pids": "sampling",
    "MixedBatches": "sampling", "nearest": "similarity", "pairs_above": "similarity",
    "components": "similarity", "train": "trainer",
}  # fmt: skip
__all__ = [*PUBLIC, *MODULES]


def __getattr__(name: str) -> Any:
    """Import on first use: `import dynamix` stays light."""
    if name in MODULES:
        return import_module(f"dynamix.{name}")
    if name in PUBLIC:
        return getattr(import_module(f"dynamix.{PUBLIC[name]}"), name)
    raise AttributeError(f"module 'dynamix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
