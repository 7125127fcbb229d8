"""Fine-tuning against training from scratch, on three small sets whose truth is known.

    python tools/fine_tuning.py                       all sets, both arms, seeds 0 to 2; the real photos must be there
    python tools/fine_tuning.py --sets cells --steps 50

Each set is written as a folder of pictures and masks and read as people's folders are; the results go to
results/own_pictures/fine_tuning.json, a row a run, and the chapter `own_pictures` reads them there. Run it anew when
the package's networks are replaced: 18 runs of 200 steps, about 17 s each on one core of a quiet machine, so some
six minutes in all (estimated; on a busy one a run took up to 452 s).
"""
import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.data import course_split, make_targets  # noqa: E402
from unet_course.datasets.oxford_pets import find_pets, load_pets  # noqa: E402
from unet_course.datasets.synthetic import synthetic_pets  # noqa: E402
from unet_course.runs.evaluation import measure, best_threshold  # noqa: E402
from unet_course.losses import iou  # noqa: E402
from unet_course.measures import THRESHOLDS  # noqa: E402
from unet_course.prediction import load_pretrained  # noqa: E402
from unet_course.runs.own_pictures import own_runs  # noqa: E402
from unet_course.runs.runner import run  # noqa: E402
from unet_course.support.files import package_folder  # noqa: E402

OUT = ROOT / 'results/own_pictures/fine_tuning.json'
VARIANT = 'mp-tr-dice'


def part_of(i: int, train: int, val: int) -> str: return 'train' if i < train else 'valid' if i < train + val else 'test'


def put(folder: Path, name: str, part: str, image: np.ndarray, mask: np.ndarray):
    for place, values in (('images', image), ('masks', mask)):
        (folder / part / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(folder / part / place / f'{name}.png')


def draw_shift(folder: Path) -> dict:
    "Synthetic pets in another style: colours turned round and reduced to four levels, 30 + 10 + 200 of them."
    pets = synthetic_pets(240, size=96, seed=7)
    for i in range(240):
        image = pets.images[i].permute(1, 2, 0).numpy()[..., [2, 0, 1]]
        put(folder, f'pet{i}', part_of(i, 30, 10), (255 - image) // 64 * 85, make_targets(pets.trimaps[i:i + 1])[0, 0].numpy())
    return {}


def draw_cells(folder: Path) -> dict:
    "Drawn cells: bright discs with a dark rim on uneven ground, four to nine in a picture; 30 + 10 + 20 pictures."
    for i in range(60):
        rng, (y, x) = np.random.default_rng([11, i]), np.mgrid[:96, :96]
        image = 40 + 25 * np.sin(x / rng.uniform(15, 40) + rng.uniform(0, 6)) + 20 * np.cos(y / rng.uniform(15, 40))
        mask = np.zeros((96, 96), bool)
        for _ in range(rng.integers(4, 10)):
            angle, a, b = rng.uniform(0, np.pi), rng.uniform(5, 12), rng.uniform(5, 12)
            u, v = x - rng.uniform(4, 92), y - rng.uniform(4, 92)
            r = ((u * np.cos(angle) + v * np.sin(angle)) / a)**2 + ((v * np.cos(angle) - u * np.sin(angle)) / b)**2
            image = np.where(r < 1, image + rng.uniform(15, 60) * (1 - .5 * r) - 25 * ((r > .75) & (r < 1)), image)
            mask |= r < 1
        image = np.random.default_rng([12, i]).poisson(image.clip(0, 255) / 3) * 3
        put(folder, f'cell{i}', part_of(i, 30, 10), np.stack([image.clip(0, 255)] * 3, -1), mask)
    return {}


def copy_pets(folder: Path) -> dict:
    "Forty photos of the course's validation part, 30 + 10; the other 328 of that part are for scoring. The test split is not touched."
    pets, source = load_pets(None, size=64), find_pets()
    rows = course_split(pets)['val'].numpy()
    names = [pets.names[i] for i in np.random.default_rng(5).permutation(rows)]
    for i, name in enumerate(names):
        part = part_of(i, 30, 10)
        with Image.open(source / f'images/{name}.jpg') as image, Image.open(source / f'annotations/trimaps/{name}.png') as trimap:
            put(folder, name, part, np.asarray(image.convert('RGB')), np.asarray(trimap))
    return dict(positive=1)


SETS = dict(shift=draw_shift, cells=draw_cells, pets=copy_pets)


def untrained(pets, split, border) -> dict:
    "The figures of the shipped network as it is, its threshold chosen on the same validation pictures."
    model = load_pretrained(*VARIANT.split('-')).model
    threshold = best_threshold(measure(model, pets, split['val'], border, 'cpu'))
    counts = torch.from_numpy(measure(model, pets, split['test'], border, 'cpu')['counts_at'])
    at = lambda t: iou(counts)[:, THRESHOLDS.index(t)].mean().item()
    return dict(iou=at(.5), iou_threshold=at(threshold), threshold=threshold)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sets', default=','.join(SETS))
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--runs', type=Path, help='keep the runs here, and go on with them')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(args.out.read_text()) if args.out.is_file() else []
    rows = [row for row in rows if row['set'] not in args.sets.split(',')]
    network = hashlib.sha256((package_folder() / f'weights/{VARIANT}.pth').read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets.split(','):
            folder = Path(temporary) / name
            options = SETS[name](folder)
            for init in (None, VARIANT):
                configs, pets, split, report = own_runs(folder, options, variants=VARIANT, seeds=[int(s) for s in args.seeds.split(',')],
                                                        init=init, steps=args.steps, width=16, size=load_pretrained(*VARIANT.split('-')).size)
                if init is None:
                    print(report, flush=True)
                    rows.append(dict(set=name, arm='as it is', seed=None, steps=0, network=network, **untrained(pets, split, configs[0].setting.border)))
                for config in configs:
                    metrics = run(config, pets, split, args.runs or Path(temporary) / 'runs', log=lambda line: print(line, flush=True))
                    recipe = config.setting.recipe
                    rows.append(dict(set=name, arm='fine-tuned' if init else 'from scratch', seed=config.seed, lr=recipe.lr, network=network,
                                     steps=recipe.epochs * -(-len(split['train']) // recipe.batch_size),
                                     train_images=len(split['train']), val_images=len(split['val']), test_images=len(split['test']),
                                     seconds=metrics['seconds'], threshold=metrics['threshold'], best_epoch=metrics['best_epoch'],
                                     **{key: metrics['test'][key] for key in ('iou', 'iou_threshold', 'dice')}))
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    args.out.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()
