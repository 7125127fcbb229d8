"""Find out which mask belongs to which picture of a folder."""
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from unet_course.datasets.decoding import looks_like_mask, spread
from unet_course.support.files import CourseError

ENDINGS = {'.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.gif', '.tif', '.tiff', '.webp',
           '.ppm', '.pgm', '.pbm', '.pnm', '.jp2', '.tga'}  # files that are taken for pictures
PART = re.compile(r'(?<![a-z])(train(ing)?|valid(ation)?|val|test(ing)?)(?![a-z])'
                  r'|^(train|val|test)(?=annot|mask|label|image|img|gt|[ab]$)'
                  r'|(?-i:(?<=[a-z])(Tr|Ts)$)', re.I)  # words of a split in a folder's name

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
    path: Path,                # of a picture
    folders: tuple[str, ...],  # below the root
) -> File:
    "Return the file with what its folders say about the split."
    part, place = '', []
    for folder in folders:
        if (word := PART.search(folder)):
            part = dict(tr='train', va='val', te='test', ts='test')[word[0][:2].lower()]
            folder = folder[:word.start()] + '*' + folder[word.end():]
        place.append(folder)
    stem, ending = os.path.splitext(path.name)
    return File(path, folders, tuple(place), part, stem, ending.lower())

def list_files(
    root: Path,  # a folder
) -> tuple[list[File], list[Path]]:
    "Return the pictures below `root`, sorted, and all other files; hidden ones are skipped."
    pictures, others = [], []
    for folder, below, names in os.walk(root, followlinks=True):
        hidden = [name for name in below if name.startswith('.') or name == '__MACOSX']
        below[:] = sorted(set(below) - set(hidden))
        folders = Path(folder).relative_to(root).parts
        if len(folders) > 20: below.clear()  # a link that leads back to a folder above
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith('.') or not path.is_file(): continue
            if path.suffix.lower() in ENDINGS: pictures.append(make_file(path, folders))
            else: others.append(path)
    return pictures, others

Entry = tuple[tuple, str, File]  # key, which a picture and its mask share; name; file
WORD = re.compile(r'[_\-. ]*(masks?|labels?|segmentations?|segs?|annotations?|gt|images?|imgs?'
                  r'|photos?|pictures?)[_\-. ]*', re.I)  # a word of a folder's name

def folder_word(
    file: File,  # a picture or a mask
) -> tuple[str, tuple[str, ...]]:
    "Return the word for pictures or masks in the last folder's name, and the folders without it."
    last = file.place[-1] if file.place else ''
    if not (word := WORD.search(last)): return ' ', file.place
    return word[1], (*file.place[:-1], last[:word.start()] + last[word.end():])

def readings(
    depth: int,  # folders below the root, at most
) -> dict[str, Callable]:  # how: function of a File: (what tells masks from pictures, key, name)
    "Return the ways in which a path may tell masks from pictures; both agree in the key."
    first, last = re.compile(r'[A-Za-z]*'), re.compile(r'(?:[A-Za-z]+\d?)?$')
    ways = {'folder': lambda f: ('/'.join(f.place), (), f.stem)}  # images/NAME, masks/png/NAME
    for k in range(depth):  # images/CITY/NAME, labels/CITY/NAME
        ways[f'folder {k}'] = lambda f, k=k: (
            '/'.join(f.place[k:k + 1]), f.place[:k] + f.place[k + 1:], f.stem)
        if k: ways[f'folder {k} on'] = lambda f, k=k: ('/'.join(f.place[k:]), f.place[:k], f.stem)
    ways['folder word'] = lambda f: (*folder_word(f), f.stem)  # cat/NAME, cat_masks/NAME
    ways['suffix'] = lambda f: ('', f.place, f.stem)  # NAME, NAME_mask
    same = {'.jpeg': '.jpg', '.tiff': '.tif'}
    ways['ending'] = lambda f: (same.get(f.ending, f.ending), f.place, f.stem)  # NAME.jpg, NAME.png
    ways['first word'] = lambda f: (  # image_1, mask_1
        first.match(f.stem)[0], f.place, first.sub('', f.stem, 1).lstrip('_-. '))
    ways['last word'] = lambda f: (  # 1_sat, 1_mask
        last.search(f.stem)[0], f.place, last.sub('', f.stem, 1).rstrip('_-. '))
    ways['file name'] = lambda f: (f.stem, f.place, '')  # NAME/img, NAME/label
    return ways

