"""The kept results: complete, consistent with their own measurements, and what the README shows; the shipped weights and their card."""
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import ROOT
from unet_course.analysis import both_lines
from unet_course.data import batches, course_split
from unet_course.datasets.oxford_pets import load_pets
from unet_course.experiments import FACTORIAL, PROTOCOLS
from unet_course.prediction import load_pretrained
from unet_course.runs.factorials import find_factorials
from unet_course.support.files import package_folder
from unet_course.losses import iou, pixel_counts

FOLDERS = sorted(p.parent for p in (ROOT / 'results').rglob('metrics.json'))
CARD = json.loads((package_folder() / 'weights' / 'card.json').read_text())


def test_there_are_results_and_no_weights_among_them():
    assert len(FOLDERS) >= 16 and not list((ROOT / 'results').rglob('*.pth'))


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda p: '/'.join(p.parts[-3:]))
def test_figures_follow_from_the_kept_measurements(folder):
    metrics, config = (json.loads((folder / name).read_text()) for name in ('metrics.json', 'config.json'))
    history = list(csv.DictReader((folder / 'history.csv').read_text().splitlines()))
    assert len(history) == metrics['epochs'] == config['config']['recipe']['epochs'] and folder.parent.name == config['config']['variant']
    if config['config']['protocol'] == 'published':  # weights by the lowest loss, and no test split: most of it was trained on
        assert metrics['best_epoch'] == 1 + int(np.argmin([float(row['val_loss']) for row in history])) and 'test' not in metrics
    else: assert metrics['best_epoch'] == 1 + int(np.argmax([float(row['val_' + config['config']['recipe']['select']]) for row in history])) and 'test' in metrics
    with np.load(folder / 'evaluation.npz') as kept:
        for part in {'val', 'test'} & set(metrics):
            counts = torch.from_numpy(kept[f'{part}_counts'].astype(np.int64))
            assert iou(counts).mean().item() == pytest.approx(metrics[part]['iou'], abs=1e-9)
            tp, fp, fn, tn = counts.sum(0).tolist()
            assert (tp + tn) / (tp + fp + fn + tn) == pytest.approx(metrics[part]['accuracy'], abs=1e-9)


@pytest.mark.parametrize('folder', sorted((ROOT / 'results' / 'recipe_search').iterdir()), ids=lambda p: p.name)
def test_the_tuned_recipe_is_the_one_that_the_search_found_best(folder):
    tries = {}
    for path in folder.glob('*.json'):
        found = json.loads(path.read_text())
        tries.setdefault(json.dumps(found['change']), {})[found['variant']] = found['val_iou']
    assert len(tries) >= 4 and {tuple(sorted(scores)) for scores in tries.values()} == {('mp-tr-bce', 'str_conv-ups-dice')}
    best = max(tries, key=lambda change: np.mean(list(tries[change].values())))
    assert PROTOCOLS['tuned'] == replace(PROTOCOLS['course'], **json.loads(best))


def test_readme_shows_the_results_that_carry_the_verdicts():
    text, factorial = (ROOT / 'README.md').read_text(encoding='utf-8'), find_factorials(ROOT / 'results')[0]
    assert str(factorial) in text and len(factorial.seeds) > 1
    own, half = factorial.values('test_iou_threshold'), factorial.values('test_iou')
    for sentence in both_lines(own, half).values(): assert f'- {sentence}.\n' in text
    for variant, a, b in zip(FACTORIAL, own.mean(0), half.mean(0)): assert f'`{variant.id}` |' in text and f'| {a:.4f} | {b:.4f} |' in text


def test_the_card_names_every_shipped_file():
    files = sorted((package_folder() / 'weights').glob('*.pth'))
    assert sorted(CARD) == [f.stem for f in files] == sorted(v.id for v in FACTORIAL)
    assert sum(f.stat().st_size for f in files) <= 36e6
    text = (package_folder() / 'weights' / 'README.md').read_text(encoding='utf-8')
    for name, entry in CARD.items(): assert f"| `{name}` | {entry['val']['iou']:.4f} | {entry['test']['iou']:.4f} |" in text


@pytest.mark.parametrize('variant', [FACTORIAL[0], FACTORIAL[-1]], ids=lambda v: v.id)
def test_shipped_weights_reach_the_figures_on_their_card(pets_root, variant):
    entry = CARD[variant.id]
    model = load_pretrained(variant.down, variant.up, variant.loss).model
    pets = load_pets(size=entry['setting']['size'])
    split = course_split(pets)
    with torch.inference_mode():
        scores = {part: torch.cat([iou(pixel_counts(model(x), y, logits=True)) for x, y in batches(pets, index, 64)]) for part, index in (('val', split['val']), ('test', split['test'][::10]))}
    assert scores['val'].mean().item() == pytest.approx(entry['val']['iou'], abs=1e-3)
    error = scores['test'].std().item() / len(scores['test'])**0.5
    assert scores['test'].mean().item() == pytest.approx(entry['test']['iou'], abs=4 * error) and error < 0.02


def test_no_weights_for_a_variant_that_is_not_shipped():
    with pytest.raises(ValueError, match='str_conv_bn-tr-dice'): load_pretrained('str_conv_bn', 'tr', 'dice')
