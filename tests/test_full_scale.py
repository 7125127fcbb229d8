"""tools/full_scale.py: the order, the archives, the end in time, and that nothing finished is lost when it is killed."""
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import ROOT
from runs import KillAtEvent
from unet_course.data import course_split
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import EXPERIMENTS, FACTORIAL, PROTOCOLS
from unet_course.prediction import load_weights
from unet_course.runs import runner
from unet_course.support.files import CourseError

sys.path.insert(0, str(ROOT / 'tools'))
import full_scale  # noqa: E402
from full_scale import Archives, Probe, Series, plan  # noqa: E402

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='benchmarks.step reads page faults, which Windows has not')
CUDA = torch.device('cuda')
TINY = ['--tiny', '--device', 'cpu']


def test_the_order_of_the_runs():
    groups, best = plan(best=FACTORIAL[3]), FACTORIAL[3]
    assert [*groups] == ['factorial', 'published', 'long', 'seed2', 'border', 'shipped']
    found = {name: [(c.variant, c.seed) for c in configs] for name, configs in groups.items()}
    four = [*EXPERIMENTS.values()]
    assert found['factorial'] == [(v, seed) for seed in (0, 1) for v in FACTORIAL] and found['seed2'] == [(v, 2) for v in FACTORIAL]
    assert found['published'] == [(v, 0) for v in four] and found['long'] == [(v, 0) for v in [*four, best]]
    assert found['border'] == [(v, 0) for v in four[:2]] and found['shipped'] == [(v, 0) for v in FACTORIAL]
    assert len(plan(best=four[0])['long']) == len(plan()['long']) == 4
    def settings(field): return {name: {field(c.setting) for c in configs} for name, configs in groups.items()}
    assert set().union(*settings(lambda s: (s.data, s.size)).values()) == {('pets', 128)}
    assert settings(lambda s: s.width) == {name: {16 if name == 'shipped' else 64} for name in groups}
    epochs = settings(lambda s: s.recipe.epochs)
    assert epochs['factorial'] == epochs['seed2'] == {PROTOCOLS['course'].epochs} and epochs['published'] == {PROTOCOLS['published'].epochs}
    assert epochs['long'] == epochs['border'] == epochs['shipped'] == {60}
    for configs in groups.values():
        for c in configs: assert c.setting.recipe == replace(PROTOCOLS[c.setting.protocol], epochs=c.setting.recipe.epochs)
    assert settings(lambda s: s.border)['border'] == {'pet'}


def test_on_a_gpu_the_published_runs_are_fp16_and_the_others_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: True)
    kinds = {name: {runner.choose_format(c.setting, CUDA) for c in configs} for name, configs in plan().items()}
    assert kinds == {name: {torch.float16 if name == 'published' else torch.bfloat16} for name in kinds}


def test_the_best_variant_is_that_of_the_validation_images_when_all_are_done():
    def run(variant, score, test, done=True): return SimpleNamespace(done=done, config=dict(variant=variant.id), metrics=dict(val=dict(iou_threshold=score), test=dict(iou_threshold=test)))
    runs = [run(v, .7 + .01 * k, .9 - .01 * k) for _ in range(2) for k, v in enumerate(FACTORIAL)]
    assert full_scale.best_variant(runs) == FACTORIAL[-1]
    assert full_scale.best_variant(runs + [run(FACTORIAL[0], .9, .9, done=False)]) is None


def packed(folder) -> dict:
    "Name and content of everything in the archives of a folder, each of them read whole."
    found = {}
    for path in sorted(folder.glob('runs-*.zip')):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None and len(set(archive.namelist())) == len(archive.namelist())
            for name in archive.namelist():
                assert name not in found
                found[name] = archive.read(name)
    return found


