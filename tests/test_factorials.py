"""runs/factorials: run folders that may be compared, read together."""
import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import FACTORIAL, PROTOCOLS, RunConfig, Setting, Variant
from unet_course.factory import create_model
from unet_course.runs.evaluation import keep_counts, keep_masks, kept_index, measure, summarise
from unet_course.runs.factorials import called_pet, epochs_to, find_factorials, published_runs, true_share
from unet_course.runs.run_folder import RunFolder
from unet_course.support.files import CourseError

SIZE, N = 32, 24


@pytest.fixture(scope='module')
def networks():
    return {v.id: create_model(dict(base_width=2, depth=2, downsample_mode=v.down, upsample_mode=v.up), seed=i).eval() for i, v in enumerate(FACTORIAL)}


@pytest.fixture(scope='module')
def runs(tmp_path_factory, networks):
    "Run folders as the runner writes them, of untrained networks on few images."
    out, pets = tmp_path_factory.mktemp('runs'), synthetic_pets(N, SIZE)
    for i, v in enumerate(FACTORIAL):
        model = networks[v.id]
        kept = keep_counts(measure(model, pets, torch.arange(N), 'background', 'cpu', 3.0), 0.4)
        index = kept_index(torch.arange(N))
        arrays = {f'test_{k}': x for k, x in kept.items()} | keep_masks(model, pets, index, 'cpu') | dict(masks_index=index.numpy())
        for seed in (0, 1):
            config = RunConfig(v, seed, Setting(data='synthetic', width=2, size=SIZE, recipe=replace(PROTOCOLS['course'], epochs=1)))
            write_run(out, config, summarise(kept) | dict(shift=.5, iou=.6 + .001 * i + .01 * seed), arrays)
    return out


def write_run(out, config, test, arrays, **more):
    "A finished run's folder."
    folder = RunFolder(out / config.folder)
    with folder.lock(): (folder.path / 'config.json').write_text(json.dumps(dict(config=config.to_dict())))
    val = dict(accuracy=.9, batch_accuracy=.9, loss=.3, iou=.7)
    metrics = dict(val=val, test=test, best_epoch=1, threshold=.4, epochs=1, parameters=1000, macs=10**6, seconds=1.0, images_per_second=1.0,
                   peak_memory_mb=None, device='cpu, 1 threads', amp='off') | more
    folder.finish([dict(epoch=1, val_iou_threshold=.5, seconds=1.0)], arrays, metrics)


@pytest.fixture(scope='module')
def factorial(runs): return find_factorials(runs)[0]


def test_a_factorial_is_read_from_its_folders(factorial, networks):
    assert factorial.seeds == (0, 1) and len(factorial.rows) == 16
    assert factorial.values('test_iou') == pytest.approx(.6 + .001 * np.arange(8) + np.array([[0], [.01]]))
    assert factorial.image_iou().shape == (2, 8, N) and factorial.masks().shape == (2, 8, N, SIZE, SIZE)
    assert not np.array_equal(factorial.image_iou(), factorial.image_iou('counts'))
    pictures = synthetic_pets(N, SIZE).images.float() / 255
    for i, v in enumerate(FACTORIAL):
        with torch.inference_mode(): expected = networks[v.id](pictures)[:, 0] > 0
        assert np.array_equal(factorial.masks()[1, i], expected.numpy())
    for word in ('synthetic pets', 'width 2', '32x32', '1 epoch', 'cpu, 1 threads', 'AMP off', 'seeds 0, 1', '16 runs'): assert word in str(factorial)
    assert factorial.words == '16 tiny networks on synthetic pets, standing in for the factorial'


def test_grid_power_is_signed_and_by_period_or_over_all_of_them(factorial):
    power = factorial.grid_power()
    assert list(power) == ['2 px', '4 px', '8 px', '16 px'] and all(values.shape == (2, 8) for values in power.values())
    kept = factorial.kept('test_grid_power').astype(float)
    assert power['4 px'] == pytest.approx(kept[..., 1].mean(2)) and (power['2 px'] < 0).any() and (power['2 px'] > 0).any()
    for folder in factorial.folders.values():  # older runs kept the mean over the periods, as a ratio
        stored = folder.arrays
        assert np.log(stored['test_grid']) == pytest.approx(stored['test_grid_power'].astype(float).mean(1), abs=2e-3)


def test_the_true_share_is_in_the_history_or_in_the_counts():
    class Run:
        has_arrays = True
        def __init__(self, history, arrays=None): self.history, self.arrays = history, arrays
    old = Run([dict(val_predicted=.6), dict(val_predicted=.3)], dict(val_counts=np.array([[20, 0, 10, 70], [0, 0, 0, 100]], np.uint16)))
    new = Run([dict(val_predicted=.3, val_true=.3), dict(val_predicted=.6, val_true=.3)])
    assert true_share({(0, 'mp-tr-bce'): old}) == pytest.approx(.15) and true_share({(0, 'mp-tr-bce'): new}) == .3 and true_share({}) is None
    assert called_pet({(0, 'mp-tr-bce'): new, (0, 'mp-tr-dice'): old}, 'bce') == pytest.approx(np.array([[1, 2]])) and called_pet({}, 'bce').size == 0


