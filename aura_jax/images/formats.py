"""Tell formats of image files apart by their first bytes and by their names."""

import re
from functools import cache
from importlib.util import find_spec

from PIL import features

HEAD = 64  # bytes of a file that `image_format` needs

# The formats that are opened, with the endings of their files. Other decoders of Pillow never run:
# some start programs (EPS) or read anything (TGA), and most serve no photographs.
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIC": (".heic", ".heif", ".hif"),
}
NEEDS = {  # format: the feature of Pillow that it needs, which a build may lack
    "JPEG": "jpg",
    "PNG": "zlib",
    "WebP": "webp",
    "TIFF": "libtiff",
    "JPEG 2000": "jpg_2000",
    "AVIF": "avif",
}

# Tried in this order. Formats without an entry in ENDINGS are known only by name, for messages.
SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # the size of its second header
    "PPM": rb"P[1-6]\s",
    "JPEG 2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "camera raw": rb"II\*\0.{4}CR|II[RU][\0OS]|MMOR|FUJIFILM|FOVb|.{4}ftypcrx",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb".{4}ftyp(avi[fs]|(mif1|msf1|miaf).{4}(.{4}){0,9}avi[fs])",
    "HEIC": rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "Photoshop": rb"8BPS",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?R",
    "icon": rb"\0\0\x01\0[^\0]",
    "DDS": rb"DDS \x7c",
    "QOI": rb"qoif",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg",
}
_ANY = re.compile(
    b"|".join(b"(%s)" % each.replace(b"(", b"(?:") for each in SIGNATURES.values()), re.S
)


def image_format(head: bytes) -> str | None:
    """Return the format of an image file by its first bytes, or None if it is not an image.

    Formats that cannot be opened are named too, such as "JPEG XL" or "camera raw": see `can_open`.

    Args:
        head: the first `HEAD` bytes of the file, or more.
    """
    found = _ANY.match(head)
    return None if found is None else [*SIGNATURES][(found.lastindex or 1) - 1]


@cache
def can_open(name: str) -> bool:
    """Return whether image files of this format can be opened with the packages installed here."""
    if name == "HEIC":
        return find_spec("pillow_heif") is not None
    return name in ENDINGS and (name not in NEEDS or bool(features.check(NEEDS[name])))


@cache
def endings() -> frozenset[str]:
    """Return the endings of the image files that can be opened, in lower case."""
    return frozenset(ending for name in ENDINGS if can_open(name) for ending in ENDINGS[name])
