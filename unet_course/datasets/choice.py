"""Choose the one way to pair a folder's files that is right, or ask."""
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from unet_course.datasets.decoding import looks_like_mask, spread
from unet_course.datasets.pairing import (Candidate, File, candidates, list_files, make_file,
                                          readings)
from unet_course.datasets.sidecars import export_hint
from unet_course.support.files import CourseError

MASK = re.compile('mask|label|seg|annot|anno|gt|truth|target|trimap|matte|alpha|manual', re.I)
PICTURE = re.compile('image|img|photo|picture|jpe?g|rgb|input|original|scan|sat', re.I)
DECOY = re.compile('object|instance|visual|viz|vis|overlay|colou?r|rgb|human|preview|blend|prob'
                   '|pred|edge|outline|flow|contour|depth|thumb', re.I)  # second versions of masks

def credible(
    candidate: Candidate,  # to be judged by five pairs
) -> bool:
    "True if the masks look like masks and the pictures do not; else if the names say so."
    sample = spread(sorted(candidate.pairs, key=lambda f: f.label), 5)
    masks = sum(looks_like_mask(candidate.pairs[f][0].path) for f in sample) / len(sample)
    pictures = sum(looks_like_mask(f.path) for f in sample) / len(sample)
    if masks > .5 and pictures < .5: return True
    says = lambda text: bool(MASK.search(text)) - bool(PICTURE.search(text))
    return says(candidate.masks + candidate.more) > says(candidate.pictures)

def best_candidates(
    found: list[Candidate],  # of `candidates`
    given: bool,             # do the options say which files are masks
) -> list[Candidate]:
    "Return the candidates between which only a person can choose; the first has most pairs."
    best = []
    for c in found:
        held = any(c.pairs.keys() <= b.pairs.keys() and c.used <= b.used for b in best)
        if not held and credible(c): best.append(c)
    if not best: best = found[:1] if given else []
    best = [c for c in best if 2 * len(c.pairs) >= len(best[0].pairs)]
    best = [c for c in best if not DECOY.search(c.pictures)] or best
    return [c for c in best if not DECOY.search(c.masks + c.more)] or best

def kinds_of_masks(
    candidate: Candidate,  # of kind 'folder'
) -> dict[str, int]:  # name: folders that have it
    "Return the names that masks have in most of the folders: classes, not numbered objects."
    names = Counter(mask.stem for masks in candidate.pairs.values() for mask in masks)
    often = max(1, len(candidate.pairs) / 2)
    return {name: n for name, n in names.items() if n > often and not re.search(r'\d', name)}

def choose(
    found: list[Candidate],  # of `candidates`
    given: bool,             # do the options say which files are masks
) -> Candidate | None:
    "Return the candidate that is right, None if there is none; a `CourseError` asks between two."
    best = best_candidates(found, given)
    if not best: return None
    first = best[0]
    others = [c for c in best[1:] if not c.used & first.used]
    if others:
        folders = len({c.masks for c in (first, *others)}) > 1
        by_folder = lambda c: folders and c.how.startswith('folder')
        said = [(f'--masks "{c.masks}"' if by_folder(c) else f'--mask-suffix {c.more or c.masks}')
                + f' ({len(c.used)} masks, such as {min(f.label for f in c.used)})'
                for c in (first, *others)]
        raise CourseError(f'{len(first.pairs)} pictures have more than one set of masks: '
                          f'choose with {" or ".join(said)}')
    same = [c for c in best[1:] if c.how == first.how and c.how.startswith('folder')]
    for other in (c for c in same if c.pictures != first.pictures):
        one, two = (min(f.label for f in c.pairs) for c in (first, other))
        raise CourseError(f'{len(first.used)} masks have more than one set of pictures, such as '
                          f'{one} and {two}: move one of the two to another place')
    kinds = kinds_of_masks(first) if first.kind == 'folder' else {}
    if len(kinds) > 1:
        said = [f'--mask-suffix {name} ({n} masks)' for name, n in sorted(kinds.items())]
        raise CourseError(f'{len(first.pairs)} folders hold masks of {len(kinds)} kinds: '
                          f'choose with {" or ".join(said)}')
    return first

def in_folder(
    file: File,              # a picture or a mask
    wanted: tuple[str, ...], # names of folders, one below the other; * stands for anything
) -> bool:
    "True if the file lies below these folders."
    n = len(wanted)
    runs = (file.folders[i:i + n] for i in range(len(file.folders) - n + 1))
    return any(all(map(fnmatchcase, run, wanted)) for run in runs)

