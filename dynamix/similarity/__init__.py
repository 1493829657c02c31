"""Exact cosine search among centroids: nearest, pairs above a threshold, components.

Blocks are found with matrix products, whose last bits depend on their shape; large ones with products of
8-bit or bfloat16 codes (`screen`). Whatever lies within the error of the decision is scored again, one pair
at a time in a fixed order (`Prepared.scores`). Hence the answer depends neither on `chunk` nor on the order
of the rows, nor on how it was screened, and equal centroids tie exactly.
"""

from dynamix.similarity.exact import full_precision as full_precision
from dynamix.similarity.exact import rounding as rounding
from dynamix.similarity.exact import row_sums as row_sums
from dynamix.similarity.exact import unit as unit
from dynamix.similarity.merging import components as components
from dynamix.similarity.merging import pairs_above as pairs_above
from dynamix.similarity.prepared import Prepared as Prepared
from dynamix.similarity.search import Nearest as Nearest
from dynamix.similarity.search import nearest as nearest