def test_archives_fill_up_and_stay_below_their_limit(tmp_path):
    noise, limit = np.random.default_rng(0), 20_000
    archives, kept = Archives(tmp_path, part=limit, parts=3), {}
    for k, size in enumerate([8000, 8000, 9000, 1000, 15_000, 6000]):
        path = tmp_path / f'file{k}'
        path.write_bytes(noise.bytes(size))
        archives.add({f'run{k}/metrics.json': path, f'run{k}/config.json': path})  # twice: of no use to the packer
        kept |= {f'run{k}/{name}': path.read_bytes() for name in ('metrics.json', 'config.json')}
        assert packed(tmp_path) == kept and all(p.stat().st_size <= limit for p in tmp_path.glob('*.zip'))
        if k == 3: break
    before = packed(tmp_path)
    for size in (15_000, 12_000):  # 30 and 24 KB: more than an archive, and more than is left
        path.write_bytes(noise.bytes(size))
        with pytest.raises(CourseError, match='no room for late/metrics.json'): archives.add({'late/metrics.json': path, 'late/config.json': path})
    assert packed(tmp_path) == before and len(list(tmp_path.glob('*.zip*'))) == 3
    full_scale.Archives(tmp_path).unpack(tmp_path / 'out')
    assert {p.relative_to(tmp_path / 'out').as_posix(): p.read_bytes() for p in (tmp_path / 'out').rglob('*.json')} == before
    (tmp_path / 'runs-1.zip').write_bytes((tmp_path / 'runs-1.zip').read_bytes()[:-50])
    with pytest.raises(CourseError, match='runs-1.zip: damaged'): full_scale.Archives(tmp_path).unpack(tmp_path / 'again')


def test_what_comes_back_is_few_and_small():
    assert full_scale.PARTS + 3 <= 8 and full_scale.PART < 16 * 2**20 and full_scale.PARTS * full_scale.PART < 63 * 2**20


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_killed_at_any_moment_of_packing_no_packed_run_is_lost(tmp_path):
    source, out = tmp_path / 'metrics.json', tmp_path / 'out'
    source.write_text('{}')
    out.mkdir()
    Archives(out).add({'first/metrics.json': source})
    for event in range(1, 10):
        before, child = packed(out), os.fork()
        if child == 0:
            try:
                KillAtEvent(event, out)()
                Archives(out).add({f'run{event}/metrics.json': source})
            finally: os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        after = packed(out)
        assert before.items() <= after.items() and len(after) <= len(before) + 1
        if not killed: break
    assert event > 2 and f'run{event}/metrics.json' in after  # it was killed before the file was written, before it was renamed, and then not any more


@pytest.fixture(scope='module')
def pictures():
    pets = synthetic_pets(40, size=32, seed=3)
    return pets, course_split(pets)


def series(pictures, rates, seconds_left):
    "A series on synthetic pets that has not begun, with these seconds an image by (protocol, width)."
    made = object.__new__(Series)
    made.words = SimpleNamespace(tiny=True, groups=[*plan()])
    made.scratch, made.workers, made.done, made.failed = full_scale.ROOT / 'nowhere', [], set(), {}
    made.rates, made.probed, made.data = rates, {}, dict(course=pictures, published=pictures)
    made.end = time.monotonic() + seconds_left
    return made


def test_only_runs_that_end_in_time_are_started_the_first_of_the_order_first(pictures):
    short, long = (plan(tiny=True)[name][0] for name in ('factorial', 'long'))
    images = {config.folder: runner.images_of_run(config, pictures[1]) for config in (short, long)}
    assert images[long.folder] > 1.5 * images[short.folder]
    wide = ('course', 4)
    made = series(pictures, {wide: [1.0]}, 1000)
    assert made.next_run() == ('factorial', short) and made.seconds(long) == pytest.approx(1.1 * images[long.folder])
    made.done = {config.folder for name in ('factorial', 'published') for config in plan(tiny=True)[name]}
    assert made.next_run() == ('long', long)
    made.end = time.monotonic() + 1.15 * images[short.folder]  # too little for the long ones: a seed comes first
    assert made.next_run()[0] == 'seed2'
    made.end = time.monotonic() + images[short.folder]
    assert made.next_run() is None
    made.rates[wide] += [.5] * 6  # the slowest of the last six counts
    assert made.next_run()[0] == 'seed2'
    made.failed = {config.folder: 'why' for name in ('long', 'seed2', 'border') for config in plan(tiny=True)[name]}
    made.end = time.monotonic() + .56 * images[long.folder]
    assert made.next_run()[0] == 'shipped'  # of another width: as slow as the slowest kind


