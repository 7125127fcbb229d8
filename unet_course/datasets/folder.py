"""Read a folder of your own pictures and masks: scan, decide, report, and make `Pets` of it."""
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unet_course.data import BACKGROUND, PET, Pets
from unet_course.datasets.choice import find_pairs, mask_filter, sort_rest
from unet_course.datasets.decoding import (MaskFacts, PictureFacts, each, mask_facts, mask_values,
                                           number_range, picture_facts, read_picture)
from unet_course.datasets.groups import find_groups, split_groups
from unet_course.datasets.look import contact_sheet, report_text, some
from unet_course.datasets.meaning import Meaning, decide
from unet_course.datasets.pairing import Candidate, File, list_files
from unet_course.datasets.sidecars import class_names, listed_parts, object_classes
from unet_course.support.files import CourseError

@dataclass(frozen=True)
class Pair:
    "A picture with its masks."
    name: str               # unique in the set
    picture: File
    masks: tuple[File, ...] # several: one file an object; none: all background
    part: str               # 'train', 'val', 'test' or '', by its folders
    group: str              # pictures of one group stay on one side of the split
    facts: PictureFacts
    mask_size: tuple[int, int]  # width and height in pixels
    share: float            # of its pixels that are positive, 0..1

@dataclass
class FolderReport:
    "What a folder holds and what was understood; `str(report)` says it in lines."
    root: Path
    rule: str                       # which mask belongs to which picture
    pairs: list[Pair]               # by the pictures' paths
    left_out: dict[str, list[str]]  # why: files
    mask_modes: list[str]           # of each mask, such as 'PNG P'
    meaning: Meaning                # of the masks' values
    numbers: tuple[float, float] | None  # (black, white) of pictures of more than 8 bits
    turn: bool                      # pictures are turned as EXIF asks
    grouping: str                   # how the groups were found, '' if each picture is its own

    @property
    def source(self) -> str:
        "The name of the set, such as `folder_cells`."
        return 'folder_' + (re.sub(r'[^\w.]+', '_', self.root.resolve().name) or 'pictures')

    @property
    def empty(self) -> list[str]:
        "Names of the pairs without a positive pixel."
        return [pair.name for pair in self.pairs if pair.share == 0]

    def turn_of(self,
        pair: Pair,  # one of `pairs`
    ) -> int:
        "Return the EXIF orientation to undo, 1 for none."
        return pair.facts.turn if self.turn else 1

    @property
    def turned(self) -> list[str]:
        "Names of the pictures that EXIF turns."
        return [pair.name for pair in self.pairs if self.turn_of(pair) > 1]

    @property
    def unsure(self) -> list[str]:
        "Names of the turned pictures whose size does not confirm it: square ones, half turns."
        alike = lambda f: f.size == f.upright
        return [p.name for p in self.pairs if self.turn_of(p) > 1 and alike(p.facts)]

    @property
    def resized(self) -> list[str]:
        "Names of the pairs whose mask has not the size of the picture."
        size = lambda pair: pair.facts.upright if self.turn else pair.facts.size
        return [pair.name for pair in self.pairs if pair.mask_size != size(pair)]

    def trimap(self,
        pair: Pair,  # one of `pairs`
    ) -> np.ndarray:  # uint8 [H, W] of PET, BACKGROUND, BORDER, in the mask's own size
        "Return the pair's mask: positive where one of its files is, ignored where one is that."
        found = np.full(pair.mask_size[::-1], BACKGROUND, np.uint8)
        for file in pair.masks:
            part = self.meaning.trimap(mask_values(file.path))
            found = np.where((found == PET) | (part == PET), PET, np.maximum(found, part))
        return found

    def fingerprint(self) -> str:
        "Return a hash of names, masks' rule and split: equal for runs that may be compared."
        rows = [[p.name, p.picture.label, [mask.label for mask in p.masks], p.part, p.group]
                for p in self.pairs]
        rule = [sorted(self.meaning.positive), sorted(self.meaning.ignored), self.meaning.soft]
        text = json.dumps([rows, rule, self.numbers, self.turn])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self):
        try: split = split_folder(self)
        except CourseError as error: split = str(error)
        return report_text(self, split)

