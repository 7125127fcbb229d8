"""Runs that tests share: three finished ones, made once a module, and rows of runs that nobody trained."""
import json
import shutil

import numpy as np
import pytest

from unet_course.data import course_split
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import FACTORIAL, PROTOCOLS, Setting, make_configs, parse_variants
from unet_course.runs.runner import run

TINY = dict(data='synthetic', width=4, size=32, epochs=1)
quiet = dict(log=lambda line: None)


@pytest.fixture(scope='module')
def small():
    pets = synthetic_pets(60, size=32, seed=3)
    return pets, course_split(pets)


@pytest.fixture(scope='module')
def finished(small, tmp_path_factory):
    "Two finished runs of one variant and one of another."
    out = tmp_path_factory.mktemp('runs')
    configs = make_configs(parse_variants('exp1'), [0, 1], **TINY) + make_configs(parse_variants('exp4'), [0], **TINY)
    for config in configs: run(config, *small, out, **quiet)
    return out, configs


def changed_copy(finished, folder, of=0, config=None, recipe=None, test=None, **metrics):
    "A folder with a run like one that is there, its files changed by hand."
    out, configs = finished
    copy = shutil.copytree(out / configs[of].folder, folder / configs[of].folder)
    stored, kept = json.loads((copy / 'config.json').read_text()), json.loads((copy / 'metrics.json').read_text())
    stored['config'] |= config or {}
    stored['config']['recipe'] |= recipe or {}
    (copy / 'config.json').write_text(json.dumps(stored))
    (copy / 'metrics.json').write_text(json.dumps(kept | metrics | dict(test=kept['test'] | (test or {}))))
    return copy


def made_up(variant, seed, iou, **more):
    "A row of `read_runs`, with its setting."
    from dataclasses import replace
    protocol = more.get('protocol', 'course')
    epochs = more.pop('epochs', 5)
    names = ('data', 'protocol', 'width', 'size', 'border')
    plain = dict(data='pets', protocol='course', width=16, size=64, border='background') | {n: more.pop(n) for n in names if n in more}
    recipe = replace(PROTOCOLS[protocol], epochs=epochs, **more.pop('recipe', {}))
    setting = Setting(**plain, recipe=recipe, amp='off', train_images=300, test_images=None if protocol == 'published' else 100)
    return dict(variant=variant, seed=seed, setting=setting, **plain, epochs=epochs, batch_size=recipe.batch_size, train_images=300, test_images=setting.test_images,
                val_accuracy=.8, val_loss=.5, val_iou=iou, test_accuracy=.8, test_iou=iou, test_dice=iou, test_iou_threshold=iou + .01, best_epoch=5, parameters=1000, macs=200,
                seconds=1.0, images_per_second=50.0, peak_memory_mb=900, processor_seconds=1.0, device='cpu, 1 threads', amp='off') | more


@pytest.fixture(scope='module')
def plan(): return [made_up(v.id, seed, .60 + .001 * k + .004 * seed + .002 * ((k + seed) % 3 == 0), macs=200 if v.up == 'tr' else 270) for k, v in enumerate(FACTORIAL) for seed in (0, 1)]
