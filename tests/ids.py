"""Ids of batches in tests: the same in every run."""

import random

from ingestd.core.chunk import batch_ids

new_id = batch_ids(random.Random(11))
