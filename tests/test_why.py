"Why, with evidence: the small experiments behind chapters 01 and 02, how they are read and drawn, and what is stored of them."
import json
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from conftest import ROOT
from unet_course.blocks import DoubleConv
from unet_course.factory import UNet, count_parameters, create_model
from unet_course.support.files import CourseError
from unet_course.views.why import draw_why, read_why

sys.path.insert(0, str(ROOT / 'tools'))
import why as tool  # noqa: E402

STORED = sorted((ROOT / 'results/why').glob('*.json'))
CONFIG = dict(base_width=8, depth=2)


def run(arm, seed, iou, rate=1e-3, **more):
    return dict(arm=arm, seed=seed, learning_rate=rate, parameters=1000, macs=2_000_000,
                history=[dict(epoch=1, val_iou=.1, threshold=.5, cpu_seconds=1.0), dict(epoch=2, val_iou=iou, threshold=.5, cpu_seconds=3.0)]) | more


@pytest.fixture
def folder(tmp_path):
    runs = [run('depth 4', 1, .6), run('depth 2', 0, .5), run('depth 4', 0, .5), run('depth 2', 1, .4), run('depth 2', 0, .3, rate=1e-2)]
    (tmp_path / 'depth.json').write_text(json.dumps(dict(question='depth', epochs=2, runs=runs)))
    return tmp_path


def test_rows_have_the_last_epoch_of_each_seed_and_their_mean(folder):
    setting, rows = read_why('depth', folder)
    assert setting == dict(question='depth', epochs=2)
    assert {(row['arm'], row['learning_rate']): row['val_iou'] for row in rows} == {('depth 4', 1e-3): [.5, .6], ('depth 2', 1e-3): [.5, .4], ('depth 2', 1e-2): [.3]}
    row = next(row for row in rows if row['arm'] == 'depth 4')
    assert row['mean'] == pytest.approx(.55) and row['cpu_seconds'] == 3 and row['macs'] == 2_000_000


def test_what_was_not_measured_is_said_in_one_line(tmp_path):
    with pytest.raises(CourseError, match=r'no such file; python tools/why.py norm') as error: read_why('norm', tmp_path)
    assert 'norm.json' in str(error.value) and '\n' not in str(error.value)


def test_the_drawing_has_a_bar_an_arm_and_a_dot_a_seed(folder):
    axes, = draw_why('depth', folder).axes
    assert len(axes.patches) == 3 and sorted(len(line.get_xdata()) for line in axes.lines) == [1, 2, 2]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert [label.split('\n')[0] for label in labels] == ['depth 2', 'depth 4', 'depth 2'] and 'learning rate 0.01' in labels[2]


def test_arms_differ_in_what_they_say():
    nets = [kind(**CONFIG) for kind in (UNet, tool.NoNormUNet, tool.GroupNormUNet)]
    norms = [[sum(isinstance(m, norm) for m in net.modules()) for norm in (nn.BatchNorm2d, nn.GroupNorm)] for net in nets]
    assert norms == [[10, 0], [0, 0], [0, 10]]
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


def test_an_experiment_runs_goes_on_and_shares_its_common_arm(tmp_path):
    def call(*questions, **options):
        command = [sys.executable, ROOT / 'tools/why.py', *questions, '--data', 'synthetic', '--epochs', '1', '--size', '32', '--seeds', '0', '--out', tmp_path]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **options)
    first = call('skips')
    assert first.returncode == 0 and len(first.stdout.splitlines()) == 3, first.stderr
    again = call('skips')
    assert again.returncode == 0 and again.stdout == ''
    stored = json.loads((tmp_path / 'skips.json').read_text())
    assert [run['arm'] for run in stored['runs']] == ['concatenate', 'add', 'none'] and stored['data'] == 'synthetic'
    assert all(0 <= row['val_iou'] <= 1 for run in stored['runs'] for row in run['history'])
    base = dict(arm='depth 4', seed=0, learning_rate=3e-3, network=stored['runs'][0]['network'])
    setting = {key: value for key, value in stored.items() if key != 'runs'} | dict(question='depth')
    assert tool.measured(base, tmp_path, setting)['history'] == stored['runs'][0]['history']
    assert tool.measured(base, tmp_path, setting | dict(epochs=2)) is None
    refused = subprocess.run([sys.executable, str(ROOT / 'tools/why.py'), 'skips', '--data', 'synthetic', '--epochs', '2', '--size', '32', '--seeds', '0', '--out', str(tmp_path)],
                             capture_output=True, text=True, timeout=300)
    assert refused.returncode != 0 and re.search(r'skips.json holds runs of another epochs', refused.stderr)


@pytest.mark.parametrize('path', STORED, ids=lambda p: p.stem)
def test_stored_experiments_are_on_photographs_and_repeated(path):
    stored = json.loads(path.read_text())
    assert stored['question'] == path.stem and stored['data'] == 'pets' and set(stored['images']) == {'train', 'val'}
    _, rows = read_why(path.stem)
    assert min(len(row['val_iou']) for row in rows) >= 2, 'one run of an arm says nothing'
    for name, kind, config, rate in tool.arms(path.stem):
        kept = [row for row in rows if (row['arm'], row['learning_rate']) == (name, rate)]
        if kept: assert kept[0]['parameters'] == count_parameters(kind(**config)), name