def test_the_step_is_timed_after_the_published_four_and_never_beside_a_long_run(pictures):
    made = series(pictures, {}, 1000)
    groups = plan(tiny=True)
    made.timer, made.warm = object(), True
    made.done = {config.folder for config in groups['factorial'] + groups['published'][1:]}
    assert not made.timing_is_due()
    short, = made.workers = [SimpleNamespace(busy=('published', groups['published'][0]))]
    assert made.timing_is_due()  # it has begun, and is waited for
    short.busy = 'long', plan()['long'][0]
    made.failed = {groups['published'][0].folder: 'why'}
    assert not made.timing_is_due()
    made.workers = []
    assert made.timing_is_due()
    made.end = time.monotonic() + full_scale.TIMING - 1
    assert not made.timing_is_due()
    made.end, made.warm = made.end + 100, False
    assert not made.timing_is_due()


def test_as_many_at_a_time_as_bring_something(pictures, monkeypatch):
    class Fake:
        total = {1: 100, 2: 150, 3: 152}
        def ask(self, what, value=None):
            if what == 'rate': asked.append(self)
        def answer(self): return True, self.total[len(asked)] / len(asked) if asked else None
        def end(self): ended.append(self)
    for total, best in ((Fake.total, 2), ({1: 100, 2: 99, 3: 140}, 3), ({1: 100, 2: 99, 3: 98}, 1)):
        asked, ended, Fake.total = [], [], total
        made = series(pictures, {}, 100)
        made.log = lambda line: asked.clear()
        made.workers = [Fake(), Fake(), Fake()]
        made.probe()
        assert len(made.workers) == best and len(ended) == 3 - best
        assert made.rates[None] == [pytest.approx(best / total[best])]  # one side only: every image is a whole one


def failing(message):
    "A worker that cannot."
    ended = []
    return SimpleNamespace(busy=None, ask=lambda *words: None, answer=lambda: (False, message), end=lambda: ended.append(1), ended=ended)


def test_a_failed_run_is_named_and_its_process_replaced(pictures, monkeypatch):
    made, said, fresh = series(pictures, {}, 100), [], SimpleNamespace(busy=None)
    made.log, made.write = said.append, lambda: None
    monkeypatch.setattr(Series, 'new_worker', lambda self: fresh)
    worker = failing('CUDA error: out of memory')
    group, config = worker.busy = made.next_run()
    made.workers = [worker]
    made.finish(worker)
    assert made.failed == {config.folder: 'CUDA error: out of memory'} and made.workers == [fresh] and worker.ended and 'out of memory' in said[0]
    assert made.next_run()[1] != config


def test_processes_that_cannot_train_beside_others_are_let_go(pictures):
    made, said = series(pictures, {}, 100), []
    made.log = said.append
    one = SimpleNamespace(busy=None, ask=lambda *words: None, answer=lambda: (True, 100), end=lambda: pytest.fail('ended'))
    bad = [failing('busy'), failing('busy')]
    made.workers = [one, *bad]
    made.probe()
    assert made.workers == [one] and all(worker.ended for worker in bad) and made.probed == {1: 100}
    made.workers = bad
    with pytest.raises(CourseError, match='a trial of .*mp-tr-bce.seed0 failed: busy'): made.probe()


def test_a_trial_trains_at_every_side_and_leaves_nothing(pictures):
    config = plan(tiny=True)['factorial'][0]
    recipe = replace(config.setting.recipe, epochs=2, sizes=(.5, 1), batch_size=8)
    pets = synthetic_pets(40, size=64, seed=3)
    probe = Probe(replace(config, setting=replace(config.setting, size=64, recipe=recipe)), pets, pictures[1], torch.device('cpu'))
    assert sorted(probe.trainer.data.resized) == [32, 64] and probe.turn(2) == 2 * 2 * 8
    assert probe.rate(.01) > 0 and probe.trainer.history == []


@pytest.fixture
def call(monkeypatch, capsys):
    "The command in this process (the training is in others all the same): its exit code and what it said."
    def run(out, *more):
        monkeypatch.setattr(full_scale, 'BEGAN', time.monotonic())
        monkeypatch.setattr(runner, 'SYNTHETIC_IMAGES', 60)  # the command sets it: afterwards it is what it was
        try: code = full_scale.main([*TINY, '--out', str(out), *more])
        except SystemExit as stop: code = stop.code
        return code, ''.join(capsys.readouterr())
    return run


def children(pid) -> list:
    return subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True, text=True).stdout.split()


@pytest.fixture
def no_workers(monkeypatch):
    "There is nothing for them to do."
    idle = SimpleNamespace(busy=None, end=lambda: None, ask=lambda *words: pytest.fail(f'asked to {words}'))
    return lambda: monkeypatch.setattr(Series, 'new_worker', lambda self: idle)


