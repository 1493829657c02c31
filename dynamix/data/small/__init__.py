"""The four small test sets, each divided ten times into train and test; results are means over the ten."""

from dynamix.data.small.grid import grid
from dynamix.data.small.ilids import ilids
from dynamix.data.small.prid import prid
from dynamix.data.small.viper import viper

__all__ = ["grid", "ilids", "prid", "viper"]
