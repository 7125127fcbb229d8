"""Chapter 05: variants, configs, run folders, tables, predictions."""
import csv
import io
import json
import os
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from unet_course.runs import runner
from unet_course.data import course_split, make_targets
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import EXPERIMENTS, FACTORIAL, PROTOCOLS, RunConfig, Variant, make_configs, parse_variants
from unet_course.runs.evaluation import THRESHOLDS, best_threshold, keep_counts, measure, summarise
from unet_course.runs.run_folder import differences
from unet_course.runs.runner import estimate_minutes, load_data, run, run_all
from unet_course.runs.tables import format_rows, read_runs, results_table, pooled_std
from unet_course.prediction import load_weights
from unet_course.support.files import TrainingError

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


def test_the_four_and_the_eight():
    assert [v.id for v in EXPERIMENTS.values()] == ['mp-tr-bce', 'mp-tr-dice', 'str_conv-tr-bce', 'str_conv-ups-dice']
    assert len({v.id for v in FACTORIAL}) == 8 and set(EXPERIMENTS.values()) < set(FACTORIAL)
    assert parse_variants('factorial') == FACTORIAL and parse_variants('experiments') == list(EXPERIMENTS.values())
    assert parse_variants('exp1, mp-tr-bce,exp4') == [EXPERIMENTS['exp1'], EXPERIMENTS['exp4']]


@pytest.mark.parametrize('text', ['', ',', 'exp5', 'mp-tr', 'mp-tr-bce-x', 'tr-mp-bce', 'mp-tr-focal', 'EXP1'])
def test_wrong_variants(text):
    with pytest.raises(ValueError, match='exp1'): parse_variants(text)


def test_presets():
    variants = parse_variants('exp1')
    assert [(c.width, c.size, c.recipe.epochs) for preset, device in (('auto', 'cpu'), ('auto', 'cuda'), ('full', 'cpu')) for c in make_configs(variants, preset=preset, device=device)] == [(16, 64, 5), (64, 128, 15), (64, 128, 15)]
    config = make_configs(variants, preset='full', epochs=2, width=8, batch_size=4, protocol='published', border='pet')[0]
    assert config.setting == 'pets-published-w8-128px-pet' and config.recipe.epochs == 2 and config.recipe.batch_size == 4
    assert str(config.folder).replace(os.sep, '/') == 'pets-published-w8-128px-pet/mp-tr-bce/seed0'
    json.dumps(config.to_dict())


@pytest.mark.parametrize('wrong', [dict(preset='huge'), dict(protocol='mine'), dict(border='purple'), dict(size=8), dict(width=0), dict(seeds=[-1]), dict(data='cars')])
def test_wrong_configs(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0].rstrip('s')): make_configs(parse_variants('exp1'), **wrong)


def test_published_is_the_original():
    recipe = PROTOCOLS['published']
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.schedule, recipe.clip, recipe.augmented, recipe.select) == ('adam', 1e-3, 32, 15, 'none', None, False, 'loss')


