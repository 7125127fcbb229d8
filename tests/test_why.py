"Why, with evidence: the small experiments behind chapters 01, 02 and 04, how they are read, drawn and said, and what is stored of them."
import ast
import json
import os
import re
import subprocess
import sys
from functools import partial

import nbformat
import pytest
import torch
from torch import nn

from conftest import ROOT
from unet_course.factory import UNet, count_parameters
from unet_course.support.files import CourseError
from unet_course.views.why import answered, draw_why, read_why, say_why

sys.path.insert(0, str(ROOT / 'tools'))
import why as tool  # noqa: E402

STORED = sorted((ROOT / 'results/why').glob('*.json'))
CONFIG = dict(base_width=8, depth=2)


def store(folder, arm, label, seed, iou, **more):
    run = dict(arm=arm, questions=dict(depth=label), seed=seed, val_iou=iou, failed=None, parameters=2_000_000, macs=190_000_000, processor_seconds=60.,
               data='pets', size=64, images=dict(train=8, val=2), loss='bce', amp='off') | more
    (folder / f'{arm}-seed{seed}.json').write_text(json.dumps(run))


@pytest.fixture
def folder(tmp_path):
    for arm, label, values in (('base', 'depth 4', (.75, .76)), ('depth_2', 'depth 2', (.72, .71)), ('depth_3', 'depth 3', (.76, .75)), ('depth_5', 'depth 5', (.77, .78))):
        for seed, iou in enumerate(values, 100): store(tmp_path, arm, label, seed, iou)
    return tmp_path


def test_an_arm_is_compared_with_ours_of_the_same_seed(folder):
    rows = {row['arm']: row for row in read_why('depth', folder)}
    assert list(rows) == ['depth 2', 'depth 3', 'depth 4', 'depth 5'] and [row['ours'] for row in rows.values()] == [False, False, True, False]
    assert rows['depth 2']['gain'] == pytest.approx({100: -.03, 101: -.05}) and rows['depth 3']['val_iou'] == {100: .76, 101: .75}


def test_the_sentence_calls_a_difference_only_what_all_seeds_have(folder):
    said = say_why('depth', folder)
    assert '0.755' in said and 'better: depth 5 (+2.0 and +2.0)' in said and 'worse: depth 2 (-3.0 and -5.0)' in said and 'not decided: depth 3 (+1.0 and -1.0)' in said
    (folder / 'depth_5-seed101.json').unlink()
    assert 'not decided: depth 3 (+1.0 and -1.0), depth 5 (+2.0)' in say_why('depth', folder)


def test_what_broke_off_is_said(folder):
    store(folder, 'depth_5', 'depth 5', 101, 0., failed='loss nan: not finite')
    assert 'depth 5 (+2.0 and -76.0; 1 of 2 broke off)' in say_why('depth', folder)


def test_what_was_not_measured_is_said_in_one_line(folder, tmp_path):
    with pytest.raises(CourseError, match='norm.*--list') as error: read_why('norm', folder)
    assert '\n' not in str(error.value) and answered('norm', 'depth', folder=folder) == ['depth']
    store(folder, 'depth_3', 'depth 3', 100, .7, size=32)
    with pytest.raises(CourseError, match='differ in size'): read_why('depth', folder)


def test_the_drawing_has_a_line_a_seed_and_a_column_an_arm(folder):
    first, second = draw_why('depth', 'depth', folder=folder).axes
    assert [len(line.get_xdata()) for line in first.lines] == [4, 4, 2] and first.get_ylabel() and not second.get_ylabel()
    assert [label.get_text().split('\n')[0] for label in first.get_xticklabels()] == ['depth 2', 'depth 3', 'depth 4', 'depth 5']


def test_chapter_02_shows_the_questions_that_were_run_and_leaves_out_the_others(folder):
    cells = {cell.id: cell.source for cell in nbformat.read(ROOT / 'nbs/02_factory.ipynb', as_version=4).cells}
    names = {f.__name__: partial(f, folder=folder) for f in (answered, read_why, draw_why, say_why)} | dict(Markdown=str)
    def shown(id):
        *lines, last = ast.parse(cells[id]).body
        exec(compile(ast.Module(lines, []), id, 'exec'), names)
        return eval(compile(ast.Expression(last.value), id, 'eval'), names)
    depth = lambda: (len(shown('factory_why_depth').axes), '**Width.**' in shown('factory_why_depth_short'))
    assert depth() == (1, False) and shown('factory_why_more') is None
    for seed in (100, 101):
        store(folder, 'base', 'depth 4', seed, .75, questions=dict(depth='depth 4', width='width 16', convolutions='two'))
        store(folder, 'width_8', '', seed, .7, questions=dict(width='width 8'), macs=48_000_000)
        store(folder, 'one_conv', '', seed, .74, questions=dict(convolutions='one'))
        store(folder, 'ups', '', seed, .73, questions=dict(enlarging='nearest'))  # bilinear was not run
    assert depth() == (2, True) and 'worse: width 8 (-5.0 and -5.0)' in shown('factory_why_depth_short')
    assert 'worse: one (-1.0 and -1.0)' in shown('factory_why_more') and 'ups' not in shown('factory_why_more')
    for seed in (100, 101): store(folder, 'width_64', '', seed, .77, questions=dict(width='width 64'), macs=16 * 190_000_000)
    assert 'Width 64 does 63.3 times the work of width 8.' in shown('factory_why_depth_short')


