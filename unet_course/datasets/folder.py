"""Read a folder of your own pictures and masks, and show what was understood."""
import hashlib
import json
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unet_course.data import BACKGROUND, BORDER, PET, Pets
from unet_course.datasets.masks import decode, looks_like_mask, mask_facts, mask_values, open_file
from unet_course.datasets.meaning import Meaning, class_names, decide
from unet_course.datasets.pairing import Candidate, File, candidates, choose, list_files, make_file, readings, spread
from unet_course.support.files import CourseError
from unet_course.support.pictures import to_rgb

def each(
    function,     # of one item
    items: list,  # what it is called with
    what: str,    # the items in a word, for the message
) -> list:
    "Return the results for all items, computed in threads; one `CourseError` names all that fail."
    def attempt(item):
        try: return function(item)
        except CourseError as error: return error
    with ThreadPoolExecutor(8) as pool: results = list(pool.map(attempt, items))
    bad = [str(r) for r in results if isinstance(r, CourseError)]
    if not bad: return results
    more = f'; and {len(bad) - 5} more' if len(bad) > 5 else ''
    raise CourseError(bad[0] if len(bad) == 1 else f'{len(bad)} of {len(items)} {what} cannot be used: {"; ".join(bad[:5])}{more}')

TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}  # EXIF orientation: what makes it upright

@dataclass(frozen=True)
class PictureFacts:
    "What the head of a picture's file says."
    size: tuple[int, int]  # width and height as stored, in pixels
    mode: str              # format and mode, such as 'JPEG RGB'
    turn: int              # EXIF orientation, 1 to 8; 1 is upright
    deep: bool             # more than 8 bits a pixel, in one channel

    @property
    def upright(self) -> tuple[int, int]:
        "Width and height after the turn that EXIF asks for."
        return self.size[::-1] if self.turn >= 5 else self.size

def picture_facts(
    path: Path,  # a picture
) -> PictureFacts:
    "Return what the head of the file says, without decoding it."
    with open_file(path) as opened:
        pages = getattr(opened, 'n_frames', 1) if opened.format == 'TIFF' else 1
        if pages > 1: raise CourseError(f'{path}: {pages} pages in one picture; save one picture a file')
        try: turn = 1 if opened.format == 'TIFF' else opened.getexif().get(0x0112, 1)  # Pillow turns a TIFF itself
        except Exception: turn = 1  # a damaged note
        return PictureFacts(opened.size, f'{opened.format} {opened.mode}', turn if turn in TURNS else 1, opened.mode[0] in 'IF')

def read_picture(
    path: Path,             # a picture of any mode and depth
    turn: int = 1,          # EXIF orientation to undo
    numbers=None,           # (darkest, brightest) of pictures with more than 8 bits; None: 0 and 65535
    draft: int | None = None,  # a JPEG may be read smaller, but not below this many pixels a side
) -> Image.Image:  # mode RGB
    "Return the picture as people see it."
    with open_file(path) as opened:
        if draft: opened.draft('RGB', (draft, draft))
        image = decode(opened, path)
        if image.mode[0] in 'IF':
            low, high = numbers or (0, 65535)
            grey = np.nan_to_num((np.asarray(image, np.float32) - low) / (high - low))
            image = Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8))
        image = to_rgb(image)
    return image if TURNS[turn] is None else image.transpose(TURNS[turn])

