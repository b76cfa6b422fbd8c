"""Ids of batches in tests: random ones, the same in every run."""

import random
from functools import partial

from ingestd.core.chunk import random_id

new_id = partial(random_id, random.Random(11))