def test_arms_differ_in_what_they_say():
    kinds = UNet, tool.NoNormUNet, tool.GroupNormUNet, tool.OneConvUNet
    nets = [kind(**CONFIG) for kind in kinds]
    norms = [[sum(isinstance(m, norm) for m in net.modules()) for norm in (nn.BatchNorm2d, nn.GroupNorm)] for net in nets]
    assert norms == [[10, 0], [0, 0], [0, 10], [5, 0]]
    assert count_parameters(nets[0]) == count_parameters(nets[2]) > count_parameters(nets[1])
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    adds, none = tool.AddUNet(**CONFIG).eval(), tool.NoSkipUNet(**CONFIG).eval()
    none.load_state_dict(adds.state_dict())
    joins, weights = UNet(**CONFIG).eval(), adds.state_dict()
    for i in range(2): weights[f'decoder.{i}.0.weight'] = torch.cat(2 * [weights[f'decoder.{i}.0.weight']], dim=1)
    joins.load_state_dict(weights)  # adding is concatenation with both halves of the kernel equal
    with torch.no_grad():
        torch.testing.assert_close(adds(x), joins(x), atol=1e-4, rtol=1e-4)
        for i in range(2): weights[f'decoder.{i}.0.weight'][:, :adds.decoder[i][0].in_channels] = 0  # the skip connection's half
        joins.load_state_dict(weights)
        torch.testing.assert_close(none(x), joins(x), atol=1e-4, rtol=1e-4)
        assert adds(x[..., :13, :9]).shape == (2, 1, 13, 9)


def test_arms_with_one_seed_start_alike_where_they_can():
    one, other = tool.ARMS['base'].make(3).state_dict(), tool.ARMS['group_norm'].make(3).state_dict()
    assert torch.equal(one['encoder.0.0.weight'], other['encoder.0.0.weight']) and torch.equal(one['head.weight'], other['head.weight'])
    recipes = {name: tool.recipe_of(tool.ARMS[name], 6) for name in ('base', 'adamw', 'full_size', 'no_norm_third')}
    assert recipes['adamw'].optimizer == 'adamw' and recipes['full_size'].sizes == (1,) and recipes['no_norm_third'].lr == pytest.approx(recipes['base'].lr / 3)


def test_an_arm_is_run_once_and_an_other_setting_is_refused(tmp_path):
    def call(*options):
        command = [sys.executable, ROOT / 'tools/why.py', 'no_norm', '--seed', '0', '--data', 'synthetic', '--size', '32', '--out', tmp_path, *options]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, env=dict(os.environ, OMP_NUM_THREADS='1'))
    first, again, other = call('--epochs', '1'), call('--epochs', '1'), call('--epochs', '2')
    assert first.returncode == 0, first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['no_norm-seed0.json'] and 'there already' in again.stdout
    stored = json.loads((tmp_path / 'no_norm-seed0.json').read_text())
    assert stored['questions'] == dict(norm='no norm') and 0 < stored['val_iou'] <= 1 and len(stored['history']) == 1
    assert other.returncode != 0 and re.search('of another recipe', other.stderr)


@pytest.mark.parametrize('path', STORED, ids=lambda path: path.stem)
def test_stored_runs_are_of_photographs_by_the_recipe_and_of_networks_that_are_there(path):
    stored = json.loads(path.read_text())
    arm = tool.ARMS[stored['arm']]
    assert path.stem == f'{stored["arm"]}-seed{stored["seed"]}' and stored['data'] == 'pets' and set(stored['images']) == {'train', 'val'}
    assert stored['questions'].items() <= arm.questions.items() and stored['network'] == arm.kind.__name__
    tool.UPSAMPLE.update(tool.MODES)
    try: assert stored['parameters'] == count_parameters(arm.kind(**stored['config']))
    finally:
        for mode in tool.MODES: del tool.UPSAMPLE[mode]
