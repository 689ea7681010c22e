from . import equivariance as equivariance
from . import images as images
from . import latents as latents
from . import training as training
from .checkpoint.known import KnownCheckpoint as KnownCheckpoint
from .checkpoint.known import list_checkpoints as list_checkpoints
from .checkpoint.loading import load as load
from .checkpoint.loading import save as save
from .config import AuraConfig as AuraConfig
from .errors import ArrayError as ArrayError
from .errors import AuraError as AuraError
from .errors import CheckpointError as CheckpointError
from .errors import ConfigError as ConfigError
from .errors import ImageError as ImageError
from .images.options import Decoding as Decoding
from .images.readers import find_images as find_images
from .latent_stats import LatentStats as LatentStats
from .model.autoencoder import AuraEquiVAE as AuraEquiVAE
from .noise import perturb as perturb
from .runtime.codec import Codec as Codec
from .runtime.functional import decode as decode
from .runtime.functional import encode as encode
from .symmetry import Flips as Flips
from .symmetry import flip_images as flip_images
from .symmetry import flip_latents as flip_latents
from .symmetry import random_flips as random_flips

__version__: str
