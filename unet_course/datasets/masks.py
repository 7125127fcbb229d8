"""Read what a mask file holds: values, colours, ids or transparency, in any format."""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from unet_course.support.files import CourseError

COLOUR = 1 << 24  # a grey value is its number; a colour is COLOUR + 0xRRGGBB

def colour(
    red: int, green: int, blue: int,  # 0..255
) -> int:  # 0..255 for greys, COLOUR + 0xRRGGBB for colours
    "Return the number that stands for a colour in a mask."
    return red if red == green == blue else COLOUR | red << 16 | green << 8 | blue

def value_text(
    value: int,  # as `colour` returns it
) -> str:
    "Return a mask's value as people write it: `255`, or `#fa3253`."
    return str(value) if value < COLOUR else f'#{value - COLOUR:06x}'

def open_file(
    path: Path,  # a picture or a mask
) -> Image.Image:  # opened, not decoded
    "Return the opened file; a `CourseError` names a file that is no picture."
    try: return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError) as error:
        large = isinstance(error, Image.DecompressionBombError)
        reason = getattr(error, 'strerror', None) or ('too large' if large else 'no picture that Pillow reads')
        raise CourseError(f'{path}: {reason}; replace or delete the file') from None

def decode(
    opened: Image.Image,  # by `open_file`
    path: Path,           # for the message
) -> Image.Image:
    "Return the picture with its pixels in memory; a `CourseError` names a file that is damaged."
    try: opened.load()
    except Exception as error:  # Pillow raises a dozen types on damaged files
        raise CourseError(f'{path}: the file is damaged ({error}); replace or delete it') from None
    return opened

def page_count(
    opened: Image.Image,  # by `open_file`
) -> int:
    "Return how many pages or frames the file has; 1 if it is too damaged to tell."
    try: return getattr(opened, 'n_frames', 1)
    except Exception: return 1  # decoding will say what is wrong

def opaque_values(
    rgba: Image.Image,  # mode RGBA, not opaque everywhere
) -> Image.Image:  # mode L: the alpha channel; or RGB: transparent pixels black
    "Return the mask of a file with transparency: up to 16 colours on black; else its alpha, as of a cut-out photo."
    alpha = rgba.getchannel('A')
    opaque = {tuple(c[:3]) for _, c in rgba.getcolors(4096) or [] if c[3] >= 128}
    if not 1 <= len(opaque) <= 16 or (0, 0, 0) in opaque: return alpha
    black = Image.new('RGB', rgba.size)
    black.paste(rgba.convert('RGB'), mask=alpha.point(lambda a: 255 * (a >= 128)))
    return black

def open_mask(
    path: Path,  # a mask in any format that Pillow reads
) -> tuple[Image.Image, bool]:  # mode L, I or RGB; was it compressed with loss
    "Return the mask's picture, its palette made colours, its alpha made values."
    with open_file(path) as opened:
        if (pages := page_count(opened)) > 1: raise CourseError(f'{path}: {pages} pages in one mask; save one picture a file')
        if opened.mode == 'RGB' and '16' in str(opened.tile[:1]):
            raise CourseError(f'{path}: 16 bits a colour; save the mask as 8-bit RGB or 16-bit grey')
        fine = opened.format == 'WEBP' and b'VP8L' in path.read_bytes()[:64]
        lossy = opened.format in ('JPEG', 'MPO', 'WEBP') and not fine
        image = decode(opened, path)
        if image.has_transparency_data and (rgba := image.convert('RGBA')).getextrema()[3][0] < 255:
            return opaque_values(rgba), lossy
    if image.mode == 'F':
        values = np.asarray(image)
        if not np.isfinite(values).all() or (values != values.round()).any() or values.min() < 0:
            raise CourseError(f'{path}: its values are fractions; save the mask with whole numbers')
        return Image.fromarray(values.astype(np.int32)), lossy
    if image.mode.startswith('I'):
        values = np.asarray(image).astype(np.int32)
        if values.min() < 0 or values.max() >= COLOUR:
            raise CourseError(f'{path}: values from {values.min()} to {values.max()}; '
                              f'0 to {COLOUR - 1} can be read')
        return Image.fromarray(values), lossy
    if image.mode == 'P':  # by colour: some tools change a class's index from file to file
        index = Image.frombytes('L', image.size, image.tobytes())
        image = image.convert('RGB')
        if len(image.getcolors(256)) == 1: image = index  # a palette of one colour says nothing
    if image.mode not in ('L', 'RGB'): image = image.convert('L' if image.mode in ('1', 'LA') else 'RGB')
    if lossy and image.mode == 'RGB':
        r, g, b = image.split()
        off_grey = max(ImageChops.difference(*two).getextrema()[1] for two in ((r, g), (g, b)))
        if off_grey <= 8: image = g
    return image, lossy

def mask_values(
    path: Path,  # a mask
) -> np.ndarray:  # int32 [H, W], as `colour` codes them
    "Return the value of every pixel."
    image, _ = open_mask(path)
    values = np.asarray(image).astype(np.int32)
    if image.mode != 'RGB': return values
    r, g, b = values[..., 0], values[..., 1], values[..., 2]
    return np.where((r == g) & (g == b), r, COLOUR | r << 16 | g << 8 | b)

MANY = 1024  # more colours than this in one file, and it is no mask

@dataclass(frozen=True)
class MaskFacts:
    "What one mask file holds."
    path: Path
    size: tuple[int, int]   # width and height in pixels
    mode: str               # format and mode as stored, such as 'PNG P'
    lossy: bool             # was it compressed with loss
    counts: dict[int, int]  # value: pixels; empty for a photo

def mask_facts(
    path: Path,  # a mask
) -> MaskFacts:
    "Return what the file holds: its size, its kind, and how many pixels have each value."
    with open_file(path) as opened: mode = f'{opened.format} {opened.mode}'
    image, lossy = open_mask(path)
    if image.mode == 'L': counts = {v: n for v, n in enumerate(image.histogram()) if n}
    elif image.mode == 'I':
        values = np.asarray(image).ravel()
        if values.max() < 1 << 20: counts = {v: n for v, n in enumerate(np.bincount(values).tolist()) if n}
        else: counts = dict(zip(*(found.tolist() for found in np.unique(values, return_counts=True))))
    else: counts = {colour(*c): n for n, c in image.getcolors(MANY) or []}
    return MaskFacts(path, image.size, mode, lossy, counts)

def two_heaps(
    counts: dict[int, int],  # grey value 0..255: pixels
    end: int,                # how far from 0 and from 255 a value may lie, in grey levels
) -> float:  # 0..1
    "Return the share of the pixels that lie near black or near white."
    near = sum(n for v, n in counts.items() if v <= end or 255 - end <= v <= 255)
    return near / max(1, sum(counts.values()))

@lru_cache(4096)
def looks_like_mask(
    path: Path,  # any picture
) -> bool:
    "True if the file could be a mask: few values, one colour a region, or nothing but near black and near white."
    try: facts = mask_facts(path)
    except CourseError: return False
    counts, pixels = facts.counts, facts.size[0] * facts.size[1]
    if not counts: return False
    if max(counts) < 256 and two_heaps(counts, 32) > .9 and (len(counts) > 1 or not facts.lossy): return True
    if facts.lossy: return False
    if len(counts) <= 32: return pixels > 4 * len(counts)
    values = mask_values(path)
    return len(counts) * 16 < pixels and float((values[:, 1:] == values[:, :-1]).mean()) > .85
