"""Find out which mask belongs to which picture of a folder."""
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import permutations
from pathlib import Path

from unet_course.datasets.masks import looks_like_mask
from unet_course.support.files import CourseError

ENDINGS = {'.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.gif', '.tif', '.tiff', '.webp',
           '.ppm', '.pgm', '.pbm', '.pnm', '.jp2', '.tga'}  # files that are taken for pictures
PART = re.compile(r'(?<![a-z])(train(?:ing)?|valid(?:ation)?|val|test(?:ing)?)'
                  r'(?![a-z])|^(train|val|test)(?=annot|mask|label|image|img|gt|[ab]$)|(?-i:(?<=[a-z])(Tr|Ts)$)', re.I)

@dataclass(eq=False)
class File:
    "A picture file below the root; which of them are masks is found out later."
    path: Path
    folders: tuple[str, ...]  # below the root
    place: tuple[str, ...]    # the same, with * for train, valid or test
    part: str                 # 'train', 'val', 'test', or '' where no folder says it
    stem: str                 # name without its last ending
    ending: str               # such as '.png', in small letters

    @property
    def label(self) -> str:
        "The path below the root, for messages."
        return '/'.join((*self.folders, self.path.name))

def make_file(
    path: Path,               # of a picture
    folders: tuple[str, ...], # below the root
) -> File:
    "Return the file with what its folders say about the split."
    part, place = '', []
    for folder in folders:
        if (word := PART.search(folder)):
            part = {'tr': 'train', 'va': 'val', 'te': 'test', 'ts': 'test'}[word[0][:2].lower()]
            folder = folder[:word.start()] + '*' + folder[word.end():]
        place.append(folder)
    return File(path, folders, tuple(place), part, *os.path.splitext(path.name)[:1], path.suffix.lower())

def list_files(
    root: Path,  # a folder
) -> tuple[list[File], list[Path]]:
    "Return the pictures below `root`, sorted, and all other files; hidden ones and those of macOS are skipped."
    pictures, others = [], []
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith('.') and name != '__MACOSX')
        folders = Path(folder).relative_to(root).parts
        if len(folders) > 20: below.clear()  # a link that leads back to a folder above
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith('.') or not path.is_file(): continue
            if path.suffix.lower() in ENDINGS: pictures.append(make_file(path, folders))
            else: others.append(path)
    return pictures, others

Entry = tuple[tuple, str, File]  # what picture and mask share of the path; their names; the file

WORD = re.compile(r'[_\-. ]*(masks?|labels?|segmentations?|segs?|annotations?|gt|images?|imgs?|photos?|pictures?)[_\-. ]*', re.I)

def folder_word(
    file: File,  # a picture or a mask
) -> tuple[str, tuple[str, ...]]:
    "Return the word for pictures or masks in the last folder's name, and the folders without it."
    last = file.place[-1] if file.place else ''
    word = WORD.search(last)
    return (word[1] if word else ' ', (*file.place[:-1], last[:word.start()] + last[word.end():] if word else last))

def readings(
    depth: int,  # folders below the root, at most
) -> dict[str, object]:  # how: function of a File that returns (what tells masks from pictures, what both share, name)
    "Return the ways in which a path may tell masks from pictures."
    ways = {'folder': lambda f: ('/'.join(f.place), (), f.stem)}  # images/NAME, annotations/trimaps/NAME
    for k in range(depth):  # images/CITY/NAME, labels/CITY/NAME
        ways[f'folder {k}'] = lambda f, k=k: ('/'.join(f.place[k:k + 1]), f.place[:k] + f.place[k + 1:], f.stem)
        if k: ways[f'folder {k} on'] = lambda f, k=k: ('/'.join(f.place[k:]), f.place[:k], f.stem)
    ways['folder word'] = lambda f: (*folder_word(f), f.stem)  # cat/NAME, cat_masks/NAME; dog/NAME, dog_masks/NAME
    ways['suffix'] = lambda f: ('', f.place, f.stem)  # NAME, NAME_mask
    ways['ending'] = lambda f: ({'.jpeg': '.jpg', '.tiff': '.tif'}.get(f.ending, f.ending), f.place, f.stem)
    ways['first word'] = lambda f: (re.match(r'[A-Za-z]*', f.stem)[0], f.place, re.sub(r'^[A-Za-z]*[_\-. ]*', '', f.stem))
    ways['last word'] = lambda f: (re.search(r'(?:[A-Za-z]+\d?)?$', f.stem)[0], f.place, re.sub(r'[_\-. ]*[A-Za-z]+\d?$', '', f.stem))
    ways['file name'] = lambda f: (f.stem, f.place, '')  # NAME/img, NAME/label
    return ways

