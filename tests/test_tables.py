"""runs/tables: rows of finished runs, one table a setting, on a page and on a screen."""
import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from made import changed_copy, finished, made_up, plan, quiet, small
from unet_course.runs.tables import format_rows, pooled_std, read_runs, results_table, terminal_table
from unet_course.support.files import CourseError
from unet_course.support.text import plain_table


def test_the_same_run_made_twice_counts_once(finished, tmp_path):
    out, configs = finished
    for name, seconds in (('a', 1.0), ('b', 2.0)):
        copy = shutil.copytree(out / configs[0].folder, tmp_path / name / configs[0].folder)
        metrics = json.loads((copy / 'metrics.json').read_text())
        (copy / 'metrics.json').write_text(json.dumps(metrics | dict(seconds=seconds, images_per_second=9 / seconds, peak_memory_mb=int(seconds), processor_seconds=seconds)))
    assert len(read_runs([tmp_path])) == 1


def test_a_table_holds_runs_of_the_same_pictures_and_the_same_recipe(finished, tmp_path):
    for name, change in dict(a={}, b=dict(test=dict(images=5)), c=dict(recipe=dict(lr=.5)), d=dict(config=dict(loss=dict(pos_weight=1.0)))).items(): changed_copy(finished, tmp_path / name, **change)
    rows = read_runs([tmp_path])
    assert sorted((row['setting'].recipe.lr, row['setting'].loss, row['test_images']) for row in rows) == [(.02, '', 5), (.02, '', 12), (.02, 'pos_weight 1.0', 12), (.5, '', 12)]
    text = results_table(rows)
    assert text.count('| exp1 `mp-tr-bce` |') == 4 and '±' not in text.replace('mean ±', '') and '1 epoch, lr 0.5, border' in text and 'pos_weight 1.0' in text
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


def test_rows_and_tables(finished):
    out, configs = finished
    rows = read_runs([out, out])
    assert [(r['variant'], r['seed']) for r in rows] == [('mp-tr-bce', 0), ('mp-tr-bce', 1), ('str_conv-ups-dice', 0)]
    needed = 'variant seed protocol data width size border epochs val_accuracy val_loss test_accuracy test_iou test_dice device'.split()
    assert all(set(needed) <= row.keys() for row in rows)
    text = format_rows(rows)
    header = '| Experiment | Test IoU, own threshold | Test IoU | Test Dice | Test Accuracy | Val Accuracy | Val Loss | Downsampling | Upsampling | Loss |'
    assert header in text and '| exp1 `mp-tr-bce` | ' in text and '| Max pooling | Transposed convolution | Weighted BCE |' in text and 'cpu' in text and 'width 4' in text
    mean = np.mean([r['test_iou'] for r in rows[:2]])
    assert f'{mean:.4f} ± ' in text
    assert f'standard deviation of {pooled_std(rows)[0]:.4f}, pooled over the variants (1 degrees of freedom)' in text
    for row, config in zip(rows, configs): assert row['test_iou_threshold'] == json.loads((out / config.folder / 'metrics.json').read_text())['test']['iou_threshold']
    assert json.loads(format_rows(rows, 'json')) == [row | dict(setting=str(row['setting'])) for row in rows]
    parsed = list(csv.DictReader(io.StringIO(format_rows(rows, 'csv'))))
    assert [float(r['test_iou']) for r in parsed] == [r['test_iou'] for r in rows]
    with pytest.raises(CourseError, match='markdown, csv, json'): format_rows(rows, 'xml')
    with pytest.raises(CourseError, match='nowhere.*--out'): read_runs([out / 'nowhere'])


def test_a_copy_of_a_run_is_no_second_seed_and_another_batch_size_no_other_row(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / 'copy')
    rows = read_runs([out])
    assert read_runs([tmp_path / 'copy', out]) == rows == read_runs([out, tmp_path / 'copy'])
    setting = rows[0]['setting']
    text = results_table([*rows, rows[0] | dict(seed=5, setting=replace(setting, recipe=replace(setting.recipe, batch_size=16)))])
    assert 'batch size 16, ' in text and text.count('| exp1 `mp-tr-bce`') == 2 and 'seed 5 only' in text


def test_scatter_is_pooled_over_the_variants():
    rows = [dict(variant=v, test_iou=x, other=None) for v, x in (('a', .70), ('a', .72), ('b', .65), ('b', .66), ('b', .67), ('c', .1))]
    deviation, freedom = pooled_std(rows)
    assert freedom == 3 and deviation == pytest.approx(np.sqrt((2 * .01**2 + 2 * .01**2) / 3))
    assert pooled_std(rows[:1])[1] == pooled_std(rows, 'other')[1] == 0 and np.isnan(pooled_std(rows[:1])[0])


@pytest.mark.parametrize('width', [40, 80, 132])
def test_a_table_for_a_screen_is_aligned_and_no_wider(plan, width):
    text = terminal_table(plan, width)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines) and '|' not in text and '`' not in text
    head = next(i for i, line in enumerate(lines) if line.startswith('Experiment'))
    table = lines[head:head + 9]
    assert len({len(line) for line in table}) == 1 and table[1].startswith('exp1 mp-tr-bce ') and 'Test IoU*' in table[0]
    assert ('Test Dice' in table[0]) == (width > 100) and ('own' in text or 'chose' in text)


def test_a_screen_shows_no_columns_without_figures(plan):
    text = terminal_table([made_up('mp-tr-bce', 0, .6, protocol='published', test_iou=None, test_iou_threshold=None, test_accuracy=None, test_dice=None)], 100)
    assert 'Test' not in text and 'Val accuracy' in text


def test_plain_tables_align_numbers_to_the_right():
    rows = [dict(a='x', b=1234, c=None), dict(a='longer', b=5, c=.12345)]
    assert plain_table(rows, dict(a='name', b='count', c='share'), 80).splitlines() == ['name    count   share', 'x       1,234       –', 'longer      5  0.1235']
    assert plain_table(rows, dict(a='name', b='count'), 8).splitlines() == ['name', 'x', 'longer']
