"""Keep what belongs together on one side of the split."""
import re
from collections import defaultdict

import numpy as np
import torch

from unet_course.support.files import CourseError

WHOLE_SET = re.compile(  # what a camera or a tool writes before the numbers of all its pictures
    r'(img|images?|im|pic|pict|pictures?|photos?|dsc[nf]?|pxl|mvi|vid|gopr?|frames?|scan|slide'
    r'|sample|case|train|val|test)?([_\-. ]?(19|20)\d{6})?', re.I)

def group_of(
    name: str,  # of a picture
) -> str:
    "Return the name without what counts copies and frames: `.rf.HASH`, `_01`, `_frame2`, ` (3)`."
    name = re.sub(r'(_(jpe?g|png|webp|bmp))?\.rf\.\w{16,}$', '', name)
    shorter = re.sub(r'[/_\-. ]+[A-Za-z]{0,8}\(?\d{1,9}\)?$', '', name)
    return name if WHOLE_SET.fullmatch(shorter) else shorter

def find_groups(
    names: list[str],     # of the pictures
    pattern: str | None,  # the option --groups: a regular expression, 'none', or None: by counters
) -> tuple[list[str], str]:  # a group for each name; how it was found, '' if each is its own
    "Return which pictures belong together."
    if pattern == 'none': return names, ''
    if pattern is None:
        found = [group_of(name) for name in names]
        if len(set(found)) in (1, len(names)): return names, ''
        return found, 'their names share a stem with a counter'
    help = 'such as "^(.*)_" for what stands before the last _, or none'
    try: expression = re.compile(pattern)
    except re.error as error:
        raise CourseError(f'--groups {pattern}: no regular expression ({error}); {help}') from None
    matches = [expression.search(name) for name in names]
    missing = [name for name, match in zip(names, matches) if not match]
    if missing:
        raise CourseError(f'--groups {pattern}: {len(missing)} of {len(names)} names do not match, '
                          f'such as {missing[0]}; give an expression that matches each, {help}')
    found = [match[1] or '' if expression.groups else match[0] for match in matches]
    if len(set(found)) == 1 < len(names):
        raise CourseError(f'--groups {pattern}: all {len(names)} pictures are one group, '
                          f'{found[0]!r}, and none is left to validate on; give another, {help}')
    return found, f'--groups {pattern}'

def split_groups(
    parts: list[str],      # of each picture: 'train', 'val', 'test', or '' where no folder says it
    groups: list[str],     # of each picture
    fraction: float = .2,  # share of the pictures for validation, and again for the test
    seed: int = 0,         # of the lot
) -> dict[str, torch.Tensor]:  # 'train', 'val', 'test': int64 rows, ascending, disjoint
    "Return the split: as the folders say; else whole groups by lot, the largest for training."
    told = {part: [i for i, p in enumerate(parts) if p == part]
            for part in ('train', 'val', 'test')}
    if not (told['train'] and (told['val'] or told['test'])): told = dict(train=[], val=[], test=[])
    fixed = {i for part in ('val', 'test') for i in told[part]}
    members = defaultdict(list)
    for i, group in enumerate(groups):
        if i not in fixed: members[group].append(i)
    wanted = [part for part in ('test', 'val') if not told[part]]
    if told['val'] and 'test' in wanted: wanted.remove('test')  # the valid folder is all there is
    wanted = wanted[max(0, len(wanted) - len(members) + 1):]  # a group is left for training
    if not (told['val'] or 'val' in wanted):
        raise CourseError(f'a split needs two pictures or groups, there is {len(members)} (of '
                          f'{len(parts)} in all): none would be left to validate on')
    order = np.random.default_rng(seed).permutation(sorted(members)).tolist()
    largest = max(map(len, members.values()))
    order.sort(key=lambda group: len(members[group]) == largest)  # stable: the largest come last
    share = fraction * sum(map(len, members.values()))
    for k, part in enumerate(wanted, 1):
        spare = len(wanted) - k + 1  # groups that the other parts need
        fits = lambda: len(told[part]) + len(members[order[0]]) / 2 <= share
        while len(order) > spare and (not told[part] or fits()):
            told[part] = told[part] + members[order.pop(0)]
    told['train'] = [i for group in order for i in members[group]]
    return {part: torch.tensor(sorted(rows), dtype=torch.int64) for part, rows in told.items()}
