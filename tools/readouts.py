"""Make unet_course/weights/inside.json: what the views of chapter "Inside" say of the shipped networks. Run it again when the networks change;
until then the views say nothing of the new ones, since each entry names the weights that it was made of.

    python tools/readouts.py

For each shipped network: linear readouts of every stage, fitted on photos of the training part (never of the test split); their AUC, the grid ratios
and the skip ladder in both orders on photos of the validation part; and how its IoU is spread over the test photos, by the same pass that made the card's mean.
"""
import argparse
import functools
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.data import batches, course_split  # noqa: E402
from unet_course.datasets.oxford_pets import load_pets  # noqa: E402
from unet_course.experiments import FACTORIAL  # noqa: E402
from unet_course.losses import iou, pixel_counts  # noqa: E402
from unet_course.prediction import Segmenter  # noqa: E402
from unet_course.runs.evaluation import boundary_iou  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402
from unet_course.views.export import hash_of  # noqa: E402
from unet_course.views.inside import LOUPE, auc, fit_readout, grid_ratio, ladder, logits_with_skips, pack_readouts, stage_names, stages, unpack_readouts  # noqa: E402

FITTED, CHECKED = 150, 100  # photos, spread evenly over the training and the validation part


def spread(index: torch.Tensor, count: int) -> torch.Tensor:
    "Return `count` of the numbers, evenly spread."
    return index[torch.linspace(0, len(index) - 1, min(count, len(index))).round().long()]


@torch.inference_mode()
def features_of(model, pets, index) -> tuple[dict, torch.Tensor]:
    "Return every stage of the pictures, and their targets."
    parts, targets = zip(*((stages(model, images), targets) for images, targets in batches(pets, index, 25)))
    return {name: torch.cat([part[name] for part in parts]) for name in {*stage_names(len(model.down)), *LOUPE}}, torch.cat(targets).float()


def readouts_of(model, pets, fitted, checked) -> tuple[dict, dict]:
    "Return the packed readouts with the AUC of what is kept, and the grid ratios: median, lowest, highest."
    names, found = stage_names(len(model.down)), []
    seen, targets = features_of(model, pets, fitted)
    for name in names: found.append((*fit_readout(seen[name], F.adaptive_avg_pool2d(targets, seen[name].shape[-2:])), 0.0))
    kept = unpack_readouts(pack_readouts(found))
    seen, targets = features_of(model, pets, checked)
    for i, name in enumerate(names):
        truth = F.adaptive_avg_pool2d(targets, seen[name].shape[-2:])[:, 0] > .5
        scores = torch.einsum('bchw,c->bhw', seen[name].double(), torch.as_tensor(kept[i][0]).double())
        found[i] = (*found[i][:2], auc(scores.numpy(), truth.numpy()))
    ratios = {name: grid_ratio(seen[name]) for name in LOUPE}
    return pack_readouts(found), {name: [round(x.item(), 3) for x in (r.median(), r.min(), r.max())] for name, r in ratios.items()}


def ladder_of(segmenter, pets, checked, deepest_first: bool = True) -> list[dict]:
    "Return IoU and boundary IoU (2 pixels) of each rung, at the network's own threshold: means over the pictures."
    cut, rows = np.log(segmenter.threshold / (1 - segmenter.threshold)), []
    for name, gains in ladder(len(segmenter.model.down), deepest_first).items():
        scores = []
        for images, targets in batches(pets, checked, 25):
            mask = logits_with_skips(segmenter.model, images, gains) > cut
            scores.append(torch.stack([iou(pixel_counts(mask, targets)), boundary_iou(mask[:, 0], targets[:, 0], 2)]))
        value, boundary = torch.cat(scores, 1).mean(1).tolist()
        rows.append(dict(skips=name, iou=round(value, 4), boundary=round(boundary, 4)))
    return rows


@torch.inference_mode()
def percentiles_of(segmenter, pets, test) -> list[float]:
    "Return the IoU that 0, 5, ..., 100 % of the test photos stay at or below, at the network's own threshold."
    cut = np.log(segmenter.threshold / (1 - segmenter.threshold))
    model = segmenter.model.to(memory_format=torch.channels_last)
    scores = [iou(pixel_counts(model(images) > cut, targets)) for images, targets in batches(pets, test, 64)]
    return np.percentile(torch.cat(scores).numpy(), range(0, 101, 5)).round(3).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help='the folder that holds the dataset')
    args = parser.parse_args()
    folder, networks, start = ROOT / 'unet_course/weights', {}, time.perf_counter()
    photos = functools.cache(lambda size: load_pets(args.root, size))  # the networks have one size, or two
    for variant in FACTORIAL:
        segmenter = Segmenter.load(folder / f'{variant.id}.pth')
        pets = photos(segmenter.size)
        split = course_split(pets)
        fitted, checked = spread(split['train'], FITTED), spread(split['val'], CHECKED)
        readout, grid = readouts_of(segmenter.model, pets, fitted, checked)
        row = networks[variant.id] = dict(weights=hash_of(segmenter.model), readout=readout, grid=grid, ladder=ladder_of(segmenter, pets, checked),
                                       ladder_finest_first=ladder_of(segmenter, pets, checked, False), percentiles=percentiles_of(segmenter, pets, split['test']))
        print(f"{variant.id}, {time.perf_counter() - start:.0f} s: AUC {readout['auc']}, grid {({name: ratios[0] for name, ratios in grid.items()})}, ladder {[rung['iou'] for rung in row['ladder']]}", flush=True)
    target = write_json(dict(fitted=FITTED, checked=CHECKED, networks=networks), folder / 'inside.json')
    print(f'{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes in {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    main()
