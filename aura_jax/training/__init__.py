"""Training of flip-equivariant autoencoders: losses, data, one train step, the loop.

Modules are imported one by one, since some need what only `pip install "aura-jax[train]"` adds:

- `recipe`: `Recipe`, all numbers of a run
- `losses`, `perceptual`, `discriminator`, `objective`: what is minimised
- `start`: `starting_point`, the weights that a new model begins with
- `step`: `Trainer`, whose step is one jitted function over (state, batch, key)
- `data`: batches of crops
- `loop`: `Run`, which resumes, records and saves
- `session`: all of it together, as the command has it
"""