def runs_in(content: dict) -> set: return {name.rsplit('/', 1)[0] for name in content if name.endswith('/metrics.json')}


@pytest.mark.skipif(sys.platform != 'linux', reason='ps --ppid')
def test_killed_it_loses_no_finished_run_and_the_same_command_goes_on(tmp_path, call, no_workers):
    out, wanted = tmp_path / 'out', {c.folder.as_posix() for c in plan(tiny=True)['shipped']}
    first = subprocess.Popen([sys.executable, 'tools/full_scale.py', *TINY, '--out', out, '--minutes', '5', '--groups', 'shipped'], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if line.count('in runs-0.zip') and 'shipped' in line and 'dice' in line: break  # two are done, the third runs
    workers = children(first.pid)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = packed(out)
    assert 2 <= len(runs_in(before)) < len(wanted) and workers
    for run in runs_in(before): assert {f'{run}/{part}' for part in ('config.json', 'history.csv', 'metrics.json', 'evaluation.npz', 'best.pth')} <= before.keys()
    end = time.monotonic() + 30
    def runs(pid):
        try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'  # nobody may have asked how it ended
        except OSError: return False
    while alive := [pid for pid in workers if runs(pid)]:
        assert time.monotonic() < end, f'{alive} went on without the one that started them'
        time.sleep(.2)
    code, said = call(out, '--minutes', '5', '--groups', 'shipped,timing')
    after, account = packed(out), json.loads((out / 'full_scale.json').read_text())
    assert code == 0 and before.items() <= after.items() and runs_in(after) == wanted, said
    assert not any(f' {run} ' in said for run in runs_in(before))
    assert {run['run'] for run in account['runs']} == wanted and len(account['runs']) == len(wanted) and account['left'] == [] and account['failed'] == {}
    assert sorted(path.name for path in out.iterdir()) == ['full_scale.json', 'log.txt', 'runs-0.zip']
    limit = json.loads(after['benchmarks/limit-cpu-tiny.json'])['comparisons']['ceiling, bf16, width 4']
    assert [row['name'] for row in limit['rows']][-2:] == ['matmul', 'convolution'] and all('percent_of_ceiling' in row for row in limit['rows'][:-2])
    weights = tmp_path / 'best.pth'
    weights.write_bytes(after[f'{plan(tiny=True)["shipped"][0].folder.as_posix()}/best.pth'])
    state = torch.load(weights, weights_only=True)['state']
    assert state['head.weight'].dtype == torch.float16 and state['encoder.0.1.running_var'].dtype == torch.float32
    assert load_weights(weights)[1]['variant'] == FACTORIAL[0].id

    small = tmp_path / 'before'  # what may travel to a second call: what is in it is done
    small.mkdir()
    with zipfile.ZipFile(small / 'runs-0.zip', 'w') as archive:
        for name, content in after.items():
            if name.endswith(('config.json', 'metrics.json')): archive.writestr(name, content)
    no_workers()
    code, said = call(tmp_path / 'other', '--minutes', '5', '--groups', 'shipped', '--before', str(small))
    assert code == 0 and 'shipped:' not in said and packed(tmp_path / 'other') == {}


def test_it_ends_in_time_and_says_what_is_left(tmp_path, call):
    began = time.monotonic()
    code, said = call(tmp_path, '--minutes', '.25', '--groups', 'factorial')
    assert time.monotonic() - began < 30, said  # 15 are asked for; the machine may have other work
    account, content = json.loads((tmp_path / 'full_scale.json').read_text()), packed(tmp_path)
    done = {run['run'] for run in account['runs']}
    assert done == runs_in(content) and not done & set(account['left']) and not account['failed']
    assert done | set(account['left']) == {c.folder.as_posix() for c in plan(tiny=True)['factorial']}
    assert code == (3 if account['left'] else 0)


def test_archives_of_another_series_are_refused(tmp_path, call, no_workers):
    no_workers()
    config = plan(tiny=True)['published'][0]
    stored = json.dumps(dict(config=json.loads(json.dumps(config.to_dict())) | dict(width=5)))
    with zipfile.ZipFile(tmp_path / 'runs-0.zip', 'w') as archive:
        archive.writestr(f'{config.folder.as_posix()}/config.json', stored)
    code, said = call(tmp_path, '--minutes', '1')
    assert code == 2 and 'another series' in said and 'width: 5 there, 4 asked for' in said
