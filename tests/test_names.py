"""What `encode` takes, `decode` writes, and names do not act on the terminal."""

from pathlib import Path

import numpy as np
import pytest

from aura_jax.cli.inputs import each, find, latent_names, unique_names
from aura_jax.cli.outputs import check_image, image_targets
from aura_jax.errors import AuraError, ImageError, listed, printable
from aura_jax.images.io import write_image
from aura_jax.images.readers import ImageFile
from tests.photo_folder import write_photos

GRAY = np.full((8, 8, 3), 128, np.uint8)


@pytest.mark.parametrize(
    "name", ["写真", "😀👨‍👩‍👧", "x" * 220, "写" * 83, "é" * 125, "a.jpg?width=640", "[b]:cat:"]
)
def test_names_of_images_are_names_of_files(tmp_path: Path, name: str) -> None:
    image = ImageFile(tmp_path / f"{name}.png")
    names = latent_names([image])
    assert names == {image: name}
    targets = image_targets([*names.values()], tmp_path / "out", overwrite=False)
    (tmp_path / "out").mkdir()
    write_image(targets[name], GRAY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{name}.png"]


def test_names_that_decode_could_not_write(tmp_path: Path) -> None:
    for name in ("x" * 252, "写" * 84):
        with pytest.raises(AuraError, match=r"rename it, .* would be too long"):
            latent_names([ImageFile(tmp_path / name)])
    for name in ("a\nb.png", "a\x1b[2J.png", "\udcff.png"):
        with pytest.raises(AuraError, match="rename it, a tensor cannot have this name"):
            latent_names([ImageFile(tmp_path / name)])


def test_names_of_png_files_need_not_be_utf_8() -> None:
    image = ImageFile(Path("a\nb\udcff.jpg"))
    assert unique_names([image], "omit --out") == {image: "a\nb\udcff"}
    with pytest.raises(AuraError, match="2 images are named 'x', but omit --out"):
        unique_names([ImageFile(Path("a/x.jpg")), ImageFile(Path("b/x.png"))], "omit --out")


def test_an_output_of_255_bytes(tmp_path: Path) -> None:
    out = tmp_path / f"{'n' * 251}.png"
    check_image(out, overwrite=False)
    write_image(out, GRAY)
    assert [*tmp_path.iterdir()] == [out]
    with pytest.raises(AuraError, match="cannot be written"):
        check_image(tmp_path / f"n{out.name}", overwrite=False)


def test_names_do_not_act_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(name: str) -> None:
        if name != "good":
            raise ImageError(f"{name}: broken")

    each(["good", "\x1b[31m\nwrote x.png\u202e\udcff"], fail)
    errors = capfd.readouterr().err
    assert errors == "skipped: \\x1b[31m\\nwrote x.png\\u202e\\udcff: broken\n"
    assert printable("写真 é") == "写真 é"


def test_commands_say_what_they_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    for name in ("a.txt", "b.txt", "c.cr2"):
        (folder / name).write_bytes(b"?")
    assert len(find([folder], tmp_path / "out.png")) == 2
    assert capfd.readouterr().err == "left out: 2 .txt, 1 .cr2\n"


def test_messages_list_ten_names_and_count_the_others() -> None:
    assert listed(["a", "b\x1b"]) == r"a, b\x1b"
    assert listed(map(str, range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2 more"
