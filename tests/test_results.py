"""The kept results: complete, consistent with their own measurements, and what the README shows; the shipped weights and their card."""
import csv
import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT

sys.path.insert(0, str(ROOT / 'tools'))

import pictures
import recipe_search
from benchmarks import quality
from benchmarks.quality import searched
from unet_course.analysis import answers
from unet_course.data import batches, course_split
from unet_course.datasets.oxford_pets import load_pets
from unet_course.experiments import FACTORIAL, PROTOCOLS
from unet_course.prediction import load_pretrained
from unet_course.runs.factorials import find_factorials, published_runs
from unet_course.support.files import package_folder
from unet_course.losses import iou, pixel_counts
from unet_course.training import Recipe

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


SEARCH = sorted((ROOT / 'results' / 'recipe_search').glob('*px/*.json'))


def test_the_course_recipe_is_the_best_that_the_search_found_at_a_third_of_the_time():
    "On validation images, 64 px, exp1 and exp4, of the tries with two seeds each."
    tries, fields = {}, [f.name for f in dataclasses.fields(Recipe)]
    for path in SEARCH:
        found = json.loads(path.read_text())
        if found['size'] == 64 and found['variant'] in ('mp-tr-bce', 'str_conv-ups-dice'): tries.setdefault(found['attempt'], {})[found['variant'], found['seed']] = found
        assert found['iou'] == max(row['iou'] for row in found['history']) and found['train_seconds'] == pytest.approx(sum(row['train_seconds'] for row in found['history']), abs=.1)
    whole = {name: runs for name, runs in tries.items() if len(runs) == 4}
    mean = {name: {key: np.mean([run[key] for run in runs.values()]) for key in ('iou', 'train_seconds')} for name, runs in whole.items()}
    allowed = [name for name, found in mean.items() if 3 * found['train_seconds'] <= mean['tuned']['train_seconds'] and found['iou'] >= mean['tuned']['iou']]
    assert quality.OURS in allowed and mean[quality.OURS]['iou'] > max(mean[name]['iou'] for name in allowed) - .001  # within a fifth of the noise
    assert len(tries) > 15 and searched(PROTOCOLS['course']) == recipe_search.recipe_of(quality.OURS)


def test_the_search_never_saw_the_test_split():
    _, split = quality.the_pets(32, tiny=True)
    assert set(split) == {'train', 'val'}


def test_the_search_table_is_made_from_the_runs():
    text = (ROOT / 'results' / 'recipe_search' / 'table.md').read_text(encoding='utf-8')
    folders = sorted({path.parent for path in SEARCH}, key=lambda p: int(p.name[:-2]))
    assert text == '# The search for the recipe\n\n' + '\n'.join(map(recipe_search.table, folders))


def test_readme_shows_the_results_that_carry_the_verdicts():
    text, factorial = (ROOT / 'README.md').read_text(encoding='utf-8'), find_factorials(ROOT / 'results')[0]
    assert str(factorial) in text and len(factorial.seeds) > 1
    own, half = factorial.values('test_iou_threshold'), factorial.values('test_iou')
    said = answers(factorial, published_runs(ROOT / 'results'))
    assert [row['claim'] for row in said] == ['1a', '1b', '1c', '1d', '2', '3a', '3b']
    for row in said: assert f"- **{row['claim']}** {row['sentence']}\n" in text
    for variant, a, b in zip(FACTORIAL, own.mean(0), half.mean(0)): assert f'`{variant.id}` |' in text and f'| {a:.4f} | {b:.4f} |' in text
    with Image.open(ROOT / 'nbs/images/runs.png') as picture: assert picture.text['shows'] == pictures.shown_by(factorial)


def test_the_card_names_every_shipped_file():
    files = sorted((package_folder() / 'weights').glob('*.pth'))
    assert sorted(CARD) == [f.stem for f in files] == sorted(v.id for v in FACTORIAL)
    assert sum(f.stat().st_size for f in files) <= 36e6
    text = (package_folder() / 'weights' / 'README.md').read_text(encoding='utf-8')
    for name, entry in CARD.items(): assert f"| `{name}` | {entry['val']['iou']:.4f} | {entry['test']['iou']:.4f} | {entry['test']['iou_threshold']:.4f} |" in text
    assert min(entry['test']['iou_threshold'] for entry in CARD.values()) >= .79  # useful on a photo


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
