"""The stored tables of the other libraries: held to the course's own counts, and run again where a library is installed."""
import json
import math
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch

from conftest import ROOT
from unet_course.losses import DiceLoss, WeightedBCE, dice, iou, pixel_counts

sys.path.insert(0, str(ROOT / 'tools'))
import libraries as tool  # noqa: E402

STORED = json.loads((ROOT / 'results' / 'libraries.json').read_text())
ROWS = {(r['library'], r['call']): r for r in STORED['metrics']}
LOSSES = {(r['library'], r['call']): r for r in STORED['losses']}
LIBRARIES = sorted({name for name, _ in ROWS} | {name for name, _ in LOSSES})
OWN = {'IoU per image': lambda c: iou(c).mean(), 'IoU over the data set': lambda c: iou(c.sum(0)),
       'Dice per image': lambda c: dice(c).mean(), 'Dice over the data set': lambda c: dice(c.sum(0)),
       'IoU per image, empty targets left out': lambda c: iou(c[c[:, 0] + c[:, 2] > 0]).mean(),
       'IoU over the data set, pet and background averaged': lambda c: (iou(c.sum(0)) + iou(c.sum(0)[[3, 2, 1, 0]])) / 2}


@pytest.fixture(scope='module')
def given():
    return tool.cases() | dict(real=(*tool.masks_of(STORED['real']['counts']), False))


def test_twelve_libraries_and_every_row_of_the_tool_are_in_the_table():
    assert set(LIBRARIES) == set(tool.PINNED) and len({name for name, _ in ROWS}) == 12
    assert list(ROWS) == [row[:2] for row in tool.rows()] and list(LOSSES) == [row[:2] for row in tool.loss_rows()]


def test_masks_made_from_counts_have_these_counts(given):
    assert pixel_counts(*given['real'][:2]).tolist() == STORED['real']['counts']


@pytest.mark.parametrize('figure', OWN)
def test_a_row_that_names_a_figure_of_the_course_holds_its_numbers(given, figure):
    named = [r for r in ROWS.values() if figure in r['equals']]
    assert named, 'some library has this convention'
    for row in named:
        for case in ('normal', 'batch', 'real'):
            assert row['values'][case] == pytest.approx(float(OWN[figure](pixel_counts(*given[case][:2]))), abs=1e-4), (row['call'], case)
        if isinstance(row['values']['ignored'], float): assert row['values']['ignored'] == pytest.approx(float(OWN[figure](pixel_counts(*given['ignored'][:2]))), abs=1e-4), row['call']


def test_a_row_that_names_none_equals_none(given):
    for row in ROWS.values():
        if row['equals'] or row['equals_unless_empty']: continue
        found = tool.figures(pixel_counts(*given['real'][:2]))
        assert not tool.names_of(row['values']['real'], found) or not tool.names_of(row['values']['normal'], tool.figures(pixel_counts(*given['normal'][:2])))


def test_the_empty_image_has_many_answers():
    said = {str(r['values']['both_empty']) for r in ROWS.values()}
    assert {'0.0', '1.0', 'nan', 'inf'} <= said
    by_function = {name: {str(r['values']['both_empty']) for (library, _), r in ROWS.items() if library == name} for name in LIBRARIES}
    assert len(by_function['medpy']) == len(by_function['scipy']) == 2


def test_ignored_pixels_in_the_losses():
    z, y = tool.loss_cases()['half_ignored']
    own = {'WeightedBCE(1)': WeightedBCE(1.0), 'DiceLoss(smooth=0)': DiceLoss(smooth=0), 'DiceLoss(smooth=0, per_image=True)': DiceLoss(smooth=0, per_image=True)}
    equal = [r for r in LOSSES.values() if r['equals'] and r['ratio'] == pytest.approx(1, abs=1e-4)]
    assert len(equal) >= 4
    for row in equal: assert row['values']['half_ignored'] == pytest.approx(own[row['equals'][0]](z, y).item(), abs=1e-4)
    weighs = [call for (_, call), r in LOSSES.items() if r['ratio'] == pytest.approx(.5, abs=1e-4)]
    assert 'losses.SoftBCEWithLogitsLoss' in weighs and 'losses.focal_loss(alpha=None)' in weighs


def test_the_stored_page_is_made_of_the_stored_table():
    assert (ROOT / 'results' / 'libraries.md').read_text(encoding='utf-8') == tool.table(STORED)


@pytest.mark.parametrize('library', LIBRARIES)
def test_the_library_still_says_so(given, library, monkeypatch):
    pytest.importorskip(library, reason=f'{library} is not installed (pip install {tool.PINNED[library]}): its rows are not run again')
    name = tool.PINNED[library].split('==')[0]
    try: here = version(name)
    except PackageNotFoundError: pytest.skip(f'{library}: which release this is cannot be told')
    if here != STORED['versions'][name]: pytest.skip(f'{library} {here} is installed, the table was made with {STORED["versions"][name]}')
    monkeypatch.setenv('KERAS_BACKEND', 'torch')
    few = given | dict(real=tuple(x[:50] if torch.is_tensor(x) else x for x in given['real']))
    for row in tool.rows():
        if row[0] != library: continue
        found = tool.measure_row(row, few)['values']
        for case in set(tool.cases()): assert same(found[case], ROWS[row[:2]]['values'][case]), (row[1], case)
    for row in tool.loss_rows():
        if row[0] != library: continue
        found = tool.measure_loss(row)['values']
        for case, value in LOSSES[row[:2]]['values'].items(): assert same(found[case], value), (row[1], case)


def same(a, b) -> bool:
    return a == b if isinstance(a, str) or isinstance(b, str) else math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6)


def test_the_stored_pairs_hold_what_the_pages_say():
    pairs = json.loads((ROOT / 'results' / 'pairs.json').read_text())
    pixels = [r['pixels'] for r in pairs['rasterisers']]
    assert pixels[0] == 134 and max(pixels) >= 156 and min(r['iou'] for r in pairs['rasterisers']) < .9
    shifted = {r['tool'] for r in pairs['nearest'] if max(r['right'], r['down']) > .3}
    assert 'torchvision v2, Resize of a Mask' in shifted and 'Pillow, NEAREST' not in shifted
    renumbered = {r['tool'] for r in pairs['formats'] if r['classes'] != [0, 7, 15]}
    assert renumbered == {'oxipng, its default level', 'Pillow, GIF'} and all(r['same_colours'] for r in pairs['formats'])
    assert np.ptp([r['average_precision'] for r in pairs['crowds']]) > .4


def test_every_finding_is_in_its_table_and_keeps_the_rules():
    scripts, table = sorted((ROOT / 'findings').glob('*.sh')), (ROOT / 'findings' / 'README.md').read_text(encoding='utf-8')
    assert len(scripts) >= 8
    for script in scripts:
        text = script.read_text(encoding='utf-8')
        assert f'[{script.stem}]({script.name})' in table
        assert 'Expected:' in text and 'Where it matters:' in text and 'Seen' in text, f'{script.name}: the header says what was expected, what was seen, and where it matters'
        assert 'mktemp -d' in text and 'set -euo pipefail' in text and 'assert ' in text and '==' in text
        assert 'http' not in text and 'unet_course' not in text, f'{script.name}: no addresses, and nothing of this project'