def groupings(
    files: list[File],  # pictures and masks
) -> Iterator[tuple[str, dict[str, list[Entry]]]]:
    "An iterator over (how, {what tells: files}) of the readings that find two to twelve kinds."
    for how, read in readings(max(len(file.place) for file in files)).items():
        groups = defaultdict(list)
        for file in files:
            what, *entry = read(file)
            groups[what].append((*entry, file))
        if how == 'suffix' or 2 <= len(groups) <= 12: yield how, groups

COUNTER = r'[_\-. ]*\(?\d+\)?'  # the number of an object: _1, -02, (3)

def affixes(
    masks: list[Entry],              # whose names are to be explained
    cores: dict[tuple, list[File]],  # (key, name): pictures
) -> list[tuple[str, str]]:
    "Return the (before, after) that most often make a mask's name of a picture's name."
    lengths, seen = {len(name) for _, name in cores}, Counter()
    for key, name, _ in spread(masks, 24):
        found = {(name[:i], name[i + n:]) for n in lengths if 0 < n <= len(name)
                 for i in range(len(name) - n + 1) if (key, name[i:i + n]) in cores}
        numbered = {(before, re.sub(f'{COUNTER}$', '', after)) for before, after in found}
        seen.update(found | numbered)
    return sorted(seen, key=lambda pair: (-seen[pair], len(''.join(pair)), pair))[:8]

def constant(
    names: list[str],  # of pictures
) -> tuple[str, str]:
    "Return the words that all names begin and end with: `image_`, `_0000`."
    backwards = os.path.commonprefix([name[::-1] for name in names])
    before = re.match(r'(.*[_\-. ]|[A-Za-z]{3,}|)', os.path.commonprefix(names))[0]
    after = re.search(r'([_\-. ].*|)$', backwards[::-1])[0]
    some_left = len(names) > 1 and len(before) + len(after) < min(map(len, names))
    return (before, after) if some_left else ('', '')

def middle(
    name: str,    # of a file
    before: str,  # what it should begin with
    after: str,   # what it should end with
) -> str | None:
    "Return the name without the two; None if it does not begin and end so."
    if not (name.startswith(before) and name.endswith(after)): return None
    return name[len(before):len(name) - len(after)]

Pairs = dict[File, list[File]]  # picture: its masks

@dataclass
class Candidate:
    "One way to pair a folder's pictures with masks."
    how: str       # of `readings`
    pictures: str  # what tells the pictures
    masks: str     # what tells the masks
    kind: str      # 'name'; one file an object: 'objects' (numbered) or 'folder' (by folder)
    more: str      # what a mask's name has more than its picture's
    less: str      # what a picture's name has more than its mask's
    pairs: Pairs

    @property
    def used(self) -> set[File]:
        "The masks."
        return {mask for masks in self.pairs.values() for mask in masks}

    @property
    def rule(self) -> str:
        "The rule in words, with an example."
        order = lambda pair: (-len(pair[1]), pair[0].label)
        picture, masks = min(self.pairs.items(), key=order)
        words = dict(folder='a folder a picture, all masks in it', objects='one mask an object',
                     name=f'name + {self.more}' if self.more else 'same name')[self.kind]
        if self.less: words += f', without {self.less}'
        more = f' and {len(masks) - 1} more' if len(masks) > 1 else ''
        return f'{words}: {picture.label} with {masks[0].label}{more}'

