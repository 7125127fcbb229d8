"""The benchmarks: every part runs in its tiny configuration; ratios follow from the times; the kept tables are made from the kept JSON."""
import json
import os

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import measuring
from conftest import ROOT

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='peak memory of a command is asked of os.wait4, which Windows has not')

KEPT = sorted((ROOT / 'results' / 'benchmarks').glob('*.json'))
CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    "No photos, and one thread, also in the processes that a part starts; the number of threads is given back."
    monkeypatch.setenv('UNET_COURSE_DATA', 'nothing')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def report_of(folder, part):
    "The JSON of a part, after a look at what every JSON must have."
    report = json.loads((folder / f'{part}-cpu-tiny.json').read_text())
    check_report(report)
    assert (folder / f'{part}-cpu-tiny.md').read_text() == measuring.text_of(report)
    return report['comparisons']


def check_report(report):
    assert set(report) == {'part', 'title', 'device', 'processor', 'threads', 'clock', 'tiny', 'python', 'packages', 'comparisons'} and report['packages']['torch']
    for comparison in report['comparisons'].values():
        assert comparison['setting'] and comparison['rows'] and set(comparison) <= {'setting', 'rows', 'ratios', 'notes'}
        rows = {row['name']: row for row in comparison['rows']}
        assert len(rows) == len(comparison['rows'])
        for row in rows.values():
            if 'times' not in row: continue
            assert all(t > 0 for t in row['times']) and row['seconds'] == measuring.quartiles(row['times'])
            if 'images' in row: assert row['images_per_second'] == measuring.quartiles([row['images'] / t for t in row['times']])
        for found in comparison.get('ratios', []):
            assert found['ratio']['low'] <= found['ratio']['median'] <= found['ratio']['high'] and found['rounds'] >= 1
            if found['ours'] in rows and found['other'] in rows:
                again = measuring.ratio(rows[found['ours']], rows[found['other']], found['target'], found['what'])
                assert again == found


def run(tmp_path, *words):
    code = command.main([*words, '--tiny', '--device', 'cpu', '--threads', '1', '--out', str(tmp_path)])
    assert code == 0


def test_turns_alternate_and_the_first_does_not_count():
    seen = []
    times = measuring.take_turns({name: lambda name=name: seen.append(name) for name in 'ABC'}, CPU, rounds=4)
    assert ''.join(seen) == 5 * 'ABC' and all(len(t) == 4 for t in times.values())


def test_turns_end_when_the_time_is_up_but_three_are_made():
    times = measuring.take_turns({'A': lambda: None}, CPU, rounds=1000, seconds=0)
    assert len(times['A']) == 3


def test_ratio_is_taken_round_by_round_and_by_image():
    ours, other = measuring.row('a', [1., 2., 4.], 10), measuring.row('b', [3., 2., 20.], 20)
    found = measuring.ratio(ours, other, target=1.3)
    assert found['ratio']['median'] == 1.5 and (found['ratio']['low'], found['ratio']['high']) == (1.0, 2.0) and found['rounds'] == 3
    assert measuring.ratio(measuring.row('a', [1.]), measuring.row('b', [2.5]))['ratio']['median'] == 2.5
    assert measuring.row('a', [2., 2., 2.], 64)['images_per_second']['median'] == 32


def test_a_command_is_charged_with_its_own_memory():
    ballast = torch.ones(300 * 2**18)  # 300 MiB of ours
    result = measuring.run_process([measuring.sys.executable, '-c', 'print("hello")'])
    assert 0 < result['peak_mb'] < 200 and result['output'].strip() == 'hello' and 0 < result['seconds'] < 60 and len(ballast)
    with pytest.raises(RuntimeError, match='ended with 3: so it is'): measuring.run_process([measuring.sys.executable, '-c', 'print("so it is"); raise SystemExit(3)'])