def groupings(
    files: list[File],  # pictures and masks
) -> Iterator[tuple[str, dict[str, list[Entry]]]]:
    "An iterator over (how, {what tells: files}) of the readings that find two to twelve kinds of files."
    for how, read in readings(max(len(file.place) for file in files)).items():
        groups = defaultdict(list)
        for file in files:
            what, *entry = read(file)
            groups[what].append((*entry, file))
        if how == 'suffix' or 2 <= len(groups) <= 12: yield how, groups

COUNTER = r'[_\-. ]*\(?\d+\)?'  # the number of an object: _1, -02, (3)

def spread(
    items: list,  # any
    n: int,       # how many at most
) -> list:
    "Return `n` of the items, evenly spread."
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else list(items)

def affixes(
    masks: list[Entry],           # whose names are to be explained
    cores: dict[tuple, list[File]],  # (what is shared, name): pictures
) -> list[tuple[str, str]]:
    "Return the (before, after) that most often make a mask's name of a picture's name."
    lengths, seen = {len(name) for _, name in cores}, Counter()
    for key, name, _ in spread(masks, 24):
        found = {(name[:i], name[i + n:]) for n in lengths if 0 < n <= len(name)
                 for i in range(len(name) - n + 1) if (key, name[i:i + n]) in cores}
        seen.update(found | {(before, re.sub(f'{COUNTER}$', '', after)) for before, after in found})
    return sorted(seen, key=lambda pair: (-seen[pair], len(''.join(pair)), pair))[:8]

def constant(
    names: list[str],  # of pictures
) -> tuple[str, str]:
    "Return the word that all names begin with and the one that all end with: `image_`, `_0000`."
    before = re.match(r'(.*[_\-. ]|[A-Za-z]{3,}|)', os.path.commonprefix(names))[0]
    after = re.search(r'([_\-. ].*|)$', os.path.commonprefix([name[::-1] for name in names])[::-1])[0]
    some_left = len(names) > 1 and len(before) + len(after) < min(map(len, names))
    return (before, after) if some_left else ('', '')

@dataclass
class Candidate:
    "One way to pair a folder's pictures with masks."
    how: str       # of `groupings`
    pictures: str  # what tells the pictures
    masks: str     # what tells the masks
    kind: str      # 'name', 'objects' (one file an object, numbered) or 'folder' (one file an object, by folder)
    more: str      # what a mask's name has more than its picture's
    less: str      # what a picture's name has more than its mask's
    pairs: dict[File, list[File]]  # picture: its masks

    @property
    def used(self) -> set[File]:
        "The masks."
        return {mask for masks in self.pairs.values() for mask in masks}

    @property
    def rule(self) -> str:
        "The rule in words, with an example."
        picture, masks = min(self.pairs.items(), key=lambda pair: (-len(pair[1]), pair[0].label))
        words = dict(folder='a folder a picture, all masks in it', objects='one mask an object, numbered',
                     name=f'name + {self.more}' if self.more else 'same name')[self.kind]
        if self.less: words += f', without {self.less}'
        more = f' and {len(masks) - 1} more' if len(masks) > 1 else ''
        return f'{words}: {picture.label} with {masks[0].label}{more}'

