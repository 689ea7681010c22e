"""Run a model with plain jit-compiled functions, or with a codec that has faster layers.

- `functional`: `encode` and `decode`
- `codec`: `Codec`, which holds one model ready to run
- `program`: a function compiled ahead of time for each shape
- `rewrite`: which layers of a trained model are replaced by which kernels
- `kernels`: the replacements
"""
