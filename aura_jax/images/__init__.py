"""Find, read, crop, draw and write images.

`__init__.pyi` lists the public names. The modules are for those who change the package:

- `io`: image files to arrays and back
- `options`: the options of decoding
- `formats`: which format a file has, by its first bytes
- `opening`: one Pillow decoder for each format
- `source`, `png`, `tiff`, `tags`: files without their metadata, by format
- `decode`: orientation, modes and transparency
- `levels`: samples of more than 8 bits
- `color`: ICC profiles
- `transforms`: crops and value ranges
- `readers`: the image files of folders and tars
- `folders`, `tars`, `webdataset`: the files of a folder, the members of a tar, and these by key
- `batches`: the images of folders in batches
- `left_out`: files that are not taken as images
- `pil`: Pillow images to arrays and back, and pictures of latents
- `quality`: PSNR and SSIM
- `grid`: labeled grids of images
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
