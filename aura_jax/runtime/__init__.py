"""Run a model with plain jit-compiled functions, or with a codec that has faster layers.

`__init__.pyi` lists the public names. The modules are for those who change the package:

- `functional`: `encode` and `decode`
- `codec`: `Codec`, which holds one model ready to run; its programs (`codec_programs`), the checks
  of its `inputs`, how batches are padded for the programs (`runner`, `shapes`, `buckets`)
- `compilation`: `compile_for`, which compiles for devices that need not be here
- `export`: `export`, which writes programs that run without this package; `export_loader`, which
  runs them; their platforms (`choices`)
- `networks`: the encoder and the decoder as programs
- `program`: a function compiled ahead of time for each shape
- `placement`: the devices, and how they share images; `auto_axes`: how XLA divides a program
- `plan`: which layers are replaced by which kernels on which platform
- `rewrite`: a model with replaced layers
- `kernels`: the replacements
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
