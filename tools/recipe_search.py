"""The search that is to tune the course protocol's recipe: validation images only, one change at a time, every try kept.

    python tools/recipe_search.py --width 16 --size 64 --epochs 5 --out results/recipe_search

It never builds the test split. The tries are written down below, in the order in which they are made; a stopped search goes on.
What is kept in results/recipe_search was found after the first results had been made with the recipe of the protocol `course`, which was set
beforehand: at 5 and at 15 epochs, width 16, both variants do better without augmentation. That is the recipe of the protocol `tuned`, written down
before any network was trained with it for the test split; `tests/test_results.py` holds it to the search.
"""
import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from unet_course.data import course_split  # noqa: E402
from unet_course.datasets.oxford_pets import load_pets  # noqa: E402
from unet_course.experiments import POS_WEIGHT, PROTOCOLS, parse_variants  # noqa: E402
from unet_course.support.device import machine  # noqa: E402
from unet_course.factory import create_model  # noqa: E402
from unet_course.support.text import markdown_table  # noqa: E402
from unet_course.losses import make_loss  # noqa: E402
from unet_course.support.device import choose_amp, choose_device  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402
from unet_course.training import Trainer, TrainingData  # noqa: E402

BASE = replace(PROTOCOLS['course'], lr=3e-3, weight_decay=1e-2, max_grad_norm=1.0, augmented=True, ema_decay=0.0)
TRIES = dict(base={}, average=dict(ema_decay=0.98), lr_1e_2=dict(lr=1e-2), lr_1e_3=dict(lr=1e-3), batch_16=dict(batch_size=16),
             no_augmentation=dict(augmented=False), no_clip=dict(max_grad_norm=None), no_decay=dict(weight_decay=0.0), decay_1e_1=dict(weight_decay=1e-1),
             no_augmentation_lr_1e_3=dict(augmented=False, lr=1e-3))
VARIANTS = parse_variants('exp1,exp4')  # they differ in all three factors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path)
    parser.add_argument('--out', type=Path, default=Path('results/recipe_search'))
    parser.add_argument('--width', type=int, default=16)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=5)
    parser.add_argument('--seed', type=int, default=100, help='not one of the seeds of the experiments')
    parser.add_argument('--tries', default=','.join(TRIES), metavar='NAMES')
    parser.add_argument('--variants', default=','.join(v.id for v in VARIANTS), metavar='IDS')
    args = parser.parse_args()
    device = choose_device()
    amp = choose_amp('auto', device)
    pets = load_pets(args.root, args.size)
    split = {part: index for part, index in course_split(pets).items() if part != 'test'}
    out = args.out / f'w{args.width}-{args.size}px-{args.epochs}epochs'
    out.mkdir(parents=True, exist_ok=True)
    for name in args.tries.split(','):
        for variant in parse_variants(args.variants):
            path = out / f'{name}-{variant.id}-seed{args.seed}.json'
            if path.exists(): continue
            recipe = replace(BASE, epochs=args.epochs, **TRIES[name])
            options = dict(pos_weight=POS_WEIGHT) if variant.loss == 'bce' else {}
            model = create_model(dict(base_width=args.width, downsample_mode=variant.down, upsample_mode=variant.up), seed=args.seed)
            trainer = Trainer(model, make_loss(variant.loss, **options), TrainingData(pets, split, device=device), recipe, seed=args.seed, amp=amp)
            best = trainer.fit()
            write_json(dict(attempt=name, change=TRIES[name], variant=variant.id, seed=args.seed, val_iou=best['score'], best_epoch=best['epoch'],
                            seconds=sum(row['seconds'] for row in trainer.history), **machine(device, amp)), path)
            print(name, variant.id, round(best['score'], 4), flush=True)
    found = [json.loads(path.read_text()) for path in sorted(out.glob(f'*-seed{args.seed}.json'))]
    variants, rows = dict.fromkeys(r['variant'] for r in found), []
    for name in TRIES:
        scores = {variant: r['val_iou'] for variant in variants for r in found if (r['attempt'], r['variant']) == (name, variant)}
        if scores: rows.append(dict(attempt=name, change=json.dumps(TRIES[name]), **{v: f'{scores[v]:.4f}' if v in scores else '–' for v in variants},
                                    mean=f'{np.mean(list(scores.values())):.4f}' if len(scores) == len(variants) else '–'))
    head = f'Validation IoU (mean over images) of single runs, width {args.width}, {args.size}x{args.size}, {args.epochs} epochs, seed {args.seed}, {found[0]["device"]}, AMP {found[0]["amp"]}. Base: {BASE}\n\n'
    (out / 'table.md').write_text(head + markdown_table(rows) + '\n')
    print(markdown_table(rows))


if __name__ == '__main__':
    main()