def number_range(
    paths: list[Path],  # pictures with more than 8 bits a pixel
) -> tuple[float, float]:
    "Return the values between which all but 2 in 1,000 pixels lie: one range for the set, from 200 pictures at most."
    def sample(path):
        with open_file(path) as opened: values = np.asarray(decode(opened, path), np.float64).ravel()
        return values[::max(1, values.size // 20_000)]
    low, high = np.quantile(np.concatenate(each(sample, spread(paths, 200), 'pictures')), [.001, .999]).tolist()
    return (low, high) if high > low else (low, low + 1)

@dataclass(frozen=True)
class Pair:
    "A picture with its masks."
    name: str           # unique in the set
    picture: File
    masks: tuple[File, ...]  # several: one file an object; none: all background, as --unmasked says
    part: str           # 'train', 'val', 'test' or '', by its folders
    group: str          # pictures of one group stay on one side of the split
    facts: PictureFacts
    mask_size: tuple[int, int]  # width and height in pixels
    share: float        # of its pixels that are positive, 0..1

@dataclass
class FolderReport:
    "What a folder holds and what was understood; `str(report)` says it in lines."
    root: Path
    rule: str                       # which mask belongs to which picture
    pairs: list[Pair]               # sorted by name
    left_out: dict[str, list[str]]  # why: files
    mask_modes: Counter             # 'PNG P': masks
    meaning: Meaning                # of the masks' values
    numbers: tuple[float, float] | None  # (darkest, brightest) of pictures with more than 8 bits
    turn: bool                      # pictures are turned as EXIF asks
    grouping: str                   # how the groups were found, '' if every picture is its own

    @property
    def source(self) -> str:
        "The name of the set, such as `folder_cells`."
        return 'folder_' + (re.sub(r'[^\w.]+', '_', self.root.resolve().name) or 'pictures')

    @property
    def empty(self) -> list[str]:
        "Names of the pairs without a positive pixel."
        return [pair.name for pair in self.pairs if pair.share == 0]

    @property
    def turned(self) -> list[str]:
        "Names of the pictures that EXIF turns."
        return [pair.name for pair in self.pairs if self.turn and pair.facts.turn > 1]

    @property
    def unsure(self) -> list[str]:
        "Names of the turned pictures whose size cannot confirm that the mask is upright: square ones, and half turns."
        return [pair.name for pair in self.pairs if self.turn and pair.facts.turn > 1 and (pair.facts.turn < 5 or pair.facts.size[0] == pair.facts.size[1])]

    @property
    def resized(self) -> list[str]:
        "Names of the pairs whose mask has another size than the picture."
        return [pair.name for pair in self.pairs if pair.mask_size != (pair.facts.upright if self.turn else pair.facts.size)]

    def fingerprint(self) -> str:
        "Return a hash of the pairs, the masks' rule and the split: equal for runs that may be compared."
        rows = [[p.name, p.picture.label, [m.label for m in p.masks], p.part, p.group] for p in self.pairs]
        rule = [sorted(self.meaning.positive), sorted(self.meaning.ignored), self.meaning.soft, self.numbers, self.turn]
        return hashlib.sha256(json.dumps([rows, rule]).encode()).hexdigest()[:16]

    def __str__(self): return report_text(self)

    def trimap(self,
        pair: Pair,  # one of `pairs`
    ) -> np.ndarray:  # uint8 [H, W] of PET, BACKGROUND, BORDER, in the mask's own size
        "Return the pair's mask as the set's meaning reads it: positive where one of its files is."
        found = np.full(pair.mask_size[::-1], BACKGROUND, np.uint8)
        for file in pair.masks:
            part = self.meaning.trimap(mask_values(file.path))
            found = np.where((found == PET) | (part == PET), PET, np.maximum(found, part))
        return found

def fits(
    a: tuple[int, int],  # width and height in pixels
    b: tuple[int, int],  # width and height in pixels
) -> bool:
    "True if the two sizes are of one shape, but for what rounding to whole pixels does to the smaller one."
    small, large = sorted((a, b))
    return abs(large[1] * small[0] / large[0] - small[1]) <= 1 or abs(large[0] * small[1] / large[1] - small[0]) <= 1

WHOLE_SET = re.compile(r'(img|images?|im|pic|pict|pictures?|photos?|dsc[nf]?|pxl|mvi|vid|gopr?|frames?|scan|slide|sample|case|train|val|test)?'
                       r'([_\-. ]?(19|20)\d{6})?', re.I)  # what a camera or a tool puts before the numbers of all its pictures

def group_of(
    name: str,  # of a picture
) -> str:
    "Return the name without what counts copies and frames: `.rf.HASH`, `_01`, `_frame2`, ` (3)`."
    name = re.sub(r'\.rf\.\w{16,}$', '', name)
    if name.endswith(('_jpg', '_jpeg', '_png')): name = name.rsplit('_', 1)[0]
    shorter = re.sub(r'[/_\-. ]+[A-Za-z]{0,8}\(?\d{1,9}\)?$', '', name)
    return name if WHOLE_SET.fullmatch(shorter) else shorter

def find_groups(
    names: list[str],     # of the pictures
    pattern: str | None,  # the option --groups: a regular expression, 'none', or None to go by counters
) -> tuple[list[str], str]:  # a group for each name; how it was found, '' if every picture is its own
    "Return which pictures belong together."
    if pattern == 'none': return names, ''
    if pattern is None:
        found = [group_of(name) for name in names]
        return (found, 'their names share a stem with a counter') if 1 < len(set(found)) < len(names) else (names, '')
    try: expression = re.compile(pattern)
    except re.error as error: raise CourseError(f'--groups {pattern}: not a regular expression ({error}); such as "^(.*)_" for what stands before the last _, or none') from None
    matches = [expression.search(name) for name in names]
    missing = [name for name, match in zip(names, matches) if not match]
    if missing: raise CourseError(f'--groups {pattern}: {len(missing)} of {len(names)} names do not match, such as {missing[0]}; give an expression that matches every name, or none')
    found = [match[1] if expression.groups else match[0] for match in matches]
    if len(set(found)) == 1: raise CourseError(f'--groups {pattern}: all {len(names)} pictures are one group, {found[0]!r}, so nothing is left to validate on; give an expression with several groups, or none')
    return found, f'--groups {pattern}'

def json_only(
    others: list[Path],  # files that are no pictures
) -> str:
    "Return what to do about annotations that are no masks, '' if there are none."
    for path in [path for path in others if path.suffix.lower() == '.json'][:20]:
        try: keys = set(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError): continue
        if {'images', 'annotations'} <= keys: return f'the annotations are in COCO JSON ({path.name}): export them as masks, in CVAT "Segmentation mask 1.1", in Roboflow "Semantic Segmentation Masks"'
        if 'shapes' in keys: return f'the annotations are in labelme JSON ({path.name} and others): write masks with labelme.utils.shapes_to_label, or with labelme2voc.py of its examples'
        if keys & {'_via_img_metadata', '_via_settings'}: return f'the annotations are in VIA JSON ({path.name}): VIA draws no masks; bring them into CVAT and export "Segmentation mask 1.1"'
    kinds = Counter(path.suffix.lower() for path in others if path.suffix.lower() in ('.json', '.xml', '.txt', '.csv'))
    return f'there are {kinds.most_common(1)[0][1]} {kinds.most_common(1)[0][0]} files; outlines or boxes in such files are not read: export them as mask pictures' if kinds else ''

def object_classes(
    others: list[Path],  # files that are no pictures
) -> list[str]:
    "Return the classes that LabelMe's XML or labelme's JSON files give to objects: a mask of one object does not say its class."
    found = set()
    for path in spread([path for path in others if path.suffix.lower() in ('.xml', '.json')], 500):
        try: text = path.read_text(encoding='utf-8')
        except (OSError, ValueError): continue
        found |= set(re.findall(r'<object>\s*<name>\s*([^<]+?)\s*</name>', text) if path.suffix.lower() == '.xml' else
                     re.findall(r'"label":\s*"([^"]+)"', text) if '"shapes"' in text else [])
    return sorted(found)

def listed_parts(
    others: list[Path],  # files that are no pictures
) -> dict[str, str]:  # a picture's name: 'train', 'val' or 'test'
    "Return the split that VOC's lists tell: ImageSets/Segmentation/train.txt, val.txt, test.txt."
    lists = {path.stem: path for path in others if 'ImageSets' in path.parts and path.stem in ('train', 'val', 'test') and path.suffix == '.txt'}
    return {line.strip(): part for part, path in lists.items() for line in path.read_text(encoding='utf-8', errors='replace').splitlines()}

def mask_filter(
    root: Path,          # of the set
    files: list[File],   # pictures and masks; those of a folder outside the root are added
    masks,               # the option --masks
    mask_suffix,         # the option --mask-suffix
):  # function of a File: is it a mask; None if no option is given
    "Return what the options say about which files are masks."
    if masks is None and mask_suffix is None: return None
    chosen = set(files)
    if masks is not None:
        wanted, parts = Path(masks), None
        inside = [p for p in (wanted, root / wanted) if p.is_dir() and p.resolve().is_relative_to(root.resolve())]
        if inside: parts = inside[0].resolve().relative_to(root.resolve()).parts
        elif wanted.is_dir():
            below, _ = list_files(wanted)
            files += (added := [make_file(f.path, ('masks from ' + wanted.name, *f.folders)) for f in below])
            chosen = set(added)
        parts = parts or wanted.parts
        n = len(parts)
        hit = lambda f: any(all(map(fnmatchcase, f.folders[i:i + n], parts)) and len(f.folders[i:i + n]) == n for i in range(len(f.folders)))
        if chosen == set(files): chosen = {f for f in files if hit(f)}
        if not chosen: raise CourseError(f'--masks {masks}: no folder with pictures has that name; there are {", ".join(sorted({"/".join(f.folders) or "." for f in files})[:12])}')
    if mask_suffix is not None:
        chosen = {f for f in chosen if f.stem.endswith(mask_suffix) or f.path.name.endswith(mask_suffix)}
        if not chosen: raise CourseError(f'--mask-suffix {mask_suffix}: no file name ends so; they end in {counted((re.search(r"[_. -]?[^_. -]*$", f.stem)[0] for f in files), 8)}')
    return chosen.__contains__

def find_pairs(
    root: Path,              # of the set
    files: list[File],       # pictures and masks
    others: list[Path],      # all other files
    is_mask,                 # of `mask_filter`
) -> Candidate:
    "Return the way to pair the files; a `CourseError` asks, or says what is missing."
    found = candidates(files, is_mask or (lambda f: True), (lambda f: not is_mask(f)) if is_mask else (lambda f: True))
    chosen = choose(found, is_mask is not None)
    if chosen is None:
        places = defaultdict(list)
        for f in files: places['/'.join(f.folders) or '.'].append(f)
        there = ', '.join(f'{place} ({len(of)}, such as {of[0].path.name})' for place, of in list(places.items())[:6])
        drawn = any(looks_like_mask(f.path) for f in spread(files, 40))
        hint = '' if drawn else json_only(others)
        raise CourseError(f'{root}: {len(files)} pictures, in {there}, and none is the mask of another: ' + (hint or
            'a mask must have its picture\'s name, or that name and one constant suffix (order never pairs); --masks DIR or --mask-suffix S says which files are masks'))
    if chosen.kind == 'name':
        for picture, masks in chosen.pairs.items():
            if len(masks) > 1: raise CourseError(f'{picture.label} has {len(masks)} masks, {", ".join(m.label for m in masks)}: keep one of them, or choose with --masks or --mask-suffix')
    owner = {}
    for picture, masks in chosen.pairs.items():
        for mask in masks:
            if owner.setdefault(mask, picture) is not picture: raise CourseError(f'{mask.label} is the mask of {owner[mask].label} and of {picture.label}: keep one of the two pictures')
    return chosen

def sort_rest(
    files: list[File],     # pictures and masks
    chosen: Candidate,     # how they are paired
) -> tuple[list[File], dict[str, list[str]]]:  # pictures without a mask; why others are left out: files
    "Return what no pair uses."
    read = readings(max(len(f.place) for f in files))[chosen.how]
    stems = {(f.folders, f.stem) for f in chosen.pairs}
    places, used = {f.place for f in chosen.pairs}, chosen.used
    less = chosen.less if all(f.stem.endswith(chosen.less) for f in chosen.pairs) else ''
    bare, left = [], defaultdict(list)
    for f in files:
        if f in chosen.pairs or f in used: continue
        what = read(f)[0]
        beside = any((f.folders, f.stem[:cut.start()]) in stems for cut in re.finditer(r'[_\-. (](?!\d*\)?$)', f.stem))
        if chosen.how == 'suffix': kind = 'mask' if chosen.more and f.stem.endswith(chosen.more) else 'other' if beside or f.place not in places else 'picture'
        else: kind = 'picture' if what == chosen.pictures else 'mask' if what == chosen.masks and chosen.more in f.stem else 'other'
        if kind == 'picture' and f.stem.endswith(less): bare.append(f)
        elif kind == 'mask': left['masks without a picture'].append(f.label)
        else: left['neither picture nor mask by this rule'].append(f.label)
    return bare, dict(left)

def check_sizes(
    pairs: list[tuple[File, PictureFacts, list]],  # picture, its facts, its masks' facts
) -> bool:  # True: pictures are turned as EXIF asks; False: all masks fit the pictures as they are stored
    "Return whether EXIF turns the pictures; a `CourseError` names masks of another shape than their picture."
    for picture, _, masks in pairs:
        if len({m.size for m in masks}) > 1: raise CourseError(f'{picture.label}: its {len(masks)} masks differ in size, {", ".join("x".join(map(str, size)) for size in sorted({m.size for m in masks}))} pixels; save them in the size of the picture')
    sizes = [(picture.label, facts, masks[0].size) for picture, facts, masks in pairs if masks]
    turned = [fits(facts.upright, size) for _, facts, size in sizes]
    stored = [fits(facts.size, size) for _, facts, size in sizes]
    turn = not all(stored) or all(turned)
    bad = [row for row, right in zip(sizes, turned) if not right] if turn else []
    if bad:
        said = '; '.join(f'{label}: picture {"x".join(map(str, facts.upright))}, mask {"x".join(map(str, size))}' for label, facts, size in bad[:5])
        raise CourseError(f'{len(bad)} of {len(sizes)} masks have another shape than their picture ({said}{"; ..." if len(bad) > 5 else ""}): a mask may be smaller or larger, but not of other proportions; mend or remove these files')
    return turn

def scan_folder(
    root: str | Path,   # the folder with pictures and masks, however deep
    *,
    positive=None,      # what is to be found: a value, '#rrggbb', a name, several with commas, or 'all' but 0
    ignore=None,        # values that no loss and no figure counts, written the same way
    masks=None,         # the folder of the masks, where two could be it
    mask_suffix=None,   # what the masks' names end with, where two could be it
    unmasked=None,      # 'background': a picture without a mask shows nothing; None: it is left out
    groups=None,        # regular expression: pictures whose names agree in it (or in its bracket) stay together; 'none'
) -> FolderReport:
    "Return what the folder holds, after looking at every mask and at the head of every picture; a `CourseError` asks in one line."
    root = Path(root).expanduser()
    if not root.is_dir(): raise CourseError(f'{root}: {"a file; give the folder that holds" if root.exists() else "no such folder; give the one that holds"} pictures and masks')
    if unmasked not in (None, 'background'): raise CourseError(f'--unmasked {unmasked}: only background is possible; without it such pictures are left out')
    files, others = list_files(root)
    if not files:
        kinds = ', '.join(f'{n} {ending or "without an ending"}' for ending, n in Counter(p.suffix.lower() for p in others).most_common(4))
        raise CourseError(f'{root}: no pictures ({kinds or "the folder is empty"}); what can be read: PNG, JPEG, TIFF, BMP, GIF, WebP')
    is_mask = mask_filter(root, files, masks, mask_suffix)
    chosen = find_pairs(root, files, others, is_mask)
    bare, left_out = sort_rest(files, chosen)
    found = {f: sorted(m, key=lambda m: m.label) for f, m in chosen.pairs.items()}
    if unmasked == 'background':
        parts = {f.part for f in found}
        found |= {f: [] for f in bare if f.part in parts}  # a part without any mask was never annotated
        bare = [f for f in bare if f.part not in parts]
    if bare: left_out['pictures without a mask (--unmasked background keeps them as background)'] = [f.label for f in bare]
    order = sorted(found, key=lambda f: f.label)
    facts = dict(zip(order, each(lambda f: picture_facts(f.path), order, 'pictures')))
    all_masks = [m for f in order for m in found[f]]
    known = dict(zip(all_masks, each(lambda m: mask_facts(m.path), all_masks, 'masks')))
    turn = check_sizes([(f, facts[f], [known[m] for m in found[f]]) for f in order])
    classes = object_classes(others) if chosen.kind != 'name' and positive is None else []
    if len(classes) > 1: raise CourseError(f'{root}: one mask an object ({len(all_masks)} for {len(order)} pictures), of {len(classes)} classes ({some(classes)}), and only the other files tell which: --positive all takes all objects together; for one class export a mask with classes')
    meaning = decide(list(known.values()), class_names(others), positive, ignore)
    stems = Counter(f.stem for f in order)
    names = [f.stem if stems[f.stem] == 1 else '/'.join((*f.folders, f.stem)) for f in order]
    if len(set(names)) < len(names): names = [f.label for f in order]
    group, grouping = find_groups(names, groups)
    deep = [f.path for f in order if facts[f].deep]
    report = FolderReport(root, chosen.rule, [], left_out, Counter(m.mode for m in known.values()), meaning, number_range(deep) if deep else None, turn, grouping)
    listed = listed_parts(others)
    bare_pairs = [Pair(name, f, tuple(found[f]), f.part or (found[f][0].part if found[f] else '') or listed.get(f.stem, ''), g, facts[f],
                       known[found[f][0]].size if found[f] else (facts[f].upright if turn else facts[f].size), 0.)
                  for name, f, g in zip(names, order, group)]
    def share(pair):
        if len(pair.masks) > 1: return float((report.trimap(pair) == PET).mean())
        counts = known[pair.masks[0]].counts if pair.masks else {}
        return sum(n for v, n in counts.items() if meaning.role(v) == 'positive') / max(1, sum(counts.values()))
    report.pairs = [replace(pair, share=x) for pair, x in zip(bare_pairs, each(share, bare_pairs, 'masks'))]
    if not any(pair.share for pair in report.pairs): raise CourseError(f'{root}: no mask has a positive pixel')
    return report

def read_folder(
    root: str | Path,  # see `scan_folder`
    size: int,         # side of the squares that pictures and masks are squeezed to, in pixels
    **options,         # of `scan_folder`
) -> tuple[Pets, FolderReport]:
    "Return the pictures with their masks as `Pets`, and the report; `breeds` holds the groups, `test` the test part of the folders or of `split_folder`."
    report = scan_folder(root, **options)
    def read(pair):
        image = read_picture(pair.picture.path, pair.facts.turn if report.turn else 1, report.numbers).resize((size, size), Image.Resampling.BILINEAR)
        trimap = Image.fromarray(report.trimap(pair)).resize((size, size), Image.Resampling.NEAREST)
        return np.asarray(image), np.asarray(trimap)
    images, trimaps = map(np.stack, zip(*each(read, report.pairs, 'pictures')))
    numbers = {group: i for i, group in enumerate(dict.fromkeys(pair.group for pair in report.pairs))}
    test = torch.zeros(len(report.pairs), dtype=torch.bool)
    test[split_folder(report)['test']] = True
    return Pets(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(trimaps), [pair.name for pair in report.pairs],
                torch.tensor([numbers[pair.group] for pair in report.pairs]), test, report.source), report

def split_folder(
    report: FolderReport,  # of `scan_folder`
    fraction: float = .2,  # share of the pictures for validation, and again for testing, where no folder says it
    seed: int = 0,         # of the choice
) -> dict[str, torch.Tensor]:  # 'train', 'val', 'test': int64 rows of `report.pairs`, ascending, disjoint
    "Return the split: train, valid and test folders as they are; else whole groups by lot, the largest to train with."
    parts = [pair.part for pair in report.pairs]
    rows = {part: [i for i, p in enumerate(parts) if p == part] for part in ('train', 'val', 'test')}
    told = rows['train'] and (rows['val'] or rows['test'])
    pool = rows['train'] + [i for i, p in enumerate(parts) if not p] if told else list(range(len(parts)))
    members = defaultdict(list)
    for i in pool: members[report.pairs[i].group].append(i)
    missing = [part for part in ('test', 'val') if not (told and rows[part])]
    if told: missing = [part for part in missing if part == 'val']  # no test folder: the valid folder is what there is
    if len(members) <= len(missing): missing = missing[len(missing) - len(members) + 1:]
    if not missing and not told: raise CourseError(f'{report.root}: {len(parts)} pictures in {len(members)} group: nothing is left to validate on; at least two groups are needed')
    groups = list(members)
    groups = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    groups.sort(key=lambda g: len(members[g]) == max(map(len, members.values())))  # the largest are drawn last
    drawn = {part: [] for part in missing}
    for k, part in enumerate(missing):
        while groups[len(missing) - k:] and (not drawn[part] or len(drawn[part]) + len(members[groups[0]]) / 2 <= fraction * len(pool)):
            drawn[part] += members[groups.pop(0)]
    rest = [i for g in groups for i in members[g]]
    split = {part: rows[part] if told and part not in drawn else [] for part in ('train', 'val', 'test')} | drawn | dict(train=rest)
    return {part: torch.tensor(sorted(split[part]), dtype=torch.int64) for part in ('train', 'val', 'test')}

def counted(
    values,     # hashable things
    most: int = 4,  # how many kinds are named
) -> str:
    "Return the commonest of the values with how often they occur."
    often = Counter(values).most_common()
    return ', '.join(f'{value} ({n})' for value, n in often[:most]) + (f', {len(often) - most} more' if len(often) > most else '')

def some(
    names: list[str],  # files or pictures
    most: int = 5,     # how many are named
) -> str:
    "Return how many names there are, and the first of them."
    return f'{len(names)}: {", ".join(names[:most])}' + (', ...' if len(names) > most else '')

def report_text(
    report: FolderReport,  # of `scan_folder`
) -> str:
    "Return what was understood, a line a subject."
    pairs, split = report.pairs, split_folder(report)
    by_share = sorted(pairs, key=lambda pair: pair.share)
    picked = dict(smallest=by_share[0], median=by_share[len(pairs) // 2], largest=by_share[-1])
    groups, parts = Counter(pair.group for pair in pairs), {pair.part for pair in pairs if pair.part}
    size = lambda wh: f'{wh[0]}x{wh[1]}'
    lines = [('pairs', f'{len(pairs)}, by the rule: {report.rule}')]
    lines += [('left out', f'{why}, {some(files)}') for why, files in report.left_out.items()] or [('left out', 'nothing')]
    lines += [('pictures', f'{counted(pair.facts.mode for pair in pairs)}; pixels {counted(size(pair.facts.size) for pair in pairs)}'),
              ('masks', ', '.join(f'{mode} ({n})' for mode, n in report.mask_modes.most_common(6)))]
    if report.numbers: lines.append(('range', f'pictures with more than 8 bits: {report.numbers[0]:g} becomes black, {report.numbers[1]:g} white, in all of them'))
    if report.turned: lines.append(('turned', f'by their EXIF note, the masks as they are, {some(report.turned)}'))
    if report.unsure: lines.append(('', f'look at these: their size cannot confirm that the mask is upright, {some(report.unsure)}'))
    if not report.turn: lines.append(('turned', 'no picture: the masks fit the pictures as they are stored, so the EXIF notes are not followed'))
    if report.resized: lines.append(('resized', f'masks of another size than the picture, to the nearest pixel, {some(report.resized)}'))
    lines += [('meaning', report.meaning.why), *(('', f'{value}: {role}') for value, role in report.meaning.rows())]
    lines.append(('positive', ', '.join(f'{what} {pair.share:.1%} ({pair.name})' for what, pair in picked.items()) + f' of a picture; empty masks {some(report.empty) if report.empty else "none"}'))
    if report.grouping: lines.append(('groups', f'{len(pairs)} pictures look like {len(groups)} groups ({report.grouping}), such as {groups.most_common(1)[0][0]} ({groups.most_common(1)[0][1]}): kept on one side; --groups changes it' if not report.grouping.startswith('--') else f'{len(groups)} groups by {report.grouping}: kept on one side'))
    else: lines.append(('groups', 'each picture is its own; if some are frames of one film or photos of one object, say so with --groups'))
    told = len(parts & {'val', 'test'}) and 'train' in parts
    lines.append(('split', ', '.join(f'{part} {len(rows)}' for part, rows in split.items()) + (' (as the folders or lists say)' if told else ' (drawn by lot)' if not report.grouping else ' (whole groups, drawn by lot)')))
    if told:
        sides = defaultdict(set)
        for part, rows in split.items():
            for i in rows.tolist(): sides[pairs[i].group].add(part)
        both = [group for group, found in sides.items() if len(found) > 1]
        if both and report.grouping: lines.append(('', f'the folders have pictures of one group on both sides, so a score measures memory too, {some(both)}'))
    if len(groups) < 10: lines.append(('', f'{len(groups)} groups are few: a score on one or two of them says little about the next one'))
    return '\n'.join([f'{report.root}'] + [f'{what:9} {text}' for what, text in lines])

def contact_sheet(
    report: FolderReport,  # of `scan_folder`
    n: int = 8,            # pictures, the extremes among them
):  # a matplotlib Figure
    "Return a figure of `n` pictures with the outline of what is positive, the smallest and the largest share, an empty and a turned one among them."
    from matplotlib.figure import Figure
    order = sorted(range(len(report.pairs)), key=lambda i: (report.pairs[i].share, i))
    full = [i for i in order if report.pairs[i].share] or order
    at = {pair.name: i for i, pair in enumerate(report.pairs)}
    wanted = [full[0], full[-1], *(at[names[0]] for names in (report.empty, report.unsure, report.turned, report.resized) if names)]
    chosen = list(dict.fromkeys(wanted + [i for i in spread(order, n)] + order))[:n]
    chosen.sort(key=order.index)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    fig = Figure(figsize=(3 * columns, 3.2 * rows + .6), dpi=100, facecolor='white', layout='constrained')
    axes = fig.subplots(rows, columns, squeeze=False).flat
    def load(i):
        pair = report.pairs[i]
        image = read_picture(pair.picture.path, pair.facts.turn if report.turn else 1, report.numbers, draft=600)
        image.thumbnail((600, 600))
        return np.asarray(image), np.asarray(Image.fromarray(report.trimap(pair)).resize(image.size, Image.Resampling.NEAREST))
    notes = {**dict.fromkeys(report.resized, 'mask resized'), **dict.fromkeys(report.turned, 'turned by EXIF'), **dict.fromkeys(report.unsure, 'turned by EXIF: upright?')}
    for ax, i, (image, trimap) in zip(axes, chosen, each(load, chosen, 'pictures')):
        pair = report.pairs[i]
        ax.imshow(image)
        for value, shade in ((PET, '#ffe100'), (BORDER, '#00c8ff')):
            inside = np.pad(trimap == value, 1).astype(float)
            if not inside.any(): continue
            xs, ys = np.arange(-1, trimap.shape[1] + 1), np.arange(-1, trimap.shape[0] + 1)
            ax.contour(xs, ys, inside, levels=[.5], colors='black', linewidths=2.6)
            ax.contour(xs, ys, inside, levels=[.5], colors=shade, linewidths=1.3)
        note = notes.get(pair.name) or ('empty mask' if not pair.share else '')
        ax.set_title(f'{pair.name[-34:]}\n{pair.share:.1%} positive' + (f', {note}' if note else ''), fontsize=8)
    for ax in fig.axes: ax.axis('off')
    shown = 'yellow: what is to be found' + (', blue: ignored' if report.meaning.ignored else '')
    fig.suptitle(f'{report.root.name}: {len(report.pairs)} pairs, {len(chosen)} shown by share; {shown}', fontsize=10)
    return fig
