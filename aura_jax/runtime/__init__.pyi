from .compilation import compile_for as compile_for
