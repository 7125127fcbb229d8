"""runs/: the folder of a run, the runner, what is measured."""
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from made import TINY, finished, quiet, small
from unet_course.data import make_targets
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import make_configs, parse_variants
from unet_course.measures import THRESHOLDS
from unet_course.prediction import load_weights
from unet_course.runs import runner
from unet_course.runs.evaluation import best_threshold, keep_counts, measure, summarise
from unet_course.runs.run_folder import RunFolder, differences
from unet_course.runs.runner import estimate_minutes, load_data, run, run_all
from unet_course.runs.tables import read_runs, results_table
from unet_course.support.files import CourseError, TrainingError


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
    images, own = len(split['test']), kept['test_counts_threshold'].astype(float).T
    assert metrics['test']['iou_threshold'] == pytest.approx((own[0] / np.maximum(own[:3].sum(0), 1)).mean())
    for name in ('boundary_2', 'boundary_2_threshold'): assert kept[f'test_{name}'].shape == (images,) and metrics['test'][name] == pytest.approx(kept[f'test_{name}'].mean(), abs=1e-6)
    assert kept['test_grid_power'].shape == (images, 4) and kept['test_grid_power'].dtype == np.float16
    assert np.exp(np.nanmean(kept['test_grid_power'].astype(float), 1)) == pytest.approx(kept['test_grid'], rel=2e-2)
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
    other = make_configs(parse_variants('exp4'), **TINY, batch_size=7)[0]
    with pytest.raises(CourseError, match=r'batch_size: 32 there, 7 asked for.*--out.*delete this folder'): run(other, *small, out, **quiet)
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
    configs, make, said = make_configs(parse_variants('exp1,exp2'), **TINY), runner.make_trainer, []
    def first_fails(config, *words):
        if config.variant == configs[0].variant and len(words) == 4: raise TrainingError('three epochs in a row')  # not while it is timed
        return make(config, *words)
    monkeypatch.setattr(runner, 'make_trainer', first_fails)
    with pytest.raises(TrainingError, match='1 of 2 runs stopped.*mp-tr-bce'): run_all(configs, tmp_path, log=said.append)
    assert [row['variant'] for row in read_runs([tmp_path])] == ['mp-tr-dice'] and any('stopped: three epochs' in line for line in said)
    with pytest.raises(TrainingError, match='^three epochs'): run_all(configs[:1], tmp_path, **quiet)


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
    said, other = [], make_configs(parse_variants('exp2,exp1'), **TINY, batch_size=7)
    with pytest.raises(CourseError, match='mp-tr-bce.*recipe.batch_size: 32 there, 7 asked for'): run_all(other, tmp_path, log=said.append)
    assert said == [] and len(list(tmp_path.rglob('config.json'))) == 1
    run_all(make_configs(parse_variants('exp1'), **TINY), tmp_path, log=said.append)
    assert said[0].endswith('all done before') and said[1].endswith('done before')


def test_two_processes_on_one_folder(finished, small):
    out, configs = finished
    with RunFolder(out / configs[0].folder).lock():
        with pytest.raises(TrainingError, match='another process'): run(configs[0], *small, out, **quiet)


def test_a_run_that_is_asked_for_twice_is_started_over_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    assert len(run_all(make_configs(parse_variants('exp1'), [0, 0], **TINY), tmp_path, fresh=True, **quiet)) == 1


def test_fresh_deletes_nothing_if_another_process_trains_one_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 24)
    configs = make_configs(parse_variants('exp1,exp2'), **TINY)
    run_all(configs, tmp_path, **quiet)
    with RunFolder(tmp_path / configs[1].folder).lock():
        with pytest.raises(TrainingError, match='mp-tr-dice.*another process'): run_all(configs, tmp_path, fresh=True, **quiet)
    assert len(read_runs([tmp_path])) == 2
    assert len(run_all(configs, tmp_path, fresh=True, **quiet)) == 2  # nothing stayed locked


def test_a_run_on_other_pictures_is_refused(tmp_path, small):
    pets, split = small
    config = make_configs(parse_variants('exp1'), **TINY)[0]
    run(config, pets, split, tmp_path, **quiet)
    other = replace(pets, names=[f'{name}_too' for name in pets.names])
    with pytest.raises(CourseError, match='pictures: 60 with names .* there, 60 with names .* asked for.*another --out'): run(config, other, split, tmp_path, **quiet)


def test_an_ignored_border_leaves_the_boundary_undefined():
    kept = dict.fromkeys(('counts', 'counts_threshold'), np.array([[5, 1, 1, 9], [4, 0, 0, 12]])) | dict.fromkeys(('brier', 'brier_corrected', 'grid'), np.array([.1, .2]))
    figures = summarise(kept | dict(boundary_2=np.array([np.nan, 1.]), boundary_4=np.array([np.nan, 1.])))
    assert figures['boundary_2'] is figures['boundary_4'] is None and figures['brier'] == pytest.approx(.15)
    assert summarise(kept | dict(boundary_2=np.array([.5, 1.]), boundary_4=np.array([.5, 1.])))['boundary_4'] == .75