def pair_by_name(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> Iterator[tuple[str, str, str, Pairs]]:  # kind, more, less, pairs
    "An iterator over the rules: a mask's name = before + its picture's name + after."
    own = constant([name for _, name, _ in pictures])  # pictures may have a word: x_leftImg8bit
    for strip in dict.fromkeys([('', ''), own]):
        cores = defaultdict(list)
        for key, name, file in pictures:
            if (core := middle(name, *strip)) is not None: cores[key, core].append(file)
        for head, tail in affixes(masks, cores):
            counter = COUNTER if tail[-1:].isalpha() else COUNTER.replace('*', '+', 1)
            counted = re.compile(f'{re.escape(head)}(.+){re.escape(tail)}{counter}', re.S)
            pairs, numbered = defaultdict(list), defaultdict(list)
            for key, name, file in masks:
                plain = [f for f in cores.get((key, middle(name, head, tail)), ()) if f is not file]
                number = None if plain else counted.fullmatch(name)
                for picture in plain: pairs[picture].append(file)
                for picture in cores.get((key, number[1]), ()) if number else ():
                    numbered[picture].append(file)
            if pairs: yield 'name', head + tail, ''.join(strip), dict(pairs)
            usual = any(map(str.isalpha, tail)) or len(numbered) > len(pairs) / 2
            both = {f: pairs.get(f, []) + numbered.get(f, []) for f in {**pairs, **numbered}}
            if numbered and usual and max(map(len, both.values())) > 1:
                yield 'objects', head + tail, ''.join(strip), both

def pair_by_longer_name(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> Iterator[tuple[str, str, str, Pairs]]:  # kind, more, less, pairs
    "An iterator over two more rules: photo.jpg with photo.jpg.png, name_0000 with name."
    named = defaultdict(list)
    for key, name, file in masks: named[key, name].append(file)
    yield 'name', 'the ending of its picture', '', {
        file: named[key, name + file.path.suffix] for key, name, file in pictures
        if (key, name + file.path.suffix) in named}
    for head, tail in affixes(pictures, named):
        if head or tail:
            yield 'name', '', head + tail, {
                file: named[key, core] for key, name, file in pictures
                if (key, core := middle(name, head, tail)) in named}

def pair_by_folder(
    pictures: list[Entry],  # what may be pictures
    masks: list[Entry],     # what may be masks
) -> Pairs:
    "Return the pairs of a folder a picture: one picture in each, with all masks of that folder."
    at, pairs = defaultdict(list), {}
    for key, _, file in pictures: at[key].append(file)
    if () in at or any(len(files) > 1 for files in at.values()): return {}
    for key, _, file in masks:
        if key in at: pairs.setdefault(at[key][0], []).append(file)
    return pairs

def candidates(
    files: list[File],              # pictures and masks
    is_mask: Callable | None = None,  # of a File, if an option says which are masks
) -> list[Candidate]:
    "Return every way to pair the files, those with most pairs first."
    found = []
    for how, groups in groupings(files):
        for a, b in [('', '')] if how == 'suffix' else permutations(groups, 2):
            pictures = [entry for entry in groups[a] if not (is_mask and is_mask(entry[2]))]
            masks = [entry for entry in groups[b] if not is_mask or is_mask(entry[2])]
            if not pictures or not masks: continue
            if all(any(f.part for *_, f in group) for group in (pictures, masks)):
                pictures, masks = ([((*key, f.part), name, f) for key, name, f in group]
                                   for group in (pictures, masks))  # a split is part of the key
            ways = []
            if how != 'file name':
                ways = [*pair_by_name(pictures, masks), *pair_by_longer_name(pictures, masks)]
            if how.startswith('folder ') or how == 'file name':
                ways.append(('folder', '', '', pair_by_folder(pictures, masks)))
            for kind, more, less, pairs in ways:
                used = {mask for of in pairs.values() for mask in of}
                pairs = {f: of for f, of in pairs.items() if f not in used}
                if pairs: found.append(Candidate(how, a, b, kind, more, less, pairs))
    order = ('folder', 'name', 'objects')
    return sorted(found, key=lambda c: (len(c.pairs), order.index(c.kind)), reverse=True)
