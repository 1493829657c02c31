"""The four small test sets, each divided ten times into train and test; results are means over the ten."""

from dynamix.data.small.grid import HOME as GRID
from dynamix.data.small.grid import grid
from dynamix.data.small.ilids import HOME as ILIDS
from dynamix.data.small.ilids import ilids
from dynamix.data.small.prid import HOME as PRID
from dynamix.data.small.prid import prid
from dynamix.data.small.viper import HOME as VIPER
from dynamix.data.small.viper import viper

__all__ = ["GRID", "ILIDS", "PRID", "VIPER", "grid", "ilids", "prid", "viper"]