def test_the_published_protocol_is_announced_and_timed_in_the_format_it_runs_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda **options: True)
    gpu, config = torch.device('cuda'), make_configs(parse_variants('exp1'), protocol='published')[0]
    setting = config.setting
    assert runner.choose_format(setting, gpu) == torch.float16 and runner.choose_format(replace(setting, amp='off'), gpu) is None
    assert runner.choose_format(replace(setting, protocol='course'), gpu) == torch.bfloat16
    assert runner.choose_format(replace(setting, amp='bfloat16'), gpu) == torch.bfloat16  # settled before


def test_published_runs_have_no_test_figures(small, tmp_path):
    config = make_configs(parse_variants('exp1'), protocol='published', **TINY)[0]
    pets, _ = small
    run(config, pets, dict(train=torch.arange(40), val=torch.arange(40, 60)), tmp_path, **quiet)
    row, = read_runs([tmp_path])
    assert row['test_iou'] is None and '–' in results_table([row])


def test_differences():
    assert differences(dict(a=1, b=dict(c=2, d=3)), dict(a=1, b=dict(c=4, d=3), e=5)) == ['b.c: 2 there, 4 asked for', 'e: None there, 5 asked for']


def test_small_pictures_first_are_timed_at_full_size_and_counted_by_their_area(small, monkeypatch):
    sizes, step = [], runner.train_step
    monkeypatch.setattr(runner, 'train_step', lambda model, loss, images, *words: (sizes.append(images.shape[-1]), step(model, loss, images, *words))[1])
    plain, = make_configs(parse_variants('exp1'), **(TINY | dict(size=64, epochs=2)))
    plain, halved = (replace(plain, setting=replace(plain.setting, recipe=replace(plain.setting.recipe, sizes=sizes))) for sizes in ((1,), (.5, 1)))
    pets = synthetic_pets(60, size=64, seed=3)
    estimate_minutes([halved], pets, small[1], 'cpu')
    assert set(sizes) == {64}
    train = len(small[1]['train'])
    assert runner.images_of_run(plain, small[1]) - runner.images_of_run(halved, small[1]) == pytest.approx(train * (1 - .25))


def test_without_checkpoints_nothing_but_the_results_is_written(small, tmp_path):
    seen = []
    config, = make_configs(parse_variants('exp1'), **TINY)
    folder = RunFolder(tmp_path / config.folder)
    run(config, *small, tmp_path, log=lambda line: seen.append(folder.checkpoint.exists()), checkpoint_minutes=None)
    assert folder.done and not any(seen)


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
    pets, split = load_data(configs[0].setting)
    truth = make_targets(pets.trimaps[split['test']])[:, 0] == 1
    constant = max(truth.float().mean((1, 2)).mean().item(), truth.flatten(1).logical_not().all(1).float().mean().item())  # IoU of all pet, of all background
    for row in rows: assert row['test_iou'] > constant + 0.05, row


def test_an_empty_test_list_is_said_beforehand_and_leaves_a_dash(small, tmp_path, monkeypatch):
    pets, split = small
    monkeypatch.setattr(runner, 'load_data', lambda setting, root: (pets, dict(split, test=split['test'][:0])))
    said = []
    row, = run_all(make_configs(parse_variants('exp1'), **TINY), tmp_path, log=said.append)
    assert 'no test images' in said[0] and row['test_iou'] is None is row['test_images'] and '| – | – |' in results_table([row])
    assert run_all(make_configs(parse_variants('exp1'), **TINY), tmp_path, **quiet) == [row]


def test_one_run_is_no_plural_and_a_settled_run_says_its_format(small, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, 'load_data', lambda setting, root: small)
    said = []
    run_all(make_configs(parse_variants('exp1'), amp='off', **TINY), tmp_path, log=said.append)
    assert said[0].startswith('1 run: synthetic pets') and 'AMP off' in said[0]
    stored = json.loads(next(tmp_path.rglob('config.json')).read_text())['config']
    assert stored['amp'] == 'off' and stored['loss'] == dict(pos_weight=3.0) and stored['pictures'].startswith('60 with names') and stored['train_images'] == 42


def test_more_epochs_are_another_run(small, tmp_path):
    for epochs in (1, 2):
        config, = make_configs(parse_variants('exp1'), **TINY | dict(epochs=epochs))
        assert run(config, *small, tmp_path, **quiet)['epochs'] == epochs
    assert len(read_runs([tmp_path])) == 2


def test_a_place_where_nothing_can_be_written_names_the_option(small, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    config, = make_configs(parse_variants('exp1'), **TINY)
    with pytest.raises(CourseError, match=r'file.*--out') as error: run(config, *small, tmp_path / 'file' / 'runs', **quiet)
    assert '\n' not in str(error.value)


def test_the_threshold_is_not_chosen_by_images_without_a_pet():
    counts = np.zeros((3, len(THRESHOLDS), 4), dtype=np.int64)
    counts[0, :, 0], counts[0, 0, 0] = 5, 10        # a pet, found best at the lowest threshold
    counts[0, :, 2], counts[0, 0, 2] = 5, 0
    counts[1:, :-1, 1], counts[1:, :, 3] = 1, 10    # two images without one, right at the highest threshold only
    assert best_threshold(dict(counts_at=counts)) == THRESHOLDS[0]