def split_folder(
    report: FolderReport,  # of `scan_folder`
    fraction: float = .2,  # share of the pictures for validation, and again for the test
    seed: int = 0,         # of the lot
) -> dict[str, torch.Tensor]:  # 'train', 'val', 'test': int64 rows of `report.pairs`
    "Return the split: as train, valid and test folders say; else whole groups by lot."
    parts, groups = ([getattr(p, what) for p in report.pairs] for what in ('part', 'group'))
    return split_groups(parts, groups, fraction, seed)

def fits(
    a: tuple[int, int],  # width and height in pixels
    b: tuple[int, int],  # width and height in pixels
) -> bool:
    "True if two sizes are of one shape, but for what rounding does to the smaller one."
    (w, h), (W, H) = sorted((a, b))
    return abs(H * w / W - h) <= 1 or abs(W * h / H - w) <= 1

def follow_exif(
    sizes: list[tuple[str, PictureFacts, tuple[int, int]]],  # picture, its facts, its mask's size
) -> bool:  # False: all masks fit the pictures as they are stored, and not as they are turned
    "Return whether EXIF turns the pictures; a `CourseError` names masks of another shape."
    bad = [row for row in sizes if not fits(row[1].upright, row[2])]
    if not bad or all(fits(facts.size, size) for _, facts, size in sizes): return not bad
    said = '; '.join('{}: picture {}x{}, mask {}x{}'.format(label, *facts.upright, *size)
                     for label, facts, size in bad[:5]) + ('; ...' if len(bad) > 5 else '')
    raise CourseError(f'{len(bad)} of {len(sizes)} masks have not the shape of their picture '
                      f'({said}): only masks of equal proportions can be resized; mend or remove these')

def pair_names(
    files: list[File],  # the pictures
) -> list[str]:
    "Return a name for each: its own without ending; with its folders where that is not unique."
    twice = {stem for stem, n in Counter(f.stem for f in files).items() if n > 1}
    names = ['/'.join((*f.folders, f.stem)) if f.stem in twice else f.stem for f in files]
    return names if len(set(names)) == len(names) else [f.label for f in files]

def list_pictures(
    root: Path,  # as given
) -> tuple[list[File], list[Path]]:
    "Return the pictures below `root` and all other files; a `CourseError` if there are none."
    if not root.is_dir():
        what = 'is a file' if root.exists() else 'no such folder'
        raise CourseError(f'{root}: {what}; give the folder that holds pictures and masks')
    files, others = list_files(root)
    if files: return files, others
    endings = Counter(path.suffix.lower() or 'without ending' for path in others).most_common(4)
    there = ', '.join(f'{n} {ending}' for ending, n in endings) or 'it is empty'
    raise CourseError(f'{root}: no pictures ({there}); PNG, JPEG, TIFF, BMP, GIF, WebP are read')

def masks_of_pictures(
    files: list[File],      # pictures and masks
    chosen: Candidate,      # how they are paired
    unmasked: str | None,   # the option --unmasked
) -> tuple[dict[File, list[File]], dict[str, list[str]]]:  # picture: masks; why left out: files
    "Return every picture that takes part with its masks, sorted, and what is left out."
    if unmasked not in (None, 'background'):
        raise CourseError(f'--unmasked {unmasked}: only background can be given; without it such '
                          'pictures are left out')
    bare, left_out = sort_rest(files, chosen)
    found = {f: sorted(of, key=lambda mask: mask.label) for f, of in chosen.pairs.items()}
    if unmasked:
        parts = {f.part for f in found}  # a part without any mask was never annotated
        found |= {f: [] for f in bare if f.part in parts}
        bare = [f for f in bare if f.part not in parts]
    if bare:
        why = 'pictures without a mask (--unmasked background takes them as background)'
        left_out[why] = [f.label for f in bare]
    return dict(sorted(found.items(), key=lambda pair: pair[0].label)), left_out

def facts_of_masks(
    found: dict[File, list[File]],  # picture: masks
) -> dict[File, MaskFacts]:
    "Return what every mask holds; a `CourseError` if masks of one picture differ in size."
    files = [mask for of in found.values() for mask in of]
    known = dict(zip(files, each(lambda f: mask_facts(f.path), files, 'masks')))
    for picture, of in found.items():
        n = len({known[mask].size for mask in of})
        if n > 1:
            raise CourseError(f'{picture.label}: its {len(of)} masks have {n} sizes; save all in '
                              'the size of the picture')
    return known

