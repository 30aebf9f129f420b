"""Compression in torch: really smaller models, and masks. Importing it makes every family known to `build`."""

from evaluators.transforms import attention as attention
from evaluators.transforms import compress as compress
from evaluators.transforms import prune as prune
