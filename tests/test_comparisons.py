"""runs/comparisons: rows that chapter 05 shows, each against a plain computation."""
import json
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from made import finished, made_up, plan, quiet, small
from unet_course.experiments import FACTORIAL
from unet_course.runs.comparisons import (
    budget_steps, clean_pairs, cost_rows, epoch_values, order_of, pair_runs, peer_rows, published_rows, seed_effects, side_arms, told_apart, tried_recipes, within_seeds)
from unet_course.runs.tables import read_runs


def noise_within_seeds(plan):
    "The residual's standard deviation of a regression on variants and seeds."
    model = np.array([[row['variant'] == v.id for v in FACTORIAL] + [row['seed'] == 1] for row in plan], dtype=float)
    _, squares, *_ = np.linalg.lstsq(model, [row['test_iou'] for row in plan], rcond=None)
    return np.sqrt(squares[0] / (len(plan) - model.shape[1]))


def mean(plan, variant): return np.mean([row['test_iou'] for row in plan if row['variant'] == variant])


def test_the_scatter_within_a_seed_is_that_of_a_regression(plan):
    assert within_seeds(plan) == (pytest.approx(noise_within_seeds(plan)), 7)
    deviation, freedom = within_seeds(plan[::2])
    assert math.isnan(deviation) and freedom == 0 and told_apart(plan[::2]) is None


def test_what_a_table_can_tell_apart(plan):
    found, noise = told_apart(plan), noise_within_seeds(plan)
    far = [(a, b) for a, b in combinations(FACTORIAL, 2) if abs(mean(plan, a.id) - mean(plan, b.id)) > 2 * noise]  # two seeds: the difference's standard error is the noise
    assert 0 < len(far) < 28 and found['pairs'] == len(far) and found['seeds'] == 2
    assert found['scatter'] == pytest.approx(100 * noise) and found['limit'] == pytest.approx(200 * noise)
    for factor in ('down', 'up', 'loss'): assert found[factor] == sum(getattr(a, factor) != getattr(b, factor) for a, b in far)


@pytest.mark.parametrize('factor, better, other', [('loss', 'dice', 'bce'), ('down', 'mp', 'str_conv'), ('up', 'tr', 'ups')])
def test_clean_pairs_differ_in_the_factor_alone(plan, factor, better, other):
    rows = clean_pairs(plan, factor)
    ahead = [v for v in FACTORIAL if getattr(v, factor) == better]
    expected = [100 * (mean(plan, v.id) - mean(plan, '-'.join(other if name == factor else getattr(v, name) for name in ('down', 'up', 'loss')))) for v in ahead]
    assert sorted(row['difference'] for row in rows) == pytest.approx(sorted(expected)) and len({row['held'] for row in rows}) == 4


def test_what_seeds_share_is_shown_by_run(plan):
    rows = seed_effects(plan)
    assert [row['seed'] for row in rows] == [0, 1] and sum(row['mean'] for row in rows) == pytest.approx(0)
    assert rows[1]['mp-tr-bce'] == pytest.approx(50 * (plan[1]['test_iou'] - plan[0]['test_iou']))
    assert rows[0]['mean'] == pytest.approx(np.mean([rows[0][v.id] for v in FACTORIAL]))


