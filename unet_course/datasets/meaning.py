"""Decide for a whole set of masks what their values mean, or ask in one line."""
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from unet_course.data import BACKGROUND, BORDER, PET
from unet_course.datasets.decoding import (COLOUR, MANY, MaskFacts, colour, mask_values,
                                           two_heaps, value_text)
from unet_course.datasets.sidecars import NOTHING
from unet_course.support.files import CourseError

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
        if value in self.positive: return 'positive'
        return 'ignored' if value in self.ignored else 'background'

    def rows(self) -> list[tuple[str, str]]:
        "Return the table of values to meaning: (value and name, role and share of the pixels)."
        total, rows = sum(self.counts.values()), []
        for v in sorted(self.counts):
            text = {0: '0 to 127', 255: '128 to 255'}[v] if self.soft else value_text(v)
            name = f' {self.names[v]}' if v in self.names else ''
            share = f'{self.counts[v] / total:.1%} of the pixels, in {self.files[v]} masks'
            rows.append((text + name, f'{self.role(v)}, {share}'))
        if len(rows) <= 12: return rows
        return rows[:6] + [('...', f'{len(rows) - 9} more')] + rows[-3:]

def share_text(
    counts: dict[int, int],  # value: pixels in the set
    files: dict[int, int],   # value: masks that have it
    names: dict[int, str],   # value: name
    total: int,              # masks
) -> str:
    "Return what a set's masks hold, in a line: the eight commonest values with name and share."
    pixels = sum(counts.values())
    often = sorted(sorted(counts, key=lambda v: -counts[v])[:8])
    said = [f'{names[v] + " = " if v in names else ""}{value_text(v)} ({counts[v] / pixels:.1%} '
            f'of the pixels, in {files[v]} of {total} masks)' for v in often]
    return ', '.join(said) + (f' and {len(counts) - 8} more' if len(counts) > 8 else '')

def values_of_word(
    word: str,               # a value, '#rrggbb', a name, 'a-b' or 'all'
    found: Collection[int],  # values that the masks have
    names: dict[int, str],   # value: name
) -> set[int]:
    "Return the values of the masks that a word of an option names."
    named = {v for v in found if names.get(v) == word}
    named = named or {v for v in found if names.get(v, '').lower() == word.lower()}
    if named: return named
    if (span := re.fullmatch(r'(\d+)-(\d+)', word)):
        return {v for v in found if int(span[1]) <= v <= int(span[2])}
    if word.isdecimal() and int(word) in found: return {int(word)}
    if re.fullmatch(r'#?[0-9a-fA-F]{6}', word):
        return {colour(*bytes.fromhex(word.lstrip('#')))} & set(found)
    if word == 'all': return {v for v in found if v and names.get(v, '').lower() not in NOTHING}
    return set()

def chosen_values(
    text,                    # of an option: words for `values_of_word` with commas, or 'r,g,b'
    option: str,             # its name, for the message
    found: Collection[int],  # values that the masks have
    names: dict[int, str],   # value: name
) -> frozenset[int]:
    "Return the values that an option names; a `CourseError` says what there is to choose from."
    text = str(text).strip()
    words = [word.strip() for word in text.split(',')]
    if len(words) == 3 and all(w.isdecimal() and int(w) < 256 for w in words):
        rgb = colour(*map(int, words))
        if rgb in found and not all(int(w) in found for w in words): return frozenset([rgb])
    chosen = set()
    for word in words:
        members = values_of_word(word, found, names)
        if not members:
            there = ', '.join((f'{names[v]} = ' if v in names else '') + value_text(v)
                              for v in sorted(found)[:12]) + (', ...' if len(found) > 12 else '')
            raise CourseError(f'{option} {word}: no mask has it; the masks hold {there}')
        chosen |= members
    return frozenset(chosen)

def are_instances(
    facts: list[MaskFacts],  # of all masks
) -> bool:
    "True if the values number the objects of each picture: 1 to n, n differs, each in one piece."
    ids = [sorted(v for v in f.counts if v) for f in facts]
    in_turn = np.mean([v == list(range(1, len(v) + 1)) for v in ids])
    many = max(map(len, ids))
    kinds = 2 if many > 255 or all(' I' in f.mode for f in facts) else min(3, len(ids))
    if in_turn < .8 or many < 4 or len(set(map(len, ids))) < kinds: return False
    whole = []
    for f in sorted(facts, key=lambda f: -len(f.counts))[:8]:
        values = mask_values(f.path)
        for v in sorted(f.counts)[1:50]:
            at = [np.flatnonzero((values == v).any(axis)) for axis in (0, 1)]
            whole.append(all(np.diff(places).max(initial=1) == 1 for places in at))
    return np.mean(whole) > .9

