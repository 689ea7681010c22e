from .batches import BucketBatches as BucketBatches
from .flip import RandomFlip as RandomFlip
from .serialize import from_bytes as from_bytes
from .source import LatentSource as LatentSource
from .statistics import Statistics as Statistics
from .statistics import denormalize as denormalize
from .statistics import normalize as normalize