def test_side_arms_are_compared_with_runs_of_their_seed_that_differ_in_one_thing(plan):
    assert side_arms([], plan) == []
    arms = [made_up('mp-tr-bce_unweighted', seed, .62 + .004 * seed) for seed in (0, 1)]
    arms += [made_up('str_conv_bn-tr-bce', 0, .61), made_up('mp-ups-bce', 0, .60, width=14, macs=205), made_up('mp-tr-bce', 7, .6), made_up('mp-tr-bce', 0, .7, border='pet'),
             made_up('mp-tr-bce', 0, .7, epochs=9), made_up('mp-tr-bce', 0, .7, recipe=dict(lr=.1))]
    rows = {(row['arm'], row['against']): row for row in side_arms(arms, plan)}
    assert set(rows) == {('mp-tr-bce_unweighted', 'mp-tr-bce'), ('mp-tr-bce_unweighted', 'mp-tr-dice'), ('str_conv_bn-tr-bce', 'mp-tr-bce'), ('str_conv_bn-tr-bce', 'str_conv-tr-bce'),
                         ('mp-ups-bce, width 14', 'mp-ups-bce'), ('mp-ups-bce, width 14', 'mp-tr-bce'), ('mp-tr-bce, border pet', 'mp-tr-bce')}
    row = rows['mp-tr-bce_unweighted', 'mp-tr-bce']
    assert row['seeds'] == '0, 1' and row['differ'] == 'loss' and row['test_iou'] == pytest.approx(1.9) and row['noise_test_iou'] == pytest.approx(100 * noise_within_seeds(plan))
    assert row['noise_test_iou_threshold'] == pytest.approx(100 * within_seeds(plan, 'test_iou_threshold')[0]) and row['test_iou_threshold'] == pytest.approx(1.9)
    assert rows['mp-ups-bce, width 14', 'mp-tr-bce']['differ'] == 'up and width' and rows['mp-tr-bce, border pet', 'mp-tr-bce']['test_iou'] == pytest.approx(9.8)
    assert side_arms(arms[:1], plan[::2])[0]['noise_test_iou'] is None


def test_an_arm_in_another_number_format_is_compared_with_the_plans_variant_in_that_format(plan):
    def bf16(variant, seed, iou):
        row = made_up(variant, seed, iou, amp='bfloat16')
        return row | dict(setting=replace(row['setting'], amp='bfloat16'))
    repeats, arms = [bf16('mp-tr-bce', seed, .62) for seed in (0, 1)], [bf16('str_conv_bn-tr-bce', seed, .64) for seed in (0, 1)]
    rows = {(row['arm'], row['against']): row for row in side_arms(repeats + arms, plan)}
    assert set(rows) == {('mp-tr-bce, amp bfloat16', 'mp-tr-bce'), ('str_conv_bn-tr-bce', 'mp-tr-bce')}  # and not with the plan's, from which it differs in two things
    same, other = rows.values() if list(rows)[0][0].startswith('mp') else list(rows.values())[::-1]
    assert (same['differ'], same['amp'], other['differ'], other['amp']) == ('amp', 'off', 'down', 'bfloat16') and other['test_iou'] == pytest.approx(2)
    assert same['noise_test_iou'] == other['noise_test_iou'] == pytest.approx(100 * noise_within_seeds(plan))
    assert {row['differ'] for row in side_arms([*repeats, bf16('mp-tr-dice', 0, .6)], plan)} == {'amp'}  # two repeats are not compared with each other


def test_our_runs_of_the_published_protocol_stand_beside_the_quoted_figures():
    assert published_rows([], {}) == [] == published_rows([made_up('mp-ups-bce', 0, .7, protocol='published')], {})
    rows = [made_up(v, 0, .7, protocol='published', val_accuracy=a) for v, a in (('mp-tr-bce', .90), ('mp-tr-dice', .91), ('str_conv-tr-bce', .89), ('str_conv-ups-dice', .85))]
    epochs = {(row['setting'], row['variant']): np.array([[.5, row['val_accuracy'], .80 + .03 * k]]) for k, row in enumerate(rows)}
    found = published_rows(rows, epochs)
    assert [row['experiment'] for row in found] == ['exp1', 'exp2', 'exp3', 'exp4'] and found[0]['quoted_accuracy'] == 93.45 and found[0]['val_accuracy'] == pytest.approx(90)
    assert found[3]['highest_accuracy'] == pytest.approx(89) and found[0]['swing'] == pytest.approx(10)
    assert order_of(found, 'quoted_accuracy') == 'exp1 > exp2 > exp3 > exp4' and order_of(found, 'val_accuracy') == 'exp2 > exp1 > exp3 > exp4'
    short = {key: values[:, :1] for key, values in epochs.items()}
    assert published_rows(rows, short)[0]['swing'] is None


