from .batches import read_batches as read_batches
from .pil import from_pil as from_pil
from .pil import latents_to_pil as latents_to_pil
from .pil import to_pil as to_pil
from .quality import psnr as psnr
from .quality import ssim as ssim
from .transforms import crop_back as crop_back
from .transforms import pad_to_multiple as pad_to_multiple
