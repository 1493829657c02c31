"""One paper, one file: the epoch and the objective of each method, wired from the modules."""
