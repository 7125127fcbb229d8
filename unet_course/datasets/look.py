"""Show what was understood of a folder: a report in lines, and a sheet of outlined pictures."""
from collections import Counter, defaultdict

import numpy as np
from PIL import Image

from unet_course.data import BORDER, PET
from unet_course.datasets.decoding import each, read_picture, spread

def often(
    values,         # anything
    most: int = 4,  # how many are named
) -> str:
    "Return the commonest of the values with how often they occur."
    counts = Counter(values).most_common()
    more = f', {len(counts) - most} more' if len(counts) > most else ''
    return ', '.join(f'{value} ({n})' for value, n in counts[:most]) + more

def some(
    names: list[str],  # of files or pictures
    most: int = 5,     # how many are named
) -> str:
    "Return how many names there are, and the first of them."
    return f'{len(names)}: {", ".join(names[:most])}' + (', ...' if len(names) > most else '')

def reading_lines(
    report,  # FolderReport
) -> list[tuple[str, str]]:
    "Return what the report says about the files: (subject, text)."
    pairs = report.pairs
    lines = [('pairs', f'{len(pairs)} by the rule: {report.rule}')]
    lines += [('left out', f'{why}, {some(files)}') for why, files in report.left_out.items()]
    if not report.left_out: lines.append(('left out', 'nothing'))
    sizes = often('{}x{}'.format(*pair.facts.size) for pair in pairs)
    lines.append(('pictures', f'{often(pair.facts.mode for pair in pairs)}; pixels {sizes}'))
    if report.numbers:
        low, high = report.numbers
        lines.append(('range', f'of more than 8 bits: {low:g} is black, {high:g} white, in all'))
    if report.turned:
        lines.append(('turned', f'by their EXIF note, the masks not, {some(report.turned)}'))
    if report.unsure:
        lines.append(('', f'look, no size confirms these masks as upright: {some(report.unsure)}'))
    if not report.turn:
        lines.append(('turned', 'none: the masks fit the pictures as they are stored, not as their '
                                'EXIF notes ask'))
    lines.append(('masks', often(report.mask_modes, 6)))
    if report.resized:
        lines.append(('resized', 'masks that have not the size of their picture, to the nearest '
                                 f'pixel, {some(report.resized)}'))
    return lines