def test_a_run_folder_holds_what_it_should(finished, small):
    out, configs = finished
    folder = out / configs[0].folder
    assert sorted(p.name for p in folder.iterdir() if p.name != '.lock') == ['best.pth', 'config.json', 'evaluation.npz', 'history.csv', 'metrics.json']
    metrics = json.loads((folder / 'metrics.json').read_text())
    kept = np.load(folder / 'evaluation.npz')
    pets, split = small
    assert kept['test_counts'].shape == (len(split['test']), 4) and (kept['test_counts'].sum(1) == 32 * 32).all()
    tp, fp, fn, tn = kept['test_counts'].astype(float).T
    union = tp + fp + fn
    assert metrics['test']['iou'] == pytest.approx(np.where(union > 0, tp / np.maximum(union, 1), 1).mean())
    assert metrics['test']['accuracy'] == pytest.approx(((tp + tn) / (tp + fp + fn + tn)).mean())
    assert kept['test_bins'][:, 0].sum() == kept['test_counts'].sum() and kept['masks'].shape == (len(kept['masks_index']), 32 * 32 // 8)


def test_kept_masks_and_figures_are_those_of_the_kept_weights(finished, small):
    out, configs = finished
    pets, split = small
    folder = out / configs[2].folder
    model, _ = load_weights(folder / 'best.pth')
    kept = np.load(folder / 'evaluation.npz')
    with torch.no_grad(): masks = model(pets.images[kept['masks_index'].astype(int)].float() / 255)[:, 0] > 0
    assert (np.unpackbits(kept['masks'], axis=1).reshape(masks.shape) == masks.numpy()).mean() > 0.9999
    truth = make_targets(pets.trimaps[split['test']])[:, 0] == 1
    with torch.no_grad(): predicted = model(pets.images[split['test']].float() / 255)[:, 0] > 0
    assert abs((predicted & truth).sum((1, 2)) - torch.from_numpy(kept['test_counts'][:, 0].astype(int))).max() <= 2


def test_what_is_done_is_not_done_again(finished, small):
    out, configs = finished
    path, said = out / configs[0].folder / 'best.pth', []
    before = path.stat().st_mtime_ns
    run(configs[0], *small, out, log=said.append)
    assert path.stat().st_mtime_ns == before and said == [f'{configs[0].folder}: done before']


def test_another_config_is_refused_and_fresh_starts_over(finished, small):
    out, configs = finished
    other = make_configs(parse_variants('exp4'), **TINY | dict(epochs=2))[0]
    with pytest.raises(ValueError, match=r'recipe\.epochs: 1 there, 2 asked for.*another --out to keep both, or delete this folder to start the run over'): run(other, *small, out, **quiet)
    assert len(read_runs([out])) == 3
    assert run(configs[2], *small, out, fresh=True, **quiet)['epochs'] == 1


def test_fresh_starts_over_every_run_before_the_first_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    configs = make_configs(parse_variants('exp1,exp2'), **TINY)
    run_all(configs, tmp_path, **quiet)
    def stop(line):
        if line == str(configs[0].folder): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_all(configs, tmp_path, fresh=True, log=stop)
    assert read_runs([tmp_path]) == []  # what was not reached yet would otherwise pass for done
    assert len(run_all(configs, tmp_path, **quiet)) == 2


def test_one_run_that_stops_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    configs, train, said = make_configs(parse_variants('exp1,exp2'), **TINY), runner.train_and_measure, []
    def first_fails(config, *words):
        if config == configs[0]: raise TrainingError('three epochs in a row')
        return train(config, *words)
    monkeypatch.setattr(runner, 'train_and_measure', first_fails)
    with pytest.raises(TrainingError, match='1 of 2 runs stopped.*mp-tr-bce'): run_all(configs, tmp_path, log=said.append)
    assert [row['variant'] for row in read_runs([tmp_path])] == ['mp-tr-dice'] and any('stopped: three epochs' in line for line in said)
    with pytest.raises(TrainingError, match='^three epochs'): run_all(configs[:1], tmp_path, **quiet)


def test_the_same_run_made_twice_counts_once(finished, tmp_path):
    out, configs = finished
    for name, seconds in (('a', 1.0), ('b', 2.0)):
        copy = shutil.copytree(out / configs[0].folder, tmp_path / name / configs[0].folder)
        metrics = json.loads((copy / 'metrics.json').read_text())
        (copy / 'metrics.json').write_text(json.dumps(metrics | dict(seconds=seconds, images_per_second=9 / seconds, peak_memory_mb=int(seconds))))
    assert len(read_runs([tmp_path])) == 1


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


def test_a_table_holds_runs_of_the_same_pictures_and_the_same_recipe(finished, tmp_path):
    for name, change in dict(a={}, b=dict(test=dict(images=5)), c=dict(recipe=dict(lr=.5)), d=dict(config=dict(pos_weight=1.0))).items(): changed_copy(finished, tmp_path / name, **change)
    rows = read_runs([tmp_path])
    assert sorted((row['changes'], row['test_images']) for row in rows) == [('', 5), ('', 12), ('lr 0.5', 12), ('weight of pets 1.0', 12)]
    text = results_table(rows)
    assert text.count('| exp1 `mp-tr-bce` |') == 4 and '±' not in text.replace('mean ±', '') and ' epochs, lr 0.5, border' in text
    assert '42 training and 5 test images' in text and '42 training and 12 test images' in text and 'training and' not in results_table(rows[:1])


def test_the_same_seed_again_is_no_second_draw(finished, tmp_path):
    changed_copy(finished, tmp_path / 'a')
    changed_copy(finished, tmp_path / 'b', test=dict(iou=.99), torch='9.9')
    text = results_table(read_runs([tmp_path]))
    assert 'seed 0 only: no word about noise; 1 more of the same seeds left out' in text and '±' not in text and '0.9900' not in text and 'Between seeds' not in text
    assert len(read_runs([tmp_path])) == 2


def test_seeds_that_not_every_variant_has_are_said(plan):
    rows = [row for row in plan if (row['variant'], row['seed']) in (('mp-tr-bce', 0), ('mp-tr-dice', 1))]
    assert 'seeds 0, 1: mean ± standard deviation (not every variant has them all)' in results_table(rows)
    assert 'not every variant' not in results_table(plan)


@pytest.mark.parametrize('change', [dict(config=dict(data='cats')), dict(config=dict(border='x')), dict(config=dict(protocol='mine')), dict(config=dict(variant='mp-tr')), dict(config=dict(variant=3)),
                                    dict(config=dict(variant='blur-pool-tr-dice')), dict(config=dict(width='wide')), dict(test=dict(iou='high')), dict(epochs='many')], ids=str)
def test_files_of_a_run_with_odd_values_are_named(finished, tmp_path, change):
    folder = changed_copy(finished, tmp_path, **change)
    with pytest.raises(ValueError, match='are not those of a finished run') as error: read_runs([tmp_path])
    assert str(folder) in str(error.value) and '\n' not in str(error.value)


def test_no_dash_in_the_name_of_a_mode():
    with pytest.raises(ValueError, match='blur-pool.*no dash'): Variant('blur-pool', 'tr', 'dice')


def test_every_process_times_its_share_of_a_batch(small, monkeypatch):
    sizes, step = [], runner.train_step
    monkeypatch.setattr(runner, 'train_step', lambda model, loss, images, *words: (sizes.append(len(images)), step(model, loss, images, *words))[1])
    monkeypatch.setattr(runner, 'rank_and_world_size', lambda: (1, 2))
    assert estimate_minutes(make_configs(parse_variants('exp1'), **TINY, batch_size=8), *small, 'cpu') > 0
    assert set(sizes) == {4}


def test_another_config_is_refused_before_anything_is_timed_or_said(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    run_all(make_configs(parse_variants('exp1'), **TINY), tmp_path, **quiet)
    monkeypatch.setattr(runner, 'estimate_minutes', lambda *args: pytest.fail('timed'))
    said, longer = [], make_configs(parse_variants('exp2,exp1'), **TINY | dict(epochs=2))
    with pytest.raises(ValueError, match='mp-tr-bce.*recipe.epochs: 1 there, 2 asked for'): run_all(longer, tmp_path, log=said.append)
    assert said == [] and len(list(tmp_path.rglob('config.json'))) == 1
    run_all(make_configs(parse_variants('exp1'), **TINY), tmp_path, log=said.append)
    assert said[0].endswith('all done before') and said[1].endswith('done before')


def test_two_processes_on_one_folder(finished, small):
    from filelock import FileLock
    out, configs = finished
    with FileLock(out / configs[0].folder / '.lock'):
        with pytest.raises(TrainingError, match='another process'): run(configs[0], *small, out, **quiet)


def test_a_run_that_is_asked_for_twice_is_started_over_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    assert len(run_all(make_configs(parse_variants('exp1'), [0, 0], **TINY), tmp_path, fresh=True, **quiet)) == 2


def test_fresh_deletes_nothing_if_another_process_trains_one_of_the_runs(tmp_path, monkeypatch):
    from filelock import FileLock
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    configs = make_configs(parse_variants('exp1,exp2'), **TINY)
    run_all(configs, tmp_path, **quiet)
    with FileLock(tmp_path / configs[1].folder / '.lock'):
        with pytest.raises(TrainingError, match='mp-tr-dice.*another process'): run_all(configs, tmp_path, fresh=True, **quiet)
    assert len(read_runs([tmp_path])) == 2
    assert len(run_all(configs, tmp_path, fresh=True, **quiet)) == 2  # nothing stayed locked


def test_a_run_on_other_pictures_is_refused(tmp_path, small):
    pets, split = small
    config = make_configs(parse_variants('exp1'), **TINY)[0]
    run(config, pets, split, tmp_path, **quiet)
    other = replace(pets, names=[f'{name}_too' for name in pets.names])
    with pytest.raises(ValueError, match='pictures: 60 with names .* there, 60 with names .* asked for.*another --out'): run(config, other, split, tmp_path, **quiet)
    written = tmp_path / config.folder / 'config.json'
    written.write_text(json.dumps(dict(config=json.loads(written.read_text())['config'])))  # as before the pictures were noted
    said = []
    run(config, other, split, tmp_path, log=said.append)
    assert said[0].endswith('done before')


def test_rows_and_tables(finished):
    out, configs = finished
    rows = read_runs([out, out])
    assert [(r['variant'], r['seed']) for r in rows] == [('mp-tr-bce', 0), ('mp-tr-bce', 1), ('str_conv-ups-dice', 0)]
    needed = 'variant seed protocol data width size border epochs val_accuracy val_loss test_accuracy test_iou test_dice device'.split()
    assert all(set(needed) <= row.keys() for row in rows)
    text = format_rows(rows)
    header = '| Experiment | Downsampling | Upsampling | Loss | Best Val Accuracy | Best Val Loss | Test Accuracy | Test IoU | Test IoU, own threshold | Test Dice |'
    assert header in text and 'exp1 `mp-tr-bce` | Max pooling | Transposed convolution | Weighted BCE' in text and 'cpu' in text and 'width 4' in text
    mean = np.mean([r['test_iou'] for r in rows[:2]])
    assert f'{mean:.4f} ± ' in text
    assert f'standard deviation of {pooled_std(rows)[0]:.4f}, pooled over the variants (1 degrees of freedom)' in text
    for row, config in zip(rows, configs): assert row['test_iou_threshold'] == json.loads((out / config.folder / 'metrics.json').read_text())['test']['iou_threshold']
    assert json.loads(format_rows(rows, 'json')) == rows
    parsed = list(csv.DictReader(io.StringIO(format_rows(rows, 'csv'))))
    assert [float(r['test_iou']) for r in parsed] == [r['test_iou'] for r in rows]
    with pytest.raises(ValueError, match='markdown, csv, json'): format_rows(rows, 'xml')
    with pytest.raises(FileNotFoundError, match='nowhere'): read_runs([out / 'nowhere'])


def test_a_copy_of_a_run_is_no_second_seed_and_another_batch_size_no_other_row(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / 'copy')
    rows = read_runs([out])
    assert read_runs([tmp_path / 'copy', out]) == rows == read_runs([out, tmp_path / 'copy'])
    text = results_table([*rows, rows[0] | dict(seed=5, batch_size=rows[0]['batch_size'] // 2)])
    assert f"batches of {rows[0]['batch_size'] // 2}, " in text and text.count('| exp1 `mp-tr-bce`') == 2 and 'seed 5 only' in text


def test_an_ignored_border_leaves_the_boundary_undefined():
    kept = dict.fromkeys(('counts', 'counts_threshold'), np.array([[5, 1, 1, 9], [4, 0, 0, 12]])) | dict.fromkeys(('brier', 'brier_corrected', 'grid'), np.array([.1, .2]))
    figures = summarise(kept | dict(boundary_2=np.array([np.nan, 1.]), boundary_4=np.array([np.nan, 1.])))
    assert figures['boundary_2'] is figures['boundary_4'] is None and figures['brier'] == pytest.approx(.15)
    assert summarise(kept | dict(boundary_2=np.array([.5, 1.]), boundary_4=np.array([.5, 1.])))['boundary_4'] == .75


def test_the_published_protocol_is_announced_and_timed_in_the_format_it_runs_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda **options: True)
    gpu, config = torch.device('cuda'), make_configs(parse_variants('exp1'), protocol='published')[0]
    assert runner.choose_format(config, gpu) == torch.float16 and runner.choose_format(replace(config, amp='off'), gpu) is None
    assert runner.choose_format(replace(config, protocol='course'), gpu) == torch.bfloat16


def test_names_that_differ_in_case_are_not_two_masks(tmp_path):
    for name in ('a.jpg', 'A.jpeg', 'b.PNG'): Image.new('RGB', (9, 9)).save(tmp_path / name)
    targets = [target.name for _, target in prediction.mask_paths([tmp_path / 'a.jpg', tmp_path / 'A.jpeg'], tmp_path / 'masks')]
    assert targets == ['a.jpg.png', 'A.jpeg.png']
    os.link(tmp_path / 'b.PNG', tmp_path / 'b.png')  # one file under two names, as where case does not count
    with pytest.raises(ValueError, match='would replace the picture'): prediction.mask_paths([tmp_path / 'b.PNG'], tmp_path)


def test_scatter_is_pooled_over_the_variants():
    rows = [dict(variant=v, test_iou=x, other=None) for v, x in (('a', .70), ('a', .72), ('b', .65), ('b', .66), ('b', .67), ('c', .1))]
    deviation, freedom = pooled_std(rows)
    assert freedom == 3 and deviation == pytest.approx(np.sqrt((2 * .01**2 + 2 * .01**2) / 3))
    assert pooled_std(rows[:1])[1] == pooled_std(rows, 'other')[1] == 0 and np.isnan(pooled_std(rows[:1])[0])


def test_published_runs_have_no_test_figures(small, tmp_path):
    config = make_configs(parse_variants('exp1'), protocol='published', **TINY)[0]
    pets, _ = small
    run(config, pets, dict(train=torch.arange(40), val=torch.arange(40, 60)), tmp_path, **quiet)
    row, = read_runs([tmp_path])
    assert row['test_iou'] is None and '–' in results_table([row])


def test_differences():
    assert differences(dict(a=1, b=dict(c=2, d=3)), dict(a=1, b=dict(c=4, d=3), e=5)) == ['b.c: 2 there, 4 asked for', 'e: None there, 5 asked for']


def test_estimate_is_positive_and_grows(small):
    one = make_configs(parse_variants('exp1'), **TINY)
    assert 0 < estimate_minutes(one, *small, 'cpu') < 5









def test_best_threshold_finds_the_better_one(small):
    pets, split = small
    class Shifted(torch.nn.Module):
        "Knows the truth but answers it around a probability of 0.3."
        def __init__(self):
            super().__init__()
            self.start = 0
        def forward(self, images):
            truth = make_targets(pets.trimaps[split['val'][self.start:self.start + len(images)]]).float()
            self.start = (self.start + len(images)) % len(split['val'])
            return torch.logit(0.2 + 0.2 * truth)
    measured = measure(Shifted(), pets, split['val'], 'background', 'cpu')
    assert best_threshold(measured) in (0.2, 0.25, 0.3, 0.35)
    kept = keep_counts(measured, 0.3)
    assert 'counts_at' not in kept and {name: kept[name] is values for name, values in measured.items() if name != 'counts_at'} == dict.fromkeys(set(kept) - {'counts', 'counts_threshold'}, True)
    assert (kept['counts'] == measured['counts_at'][:, THRESHOLDS.index(0.5)]).all() and (kept['counts'][:, 0] == 0).all()
    assert summarise(kept)['iou_threshold'] > 0.99 > summarise(kept)['iou']


def test_four_experiments_beat_the_constant_mask(tmp_path):
    configs = make_configs(parse_variants('experiments'), data='synthetic', width=8, size=32, epochs=4)
    rows = run_all(configs, tmp_path, **quiet)
    pets, split = load_data(configs[0])
    truth = make_targets(pets.trimaps[split['test']])[:, 0] == 1
    constant = max(truth.float().mean((1, 2)).mean().item(), truth.flatten(1).logical_not().all(1).float().mean().item())  # IoU of all pet, of all background
    for row in rows: assert row['test_iou'] > constant + 0.05, row


# What chapter 05 makes of kept results that are not there yet: its own functions, on made-up ones.

def cells_defining(*names):
    "The module's names and those that the notebook's cells define, with what these cells need."
    space = dict(vars(experiments))
    exec('from itertools import combinations\nimport numpy as np', space)
    for cell in nbformat.read(ROOT / 'nbs/05_experiments.ipynb', as_version=4).cells:
        if cell.cell_type == 'code' and any(f'def {name}(' in cell.source for name in names): exec(cell.source, space)
    return space


def made_up(variant, seed, iou, **more):
    return dict(variant=variant, seed=seed, protocol='course', data='pets', width=16, size=64, border='background', epochs=5, batch_size=32, changes='', train_images=300, test_images=None if more.get('protocol') == 'published' else 100, val_accuracy=.8, val_loss=.5, val_iou=iou, test_accuracy=.8, test_iou=iou,
                test_dice=iou, test_iou_threshold=iou + .01, best_epoch=5, parameters=1000, macs=200, seconds=1.0, images_per_second=50.0, peak_memory_mb=900, device='cpu, 1 threads', amp='off') | more


@pytest.fixture(scope='module')
def plan(): return [made_up(v.id, seed, .60 + .001 * k + .004 * seed + .002 * ((k + seed) % 3 == 0), macs=200 if v.up == 'tr' else 270) for k, v in enumerate(FACTORIAL) for seed in (0, 1)]


def noise_within_seeds(plan):
    "The residual's standard deviation of a regression on variants and seeds."
    model = np.array([[row['variant'] == v.id for v in FACTORIAL] + [row['seed'] == 1] for row in plan], dtype=float)
    _, squares, *_ = np.linalg.lstsq(model, [row['test_iou'] for row in plan], rcond=None)
    return np.sqrt(squares[0] / (len(plan) - model.shape[1]))


def test_side_arms_are_compared_with_runs_of_their_seed_that_differ_in_one_thing(plan):
    space = cells_defining('setting_of', 'within_seeds', 'levels', 'arm_name', 'tell_arms')
    assert space['tell_arms'](plan, plan) == 'None has been run yet.'
    arms = [made_up('mp-tr-bce1', seed, .62 + .004 * seed) for seed in (0, 1)]
    arms += [made_up('str_conv_bn-tr-bce', 0, .61), made_up('mp-ups-bce', 0, .60, width=14, macs=205), made_up('mp-tr-bce', 7, .6), made_up('mp-tr-bce', 0, .7, border='pet')]
    compared = {(row['Side arm'], row['Against']): row for row in space['compare_arms'](arms, plan)}
    assert set(compared) == {('`mp-tr-bce1`', '`mp-tr-bce`'), ('`mp-tr-bce1`', '`mp-tr-dice`'), ('`str_conv_bn-tr-bce`', '`mp-tr-bce`'), ('`str_conv_bn-tr-bce`', '`str_conv-tr-bce`'),
                             ('`mp-ups-bce`, width 14', '`mp-ups-bce`'), ('`mp-ups-bce`, width 14', '`mp-tr-bce`'), ('`mp-tr-bce`, border pet', '`mp-tr-bce`')}
    row = compared['`mp-tr-bce1`', '`mp-tr-bce`']
    assert row['Seeds'] == '0, 1' and row['Test IoU'] == '+1.90 ± 0.14' and row['Differ in'] == 'loss'
    assert row['Noise'] == f'{100 * noise_within_seeds(plan):.2f}' != '0.00' and compared['`mp-tr-bce`, border pet', '`mp-tr-bce`']['Test IoU'] == '+9.80'
    text = space['tell_arms'](plan + arms, plan)
    assert '`mp-tr-bce1` against `mp-tr-bce` (+1.90 ± 0.14)' in text and 'border pet against' not in text and 'same kind of machine' not in text
    assert 'not all run on the same kind of machine' in space['tell_arms'](plan + [made_up('mp-tr-bce1', 0, .6, device='GPU')], plan)
    assert 'No run of the plan' in space['tell_arms'](plan + [made_up('mp-tr-bce1', 5, .6)], plan)


def test_the_reading_of_a_table_follows_from_it(plan):
    space = cells_defining('setting_of', 'within_seeds', 'pairs_beyond', 'dice_minus_bce', 'reading')
    space['eight'] = {v.id for v in FACTORIAL}
    text = space['reading'](plan)
    noise, means = noise_within_seeds(plan), {v.id: np.mean([row['test_iou'] for row in plan if row['variant'] == v.id]) for v in FACTORIAL}
    far = sum(abs(a - b) > 2 * noise for a, b in combinations(means.values(), 2))  # two seeds: the difference's standard error is the noise
    gains = [means[v.id] - means[v.id.replace('dice', 'bce')] for v in FACTORIAL if v.loss == 'dice']
    assert 0 < far < 28 and f'scatters within a seed by {100 * noise:.2f} points' in text and f'{far} of the 28 pairs' in text
    assert f'Dice is ahead of weighted BCE in {sum(gain > 0 for gain in gains)} of the four clean pairs, by {100 * np.mean(gains):+.2f}' in text
    assert space['within_seeds'](plan[::2])[1] == 0
    single = space['reading'](plan[::2])
    assert 'In 16 of 16 runs the best epoch is the last one' in text and 'nothing can be said about noise' in single and 'In 8 of 8 runs' in single and 'scatters' not in single


def test_our_runs_of_the_published_protocol_stand_beside_the_quoted_figures():
    space = cells_defining('setting_of', 'beside_the_published')
    assert space['beside_the_published']([], {}) == 'None has been run yet.'
    rows = [made_up(v, 0, .7, protocol='published', val_accuracy=a) for v, a in (('mp-tr-bce', .90), ('mp-tr-dice', .91), ('str_conv-tr-bce', .89), ('str_conv-ups-dice', .85))]
    epochs = {(space['setting_of'](row), row['variant']): np.array([[.5, row['val_accuracy'], .80 + .03 * k]]) for k, row in enumerate(rows)}
    text = space['beside_the_published'](rows, epochs)
    assert '| exp1 `mp-tr-bce` | 93.45 % | 90.00 % | -3.45 | 90.00 % |' in text and '| exp4 `str_conv-ups-dice` | 90.42 % | 85.00 % | -5.42 | 89.00 % |' in text
    assert 'the order quoted is exp1 > exp2 > exp3 > exp4, ours exp2 > exp1 > exp3 > exp4, and by the highest of an epoch exp2 > exp1 > exp3 > exp4, where first and last are 2.00 points apart' in text
    assert 'by 6.00 points (median) and up to 10.00' in text  # changes after the first third: 10, 8, 3 and 4
    short = {key: values[:, :1] for key, values in epochs.items()}
    assert 'the order quoted' in space['beside_the_published'](rows, short) and 'changes from' not in space['beside_the_published'](rows, short)
    assert space['beside_the_published']([made_up('mp-ups-bce', 0, .7, protocol='published')], {}) == 'None has been run yet.'
    alone = space['beside_the_published'](rows[:1], epochs)
    assert 'up to 10.00' in alone and 'the order quoted' not in alone


def test_steps_change_one_thing_and_keep_the_seed(plan):
    space = cells_defining('budget_steps', 'tell_steps')
    assert space['tell_steps'](space['budget_steps'](plan)) == 'None has been run yet.'
    longer, wider = made_up('mp-tr-bce', 0, .70, epochs=15), made_up('mp-tr-bce', 0, .75, epochs=15, width=32, macs=800)
    others = [made_up('mp-tr-bce', 2, .8, epochs=15), made_up('mp-ups-bce', 0, .8, epochs=15, width=32),  # another seed; two steps at once
                                                                  made_up('mp-tr-bce', 0, .8, epochs=15, changes='augmented False'), made_up('mp-tr-bce', 0, .8, epochs=15, device='H200')]
    steps = space['budget_steps'](plan + [longer, wider, *others])
    assert [(key[0], key[1:4], len(pairs)) for key, pairs in steps.items()] == [('mp-tr-bce', ('epochs', 5, 15), 1), ('mp-tr-bce', ('width', 16, 32), 1)]
    text = space['tell_steps'](steps)
    assert '| epochs 5 to 15 | width 16, size 64 | `mp-tr-bce` | 0 | 3 times | 80.00 to 80.00 (+0.00) | 61.20 to 71.00 (+9.80) | 60.20 to 70.00 (+9.80) | +6.2 |' in text and '| width 16 to 32 | size 64, epochs 15 | `mp-tr-bce` | 0 | 4 times | 80.00 to 80.00 (+0.00) | 71.00 to 76.00 (+5.00) | 70.00 to 75.00 (+5.00) | +2.5 |' in text


def test_recipes_are_compared_between_runs_that_share_all_else(plan):
    space = cells_defining('setting_of', 'recipe_pairs', 'loss_gaps')
    assert space['tell_recipes'](space['recipe_pairs'](plan)) == 'None has been run yet.'
    tuned = [made_up('mp-tr-bce', seed, .61 + .014 * seed, protocol='tuned', val_iou=.62) for seed in (0, 1)] + [made_up('str_conv-ups-dice', 1, .62, protocol='tuned')]
    others = [made_up('mp-tr-bce', 2, .8, protocol='tuned'), made_up('mp-tr-bce', 0, .8, protocol='tuned', epochs=15), made_up('mp-tr-bce', 0, .8, protocol='tuned', changes='clip None'),
              made_up('mp-tr-bce', 0, .8, protocol='tuned', device='H200'), made_up('mp-tr-bce', 0, .8, protocol='published')]
    pairs = space['recipe_pairs'](plan + tuned + others)
    assert {key: [(old['protocol'], new['protocol'], old['seed'], new['seed']) for old, new in found] for key, found in pairs.items()} == {
        ('mp-tr-bce', 16, 64, 5): [('course', 'tuned', 0, 0), ('course', 'tuned', 1, 1)], ('str_conv-ups-dice', 16, 64, 5): [('course', 'tuned', 1, 1)]}
    old = {(row['variant'], row['seed']): 100 * row['test_iou'] for row in plan}
    gains = [61 - old['mp-tr-bce', 0], 62.4 - old['mp-tr-bce', 1], 62 - old['str_conv-ups-dice', 1]]
    text = space['tell_recipes'](pairs)
    assert f"| 0, 1 | {50 * (old['mp-tr-bce', 0] / 100 + old['mp-tr-bce', 1] / 100):.2f} to 62.00" in text and 'over 3 pair(s)' in text
    assert text.endswith(f'Test IoU {np.mean(gains):+.2f} ± {np.std(gains, ddof=1):.2f}.')
    runs = [(space['setting_of'](row), row['variant']) for found in pairs.values() for row in found[0]]
    losses = {run: np.array([[1, .2 + .1 * k], [1, .4 + .1 * k]]) for k, run in enumerate(runs)}
    gaps = space['loss_gaps'](pairs, losses, {run: np.ones((2, 2)) for run in runs}).splitlines()
    assert [line.split(' | ')[1:] for line in gaps[2:]] == [[protocol, '5', '2', f'{mean:.3f}', '1.000', f'{mean:.2f} |'] for protocol, mean in (('course', .3), ('tuned', .4), ('course', .5), ('tuned', .6))]


def test_costs_are_medians_over_the_epochs_with_their_range(finished, small):
    out, configs = finished
    space, rows = cells_defining('setting_of', 'epochs_of', 'cost_table'), read_runs([out])
    speeds = space['epochs_of'](out, 'images_per_second')
    assert sorted(runs.shape for runs in speeds.values()) == [(1, 1), (2, 1)]  # one epoch each; two seeds of exp1
    text = space['cost_table'](rows, speeds)
    assert 'Minutes' not in text and f"{rows[0]['parameters'] / 1e6:.2f} M" in text and text.count('| `') == 2


def test_peers_are_shown_beside_ours(plan, tmp_path):
    space = cells_defining('peers_table')
    assert space['peers_table'](tmp_path / 'peers', plan) == 'None has been run yet.'
    folder = tmp_path / 'peers/pets-course-w16-64px-5epochs'
    folder.mkdir(parents=True)
    for seed in (0, 1):
        peer = dict(network='monai-basicunet', loss='dice', seed=seed, data='pets', protocol='course', width=16, size=64, border='background', epochs=5, parameters=3_000_000, macs=300_000_000,
                    test=dict(iou=.7 + .01 * seed, iou_threshold=.71, dice=.8), device='cpu, 1 threads', amp='off')
        (folder / f'monai-basicunet-dice-seed{seed}.json').write_text(json.dumps(peer))
    text = space['peers_table'](tmp_path / 'peers', plan)
    assert '| monai-basicunet | Dice | 2 | 3.00 M | 300 M | 0.7050 ± 0.0071 | 0.7100 ± 0.0000 |' in text and 'this course, `mp-tr-dice` | Dice | 2' in text


def test_the_recipe_search_is_shown_with_the_base_first(tmp_path):
    space = cells_defining('search_table')
    assert space['search_table'](tmp_path) == 'The search has not been run yet.'
    folder = tmp_path / 'w16-64px-5epochs'
    folder.mkdir()
    for name, change, scores in (('base', {}, (.60, .58)), ('lr_1e_2', dict(lr=.01), (.62, .59)), ('no_clip', dict(clip=None), (.59, None))):
        for variant, score in zip(('mp-tr-bce', 'str_conv-ups-dice'), scores):
            if score: (folder / f'{name}-{variant}.json').write_text(json.dumps(dict(attempt=name, change=change, variant=variant, seed=100, val_iou=score, best_epoch=5, seconds=1, device='cpu', amp='off')))
    lines = space['search_table'](tmp_path).splitlines()
    assert lines[4] == '| none: the base | 0.6000 | 0.5800 | +0.00 |' and lines[5] == '| lr 0.01 | 0.6200 | 0.5900 | +1.50 |' and lines[6] == '| clip None | 0.5900 | – | – |'


def test_shell_scripts_begin_with_whole_lines():
    for path in sorted((ROOT / 'nbs').glob('*.ipynb')):
        for cell in nbformat.read(path, as_version=4).cells: assert '\n!/bin' not in '\n' + cell.source, path.name
    text = '\n'.join(cell.source for cell in nbformat.read(ROOT / 'nbs/many_machines.ipynb', as_version=4).cells)
    assert '```bash\n#!/bin/bash\n' in text