def test_data(tmp_path):
    run(tmp_path, 'data')
    found = report_of(tmp_path, 'data')
    for name in ('128x128 files', 'native-size files'):
        assert [r['name'] for r in found[name]['rows']][:3] == ['ours', 'torchvision, 0 workers', 'torchvision, 2 workers']
        assert sum(r['target'] == 10 for r in found[name]['ratios']) == 1
    assert 0 < found['share of a training step, AMP off']['rows'][0]['percent_of_both'] < 100


def test_step_and_limit(tmp_path):
    pytest.importorskip('monai', reason='pip install "unet_course[bench]"')
    run(tmp_path, 'step', 'limit')
    found, limit = report_of(tmp_path, 'step'), report_of(tmp_path, 'limit')
    assert {r['name'] for r in found['modes, fp32']['rows']} == {'mp-tr', 'mp-ups', 'str_conv-tr', 'str_conv-ups'}
    ours, plain = found['peers, fp32']['rows'][:2]
    assert ours['gflop_per_image'] <= plain['gflop_per_image'] <= 1.5 * ours['gflop_per_image']
    for row in found['equality']['rows'][:2]: assert row['error_of_first_logits'] < 1e-4 and row['error_of_first_loss'] < 1e-5
    assert 0 < limit['ceiling, fp32, width 4']['rows'][0]['percent_of_ceiling']['median'] < 100
    groups = [r for r in limit['profile, fp32']['rows'] if r['name'].startswith('**')]
    assert sum(r['percent'] for r in groups) == pytest.approx(100, abs=1)


@pytest.mark.slow
def test_job(tmp_path):
    run(tmp_path, 'job', 'start')
    found = report_of(tmp_path, 'job')
    small = {r['name']: r for r in found['small commands']['rows']}
    assert small['import unet_course']['seconds']['median'] < small['import torch, for comparison']['seconds']['median']
    assert [r['target'] for r in found["the original's way, 128x128 files"]['ratios']] == [2.5, None, None]
    first = {r['name']: r['times'][0] for r in report_of(tmp_path, 'start')['first results']['rows']}
    assert 0 < first['import torch'] < first['run, to the first training step'] < 20 * first['import torch']


def test_profiles_of_the_recipes():
    from benchmarks import quality
    found = quality.profiles(torch.device('cpu'), True, 32)
    assert {'name', *(f'{name}, percent' for name in (quality.OURS, *quality.OLD))} == found['rows'][0].keys() and found['rows'][0]['name'] == 'aten::convolution_backward'
    assert all(0 < sum(r[f'{name}, percent'] for r in found['rows']) <= 100 for name in (quality.OURS, *quality.OLD))


@pytest.mark.slow
def test_growth(tmp_path):
    run(tmp_path, 'growth')
    found = report_of(tmp_path, 'growth')
    assert [r['name'] for r in found['image size']['rows']] == ['size 32', 'size 48'] and len(found['processes']['rows']) == 3


def test_what_is_done_is_not_measured_again_and_another_machine_is_refused(tmp_path, monkeypatch):
    from benchmarks import data
    calls = []
    monkeypatch.setattr(data, 'comparisons', lambda device, tiny: [(name, lambda name=name: calls.append(name) or dict(setting='here', rows=[measuring.row(name, [1.])])) for name in 'ab'])
    run(tmp_path, 'data', '--only', 'a')
    run(tmp_path, 'data')
    assert calls == ['a', 'b'] and list(report_of(tmp_path, 'data')) == ['a', 'b']
    assert command.main(['data', '--tiny', '--device', 'cpu', '--threads', '1', '--out', str(tmp_path), '--fresh', '--minutes', '-1']) == 3
    monkeypatch.setattr(measuring, 'processor', lambda: 'another')
    with pytest.raises(ValueError, match='processor'): run(tmp_path, 'data')


@pytest.mark.parametrize('path', KEPT, ids=lambda p: p.stem)
def test_kept_tables_are_made_from_the_kept_json(path):
    text = path.read_text(encoding='utf-8')
    report = json.loads(text)
    check_report(report)
    assert path.with_suffix('.md').read_text(encoding='utf-8') == measuring.text_of(report) and not report['tiny']
    assert not any(word in text for word in ('/home/', '/tmp/', '/root/', '/work/'))
