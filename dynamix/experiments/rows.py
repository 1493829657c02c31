"""The methods that the demo sets side by side, as changes of one config."""

from dynamix.config import Config, change

METHODS = ("multi only", "multi only, 64", "+ raw videos", "DynaMix")
TITLES = {
    "multi only": "multi-camera only",
    "multi only, 64": "multi-camera only, same batch size",
    "+ raw videos": "+ videos, raw tracker labels",
    "DynaMix": "DynaMix",
}


def variant(base: Config, method: str) -> Config:
    """The config of one of `METHODS`."""
    if method == "multi only":
        return change(base, batch__ids_single=0)
    if method == "multi only, 64":
        batch = base.batch
        ids = batch.size // batch.images_multi
        return change(base, batch__ids_multi=ids, batch__ids_single=0)
    if method == "+ raw videos":
        return change(base, rm__on=False, dsm__mode="off", ecm__naive=True)
    return base