def test_pairs_of_runs_differ_in_what_was_asked_for_alone(plan):
    longer, wider = made_up('mp-tr-bce', 0, .70, epochs=15), made_up('mp-tr-bce', 0, .75, epochs=15, width=32)
    rows = plan + [longer, wider, made_up('mp-tr-bce', 2, .8, epochs=15), made_up('mp-tr-bce', 0, .8, epochs=15, recipe=dict(augmented=False))]
    assert [(a['epochs'], b['epochs'], differ) for a, b, differ in pair_runs(rows, {'epochs'})] == [(5, 15, dict(epochs=(5, 15)))]
    assert [differ for *_, differ in pair_runs(rows, {'augmented'})] == [dict(augmented=('flip', False))]
    assert pair_runs(plan, {'epochs', 'width'}) == []


def test_steps_change_one_thing_and_keep_the_seed(plan):
    assert budget_steps(plan) == []
    longer, wider = made_up('mp-tr-bce', 0, .70, epochs=15), made_up('mp-tr-bce', 0, .75, epochs=15, width=32, macs=800)
    others = [made_up('mp-tr-bce', 2, .8, epochs=15), made_up('mp-ups-bce', 0, .8, epochs=15, width=32), made_up('mp-tr-bce', 0, .8, epochs=15, recipe=dict(augmented=False))]
    first, second = budget_steps(plan + [longer, wider, *others])
    assert (first['step'], first['at'], first['seeds'], first['work']) == ('epochs 5 to 15', 'width 16, size 64', '0', 3) and first['test_iou'] == pytest.approx(9.8)
    assert (second['step'], second['work']) == ('width 16 to 32', 4) and second['a_doubling'] == pytest.approx(2.5)


def test_costs_are_medians_over_the_epochs_with_their_range(finished):
    out, configs = finished
    speeds, rows = epoch_values(out, 'images_per_second'), read_runs([out])
    assert sorted(runs.shape for runs in speeds.values()) == [(1, 1), (2, 1)]  # one epoch each; two seeds of exp1
    found = cost_rows(rows, speeds)
    assert [row['runs'] for row in found] == [2, 1] and found[0]['parameters'] == rows[0]['parameters']
    both = speeds[rows[0]['setting'], 'mp-tr-bce']
    assert (found[0]['slowest'], found[0]['fastest'], found[0]['images_per_second']) == (both.min(), both.max(), np.median(both))
    assert epoch_values(out, 'no_such_column') == {}


def test_peers_are_shown_beside_ours(plan, tmp_path):
    assert peer_rows(tmp_path, plan) == []
    for seed in (0, 1):
        peer = dict(network='monai-basicunet', loss='dice', seed=seed, data='pets', protocol='course', width=16, size=64, border='background', epochs=5, parameters=3_000_000, macs=300_000_000,
                    test=dict(iou=.7 + .01 * seed, iou_threshold=.71, accuracy=.8), device='cpu, 1 threads', amp='off')
        (tmp_path / f'monai-basicunet-dice-seed{seed}.json').write_text(json.dumps(peer))
    rows = {(row['network'], row['loss']): row for row in peer_rows(tmp_path, plan)}
    assert set(rows) == {('monai-basicunet', 'dice'), ('this course', 'bce'), ('this course', 'dice')}
    theirs = rows['monai-basicunet', 'dice']
    assert theirs['runs'] == 2 and theirs['test_iou'] == pytest.approx(.705) and theirs['test_iou_std'] == pytest.approx(.0071, abs=1e-4) and theirs['parameters'] == 3_000_000


def test_tries_are_means_over_their_runs_the_best_first(tmp_path):
    assert tried_recipes(tmp_path) == []
    (tmp_path / '64px').mkdir()
    for attempt, variant, seed, iou in (('a', 'mp-tr-bce', 0, .7), ('a', 'str_conv-ups-dice', 0, .6), ('a', 'mp-ups-bce', 0, .1), ('b', 'mp-tr-bce', 0, .8)):  # mp-ups-bce counts nowhere
        run = dict(attempt=attempt, variant=variant, seed=seed, size=64, iou=iou, iou_at_half=iou - .1, train_seconds=10.0)
        (tmp_path / '64px' / f'{attempt}-{variant}-{seed}.json').write_text(json.dumps(run))
    first, second = tried_recipes(tmp_path)
    assert (first['attempt'], first['both'], second['attempt'], second['both'], second['runs']) == ('b', False, 'a', True, 2)
    assert second['iou'] == pytest.approx(65) and second['iou_at_half'] == pytest.approx(55) and second['seconds'] == 10
