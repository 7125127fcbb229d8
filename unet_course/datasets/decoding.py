"""Read a picture or a mask whatever its format, mode and depth."""
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from unet_course.support.files import CourseError
from unet_course.support.pictures import to_rgb

def spread(
    items: list,  # any
    n: int,       # how many at most
) -> list:
    "Return `n` of the items, evenly spread."
    if len(items) <= n: return list(items)
    return [items[i * len(items) // n] for i in range(n)]

def each(
    function: Callable,  # of one item
    items: list,         # what it is called with
    what: str,           # the items in a word, for the message
) -> list:
    "Return the results for all items, computed in threads; one `CourseError` names all that fail."
    def attempt(item):
        try: return function(item)
        except CourseError as error: return error

    with ThreadPoolExecutor(8) as pool: results = list(pool.map(attempt, items))
    bad = [str(result) for result in results if isinstance(result, CourseError)]
    if not bad: return results
    if len(bad) == 1: raise CourseError(bad[0])
    shown = '; '.join(bad[:5]) + (f'; and {len(bad) - 5} more' if len(bad) > 5 else '')
    raise CourseError(f'{len(bad)} of {len(items)} {what} cannot be used: {shown}')

def open_file(
    path: Path,  # a picture or a mask
) -> Image.Image:  # opened, not decoded
    "Return the opened file; a `CourseError` names a file that is no picture."
    try: return Image.open(path)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        large = isinstance(error, Image.DecompressionBombError)
        reason = getattr(error, 'strerror', None)
        reason = reason or ('too many pixels' if large else 'no picture that Pillow reads')
        raise CourseError(f'{path}: {reason}; replace or delete the file') from None

def decode(
    opened: Image.Image,  # by `open_file`
    path: Path,           # for the message
) -> Image.Image:
    "Return the picture with its pixels in memory; a `CourseError` names a file that is damaged."
    try: opened.load()
    except Exception as error:  # Pillow raises a dozen types on damaged files
        raise CourseError(f'{path}: damaged ({error}); replace or delete the file') from None
    return opened

def page_count(
    opened: Image.Image,  # by `open_file`
) -> int:
    "Return how many pages or frames the file has; 1 if it is too damaged to tell."
    try: return getattr(opened, 'n_frames', 1)
    except Exception: return 1  # `decode` will say what is wrong

COLOUR = 1 << 24  # a grey value is its number; a colour is COLOUR + 0xRRGGBB

def colour(
    red: int, green: int, blue: int,  # 0..255
) -> int:  # 0..255 for greys, COLOUR + 0xRRGGBB for colours
    "Return the number that stands for a colour in a mask."
    return red if red == green == blue else COLOUR | red << 16 | green << 8 | blue

def value_text(
    value: int,  # as `colour` codes it
) -> str:
    "Return a mask's value as people write it: `255`, or `#fa3253`."
    return str(value) if value < COLOUR else f'#{value - COLOUR:06x}'

def opaque_values(
    rgba: Image.Image,  # mode RGBA, not opaque everywhere
) -> Image.Image:  # mode RGB, or L
    "Return the mask of a file with transparency: its colours on black, or its alpha."
    alpha = rgba.getchannel('A')
    opaque = {tuple(c[:3]) for _, c in rgba.getcolors(4096) or [] if c[3] >= 128}
    if not 1 <= len(opaque) <= 16 or (0, 0, 0) in opaque: return alpha
    black = Image.new('RGB', rgba.size)
    black.paste(rgba.convert('RGB'), mask=alpha.point(lambda a: 255 * (a >= 128)))
    return black

def colours_of_palette(
    image: Image.Image,  # mode P
) -> Image.Image:  # mode RGB, or L
    "Return the mask by its colours, since some tools change a class's index from file to file."
    colours = image.convert('RGB')
    one = len(colours.getcolors(256)) == 1  # a palette of one colour says nothing: then the index
    return Image.frombytes('L', image.size, image.tobytes()) if one else colours

def whole_numbers(
    image: Image.Image,  # mode I, I;16 or F: one channel of more than 8 bits
    path: Path,          # for the message
) -> Image.Image:  # mode I
    "Return the mask's values; a `CourseError` for fractions and for numbers out of range."
    values = np.asarray(image)
    if image.mode == 'F' and not (values == np.round(values)).all():
        raise CourseError(f'{path}: its values are fractions; save the mask with whole numbers')
    if values.min() < 0 or values.max() >= COLOUR:
        raise CourseError(f'{path}: values from {values.min()} to {values.max()}; '
                          f'a mask may hold 0 to {COLOUR - 1}')
    return Image.fromarray(values.astype(np.int32))

def grey_if_grey(
    image: Image.Image,  # mode RGB, of a file that was compressed with loss
) -> Image.Image:  # mode L, or RGB
    "Return one channel if the three differ by noise only."
    r, g, b = image.split()
    apart = max(ImageChops.difference(*two).getextrema()[1] for two in ((r, g), (g, b)))
    return g if apart <= 8 else image

def open_mask(
    path: Path,  # a mask in any format that Pillow reads
) -> tuple[Image.Image, bool]:  # mode L, I or RGB; was it compressed with loss
    "Return the mask's picture, in a mode that holds its values."
    with open_file(path) as opened:
        if (pages := page_count(opened)) > 1:
            raise CourseError(f'{path}: {pages} pages in one mask; save one picture a file')
        if opened.mode == 'RGB' and '16' in str(opened.tile[:1]):
            raise CourseError(f'{path}: 16 bits a colour; save it as 8-bit RGB or 16-bit grey')
        exact = opened.format == 'WEBP' and b'VP8L' in path.read_bytes()[:64]
        lossy = opened.format in ('JPEG', 'MPO', 'WEBP') and not exact
        image = decode(opened, path)
        if image.has_transparency_data and (rgba := image.convert('RGBA')).getextrema()[3][0] < 255:
            return opaque_values(rgba), lossy
    if image.mode[0] in 'IF': return whole_numbers(image, path), lossy
    if image.mode == 'P': image = colours_of_palette(image)
    if image.mode in ('1', 'LA'): image = image.convert('L')
    if image.mode != 'L': image = image.convert('RGB')
    return grey_if_grey(image) if lossy and image.mode == 'RGB' else image, lossy

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
    counts: dict[int, int]  # value: pixels; empty if there are more than MANY colours

def mask_facts(
    path: Path,  # a mask
) -> MaskFacts:
    "Return what the file holds: its size, its kind, and how many pixels have each value."
    with open_file(path) as opened: mode = f'{opened.format} {opened.mode}'
    image, lossy = open_mask(path)
    if image.mode == 'RGB': counts = {colour(*c): n for n, c in image.getcolors(MANY) or []}
    elif image.mode == 'L': counts = {v: n for v, n in enumerate(image.histogram()) if n}
    else:
        values, pixels = np.unique(np.asarray(image), return_counts=True)
        counts = dict(zip(values.tolist(), pixels.tolist()))
    return MaskFacts(path, image.size, mode, lossy, counts)

def two_heaps(
    counts: dict[int, int],  # grey value 0..255: pixels
    reach: int,              # how far from 0 and from 255 a value may lie, in grey levels
) -> float:  # 0..1
    "Return the share of the pixels that lie near black or near white."
    near = sum(n for v, n in counts.items() if v <= reach or 255 - reach <= v <= 255)
    return near / max(1, sum(counts.values()))

@lru_cache(4096)
def looks_like_mask(
    path: Path,  # any picture
) -> bool:
    "True if the file could be a mask: few values, or regions of one value, or black and white."
    try: facts = mask_facts(path)
    except CourseError: return False
    counts, pixels = facts.counts, facts.size[0] * facts.size[1]
    if not counts: return False
    black_white = max(counts) < 256 and two_heaps(counts, 32) > .9
    if facts.lossy: return black_white and len(counts) > 1
    if black_white or len(counts) <= 32: return pixels > 4 * len(counts)
    values = mask_values(path)
    return pixels > 16 * len(counts) and float((values[:, 1:] == values[:, :-1]).mean()) > .85

TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # EXIF orientation: what makes the picture upright

@dataclass(frozen=True)
class PictureFacts:
    "What the head of a picture's file says."
    size: tuple[int, int]  # width and height as stored, in pixels
    mode: str              # format and mode, such as 'JPEG RGB'
    turn: int              # EXIF orientation, 1 to 8; 1 is upright
    deep: bool             # one channel of more than 8 bits

    @property
    def upright(self) -> tuple[int, int]:
        "Width and height after the turn that EXIF asks for."
        return self.size[::-1] if self.turn >= 5 else self.size

def picture_facts(
    path: Path,  # a picture
) -> PictureFacts:
    "Return what the head of the file says, without decoding it."
    with open_file(path) as opened:
        pages = page_count(opened) if opened.format == 'TIFF' else 1
        if pages > 1: raise CourseError(f'{path}: {pages} pages in one picture; save one a file')
        turn = 1
        if opened.format != 'TIFF':  # which Pillow turns by itself
            try: turn = opened.getexif().get(0x0112, 1)
            except Exception: pass  # a damaged note: upright
        return PictureFacts(opened.size, f'{opened.format} {opened.mode}',
                            turn if turn in TURNS else 1, opened.mode[0] in 'IF')

def read_picture(
    path: Path,                # a picture of any mode and depth
    turn: int = 1,             # the EXIF orientation to undo
    numbers=None,              # (black, white) of more than 8 bits; None: 0 and 65535
    draft: int | None = None,  # a JPEG may be read smaller, not below so many pixels a side
) -> Image.Image:  # mode RGB
    "Return the picture as people see it."
    with open_file(path) as opened:
        if draft: opened.draft('RGB', (draft, draft))
        image = decode(opened, path)
        if image.mode[0] in 'IF':
            low, high = numbers or (0, 65535)
            share = np.nan_to_num((np.asarray(image, np.float32) - low) / (high - low))
            image = Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8))
        image = to_rgb(image)
    return image if TURNS[turn] is None else image.transpose(TURNS[turn])

def number_range(
    paths: list[Path],  # pictures of more than 8 bits
) -> tuple[float, float]:
    "Return the range that holds all but 2 in 1,000 pixels of the set, by 200 pictures at most."
    def sample(path):
        with open_file(path) as opened: values = np.asarray(decode(opened, path)).ravel()
        return values[::max(1, values.size // 20_000)]

    pixels = np.concatenate(each(sample, spread(paths, 200), 'pictures'))
    low, high = np.nanquantile(pixels, [.001, .999]).tolist()
    return (low, high) if high > low else (low, low + 1)
