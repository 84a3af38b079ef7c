#!/usr/bin/env python3
"""Makes the images of this folder and the pixels that a reference decoder reads from them.

    python3 make.py        needs Pillow, which decodes by libjpeg-turbo, zlib and libwebp

NAME.EXT.rgb beside NAME.EXT holds height * width * 3 bytes: the image as 8-bit RGB, upright, transparent pixels over black. Samples
of 16 bits keep their upper byte.
"""
import pathlib
import struct

from PIL import Image, ImageChops, ImageOps

here = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 12, 8
ramp = [(21 * x, 36 * y, 255 - 10 * (x + y)) for y in range(HEIGHT) for x in range(WIDTH)]
rgb = Image.new("RGB", (WIDTH, HEIGHT))
rgb.putdata(ramp)
alpha = Image.new("L", (WIDTH, HEIGHT))
alpha.putdata([min(255, 23 * x) for y in range(HEIGHT) for x in range(WIDTH)])
rgba = rgb.copy()
rgba.putalpha(alpha)


def expect(name, image):
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    (here / (name + ".rgb")).write_bytes(image.convert("RGB").tobytes())


def save(name, image, **options):
    image.save(here / name, **options)
    expect(name, Image.open(here / name))


def without_adobe_marker(path):
    """Removes the segment APP14."""
    data = path.read_bytes()
    at = data.index(b"\xff\xee")
    path.write_bytes(data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]:])


def mark_as_ycck(path):
    """Says in the segment APP14 that the first three components are luminance and colours."""
    data = bytearray(path.read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    path.write_bytes(data)


exif = Image.Exif()
exif[0x0112] = 6
small = dict(quality=90, subsampling=0)
save("rgb.jpg", rgb, **small)
save("subsampled.jpg", rgb, quality=90)
save("grey.jpg", rgb.convert("L"), quality=90)
save("progressive.jpg", rgb, progressive=True, **small)
save("no_transform.jpg", rgb, keep_rgb=True, **small)
save("exif6.jpg", rgb, exif=exif, **small)
save("cmyk_adobe.jpg", rgb.convert("CMYK"), **small)
save("cmyk_plain.jpg", rgb.convert("CMYK"), **small)
without_adobe_marker(here / "cmyk_plain.jpg")
expect("cmyk_plain.jpg", Image.open(here / "cmyk_plain.jpg"))
black = Image.new("L", (WIDTH, HEIGHT))
black.putdata([12 * x + 10 * y for y in range(HEIGHT) for x in range(WIDTH)])
stored = [ImageChops.invert(band) for band in (*rgb.convert("YCbCr").split(), black)]  # Pillow stores 255 - ink
Image.merge("CMYK", stored).save(here / "ycck.jpg", **small)
mark_as_ycck(here / "ycck.jpg")
expect("ycck.jpg", Image.open(here / "ycck.jpg"))
save("palette.png", rgb.quantize(16))
save("palette_transparent.png", rgb.quantize(16), transparency=3)
save("grey_alpha.png", rgba.convert("LA"))
save("alpha.png", rgba)
save("exif6.png", rgb, exif=exif)
deep = Image.new("I;16", (WIDTH, HEIGHT))
deep.putdata([5400 * x + 37 * y for y in range(HEIGHT) for x in range(WIDTH)])
deep.save(here / "grey16.png")
(here / "grey16.png.rgb").write_bytes(bytes(v for p in deep.get_flattened_data() for v in [p >> 8] * 3))
save("lossless.webp", rgb, lossless=True)
save("alpha.webp", rgba, lossless=True, exact=True)
save("lossy.webp", rgb, quality=90)
save("exif6.webp", rgb, lossless=True, exif=exif)
turned = rgb.transpose(Image.Transpose.ROTATE_180)
save("animation.webp", rgb, save_all=True, append_images=[turned], lossless=True)  # the first frame counts