def ask_for_class(
    chosen: Candidate,   # how pictures and masks are paired
    others: list[Path],  # files that are no pictures
):
    "Raise a `CourseError` if a mask shows one object, and only other files tell of which class."
    classes = object_classes(others) if chosen.kind != 'name' else []
    if len(classes) > 1:
        raise CourseError(f'one mask an object ({chosen.rule}), of {len(classes)} classes '
                          f'({some(classes)}), and only the other files tell which is which: '
                          '--positive all takes all; for one class export masks that hold it')

def scan_folder(
    root: str | Path,  # the folder with pictures and masks, however deep they lie
    *,
    positive=None,     # what to find: a value, '#rrggbb', a name, 'a-b', 'all'; several with commas
    ignore=None,       # values that no loss and no figure counts, written the same way
    masks=None,        # the folder of the masks, where two could be it
    mask_suffix=None,  # what the masks' names end with, where two could be it
    unmasked=None,     # 'background': a picture without a mask shows nothing; None: left out
    groups=None,       # regular expression: pictures that agree in it stay together; 'none'
) -> FolderReport:
    "Return what the folder holds, after a look at every mask; a `CourseError` asks in one line."
    root = Path(root).expanduser()
    files, others = list_pictures(root)
    chosen = find_pairs(root, files, others, mask_filter(root, files, masks, mask_suffix))
    found, left_out = masks_of_pictures(files, chosen, unmasked)
    heads = dict(zip(found, each(lambda f: picture_facts(f.path), list(found), 'pictures')))
    known = facts_of_masks(found)
    turn = follow_exif([(f.label, heads[f], known[of[0]].size) for f, of in found.items() if of])
    if positive is None: ask_for_class(chosen, others)
    meaning = decide(list(known.values()), class_names(others), positive, ignore)
    names, listed = pair_names(list(found)), listed_parts(others)
    group, grouping = find_groups(names, groups)
    deep = [f.path for f in found if heads[f].deep]
    numbers = number_range(deep) if deep else None
    report = FolderReport(root, chosen.rule, [], left_out, [f.mode for f in known.values()],
                          meaning, numbers, turn, grouping)
    for name, its_group, (f, of) in zip(names, group, found.items()):
        part = f.part or (of[0].part if of else '') or listed.get(f.stem, '')
        size = known[of[0]].size if of else heads[f].upright if turn else heads[f].size
        report.pairs.append(Pair(name, f, tuple(of), part, its_group, heads[f], size, 0.))

    def share(pair):
        if len(pair.masks) != 1: return float((report.trimap(pair) == PET).mean())
        counts = known[pair.masks[0]].counts
        positive = [n for value, n in counts.items() if meaning.role(value) == 'positive']
        return sum(positive) / sum(counts.values())

    shares = each(share, report.pairs, 'masks')
    if not any(shares): raise CourseError(f'{root}: no mask has a positive pixel')
    report.pairs = [replace(pair, share=x) for pair, x in zip(report.pairs, shares)]
    return report

def read_folder(
    root: str | Path,  # see `scan_folder`
    size: int,         # side of the squares that pictures and masks are squeezed to, in pixels
    **options,         # of `scan_folder`
) -> tuple[Pets, FolderReport]:
    "Return the pictures with their masks, and the report; `breeds` are the groups' numbers."
    report = scan_folder(root, **options)

    def read(pair):
        image = read_picture(pair.picture.path, report.turn_of(pair), report.numbers)
        trimap = Image.fromarray(report.trimap(pair))
        return (np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)),
                np.asarray(trimap.resize((size, size), Image.Resampling.NEAREST)))

    images, trimaps = map(np.stack, zip(*each(read, report.pairs, 'pictures')))
    groups = list(dict.fromkeys(pair.group for pair in report.pairs))
    number = {group: i for i, group in enumerate(groups)}
    test = torch.zeros(len(report.pairs), dtype=torch.bool)
    test[split_folder(report)['test']] = True
    pets = Pets(images=torch.from_numpy(images).permute(0, 3, 1, 2),
                trimaps=torch.from_numpy(trimaps), names=[pair.name for pair in report.pairs],
                breeds=torch.tensor([number[pair.group] for pair in report.pairs]), test=test,
                source=report.source)
    return pets, report
