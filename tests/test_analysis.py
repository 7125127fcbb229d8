"""Chapter 06: the statistics against simulations and by hand, the verdicts against made-up runs, pictures."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from conftest import ROOT
from unet_course import analysis
from unet_course.analysis import (
    EQUIVALENCE_MARGIN, anova, answers, blocky, both_lines, by_seed, contrasts, faster, holm, lazy, near_edge, plot_effects, plot_runs, share_word, sharper, verdict_of, verdicts)
from unet_course.experiments import CLAIMS, PROTOCOLS, RunConfig, Setting
from unet_course.runs.factorials import Factorial
from unet_course.runs.run_folder import RunFolder
from unet_course.views.panels import errors, paint
from unet_course.data import BACKGROUND, BORDER, PET, make_targets
from unet_course.losses import iou, pixel_counts
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import EXPERIMENTS, FACTORIAL

matplotlib.use('agg')
SIZE = 32
IDS = [v.id for v in FACTORIAL]


@pytest.fixture(scope='module')
def chapter():
    "The functions that the notebook defines without exporting them."
    scope = dict(vars(analysis))
    for cell in json.loads((ROOT / 'nbs/06_analysis.ipynb').read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or source.startswith('#| export') or '%pip' in source: continue
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.Import, ast.ImportFrom)): exec(compile(ast.Module([node], []), '06_analysis.ipynb', 'exec'), scope)
    return SimpleNamespace(**scope)


def made(seeds=3, effect=0.01, noise=0.002, blocks=0.05, factor='loss', rng=0, more=0.0):
    "Values [seeds, 8] with one known main effect and, if `more`, a known interaction of the loss with the downsampling."
    rng, columns = np.random.default_rng(rng), contrasts(FACTORIAL)
    return (0.7 + rng.normal(0, blocks, (seeds, 1)) + effect / 2 * columns[factor] + more / 2 * columns['loss × down'] + rng.normal(0, noise, (seeds, 8)))


# the design

def test_signs_are_orthogonal_in_the_factorial_and_positive_as_claimed():
    columns = contrasts(FACTORIAL, 3)
    assert len(columns) == 7
    matrix = np.stack([*columns.values()])
    assert np.array_equal(matrix @ matrix.T, 8 * np.eye(7))
    assert {f: columns[f][IDS.index('mp-tr-dice')] for f in CLAIMS} == dict(loss=1, down=1, up=1)


def test_confounding_of_the_four_and_of_all_eight(chapter):
    four = {row['effect']: row for row in chapter.confounding(list(EXPERIMENTS.values()))}
    assert four['loss']['weights'] == pytest.approx({'mp-tr-bce': -1, 'mp-tr-dice': 1, 'str_conv-tr-bce': 0, 'str_conv-ups-dice': 0}, abs=1e-12)
    assert four['down']['weights'] == pytest.approx({'mp-tr-bce': 1, 'mp-tr-dice': 0, 'str_conv-tr-bce': -1, 'str_conv-ups-dice': 0}, abs=1e-12)
    assert four['up']['weights'] == pytest.approx({'mp-tr-bce': -1, 'mp-tr-dice': 1, 'str_conv-tr-bce': 1, 'str_conv-ups-dice': -1}, abs=1e-12)
    assert [four[f]['variance'] for f in ('loss', 'down', 'up')] == pytest.approx([2, 2, 4])
    # against brute force: a world with one interaction only, estimated with the stated weights
    for name, column in contrasts(list(EXPERIMENTS.values()), 3).items():
        for factor, row in four.items():
            estimate = sum(w * c / 2 for w, c in zip(row['weights'].values(), column))
            assert estimate == pytest.approx(1 if name == factor else row['mixed'][name], abs=1e-12)
    for row in chapter.confounding(FACTORIAL):
        assert all(abs(x) < 1e-12 for x in row['mixed'].values()) and row['variance'] == pytest.approx(0.5)


# analysis of variance

def test_anova_by_hand():
    values = made(seeds=3, more=0.004, rng=4)
    rows = {r['effect']: r for r in anova(values)}
    grand, block = values.mean(), values.mean(1, keepdims=True)
    left = ((values - grand) ** 2).sum() - 8 * ((block - grand) ** 2).sum()
    for name, column in contrasts(FACTORIAL).items():
        effect = values[:, column > 0].mean() - values[:, column < 0].mean()
        assert rows[name]['estimate'] == pytest.approx(effect)
        left -= 24 * effect**2 / 4  # its sum of squares
    df = 23 - 2 - 6
    se = np.sqrt(left / df * (1 / 12 + 1 / 12))
    for row in rows.values():
        assert row['df'] == df and row['se'] == pytest.approx(se)
        assert (row['low'], row['high']) == pytest.approx((row['estimate'] - 2.13145 * se, row['estimate'] + 2.13145 * se), abs=1e-7)


def test_anova_takes_out_the_seeds():
    values = made(noise=0)
    row = anova(values + 0.001 * np.random.default_rng(1).normal(size=values.shape))[0]
    assert row['se'] < 0.001 and row['low'] < 0.01 < row['high']
    moved = anova(values + np.array([[5.0], [-3.0], [0.0]]))
    assert moved[0]['estimate'] == pytest.approx(0.01) and moved[0]['se'] < 1e-9


def test_intervals_cover_known_effects_as_often_as_they_say():
    hits = np.zeros(6)
    for k in range(800):
        for i, row in enumerate(anova(made(seeds=2, effect=0.01, noise=0.01, more=-0.006, rng=k))):
            hits[i] += row['low'] <= {'loss': 0.01, 'loss × down': -0.006}.get(row['effect'], 0) <= row['high']
    assert (abs(hits / 800 - 0.95) < 3.5 * np.sqrt(.95 * .05 / 800)).all(), hits


def test_false_alarms_of_all_three_claims_together_stay_under_the_level():
    alarms = sum(any(r['verdict'] in ('supported', 'contradicted') for r in verdicts(made(seeds=3, effect=0, noise=0.01, rng=k), margin=0)) for k in range(600))
    assert 0 < alarms / 600 < 0.05 + 3 * np.sqrt(.05 * .95 / 600)


def test_anova_refuses_what_is_no_factorial():
    for values in (np.zeros((2, 4)), np.zeros(8), np.full((1, 8), np.nan)):
        with pytest.raises(ValueError, match='values'): anova(values)


def test_holm():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9, 0.6]) == [1, 1, 1]
    assert holm([0.02]) == [0.02]


# verdicts

@pytest.mark.parametrize('factor', CLAIMS)
@pytest.mark.parametrize('effect, verdict', [(0.02, 'supported'), (-0.02, 'contradicted'), (0.0028, 'not decided')])
def test_verdicts_follow_the_effect_that_is_there(factor, effect, verdict):
    values = made(effect=effect, factor=factor)
    row = next(r for r in verdicts(values) if r['effect'] == factor)
    assert row['verdict'] == verdict and row['low'] < row['estimate'] < row['high']


def test_a_certain_difference_within_the_margin_is_called_equivalent():
    row = verdicts(made(effect=EQUIVALENCE_MARGIN / 2, noise=1e-5))[0]
    assert row['low'] > 0 and row['verdict'] == 'equivalent' and row['p_margin'] == 1


def test_noise_leaves_a_claim_undecided():
    assert verdicts(made(effect=0.02, noise=0.03))[0]['verdict'] == 'not decided'


def test_one_seed_never_decides():
    rows = verdicts(made(seeds=1, effect=0.2, noise=1e-6))
    assert [r['verdict'] for r in rows] == ['not decided'] * 3 and rows[0]['df'] == 1


def test_equal_values_do_not_divide_by_zero():
    assert [r['verdict'] for r in verdicts(np.full((2, 8), 0.5))] == ['equivalent'] * 3


def test_the_claims_in_words():
    assert [r['claim'] for r in verdicts(made())] == ['Dice beats weighted BCE', 'Max pooling beats strided convolution', 'Transposed convolution beats upsampling + convolution']


def test_a_sentence_names_both_thresholds_and_both_verdicts_where_they_differ():
    up, down = made(effect=.02), made(effect=-.02)
    assert [near_edge(dict(low=low, high=high)) != '' for low, high in ((.001, .0029996), (-.0031, .001), (-.003, .002), (.001, .0029))] == [True, False, True, False]
    differ, agree = both_lines(down, up)['loss'], both_lines(up, up)['loss']
    assert differ.startswith('Dice beats weighted BCE: contradicted at own thresholds (') and ', supported at 0.5 (' in differ
    assert agree.startswith('Dice beats weighted BCE: supported, at own thresholds (') and agree.count('supported') == 1
    for values, text in ((down, differ), (up, differ)): assert f'{100 * anova(values)[0]["estimate"]:+.2f} points' in text


# the claims in sentences

def made_series(seeds=3, size=128, data='pets', old=False, sharp=(0.01, -0.01), sooner=0, ratio=(1.5, 1.2, 0.9), grid=(0.4, -0.2)):
    """A factorial of runs that nobody trained: how much sharper Dice is at its own threshold and at 0.5, how many epochs sooner it is good, how many times as many pixels as there are BCE calls pet in the first
    epochs, the log grid power of `tr` and `ups`; `old` runs kept less."""
    rng, rows, folders = np.random.default_rng(0), {}, {}
    setting = Setting(data=data, size=size)
    for seed in range(seeds):
        for v in FACTORIAL:
            is_dice, noise = v.loss == 'dice', rng.normal(0, 1e-4, 2)
            rows[seed, v.id] = dict(setting=setting, test_iou=.75, test_iou_threshold=.75 + noise[0], test_boundary_2=.3 + sharp[1] * is_dice + noise[0],
                                    test_boundary_2_threshold=None if old else .3 + sharp[0] * is_dice + noise[1])
            good = 4 - sooner * is_dice
            history = [dict(epoch=e, val_iou=.7 if e >= good else .3, val_predicted=.3 * (1 if is_dice else (*ratio, 1, 1, 1)[e - 1]), seconds=2.0) for e in range(1, 7)]
            if not old: history = [row | dict(val_iou_threshold=row['val_iou'] + .01, processor_seconds=3.0 + noise[1], val_true=.3) for row in history]
            power = grid[v.up == 'ups'] + noise[0]
            arrays = dict(val_counts=np.array([[20, 5, 10, 65]], np.uint16))
            arrays |= dict(test_grid=np.exp(np.full(5, power))) if old else dict(test_grid_power=np.tile(np.array([power, 0, 0, np.nan], np.float16), (5, 1)))
            folders[seed, v.id] = SimpleNamespace(history=history, arrays=arrays, has_arrays=True, setting=setting)
    return Factorial(rows, folders, tuple(range(seeds)))


def test_the_seeds_alone_see_luck_that_the_runs_of_a_seed_share():
    "The interval of five effects is SciPy's, and a verdict that it would turn is said in the sentence."
    from scipy import stats
    rng, dice = np.random.default_rng(3), np.array([v.loss == 'dice' for v in FACTORIAL])
    drawn = np.array([.005, -.004, .002, -.001, -.002])[:, None]  # a seed's luck, for its BCE runs alone
    luck = np.where(dice, 0, drawn)
    values = .7 + luck + rng.normal(0, .0002, (5, 8))
    each = values[:, dice].mean(1) - values[:, ~dice].mean(1)
    expected = stats.ttest_1samp(each, 0).confidence_interval(.95)
    loss, down, up = by_seed(values)
    assert (loss['low'], loss['high']) == pytest.approx(tuple(expected)) and loss['estimate'] == pytest.approx(anova(values)[0]['estimate'])
    assert verdicts(values)[0]['verdict'] == 'equivalent' and loss['verdict'] == 'not decided' and down['verdict'] == up['verdict'] == 'equivalent'
    said = both_lines(values, values)
    assert said['loss'].count(f'by the seeds alone {100 * loss["low"]:+.2f} to {100 * loss["high"]:+.2f}, not decided') == 2 and 'alone' not in said['down'] + said['up']
    one, = {(row['verdict'], np.isnan(row['low'])) for row in by_seed(values[:1])}
    assert one == ('not decided', True)


@pytest.mark.parametrize('low, high, verdict', [(.0031, .01, 'supported'), (-.01, -.0031, 'contradicted'), (-.0029, .0029, 'equivalent'), (-.0031, .001, 'not decided'), (.001, .0031, 'not decided')])
def test_where_an_interval_lies(low, high, verdict): assert verdict_of(low, high) == verdict


def test_a_count_in_a_word(): assert [share_word(n, 4) for n in range(5)] == ['no', 'seldom', 'seldom', 'mostly', 'yes']


def test_boundaries_are_told_at_both_thresholds_or_said_to_be_half_an_answer():
    whole, half = sharper(made_series()), sharper(made_series(old=True))
    assert 'yes at own thresholds (+1.0' in whole and 'no, less sharp at 0.5 (-' in whole and '24 runs of the factorial at 128 px' in whole
    assert 'not measured at own thresholds' in half and 'half an answer' in half
    assert 'not clear at own' in sharper(made_series(sharp=(0, 0)))


def test_convergence_is_told_of_the_published_protocol_first():
    series = made_series(sooner=2)
    published = {(0, EXPERIMENTS[name].id): series.folders[0, EXPERIMENTS[name].id] for name in ('exp1', 'exp2', 'exp3')}
    said = faster(series, published)
    assert 'yes in the published protocol at 128 px (to 95 % of its best, with seed 0 exp2 needs 2 epochs and 6 s, exp1 4 and 12 s); yes in the 24 runs' in said and '(-2.0 epochs' in said
    alone = faster(made_series(sooner=-1), {})
    assert 'published' not in alone and 'no, slower in the 24 runs' in alone
    assert 'no difference in the 24 runs of the factorial at 128 px (every run after 4 epochs; ' in faster(made_series(), {})


@pytest.mark.parametrize('old', [False, True])
def test_laziness_counts_the_first_epochs_of_bce(old):
    series = made_series(old=old, ratio=(1.5, 1.2, .9))
    said = lazy(series, {})
    assert said.startswith('BCE gets lazy and predicts background: seldom in the 24 runs') and 'in 12 of the 36 first epochs of 12 runs; in the median 1.20' in said
    assert ': yes in the published protocol at 128 px' in lazy(series, made_series(ratio=(.2, .5, .9)).folders) and 'not measured' not in said


@pytest.mark.parametrize('old, period', [(False, '2 px'), (True, 'all periods')])
def test_grids_are_told_with_their_size_and_their_sign(old, period):
    said, one = blocky(made_series(old=old)), f'{np.exp(-.2):.2f}'
    assert f'no boxes that one could see (1 is no grid' in said and f': {one} to {one if old else "1.00"} with upsampling' in said
    assert f'at {period} below 1 in 12 of 12 runs and in 0; ' in said
    assert ': yes (1 is no grid' in blocky(made_series(old=old, grid=(-.1, -.8)))
    assert 'below 1 in 0 of 12 runs and in 12; ' in blocky(made_series(old=old, grid=(-.1, .1)))


def test_every_claim_has_a_sentence_in_order_and_stand_ins_are_called_so():
    said = answers(made_series(), {})
    assert [row['claim'] for row in said] == ['1a', '1b', '1c', '1d', '2', '3a', '3b'] and all(row['sentence'].endswith('.') for row in said)
    assert not any('standing in' in row['sentence'] for row in said)
    for row in answers(made_series(data='synthetic', size=32), {}): assert '24 tiny networks on synthetic pets, standing in' in row['sentence'], row


def test_bootstrap_is_paired_repeatable_and_covers(chapter):
    rng = np.random.default_rng(0)
    hard = rng.uniform(.2, 1, 400)  # common to all networks: must cancel
    values = hard + 0.005 * contrasts(FACTORIAL)['loss'][:, None] + rng.normal(0, .01, (2, 8, 400))
    first, again = chapter.bootstrap_images(values, draws=500), chapter.bootstrap_images(values, draws=500)
    assert first == again
    assert first[0]['low'] < 0.01 < first[0]['high'] and first[0]['high'] - first[0]['low'] < 0.003
    assert first[0]['estimate'] == pytest.approx(anova(values.mean(2))[0]['estimate'])


def test_calibration_error(chapter):
    assert chapter.calibration_error(np.array([[10, 2.5, 2.5], [10, 7.0, 9.0]])) == pytest.approx(0.1)


def test_figures_are_drawn_and_closed():
    import matplotlib.pyplot as plt
    texts = ' '.join(t.get_text() for t in plot_effects(made(effect=-.02), made(effect=.02)).findobj(matplotlib.text.Text))
    assert 'supported' in texts and 'contradicted' in texts and 'loss: dice over bce' in texts
    dots = plot_runs(made(), made())
    assert [t.get_text() for t in dots.axes[0].get_yticklabels()] == IDS
    assert plt.get_fignums() == []


# pictures

def test_errors_and_paint():
    mask, truth = np.array([[1, 1], [0, 0]], bool), np.array([[1, 0], [1, 0]], bool)
    areas = errors(mask, truth)
    assert {k: x.tolist() for k, x in areas.items()} == dict(right=[[1, 0], [0, 0]], extra=[[0, 1], [0, 0]], missed=[[0, 0], [1, 0]])
    assert list(errors(mask, None)) == ['right']
    image = np.full((2, 2, 3), 100, np.uint8)
    assert np.array_equal(paint(image, areas, strength=0, side=4), np.full((4, 4, 3), 100))
    painted = paint(image, areas, side=64)
    assert painted.shape == (64, 64, 3) and (painted[32:, 32:] == 100).all()
    assert len(np.unique(painted[:32, :32].reshape(-1, 3), axis=0)) == 1  # right: plain
    extra, missed = painted[:32, 32:].mean(2), painted[32:, :32].mean(2)
    assert len(np.unique(extra)) == len(np.unique(missed)) == 2  # stripes, told apart without colour: they run in different directions
    assert np.array_equal(extra[1:, :-1], extra[:-1, 1:]) and np.array_equal(missed[1:, 1:], missed[:-1, :-1])
    assert not np.array_equal(extra[1:, 1:], extra[:-1, :-1])


def test_images_are_chosen_by_their_scores(chapter):
    scores = np.array([[.1, .5, .6, .9, .55], [.2, .5, .6, .9, .55]])
    masks = np.zeros((2, 5, 4, 4), bool)
    masks[0, 2] = True
    assert chapter.choose_images(masks, scores) == dict(typical=4, best=3, worst=0, disputed=2)


def test_comparison_shows_every_variant_with_its_iou(chapter):
    pets, index = synthetic_pets(24, SIZE), [3, 5]
    masks = np.random.default_rng(0).random((4, 2, SIZE, SIZE)) > .5
    expected = iou(torch.stack([pixel_counts(torch.from_numpy(m)[:, None], make_targets(pets.trimaps[index])) for m in masks]))
    figure = chapter.plot_comparison(pets, index, masks, IDS[:4], ['one', 'two'])
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 12 and titles[:2] == ['image', 'truth'] and [t.splitlines()[0] for t in titles[2:6]] == IDS[:4]
    assert titles[6:8] == ['', '']
    assert [float(t[-5:]) for t in titles[2:6] + titles[8:]] == pytest.approx(expected.T.ravel().numpy(), abs=6e-4)


@pytest.mark.parametrize('border', ['background', 'pet', 'ignore'])
def test_a_perfect_mask_has_no_errors_however_the_border_counts(chapter, border):
    pets = synthetic_pets(2, SIZE)
    perfect = (pets.trimaps == PET) | (border != 'background') * (pets.trimaps == BORDER)
    figure = chapter.plot_comparison(pets, [0, 1], perfect.numpy()[None], ['perfect'], ['one', 'two'], border)
    assert 'IoU 1.000' in figure.axes[2].get_title()
    truth, mask = (ax.images[0].get_array() for ax in figure.axes[1:3])
    assert np.array_equal(truth, mask)


def test_pieces_are_counted_with_corners_and_without_crumbs(chapter):
    stripes, crumb = (torch.arange(32) % 16 < 5).expand(32, 32), torch.zeros(32, 32).bool()
    crumb[:20, :20], crumb[30, 30] = True, True
    masks = torch.stack([torch.eye(32).bool(), stripes, crumb, torch.zeros(32, 32).bool(), torch.ones(32, 32).bool()])
    assert chapter.pieces(masks).tolist() == [1, 2, 1, 0, 1] and chapter.pieces(crumb[None], share=0).tolist() == [2]


def test_facts_are_what_was_put_in(chapter):
    pets = synthetic_pets(40, SIZE)
    pets.trimaps[:2] = BACKGROUND
    pets.trimaps[2] = BACKGROUND
    pets.trimaps[2, :10], pets.trimaps[2, -8:] = PET, BORDER
    facts = chapter.image_facts(pets, torch.arange(40))
    assert facts['no pet at all'].sum() == 2 and np.isnan(facts['brightness of the pet'][:2]).all() and np.isfinite(facts['brightness of the pet'][2:]).all()
    assert facts['share of pet'][2] == 10 / SIZE and facts['share of border'][2] == 8 / SIZE
    assert facts['trimap in several pieces'][2] == 1 and facts['trimap in several pieces'][:2].sum() == 0
    inside = (pets.images[5].float().mean(0) / 255)[pets.trimaps[5] == PET].mean()
    assert facts['brightness of the pet'][5] == pytest.approx(inside.item(), abs=1e-6)


# the chapters on runs that are not there yet

def write_series(results, protocol, variants, seeds, images=40, size=128):
    "Runs as the runner keeps them, at width 16 and 128 px, of made-up figures."
    rng, recipe = np.random.default_rng(1), PROTOCOLS[protocol]
    for seed in seeds:
        for v in variants:
            config = RunConfig(v, seed, Setting(protocol=protocol, width=16, size=size, recipe=recipe))
            folder, level = RunFolder(results / config.folder), .75 + .01 * (v.down == 'mp') + rng.normal(0, .001)
            with folder.lock(): (folder.path / 'config.json').write_text(json.dumps(dict(config=config.to_dict())))
            history = [dict(epoch=e, side=size, train_loss=1 / e, train_accuracy=.9, val_loss=1 / e, val_batch_accuracy=.9, val_accuracy=.9, val_iou=level - .2 / e, val_dice=.8,
                            val_iou_threshold=level - .1 / e, val_threshold=.5, val_predicted=.35, val_true=.3, lr=.02, skipped_steps=0, one_class=0, seconds=9.0, processor_seconds=9.0,
                            images_per_second=50.0, peak_memory_mb=900) for e in range(1, recipe.epochs + 1)]
            bins = rng.random((15, 3)).cumsum(1)
            counts = rng.integers(100, 4000, (images, 4)).astype(np.uint16)
            arrays = dict(val_counts=counts, test_counts=counts, test_counts_threshold=counts, test_bins=bins, test_bins_corrected=bins, masks_index=np.arange(10, dtype=np.uint16),
                          masks=np.packbits(rng.random((10, size * size)) > .6, axis=-1), test_grid_power=rng.normal(0, .1, (images, 4)).astype(np.float16))
            test = dict(images=images, accuracy=.93, iou=level - .005, iou_threshold=level, dice=.85, boundary_2=.4, boundary_2_threshold=.4 + rng.normal(0, .001))
            metrics = dict(val=dict(accuracy=.9, batch_accuracy=.9, loss=.3, iou=level), best_epoch=recipe.epochs, threshold=.6, epochs=recipe.epochs, parameters=1_944_049, macs=758_000_000,
                           seconds=99.0, processor_seconds=99.0, images_per_second=50.0, peak_memory_mb=900, device='cpu, 1 threads', amp='bfloat16', train_images=3312)
            folder.finish(history, arrays, metrics | (dict(test=test) if protocol == 'course' else {}))


@pytest.mark.timeout(1000)
@pytest.mark.parametrize('chapter', ['05_experiments', '06_analysis'])
def test_the_series_of_the_plan_is_shown_without_an_edit(chapter, tmp_path):
    "In a copy of the course whose results/ holds 40 made-up runs of the plan and the published four at 128 px."
    for name in ('unet_course', 'nbs', 'tools'): shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__', '*.png'))
    shutil.copyfile(ROOT / 'settings.ini', tmp_path / 'settings.ini')
    shutil.copytree(ROOT / 'results/recipe_search', tmp_path / 'results/recipe_search')
    write_series(tmp_path / 'results', 'course', FACTORIAL, range(5))
    write_series(tmp_path / 'results', 'published', EXPERIMENTS.values(), [0])
    write_series(tmp_path / 'results', 'published', [EXPERIMENTS['exp1'], EXPERIMENTS['exp2']], [1])
    code = f"import json, notebooks\nnb = notebooks.execute(notebooks.ROOT / 'nbs/{chapter}.ipynb', tiny=True)\nprint(json.dumps(nb))"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(tmp_path / 'tools')]), UNET_COURSE_DATA=str(tmp_path / 'nothing'))
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = {cell['id']: ''.join(str(output.get('text', '')) + str(output.get('data', {}).get('text/markdown', '')) for output in cell.get('outputs', []))
             for cell in json.loads(done.stdout.splitlines()[-1])['cells']}
    if chapter == '05_experiments':
        assert 'width 16, 128x128 pixels, 6 epochs' in cells['05d00020'] and 'means over 5 seeds' in cells['05d00020'] and 'older' not in cells['05older1']
        assert 'falls in a straight line to zero' in cells['05curve01'] and 'published protocol, width 16, 128x128 pixels' in cells['05d000a1'] and 'exp1 by' in cells['05pub0002']
    else:
        assert '40 runs: Oxford-IIIT Pet, course protocol, width 16, 128x128 pixels, 6 epochs' in cells['22fc5ee6'] and 'that the plan below names' in cells['06older1']
        said = dict(re.findall(r'^\| (\w+) \| (.*) \|$', cells['06answer1'], re.M))
        assert {'1a', '1b', '1c', '1d', '2', '3a', '3b'} <= said.keys() and not re.search('tiny|synthetic|96 px|older|not measured', cells['06answer1'])
        assert 'at own thresholds' in said['1b'] and 'with seed 0 exp2' in said['1c'] and 'with seed 1 exp2' in said['1c'] and 'at 2 px below 1' in said['3b'] and '40 runs' in said['3b'] and '40 runs' in said['1d']
        for id, claim in (('06sharp01', '1b'), ('06c1c003', '1c'), ('06c1d003', '1d'), ('06c3b003', '3b')): assert said[claim] in cells[id]
