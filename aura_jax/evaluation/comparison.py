"""Evaluate several models on the same image files, one file at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aura_jax.documents import to_bytes
from aura_jax.evaluation.folder import FIGURE_NAME, JSON_NAME, ORIGINAL, reconstruction_folders
from aura_jax.evaluation.measures import Evaluation, Evaluator, Scores, bits_per_pixel, mean
from aura_jax.evaluation.reports import Model, Picture, Report
from aura_jax.images.io import write_image
from aura_jax.images.transforms import Pixels, square_pixels, to_uint8
from aura_jax.model.autoencoder import AuraEquiVAE
from aura_jax.model.parameters import fingerprint
from aura_jax.training.networks.lpips import LPIPS

type Measured = tuple[Picture, tuple[Scores, ...]]  # a picture, and its scores for each model


class Comparison:
    """Several models that are evaluated on the same pictures.

    Args:
        models: the models by the names of their weights.
        size: the side of the squares that they are evaluated on, in pixels.
        folder: the folder to write the compared images to; None writes none.
        flips: see `aura_jax.evaluation.evaluate`, as for the following.
        storage: whether to decode latents as a cache stores them too.
        lpips: the network of LPIPS.
    """

    def __init__(
        self,
        models: Mapping[str, AuraEquiVAE],
        size: int,
        folder: Path | None,
        *,
        flips: bool = False,
        storage: bool = False,
        lpips: LPIPS | None = None,
    ):
        self._size, self._folder = size, folder
        folders = [None] * len(models) if folder is None else reconstruction_folders([*models])
        self._models = tuple(
            Model(name, fingerprint(vae), vae.config, vae.encoder.averaged, each)
            for (name, vae), each in zip(models.items(), folders, strict=True)
        )
        self._evaluators = [
            Evaluator(vae, flips=flips, storage=storage, lpips=lpips) for vae in models.values()
        ]
        if folder is not None:
            for name in (ORIGINAL, *filter(None, folders)):
                (folder / name).mkdir(parents=True)

    def measure(self, image: str, pixels: Pixels, name: str | None) -> Measured:
        """Measure all models on an image, and write the compared images.

        Args:
            image: the path of its file.
            pixels: [H, W, 3] in [-1, 1].
            name: the name of the PNG files, without the ending.

        Raises:
            ArrayError: if the device has too little memory.
            AuraError: if a file cannot be written.
        """
        original = to_uint8(square_pixels(pixels, self._size))
        results = [evaluator(original) for evaluator in self._evaluators]
        height, width = pixels.shape[:2]
        png = None
        if self._folder is not None:
            png = f"{name}.png"
            write_image(self._folder / ORIGINAL / png, original)
            for model, (_, reconstruction) in zip(self._models, results, strict=True):
                write_image(self._folder / str(model.folder) / png, reconstruction)
        return Picture(image, width, height, png), tuple(scores for scores, _ in results)

    def report(self, measured: Sequence[Measured], skipped: Sequence[str], dtype: str) -> Report:
        """Collect the measures of one or more pictures."""
        pictures, scores = zip(*measured, strict=True)
        evaluations = [
            Evaluation(mean(of_model), of_model, bits_per_pixel(model.config))
            for model, of_model in zip(self._models, zip(*scores, strict=True), strict=True)
        ]
        return Report(self._size, dtype, tuple(skipped), pictures, self._models, tuple(evaluations))


def write_report(folder: Path, report: Report) -> None:
    """Write the document and the figure of a report beside its images."""
    from aura_jax.evaluation.figure import draw  # late, since it needs matplotlib

    (folder / FIGURE_NAME).write_bytes(draw(report, folder))
    (folder / JSON_NAME).write_bytes(to_bytes(report.to_json()))
