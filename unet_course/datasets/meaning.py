"""Decide for a whole set of masks what their values mean, or ask."""
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_course.data import BACKGROUND, BORDER, PET
from unet_course.datasets.masks import COLOUR, MANY, MaskFacts, colour, mask_values, two_heaps, value_text
from unet_course.support.files import CourseError

VOC = [colour(*(sum((i >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3)))
       for i in range(256)]  # Pascal VOC's colour of class i, which labelme and others write
LISTS = ('codes.txt', 'class_names.txt', 'label_names.txt', 'labels.txt', 'classes.txt')
TABLES = ('labelmap.txt', 'label_colors.txt', 'class_dict.csv', '_classes.csv', 'classes.csv')
NOTHING = ('background', '_background_', 'bg', 'unlabeled', 'unlabelled')  # names of the background

def class_names(
    files: list[Path],  # all that lies beside the pictures
) -> dict[int, str]:  # value as `colour` codes it: name
    "Return the names that a list among the files gives to values or colours."
    names = {}
    for path in sorted(files, key=lambda p: (len(p.parts), p.name)):
        kind = path.name.lower()
        try:
            if kind in LISTS:
                lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
                first = -1 if lines[:1] == ['__ignore__'] else 0
                if kind in ('labels.txt', 'classes.txt') and lines[-first:][:1] != ['_background_'] \
                        and lines[0].lower() not in NOTHING: continue  # a detector's list has no background
                for i, line in enumerate(lines, first):
                    if 0 <= i < 256: names.setdefault(i, line); names.setdefault(VOC[i], line)
            elif kind in TABLES:
                for line in path.read_text(encoding='utf-8-sig').splitlines():
                    numbers = re.findall(r'(?<![\w#])\d+(?!\w)', line)
                    name = re.search(r'[^\W\d][^,:;\t]*', re.sub(r'(?<!\w)\d+[ ,]*', ' ', line))
                    if not name or not numbers or line.startswith('#') or len(numbers) > 4: continue
                    value = colour(*map(int, numbers[:3])) if len(numbers) >= 3 else int(numbers[0])
                    names.setdefault(value, name[0].strip())
            elif kind == 'dataset.json':  # nnU-Net: name to value, in older sets value to name
                for key, value in json.loads(path.read_text(encoding='utf-8')).get('labels', {}).items():
                    if key.isdecimal(): names.setdefault(int(key), str(value))
                    elif isinstance(value, int): names.setdefault(value, key)
            elif kind == 'meta.json':  # Supervisely: colours
                for item in json.loads(path.read_text(encoding='utf-8')).get('classes', []):
                    names.setdefault(colour(*bytes.fromhex(item['color'].lstrip('#'))), item['title'])
            elif kind == 'obj_class_to_machine_color.json':
                for name, rgb in json.loads(path.read_text(encoding='utf-8')).items():
                    names.setdefault(colour(*rgb), name)
        except (OSError, ValueError, AttributeError, KeyError, TypeError): continue  # another tool's file of that name
    return names

@dataclass
class Meaning:
    "What the values of a set's masks mean."
    positive: frozenset[int]  # values that are looked for
    ignored: frozenset[int]   # values that no loss and no figure counts
    counts: dict[int, int]    # value: pixels in the whole set
    files: dict[int, int]     # value: masks that have it
    names: dict[int, str]     # value: name, where a list gives one
    soft: bool                # black and white with noise or soft edges: cut at 128 first
    why: str                  # how it was decided

    def trimap(self,
        values: np.ndarray,  # int32 [H, W], of `mask_values`
    ) -> np.ndarray:  # uint8 [H, W] of PET, BACKGROUND, BORDER
        "Return 1 where the mask is positive, 3 where it is ignored, 2 elsewhere."
        if self.soft: values = np.where(values < 128, 0, 255)
        found = np.where(np.isin(values, list(self.positive)), PET, BACKGROUND).astype(np.uint8)
        found[np.isin(values, list(self.ignored))] = BORDER
        return found

    def role(self,
        value: int,  # as `colour` codes it
    ) -> str:  # 'positive', 'ignored' or 'background'
        "Return what a value means."
        if self.soft: value = 0 if value < 128 else 255
        return 'positive' if value in self.positive else 'ignored' if value in self.ignored else 'background'

    def rows(self) -> list[tuple[str, str]]:
        "Return the table of values to meaning: (value and name, role and share of the pixels)."
        total, rows = sum(self.counts.values()), []
        for v in sorted(self.counts):
            text = {0: '0 to 127', 255: '128 to 255'}[v] if self.soft else value_text(v)
            name = f' {self.names[v]}' if v in self.names else ''
            rows.append((text + name, f'{self.role(v)}, {self.counts[v] / total:.1%} of the pixels, in {self.files[v]} masks'))
        return rows if len(rows) <= 12 else rows[:6] + [('...', f'{len(rows) - 9} more')] + rows[-3:]

def share_text(
    counts: dict[int, int],   # value: pixels in the set
    files: dict[int, int],    # value: masks that have it
    names: dict[int, str],    # value: name
    total: int,               # masks
) -> str:
    "Return what a set's masks hold in a line, for a question."
    pixels = sum(counts.values())
    often = sorted(counts, key=lambda v: -counts[v])[:8]
    said = [f'{names[v] + " = " if v in names else ""}{value_text(v)} ({counts[v] / pixels:.1%} of the pixels, '
            f'in {files[v]} of {total} masks)' for v in sorted(often)]
    return ', '.join(said) + (f' and {len(counts) - 8} more' if len(counts) > 8 else '')

def chosen_values(
    text,                    # of an option: a value, '#rrggbb', 'r,g,b', a name, 'a-b', 'all', or some of them with commas
    option: str,             # its name, for the message
    found: dict[int, int],   # values that the masks have
    names: dict[int, str],   # value: name
    nothing=(0,),            # values that 'all' leaves out
) -> frozenset[int]:
    "Return the values that an option names; a `CourseError` says what there is to choose from."
    text = str(text).strip()
    rgb = re.fullmatch(r'(\d+)\s*,\s*(\d+)\s*,\s*(\d+)', text)
    if rgb and max(map(int, rgb.groups())) < 256 and colour(*map(int, rgb.groups())) in found:
        if not all(int(v) in found for v in rgb.groups()): return frozenset([colour(*map(int, rgb.groups()))])
    chosen = set()
    for part in (part.strip() for part in text.split(',')):
        exact = {v for v, name in names.items() if name == part} or {v for v, name in names.items() if name.lower() == part.lower()}
        if exact: members = exact
        elif part.isdecimal(): members = {int(part)}
        elif re.fullmatch(r'#?[0-9a-fA-F]{6}', part): members = {colour(*bytes.fromhex(part.lstrip('#')))}
        elif (span := re.fullmatch(r'(\d+)-(\d+)', part)): members = {v for v in found if int(span[1]) <= v <= int(span[2])}
        elif part == 'all': members = {v for v in found if v not in nothing}
        else: members = set()
        if not members & found.keys():
            there = ', '.join((names[v] + ' = ' if v in names else '') + value_text(v) for v in sorted(found)[:12])
            raise CourseError(f'{option} {part}: no mask has it; the masks hold {there}{", ..." if len(found) > 12 else ""}')
        chosen |= members & found.keys()
    return frozenset(chosen)

def are_instances(
    facts: list[MaskFacts],  # of all masks
) -> bool:
    "True if the values number the objects of each picture: 1 to n, n differs, and each is one piece."
    ids = [sorted(v for v in f.counts if v) for f in facts]
    in_turn = np.mean([v == list(range(1, len(v) + 1)) for v in ids])
    differ = len(set(map(len, ids))) >= (2 if max(v[-1] for v in ids if v) > 255 or all(' I' in f.mode for f in facts) else min(3, len(ids)))
    if in_turn < .8 or not differ or max(map(len, ids)) < 4: return False
    whole = []
    for f in sorted(facts, key=lambda f: -len(f.counts))[:8]:
        values = mask_values(f.path)
        for v in sorted(f.counts)[1:50]:
            rows, columns = (np.flatnonzero((values == v).any(axis)) for axis in (1, 0))
            whole.append(np.diff(rows).max(initial=1) == 1 and np.diff(columns).max(initial=1) == 1)
    return np.mean(whole) > .9

def soft_edges(
    facts: list[MaskFacts],  # of all masks
    counts: dict[int, int],  # value: pixels in the set
) -> bool:
    "True if the set is black and white with noise or soft edges, so that a cut at 128 reads it."
    if max(counts) > 255: return False
    middle = {v: n for v, n in counts.items() if 64 <= v < 192}
    heap = max((sum(middle.get(v + d, 0) for d in range(-8, 9)) for v in middle), default=0)
    third = heap > .02 * sum(counts.values()) and heap > .5 * sum(middle.values())  # another class between the two
    if third or max(counts) < 192: return False
    if any(f.lossy for f in facts): return two_heaps(counts, 63) > .8
    return len(counts) >= 24 and two_heaps(counts, 8) > .9 and 0 in counts and 255 in counts

def decide(
    facts: list[MaskFacts],   # of all masks of the set
    names: dict[int, str],    # value: name, of `class_names`
    positive=None,            # the option --positive
    ignore=None,              # the option --ignore
) -> Meaning:
    "Return what the values mean in the whole set; a `CourseError` asks in one line where they do not say it."
    strange = [f for f in facts if not f.counts]
    if strange: raise CourseError(f'{strange[0].path}: more than {MANY} colours, so it is no mask ({len(strange)} of {len(facts)} masks); --masks or --mask-suffix says which files are')
    counts, files = Counter(), Counter()
    for f in facts: counts.update(f.counts); files.update(f.counts.keys())
    soft, lossy = soft_edges(facts, counts), [f for f in facts if f.lossy]
    said = share_text(counts, files, names, len(facts))
    if lossy and not soft:
        kind = 'coloured' if max(counts) > 255 else 'grey, but not only near 0 and near 255'
        raise CourseError(f'{len(lossy)} of {len(facts)} masks are JPEGs with {len(counts)} different values ({kind}): JPEG blurs values into one another; export the masks as PNG')
    if soft:
        thin = [f for f in facts if not f.lossy and 0 < max(f.counts) < 64 and len(f.counts) <= 2]
        if thin: raise CourseError(f'{thin[0].path}: values {", ".join(map(str, thin[0].counts))} in a set of 0 to 255 ({len(thin)} of {len(facts)} masks); save all masks with 0 and 255')
        counts = Counter({0: sum(n for v, n in counts.items() if v < 128), 255: sum(n for v, n in counts.items() if v >= 128)})
        files = Counter({0: sum(min(f.counts) < 128 for f in facts), 255: sum(max(f.counts) >= 128 for f in facts)})
    ignored = frozenset() if ignore is None else chosen_values(ignore, '--ignore', counts, names)
    left = [v for v in counts if v not in ignored]
    meaning = lambda chosen, why: Meaning(frozenset(chosen), ignored, dict(counts), dict(files), names, soft, why)
    if positive is not None:
        chosen = chosen_values(positive, '--positive', counts, names, {0, *ignored, *(v for v in names if names[v].lower() in NOTHING)})
        if chosen & ignored: raise CourseError(f'--positive {positive} and --ignore {ignore} name the same value {value_text(min(chosen & ignored))}')
        return meaning(chosen, f'--positive {positive}')
    if left == [0] or not left: raise CourseError(f'all {len(facts)} masks are empty: they hold {said}; nothing can be learned from them')
    nothing = [v for v in left if names.get(v, '').lower() in NOTHING] or [0]
    rest = [v for v in left if v not in nothing]
    if set(nothing) & set(left) and len(rest) == 1: chosen, why = rest, 'two values, and one of them is background'
    elif 0 in left and len(rest) > 1 and not any(v in names for v in rest) and are_instances(facts): chosen, why = rest, 'the values number the objects of each picture, so all but 0 are positive'
    else:
        some = [names.get(v) or value_text(v) for v in sorted(rest, key=lambda v: -files[v])]
        first = some[0] if not some[0].startswith('#') else f'"{some[0]}"'
        void = ' and perhaps --ignore 255 (often the unsure border)' if 255 in rest and max(left) == 255 and len(rest) > 1 and min(left) == 0 else ''
        what = f'{len(left)} values' + ('' if set(nothing) & set(left) else ' and none of them is 0')
        raise CourseError(f'the {len(facts)} masks hold {what}: {said}. Which is to be found? Give --positive {first} (or another, several with commas, or all for all but 0){void}')
    result = meaning(chosen, 'black and white with soft edges: cut at 128' if soft else why)
    share = sum(counts[v] for v in chosen) / sum(n for v, n in counts.items() if v not in ignored)
    if share > .6:
        other = next((v for v in left if v not in chosen), 0)
        raise CourseError(f'{share:.0%} of the pixels would be positive, which is usual for masks the other way round; the {len(facts)} masks hold {said}: say which with --positive {value_text(chosen[0])} or --positive {value_text(other)}')
    return result