def meaning_lines(
    report,  # FolderReport
) -> list[tuple[str, str]]:
    "Return what the report says about the masks' values: (subject, text)."
    by_share = sorted(report.pairs, key=lambda pair: pair.share)
    picked = dict(smallest=by_share[0], median=by_share[len(by_share) // 2], largest=by_share[-1])
    shares = ', '.join(f'{what} {p.share:.1%} ({p.name})' for what, p in picked.items())
    return [('values', report.meaning.why),
            *(('', f'{value} = {role}') for value, role in report.meaning.rows()),
            ('positive', f'{shares} of a picture'),
            ('', f'empty masks: {some(report.empty)}' if report.empty else 'no empty mask')]

def split_lines(
    report,  # FolderReport
    split,   # of `split_folder`: 'train', 'val', 'test': rows
) -> list[tuple[str, str]]:
    "Return what the report says about groups and split: (subject, text)."
    pairs, groups = report.pairs, Counter(pair.group for pair in report.pairs)
    if report.grouping.startswith('--'):
        text = f'{len(groups)} by {report.grouping}: kept on one side'
    elif report.grouping:
        such = often(pair.group for pair in pairs)
        text = (f'{len(pairs)} pictures look like {len(groups)} groups ({report.grouping}), '
                f'such as {such}: kept on one side; --groups changes it')
    else:
        text = ('each picture is its own; if some are frames of one film or photos of one thing, '
                'say so with --groups')
    parts = {pair.part for pair in pairs}
    told = 'train' in parts and parts & {'val', 'test'}
    how = 'as the folders or lists say' if told else 'by lot, whole groups'
    counts = ', '.join(f'{part} {len(rows)}' for part, rows in split.items())
    lines = [('groups', text), ('split', f'{counts} ({how})')]
    sides = defaultdict(set)
    for part, rows in split.items():
        for i in rows.tolist(): sides[pairs[i].group].add(part)
    both = [group for group, at in sides.items() if len(at) > 1]
    if both:
        lines.append(('', f'groups on both sides, so a score measures memory too, {some(both)}'))
    scored = 'test' if len(split['test']) else 'val'
    n = len({pairs[i].group for i in split[scored].tolist()})
    if len(groups) < 10:
        lines.append(('', f'a score will come from {n} of {len(groups)} groups: too few to tell '
                          'how the next one will do'))
    return lines

def report_text(
    report,        # FolderReport
    split,         # of `split_folder`; or the reason why there is none
) -> str:
    "Return what was understood, a line a subject."
    lines = reading_lines(report) + meaning_lines(report)
    lines += [('split', f'none: {split}')] if isinstance(split, str) else split_lines(report, split)
    return '\n'.join([str(report.root), *(f'{what:9} {text}' for what, text in lines)])

def pick_pairs(
    report,  # FolderReport
    n: int,  # how many
) -> list[int]:  # rows of `report.pairs`, by share
    "Return the smallest and the largest, an empty, a turned, a resized one, and some between."
    order = sorted(range(len(report.pairs)), key=lambda i: (report.pairs[i].share, i))
    full = [i for i in order if report.pairs[i].share] or order
    row = {pair.name: i for i, pair in enumerate(report.pairs)}
    special = (report.empty, report.unsure, report.turned, report.resized)
    wanted = [full[0], full[-1], *(row[names[0]] for names in special if names)]
    chosen = list(dict.fromkeys(wanted + spread(order, n) + order))[:n]
    return sorted(chosen, key=order.index)

def draw_outline(
    ax,                  # matplotlib Axes
    inside: np.ndarray,  # bool [H, W]
    colour: str,         # of the line
):
    "Draw a line around what is inside, on a black one that shows it on any ground."
    if not inside.any(): return
    height, width = inside.shape
    padded = np.pad(inside, 1).astype(float)
    x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
    for shade, line in (('black', 2.6), (colour, 1.3)):
        ax.contour(x, y, padded, levels=[.5], colors=shade, linewidths=line)

def contact_sheet(
    report,      # FolderReport
    n: int = 8,  # pictures
):  # a matplotlib Figure
    "Return a figure of `n` pictures, the extremes among them, with what is positive outlined."
    from matplotlib.figure import Figure
    chosen = pick_pairs(report, n)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    fig = Figure((3 * columns, 3.2 * rows + .5), dpi=100, facecolor='white', layout='constrained')

    def load(i):
        pair = report.pairs[i]
        image = read_picture(pair.picture.path, report.turn_of(pair), report.numbers, draft=600)
        image.thumbnail((600, 600))
        trimap = Image.fromarray(report.trimap(pair)).resize(image.size, Image.Resampling.NEAREST)
        return np.asarray(image), np.asarray(trimap)

    notes = {}
    for note in ('resized', 'turned', 'unsure', 'empty'):
        notes |= dict.fromkeys(getattr(report, note), dict(unsure='turned: right?').get(note, note))
    axes = fig.subplots(rows, columns, squeeze=False).flat
    for ax, i, (image, trimap) in zip(axes, chosen, each(load, chosen, 'pictures')):
        pair = report.pairs[i]
        ax.imshow(image)
        draw_outline(ax, trimap == BORDER, '#00c8ff')
        draw_outline(ax, trimap == PET, '#ffe100')
        note = f', {notes[pair.name]}' if pair.name in notes else ''
        ax.set_title(f'{pair.name[-34:]}\n{pair.share:.1%} positive{note}', fontsize=8)
    for ax in fig.axes: ax.axis('off')
    for ax in list(fig.axes)[len(chosen):]: ax.remove()
    ignored = ', blue: ignored' if report.meaning.ignored else ''
    fig.suptitle(f'{report.root.resolve().name}: {len(chosen)} of {len(report.pairs)} pairs; '
                 f'yellow: what is to be found{ignored}', fontsize=10)
    return fig
