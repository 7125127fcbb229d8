"""Chapter 06: the statistics against simulations and by hand, the verdicts against made-up runs, pictures."""
import ast
import json
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from conftest import ROOT
from unet_course import analysis
from unet_course.analysis import (
    EQUIVALENCE_MARGIN, anova, both_lines, contrasts, epochs_to, holm, plot_comparison, plot_effects, plot_runs, verdicts)
from unet_course.experiments import CLAIMS
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
    scope = dict(vars(analysis), BACKGROUND=BACKGROUND, PET=PET)
    for cell in json.loads((ROOT / 'nbs/06_analysis.ipynb').read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or source.startswith('#| export') or '%pip' in source: continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef): exec(compile(ast.Module([node], []), '06_analysis.ipynb', 'exec'), scope)
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
    differ, agree = both_lines(down, up)['loss'], both_lines(up, up)['loss']
    assert differ.startswith('Dice beats weighted BCE: contradicted at own thresholds (') and ', supported at 0.5 (' in differ
    assert agree.startswith('Dice beats weighted BCE: supported, at own thresholds (') and agree.count('supported') == 1
    for values, text in ((down, differ), (up, differ)): assert f'{100 * anova(values)[0]["estimate"]:+.2f} points' in text


def test_epochs_to_a_share_of_the_best():
    history = [dict(val_iou_threshold=value, seconds=2.0) for value in (.2, .75, .77, .80)]
    assert epochs_to(history) == (3, 6.0) and epochs_to(history, .93) == (2, 4.0) and epochs_to(history[:1]) == (1, 2.0)


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


def test_comparison_shows_every_variant_with_its_iou():
    pets, index = synthetic_pets(24, SIZE), [3, 5]
    masks = np.random.default_rng(0).random((4, 2, SIZE, SIZE)) > .5
    expected = iou(torch.stack([pixel_counts(torch.from_numpy(m)[:, None], make_targets(pets.trimaps[index])) for m in masks]))
    figure = plot_comparison(pets, index, masks, IDS[:4], ['one', 'two'])
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 12 and titles[:2] == ['image', 'truth'] and [t.splitlines()[0] for t in titles[2:6]] == IDS[:4]
    assert titles[6:8] == ['', '']
    assert [float(t[-5:]) for t in titles[2:6] + titles[8:]] == pytest.approx(expected.T.ravel().numpy(), abs=6e-4)


@pytest.mark.parametrize('border', ['background', 'pet', 'ignore'])
def test_a_perfect_mask_has_no_errors_however_the_border_counts(border):
    pets = synthetic_pets(2, SIZE)
    perfect = (pets.trimaps == PET) | (border != 'background') * (pets.trimaps == BORDER)
    figure = plot_comparison(pets, [0, 1], perfect.numpy()[None], ['perfect'], ['one', 'two'], border)
    assert 'IoU 1.000' in figure.axes[2].get_title()
    truth, mask = (ax.images[0].get_array() for ax in figure.axes[1:3])
    assert np.array_equal(truth, mask)


def test_pieces_are_those_of_scipy(chapter):
    ndimage = pytest.importorskip('scipy.ndimage')
    masks = torch.from_numpy(np.random.default_rng(0).random((40, 32, 32)) < np.linspace(.02, .6, 40)[:, None, None])
    for mask, found in zip(masks, chapter.pieces(masks, share=.05)):
        labels, _ = ndimage.label(mask.numpy(), np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        assert found == (sizes > .05 * sizes.sum()).sum()
    assert chapter.pieces(torch.zeros(1, 32, 32).bool()).tolist() == [0] and chapter.pieces(torch.ones(1, 128, 128).bool()).tolist() == [1]


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