def test_epochs_to_a_share_of_the_best():
    history = [dict(val_iou_threshold=value, processor_seconds=2.0, seconds=9.0, val_iou=.1) for value in (.2, .75, .77, .80)]
    assert epochs_to(history) == (3, 6.0) and epochs_to(history, .93) == (2, 4.0) and epochs_to(history[:1]) == (1, 2.0)
    assert epochs_to([dict(val_iou=value, seconds=1.0) for value in (.5, .8)]) == (2, 2.0)


def test_incomplete_seeds_other_protocols_and_side_arms_are_left_out(tmp_path):
    arrays = dict(test_counts=np.ones((2, 4)))
    for v in FACTORIAL:
        write_run(tmp_path, RunConfig(v, 0), dict(iou=.5), arrays)
        write_run(tmp_path, RunConfig(v, 3, Setting(protocol='published', recipe=PROTOCOLS['published'])), {}, arrays)
        write_run(tmp_path, RunConfig(v, 0, Setting(data='synthetic', width=32)), dict(iou=.5), arrays)
        if v.loss == 'dice': write_run(tmp_path, RunConfig(v, 1), dict(iou=.5), arrays)
    for v in (Variant('mp', 'tr', 'bce_unweighted'), Variant('str_conv_bn', 'tr', 'dice')): write_run(tmp_path, RunConfig(v, 0), dict(iou=.5), arrays)
    found = find_factorials(tmp_path)
    assert [(f.setting.data, f.seeds, len(f.rows)) for f in found] == [('pets', (0,), 8), ('synthetic', (0,), 8)]
    assert find_factorials(tmp_path / 'nothing') == []
    assert sorted(published_runs(tmp_path)) == sorted((3, v.id) for v in FACTORIAL) and published_runs(tmp_path / 'nothing') == {}
    write_run(tmp_path, RunConfig(Variant('mp', 'tr', 'bce'), 3, Setting(protocol='published', size=128, recipe=PROTOCOLS['published'])), {}, arrays)
    assert len(published_runs(tmp_path)) == 8, 'larger pictures, but one loss only'


def test_settings_are_never_mixed_and_the_one_that_carries_the_verdicts_comes_first(tmp_path):
    arrays, course = dict(test_counts=np.ones((2, 4))), PROTOCOLS['course']
    settings = [('a', dict(width=64, size=128), (0, 1, 2)), ('a', dict(width=16, size=128), (0, 1, 2)), ('a', dict(width=16, size=64), (0, 1, 2, 3)),
                ('b', dict(width=16, size=64, recipe=replace(course, lr=1e-3)), (5,)), ('a', dict(width=64, size=128, border='ignore'), (0, 1, 2, 3))]
    for folder, more, seeds in settings:
        for seed, v in product(seeds, FACTORIAL): write_run(tmp_path / folder, RunConfig(v, seed, Setting(**more)), dict(iou=more['width'] / 100, boundary_2=None), arrays)
    found = find_factorials(tmp_path)
    assert [(f.setting.width, f.setting.size, f.setting.border, f.seeds) for f in found] == [
        (16, 128, 'background', (0, 1, 2)), (64, 128, 'background', (0, 1, 2)), (16, 64, 'background', (0, 1, 2, 3)), (16, 64, 'background', (5,)), (64, 128, 'ignore', (0, 1, 2, 3))]
    assert len({f.setting for f in found}) == 5 and (found[0].values('test_iou') == .16).all() and np.isnan(found[4].values('test_boundary_2')).all()
    for k, v in enumerate(FACTORIAL):
        write_run(tmp_path / 'd', RunConfig(v, 7, Setting(width=64, size=128)), dict(iou=.9, images=20 if k < 4 else 30), arrays, train_images=100)
    assert len(find_factorials(tmp_path)) == 5, 'eight runs on different pictures are no factorial'
    write_run(tmp_path / 'c', RunConfig(FACTORIAL[0], 0, Setting(width=16, size=128)), dict(iou=.9), arrays)
    assert (find_factorials(tmp_path)[0].values('test_iou') == .16).all(), 'of two equal runs the first by path counts'


def test_missing_arrays_are_named(runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / 'copy')
    for path in copy.rglob(RunFolder.ARRAYS): path.unlink()
    with pytest.raises(CourseError, match='no kept arrays'): find_factorials(copy)[0].image_iou()


def test_arrays_of_one_seed_suffice(runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / 'copy')
    for path in copy.rglob(f'seed1/{RunFolder.ARRAYS}'): path.unlink()
    found, = find_factorials(copy)
    assert found.seeds == (0, 1) and found.image_iou().shape == (1, 8, N) and found.values('test_iou').shape == (2, 8)
