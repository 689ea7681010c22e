"""Run a model: plain jit-compiled functions, and a codec that replaces layers by faster ones.

- `functional`: `encode` and `decode`
- `codec`: `Codec`, which holds one model ready to run
- `program`: a function compiled ahead of time for each shape
- `rewrite`: which layers of a trained model are replaced by which kernels
- `kernels`: the replacements
"""