def mask_filter(
    root: Path,         # of the set
    files: list[File],  # pictures and masks; those of a folder outside the root are added
    masks,              # the option --masks
    mask_suffix,        # the option --mask-suffix
) -> Callable | None:  # of a File: is it a mask; None if no option says it
    "Return what the options say about which files are masks."
    if masks is None and mask_suffix is None: return None
    chosen = set(files)
    if masks is not None:
        there = [path for path in (root / masks, Path(masks)) if path.is_dir()]
        if there and there[0].resolve().is_relative_to(root.resolve()):
            parts = there[0].resolve().relative_to(root.resolve()).parts
            chosen = {f for f in files if f.folders[:len(parts)] == parts}
        elif there:
            below, _ = list_files(there[0])
            chosen = {make_file(f.path, (f'masks from {there[0].name}', *f.folders)) for f in below}
            files += sorted(chosen, key=lambda f: f.label)
        else: chosen = {f for f in files if in_folder(f, Path(masks).parts)}
        if not chosen:
            folders = sorted({'/'.join(f.folders) or '.' for f in files})
            raise CourseError(f'--masks {masks}: no folder with pictures has that name; there are '
                              + ', '.join(folders[:12]) + (', ...' if len(folders) > 12 else ''))
    if mask_suffix is not None:
        ends = lambda f: f.stem.endswith(mask_suffix) or f.path.name.endswith(mask_suffix)
        chosen = {f for f in chosen if ends(f)}
        if not chosen:
            often = Counter(re.search(r'[_. -]?[^_. -]*$', f.stem)[0] for f in files).most_common(8)
            raise CourseError(f'--mask-suffix {mask_suffix}: no file name ends so; they end in '
                              + ', '.join(f'{end} ({n})' for end, n in often))
    return chosen.__contains__

def find_pairs(
    root: Path,              # of the set
    files: list[File],       # pictures and masks
    others: list[Path],      # all other files
    is_mask: Callable | None,  # of `mask_filter`
) -> Candidate:
    "Return the way to pair the files; a `CourseError` asks, or says what is missing."
    chosen = choose(candidates(files, is_mask), is_mask is not None)
    if chosen is None:
        places = defaultdict(list)
        for f in files: places['/'.join(f.folders) or '.'].append(f)
        there = ', '.join(f'{place} ({len(of)}, such as {of[0].path.name})'
                          for place, of in list(places.items())[:6])
        drawn = any(looks_like_mask(f.path) for f in spread(files, 40))
        hint = (not drawn and export_hint(others)) or (
            "a mask must have its picture's name, or that name and one constant suffix "
            '(order never pairs); --masks DIR or --mask-suffix S says which files are masks')
        raise CourseError(f'{root}: {len(files)} pictures, in {there}, and none is the mask of '
                          f'another: {hint}')
    owner = {}
    for picture, masks in chosen.pairs.items():
        if chosen.kind == 'name' and len(masks) > 1:
            raise CourseError(f'{picture.label} has {len(masks)} masks, '
                              f'{", ".join(m.label for m in masks)}: keep one of them, or choose '
                              'with --masks or --mask-suffix')
        for mask in masks:
            if owner.setdefault(mask, picture) is not picture:
                raise CourseError(f'{mask.label} is the mask of {owner[mask].label} and of '
                                  f'{picture.label}: keep one of the two pictures')
    return chosen

def sort_rest(
    files: list[File],  # pictures and masks
    chosen: Candidate,  # how they are paired
) -> tuple[list[File], dict[str, list[str]]]:  # pictures without a mask; why others are left out
    "Return what no pair uses."
    read = readings(max(len(f.place) for f in files))[chosen.how]
    stems = {(f.folders, f.stem) for f in chosen.pairs}
    places, used = {f.place for f in chosen.pairs}, chosen.used
    less = chosen.less if all(f.stem.endswith(chosen.less) for f in chosen.pairs) else ''
    bare, left = [], defaultdict(list)
    for f in files:
        if f in chosen.pairs or f in used: continue
        if chosen.how == 'suffix':
            cuts = re.finditer(r'[_\-. (](?!\d*\)?$)', f.stem)
            beside = any((f.folders, f.stem[:cut.start()]) in stems for cut in cuts)
            is_mask = chosen.more and f.stem.endswith(chosen.more)
            is_picture = f.place in places and not beside
        else:
            is_mask = read(f)[0] == chosen.masks and chosen.more in f.stem
            is_picture = read(f)[0] == chosen.pictures
        if is_mask: left['masks without a picture'].append(f.label)
        elif is_picture and f.stem.endswith(less): bare.append(f)
        else: left['neither picture nor mask by this rule'].append(f.label)
    return bare, dict(left)
