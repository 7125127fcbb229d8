"""The search for the course protocol's recipe: validation images alone, one change at a time, every try kept.

    python tools/recipe_search.py --size 64 --tries newton_3,tuned --variants exp1,exp4 --seeds 100,101
    python tools/recipe_search.py --table

It never builds the test split. Every try is written down below, in the order in which they were made, before it is run; what is done is not run again.
Each run leaves one JSON in results/recipe_search/<size>px/: the validation IoU of its best epoch, at the best of 19 thresholds and at 0.5, and the
processor seconds of one thread. `--table` writes results/recipe_search/table.md from them. The runs were made with this code's forerunner, which
counted pictures without a pet in the mean IoU, as 1 where the mask was empty (one validation picture); that is the only difference in a figure.
"""
import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.quality import SEARCH, searched, the_pets, train_ours  # noqa: E402
from benchmarks.recipes import COURSE, SearchRecipe  # noqa: E402
from unet_course.experiments import EXPERIMENTS, parse_variants  # noqa: E402
from unet_course.support.device import choose_device, keep_freed_memory  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402
from unet_course.support.text import markdown_table  # noqa: E402

TRIES = dict(  # name: (the try that it changes, the change)
    course=(None, {}),
    tuned=('course', dict(epochs=15, augmented=False)),
    muon=('tuned', dict(epochs=8, optimizer='muon', lr=0.02, sizes=(.5, 1), augmented='flip', newton_steps=5)),
    # eight epochs are better than `tuned` and cost half: how far can it be cut?
    six=('muon', dict(epochs=6)),
    six_4_2=('six', dict(sizes=(.5, .5, 1))),
    linear=('six_4_2', dict(schedule='linear')),
    warmup_0_1=('six_4_2', dict(warmup=0.1)),
    linear_warmup_0_1=('six', dict(schedule='linear', warmup=0.1)),
    # linear decay is a clear gain, a shorter warm-up is not: one change at a time to `linear`
    linear_two_two_two=('linear', dict(sizes=(.5, .75, 1))),
    linear_lr_4e_2=('linear', dict(lr=0.04)),
    # three steps of sizes are better than two at little more cost: one change at a time to `linear_two_two_two`
    newton_3=('linear_two_two_two', dict(newton_steps=3)),
    no_flips=('linear_two_two_two', dict(augmented=False)),
    # three Newton-Schulz steps are as good as five: with them, a higher rate, and fewer epochs
    newton_3_lr_4e_2=('newton_3', dict(lr=0.04)),
    newton_3_five=('newton_3', dict(epochs=5, sizes=(.5, .5, .75, .75, 1))),
    # one change at a time to `newton_3`
    momentum_0_9=('newton_3', dict(momentum=0.9)),
    adam_lr_1e_2=('newton_3', dict(adam_lr=1e-2)),
    ignore=('newton_3', dict(train_border='ignore')),
    decay_1e_1=('newton_3', dict(weight_decay=1e-1)),
    no_clip=('newton_3', dict(max_grad_norm=None)),
    batch_16=('newton_3', dict(batch_size=16)),
    average=('newton_3', dict(ema_decay=0.98)),
    # a stronger decay and a shorter memory both help: together, and a decay that is stronger still
    decay_momentum=('newton_3', dict(weight_decay=1e-1, momentum=0.9)),
    decay_3e_1=('newton_3', dict(weight_decay=3e-1)),
    # the two together are no better than the decay alone by more than a tenth of the noise between seeds: `decay_1e_1` it is, and Muon's own momentum stays
)


def recipe_of(name: str) -> SearchRecipe:
    "Return the recipe of a try."
    base, change = TRIES[name]
    return replace(recipe_of(base), **change) if base else searched(COURSE)


def mean_and_range(values: list) -> str:
    "Return the mean of some IoUs and, of more than one, their range."
    return f'{np.mean(values):.4f}' + (f' ({min(values):.4f} to {max(values):.4f})' if len(values) > 1 else '')


def table(folder: Path) -> str:
    "Return the table of one size: a row a try, means over its seeds."
    found, rows = [json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))], []
    for name, (base, change) in TRIES.items():
        runs = {alias: [r for r in found if (r['attempt'], r['variant']) == (name, EXPERIMENTS[alias].id)] for alias in ('exp1', 'exp4')}
        if not all(runs.values()): continue
        both = [r for here in runs.values() for r in here]
        seconds = [sum(np.mean([sum(r[key] for key in keys) for r in here]) for here in runs.values()) for keys in (('train_seconds',), ('train_seconds', 'validation_seconds'))]
        rows.append({'try': f'`{name}`', 'changes': f'`{base}`' if base else '–', 'to': ', '.join(f'{k} {v}' for k, v in change.items()) or '–',
                     **{f'IoU {alias}': mean_and_range([r['iou'] for r in here]) for alias, here in runs.items()}, 'mean': f"{np.mean([r['iou'] for r in both]):.4f}",
                     'mean at 0.5': f"{np.mean([r['iou_at_half'] for r in both]):.4f}", 'training, s': f'{seconds[0]:.0f}', 'with validation, s': f'{seconds[1]:.0f}',
                     'seeds': ', '.join(str(r['seed']) for r in runs['exp1'])})
    first = found[0]
    return (f"## Width {first['width']}, {first['size']}x{first['size']}\n\n{first['processor']}; one thread; AMP {first['amp']}. Validation IoU (mean over images) of the best epoch, at the best of 19 thresholds; "
            f"processor seconds are of exp1 and exp4 together. The machine was shared: seconds of runs made at different times differ by up to a quarter.\n\n{markdown_table(rows)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--width', type=int, default=16)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--seeds', default='100', help='not those of the experiments')
    parser.add_argument('--tries', default=','.join(TRIES), metavar='NAMES')
    parser.add_argument('--variants', default='exp1,exp4', metavar='IDS')
    parser.add_argument('--table', action='store_true', help='train nothing, write table.md')
    args = parser.parse_args()
    if args.table:
        folders = sorted(SEARCH.glob('*px'), key=lambda p: int(p.name[:-2]))
        (SEARCH / 'table.md').write_text('# The search for the recipe\n\n' + '\n'.join(map(table, folders)), encoding='utf-8')
        return
    keep_freed_memory()
    device, (pets, split) = choose_device(), the_pets(args.size, tiny=False)
    for seed in map(int, args.seeds.split(',')):
        for name in args.tries.split(','):
            for variant in parse_variants(args.variants):
                path = SEARCH / f'{args.size}px' / f'{name}-{variant.id}-seed{seed}.json'
                if path.exists(): continue
                path.parent.mkdir(parents=True, exist_ok=True)
                found = train_ours(recipe_of(name), variant, seed, pets, split, args.width, device, lambda row: print(name, variant.id, seed, row, flush=True))
                write_json(dict(attempt=name, **found), path)


if __name__ == '__main__':
    main()
