"""Running a model fast: rewrites of its layers, and executables that are compiled once.

- `codec`: `Codec`, which users hold
- `program`: a function compiled ahead of time for each shape
- `rewrite`: which layers are replaced by what, all of them functions of the trained weights
- `attention`, `norm`, `upsample`, `winograd`: the replacements
"""