def pair_by_name(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> Iterator[tuple[str, str, str, dict[File, list[File]]]]:  # (kind, more, less, pairs)
    "An iterator over the rules 'a mask's name = before + its picture's name + after'."
    own = constant([name for _, name, _ in pictures])  # what only pictures have, such as nnU-Net's _0000
    for before, after in dict.fromkeys([('', ''), own]):
        cores = defaultdict(list)
        for key, name, file in pictures: cores[key, name[len(before):len(name) - len(after)]].append(file)
        for head, tail in affixes(masks, cores):
            counter = COUNTER if tail[-1:].isalpha() else COUNTER.replace('*', '+', 1)
            counted = re.compile(f'{re.escape(head)}(.+){re.escape(tail)}{counter}', re.S)
            pairs, numbered = defaultdict(list), defaultdict(list)
            for key, name, file in masks:
                plain = name[len(head):len(name) - len(tail)] if name.startswith(head) and name.endswith(tail) else None
                number = counted.fullmatch(name)
                if (found := [f for f in cores.get((key, plain), ()) if f is not file]):
                    for picture in found: pairs[picture].append(file)
                elif number:
                    for picture in cores.get((key, number[1]), ()): numbered[picture].append(file)
            if pairs: yield 'name', head + tail, before + after, dict(pairs)
            both = {f: pairs.get(f, []) + numbered.get(f, []) for f in {**pairs, **numbered}}
            usual = len(numbered) > len(pairs) / 2 or any(map(str.isalpha, tail))  # a bare number may be part of a name
            if numbered and usual and any(len(masks) > 1 for masks in both.values()): yield 'objects', head + tail, before + after, both

def pair_by_longer_name(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> Iterator[tuple[str, str, str, dict[File, list[File]]]]:  # (kind, more, less, pairs)
    "An iterator over two more rules: photo.jpg.png is the mask of photo.jpg, name that of name_0000."
    named = {how: defaultdict(list) for how in ('whole', 'stem')}
    for key, name, file in masks: named['stem'][key, name].append(file)
    pairs = {file: found for key, name, file in pictures if (found := named['stem'].get((key, name + file.path.suffix)))}
    if pairs: yield 'name', 'the ending of its picture', '', pairs
    for head, tail in affixes(pictures, named['stem']):
        if not (head or tail): continue
        pairs = {}
        for key, name, file in pictures:
            core = name[len(head):len(name) - len(tail)] if name.startswith(head) and name.endswith(tail) else None
            if (found := [mask for mask in named['stem'].get((key, core), ()) if mask is not file]): pairs[file] = found
        if pairs: yield 'name', '', head + tail, pairs

def pair_by_folder(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> dict[File, list[File]]:
    "Return the pairs of a folder a picture: one picture in each, with all masks of that folder."
    at, pairs = defaultdict(list), {}
    for key, _, file in pictures: at[key].append(file)
    if () in at or any(len(files) > 1 for files in at.values()): return {}
    for key, _, file in masks:
        if key in at: pairs.setdefault(at[key][0], []).append(file)
    return pairs

def candidates(
    files: list[File],             # pictures and masks
    is_mask=lambda file: True,     # may this file be a mask
    is_picture=lambda file: True,  # may it be a picture
) -> list[Candidate]:
    "Return every way to pair the files, those with most pairs first."
    found = []
    for how, groups in groupings(files):
        for a, b in [('', '')] if how == 'suffix' else permutations(groups, 2):
            pictures = [entry for entry in groups[a] if is_picture(entry[2])]
            masks = [entry for entry in groups[b] if is_mask(entry[2])]
            if not pictures or not masks: continue
            if all(any(f.part for *_, f in group) for group in (pictures, masks)):  # both lie in the split's folders
                pictures, masks = ([((*key, f.part), name, f) for key, name, f in group] for group in (pictures, masks))
            ways = [] if how == 'file name' else [*pair_by_name(pictures, masks), *pair_by_longer_name(pictures, masks)]
            if how.startswith('folder ') or how == 'file name': ways.append(('folder', '', '', pair_by_folder(pictures, masks)))
            for kind, more, less, pairs in ways:
                used = {mask for masks in pairs.values() for mask in masks}
                pairs = {picture: masks for picture, masks in pairs.items() if picture not in used}
                if pairs: found.append(Candidate(how, a, b, kind, more, less, pairs))
    order = ('folder', 'name', 'objects')
    return sorted(found, key=lambda c: (len(c.pairs), order.index(c.kind)), reverse=True)

MASK = re.compile('mask|label|seg|annot|anno|gt|truth|target|trimap|matte|alpha|manual', re.I)
PICTURE = re.compile('image|img|photo|picture|jpe?g|rgb|input|original|scan|sat', re.I)
DECOY = re.compile('object|instance|visual|viz|vis|overlay|colou?r|rgb|human|preview|blend|prob|pred|edge|outline|flow|contour|depth|thumb', re.I)

def credible(
    candidate: Candidate,  # to be judged by five pairs
) -> bool:
    "True if the masks look like masks, and more so than the pictures; if both do, if their names say it."
    sample = spread(sorted(candidate.pairs, key=lambda f: f.label), 5)
    masks = sum(looks_like_mask(candidate.pairs[f][0].path) for f in sample) / len(sample)
    pictures = sum(looks_like_mask(f.path) for f in sample) / len(sample)
    if masks > .5 and pictures < .5: return True
    says = [bool(MASK.search(text)) - bool(PICTURE.search(text)) for text in
            (candidate.masks + candidate.more, candidate.pictures)]
    return says[0] > says[1]

def choose(
    found: list[Candidate],  # of `candidates`
    given: bool,             # do the options say which files are masks
) -> Candidate | None:
    "Return the one candidate that is right, None if there is none; a `CourseError` asks where two could be."
    best = []
    for c in found:
        held = any(c.pairs.keys() <= other.pairs.keys() and c.used <= other.used for other in best)
        if not held and credible(c): best.append(c)
    best = best or [c for c in found if given]
    if not best: return None
    best = [c for c in best if 2 * len(c.pairs) >= len(best[0].pairs)]
    best = [c for c in best if not DECOY.search(c.pictures)] or best
    best = [c for c in best if not DECOY.search(c.masks + c.more)] or best
    first, others = best[0], [c for c in best[1:] if not c.used & best[0].used]
    if others:
        folders = len({c.masks for c in (first, *others)}) > 1
        option = lambda c: f'--masks "{c.masks}"' if folders and c.how.startswith('folder') else f'--mask-suffix {c.more or c.masks}'
        said = ', '.join(f'{option(c)} ({len(c.used)} masks, such as {min(f.label for f in c.used)})' for c in (first, *others))
        raise CourseError(f'{len(first.pairs)} pictures have more than one set of masks: choose with {said}')
    twice = [c for c in best[1:] if c.how == first.how != 'suffix' and c.how.startswith('folder') and c.pictures != first.pictures]
    if twice: raise CourseError(f'{len(first.used)} masks have more than one set of pictures, such as {" and ".join(min(f.label for f in c.pairs) for c in (first, twice[0]))}: move one of them to another place')
    if first.kind == 'folder':  # the same names in every folder are classes, not objects
        names = Counter(mask.stem for masks in first.pairs.values() for mask in masks)
        often = [name for name, n in names.items() if n > len(first.pairs) / 2 and n > 1 and not any(map(str.isdigit, name))]
        if len(often) > 1: raise CourseError(f'{len(first.pairs)} folders hold masks of {len(often)} kinds: choose with ' + ', '.join(f'--mask-suffix {name} ({names[name]} masks)' for name in sorted(often)))
    return first