def soft_edges(
    facts: list[MaskFacts],  # of all masks
    counts: dict[int, int],  # value: pixels in the set
) -> bool:
    "True if the set is black and white with noise or soft edges, so that a cut at 128 reads it."
    if not 192 <= max(counts) < 256: return False
    middle = {v: n for v, n in counts.items() if 64 <= v < 192}
    heap = max((sum(middle.get(v + d, 0) for d in range(-8, 9)) for v in middle), default=0)
    third_class = heap > max(.02 * sum(counts.values()), .5 * sum(middle.values()))
    if third_class: return False
    if any(f.lossy for f in facts): return two_heaps(counts, 63) > .8
    return len(counts) >= 24 and two_heaps(counts, 8) > .9 and {0, 255} <= counts.keys()

def cut_in_two(
    facts: list[MaskFacts],  # of all masks, with soft edges
) -> tuple[Counter, Counter]:  # value 0 or 255: pixels; value: masks
    "Return the counts after a cut at 128; a `CourseError` names a mask of 0 and 1 among them."
    thin = [f for f in facts if not f.lossy and 0 < max(f.counts) < 64 and len(f.counts) <= 2]
    if thin:
        values = ', '.join(map(str, thin[0].counts))
        raise CourseError(f'{thin[0].path}: values {values} in a set of 0 to 255 '
                          f'({len(thin)} of {len(facts)} masks); save all with 0 and 255')
    counts, files = Counter(), Counter()
    for f in facts:
        halves = Counter()
        for v, n in f.counts.items(): halves[0 if v < 128 else 255] += n
        counts.update(halves)
        files.update(halves.keys())
    return counts, files

def question(
    left: list[int],        # values that are not ignored
    files: dict[int, int],  # value: masks that have it
    names: dict[int, str],  # value: name
    said: str,              # of `share_text`
    total: int,             # masks
) -> str:
    "Return the line that asks which value is to be found."
    nothing = [v for v in left if v == 0 or names.get(v, '').lower() in NOTHING]
    rest = sorted((v for v in left if v not in nothing), key=lambda v: -files[v])
    first = names.get(rest[0]) or value_text(rest[0])
    first = f'"{first}"' if first.startswith('#') or ' ' in first else first
    void = 255 in rest and max(left) == 255 and len(rest) > 1 and nothing
    return (f'the {total} masks hold {len(left)} values'
            f'{"" if nothing else " and none of them is 0"}: {said}. Which is to be found? '
            f'Give --positive {first} (or another, several with commas, or all for all but 0)'
            f'{" and perhaps --ignore 255, often the unsure edge" if void else ""}')

def decide(
    facts: list[MaskFacts],  # of all masks of the set
    names: dict[int, str],   # value: name, of `class_names`
    positive=None,           # the option --positive
    ignore=None,             # the option --ignore
) -> Meaning:
    "Return what the values mean in the whole set; a `CourseError` asks where they do not say it."
    if (strange := [f for f in facts if not f.counts]):
        raise CourseError(f'{strange[0].path}: more than {MANY} colours, so it is no mask; '
                          f'{len(strange)} of {len(facts)} are so: say which files are masks, '
                          'with --masks or --mask-suffix')
    counts, files = Counter(), Counter()
    for f in facts:
        counts.update(f.counts)
        files.update(f.counts.keys())
    soft, lossy = soft_edges(facts, counts), sum(f.lossy for f in facts)
    if lossy and not soft:
        kind = 'coloured' if max(counts) >= COLOUR else 'grey, but not only near 0 and near 255'
        raise CourseError(f'{lossy} of {len(facts)} masks are JPEGs with {len(counts)} values '
                          f'({kind}): JPEG blurs values into one another; export PNG masks')
    said = share_text(counts, files, names, len(facts))
    if soft: counts, files = cut_in_two(facts)
    ignored = frozenset() if ignore is None else chosen_values(ignore, '--ignore', counts, names)
    left = [v for v in sorted(counts) if v not in ignored]
    rest = [v for v in left if v and names.get(v, '').lower() not in NOTHING]
    if not rest:
        raise CourseError(f'all {len(facts)} masks are empty: they hold {said}; '
                          'nothing can be learned from them')
    if positive is not None:
        chosen, why = chosen_values(positive, '--positive', left, names), f'--positive {positive}'
    elif len(rest) == 1 and len(left) > 1:
        chosen, why = rest, 'two values, and one of them is background'
        if soft: why = 'black and white with noise or soft edges, cut at 128'
    elif 0 in left and len(rest) > 1 and not names.keys() & set(rest) and are_instances(facts):
        chosen, why = rest, 'the values number the objects of each picture: all but 0 are positive'
    else: raise CourseError(question(left, files, names, said, len(facts)))
    share = sum(counts[v] for v in chosen) / sum(counts[v] for v in left)
    if share > .6 and positive is None:
        other = next(v for v in left if v not in chosen)
        raise CourseError(f'{share:.0%} of the pixels would be positive, as in masks that are the '
                          f'other way round; the {len(facts)} masks hold {said}: say which with '
                          f'--positive {value_text(chosen[0])} or --positive {value_text(other)}')
    return Meaning(frozenset(chosen), ignored, dict(counts), dict(files), names, soft, why)
