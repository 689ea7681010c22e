"""A page to try checkpoints on one's own photographs, for the command `aura-jax demo`.

- `experiment`: the arrays behind the page, without Gradio
- `actions`: the functions that the page's events call
- `page`: the layout and the events
- `server`: the server on this machine's loopback address
"""
