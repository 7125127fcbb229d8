"""Runs that are killed, starved of disk, given damaged files or started twice: they go on as if nothing had happened, or say in one line what to do."""
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from conftest import ROOT
from unet_course.support.files import CourseError
from runs import KillAtEvent, Run, Slow, SmallDisk, result, run_folder, run_words

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='kills processes and starts several that share a run as POSIX systems do')

STARTED = 'mp-tr-dice/seed0'  # the line a run says when its training begins


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The run that nobody disturbed: what it made, how long its training took, and the file events of its life."
    folder = tmp_path_factory.mktemp('whole')
    run = Run(run_words(folder / 'out'), folder / 'log', prepare=KillAtEvent(0, folder / 'out', folder / 'events'))
    assert run.wait_for(STARTED)
    start = time.monotonic()
    assert run.code() == 0, run.said()
    return dict(result=result(folder / 'out'), seconds=time.monotonic() - start, events=(folder / 'events').read_text().splitlines())


def finish(out, log, whole, *more):
    "Give the same command again: it must end well, and with the result of the undisturbed run."
    run = Run(run_words(out, *more), log)
    assert run.code() == 0, run.said()
    assert result(out) == whole['result']
    return run.said()


def half_done(out, log):
    "A run killed in the middle of its second epoch; returns its checkpoint."
    run = Run(run_words(out), log, prepare=Slow())
    assert run.wait_for('epoch 1/2')
    os.kill(run.process.pid, signal.SIGSTOP)  # not a step further
    assert run.kill()
    return run_folder(out) / 'last.ckpt'


def one_error(text):
    "The error line, which must be the only one that is no part of the normal talk."
    assert 'Traceback' not in text, text
    line, = [line for line in text.splitlines() if 'error' in line]
    return line


def kill_often(start, count, whole, tmp_path, said=STARTED):
    "Start, kill at a random instant of the training, start again, until `count` kills; every run that came to its end is compared."
    draws, killed, ended, number = random.Random(0), 0, 0, 0
    while killed < count or number:
        out = tmp_path / f'out{ended}'
        run = start(out, tmp_path / 'log')
        assert run.wait_for(said), run.said()
        if killed < count:
            time.sleep(draws.uniform(0, 0.6 * whole['seconds']))
            if run.kill():
                killed, number = killed + 1, number + 1
                continue
        assert run.code() == 0, run.said()
        assert result(out) == whole['result']
        ended, number = ended + 1, 0
    return killed, ended


def test_killed_at_three_random_instants(whole, tmp_path):
    killed, ended = kill_often(lambda out, log: Run(run_words(out), log), 3, whole, tmp_path)
    assert killed == 3 and ended >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_random_instants(whole, tmp_path, capsys):
    killed, ended = kill_often(lambda out, log: Run(run_words(out), log), 20, whole, tmp_path)
    with capsys.disabled(): print(f'\n{killed} kills survived, {ended} runs came to their end')
    assert killed == 20 and ended >= 1


def killed_at(n, whole, tmp_path):
    out = tmp_path / f'out{n}'
    run = Run(run_words(out), tmp_path / 'log', prepare=KillAtEvent(n, out))
    assert run.code() == -signal.SIGKILL, run.said()
    finish(out, tmp_path / 'log', whole)


def test_killed_while_the_results_are_written(whole, tmp_path):
    "The last events: weights, evaluation, history, metrics, and the checkpoint that goes."
    assert whole['events'][-1] == 'os.remove last.ckpt' and 'os.rename best.pth.partial' in whole['events']
    metrics = whole['events'].index('os.rename metrics.json.partial') + 1
    for n in (metrics, len(whole['events'])): killed_at(n, whole, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_file_event(whole, tmp_path, capsys):
    for n in range(1, len(whole['events']) + 1): killed_at(n, whole, tmp_path)
    with capsys.disabled(): print(f'\nkilled once at each of {len(whole["events"])} file events')


@pytest.mark.slow
def test_the_real_command_in_a_real_process(tmp_path):
    "No driver, all 600 synthetic pets: killed three times, against the run that was never killed."
    words = [sys.executable, '-m', 'unet_course', 'run', *'--data synthetic --width 4 --size 32 --epochs 2 --checkpoint-minutes 0 --variants exp1 --amp off --device cpu'.split()]
    start = lambda out: subprocess.Popen([*words, '--out', out], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert start(tmp_path / 'whole').wait(300) == 0
    draws = random.Random(1)
    for _ in range(3):
        process = start(tmp_path / 'killed')
        for line in process.stdout:
            if line.startswith('synthetic-course'): break
        time.sleep(draws.uniform(0, 1.5))
        process.kill()
        process.communicate()
    process = start(tmp_path / 'killed')
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and ('continuing at epoch' in said or 'done before' in said)
    assert result(tmp_path / 'killed') == result(tmp_path / 'whole')


def test_a_full_disk_leaves_the_last_checkpoint(whole, tmp_path):
    checkpoint = half_done(tmp_path / 'out', tmp_path / 'log')
    before = checkpoint.read_bytes()
    run = Run(run_words(tmp_path / 'out'), tmp_path / 'log', prepare=SmallDisk(len(before) // 3))
    assert run.code() == 2, run.said()
    line = one_error(run.said())
    assert 'last.ckpt: could not be written' in line and 'untouched' in line and 'repeat the command' in line and 'leave out --fresh' in line
    assert checkpoint.read_bytes() == before
    finish(tmp_path / 'out', tmp_path / 'log', whole)


def test_a_full_disk_at_the_first_file(tmp_path):
    run = Run(run_words(tmp_path / 'out'), tmp_path / 'log', prepare=SmallDisk(10**5))
    assert run.code() == 2 and 'last.ckpt: could not be written' in run.said() and 'Traceback' not in run.said()
    assert sorted(p.name for p in run_folder(tmp_path / 'out').iterdir() if p.name != '.lock') == ['config.json']


def test_ctrl_c_in_a_real_process_loses_no_step(whole, tmp_path):
    "The signal reaches a process of its own in the middle of its work; no time for a checkpoint but the one that it asks for."
    words = [*run_words(tmp_path / 'out'), '--checkpoint-minutes', '60']
    run = Run(words, tmp_path / 'log', prepare=Slow())
    assert run.wait_for('epoch 1/2')
    os.kill(run.process.pid, signal.SIGINT)
    assert run.code() == 130, run.said()
    assert 'stopping after this step' in run.said() and 'the same command goes on where it was' in run.said()
    state = torch.load(run_folder(tmp_path / 'out') / 'last.ckpt', weights_only=True)
    again = Run(words, tmp_path / 'log')
    assert again.code() == 0, again.said()
    if state['epoch'] < 2: assert f"continuing at epoch {state['epoch'] + 1}, step {state['step'] + 1}" in again.said()
    assert result(tmp_path / 'out') == whole['result']


def test_torn_and_foreign_checkpoints_say_what_to_do(whole, tmp_path):
    checkpoint = half_done(tmp_path / 'out', tmp_path / 'log')
    good = checkpoint.read_bytes()
    for bad in (good[:len(good) // 2], b'', b'not a checkpoint'):
        checkpoint.write_bytes(bad)
        run = Run(run_words(tmp_path / 'out'), tmp_path / 'log')
        assert run.code() == 2, run.said()
        line = one_error(run.said())
        assert 'last.ckpt' in line and 'cannot be read' in line and '--fresh' in line
        assert checkpoint.read_bytes() == bad
    # What a kill can leave is a torn .partial, and that harms nobody.
    checkpoint.write_bytes(good)
    checkpoint.with_name('last.ckpt.partial').write_bytes(good[:1000])
    assert 'continuing at epoch' in finish(tmp_path / 'out', tmp_path / 'log', whole)


def test_fresh_starts_over_whatever_is_there(whole, tmp_path):
    checkpoint = half_done(tmp_path / 'out', tmp_path / 'log')
    checkpoint.write_bytes(b'torn')
    (checkpoint.parent / 'config.json').write_text('{')
    said = finish(tmp_path / 'out', tmp_path / 'log', whole, '--fresh')
    assert 'continuing' not in said


@pytest.mark.parametrize('text', ['{', '[]', '3', '{"config": 3}', '\udc80'])
def test_a_damaged_config_is_named(tmp_path, text):
    folder = tmp_path / 'synthetic-course-w4-32px-1ep/mp-tr-dice/seed0'
    folder.mkdir(parents=True)
    (folder / 'config.json').write_bytes(text.encode(errors='surrogateescape'))
    from unet_course.data import course_split
    from unet_course.datasets.synthetic import synthetic_pets
    from unet_course.experiments import make_configs, parse_variants
    from unet_course.runs.runner import run
    pets = synthetic_pets(10, size=32)
    config, = make_configs(parse_variants('exp2'), data='synthetic', width=4, size=32, epochs=1)
    with pytest.raises(CourseError, match='config.json: damaged.*--fresh') as error: run(config, pets, course_split(pets), tmp_path)
    assert '\n' not in str(error.value)


def test_another_config_is_refused_with_the_fields(whole, tmp_path):
    checkpoint = half_done(tmp_path / 'out', tmp_path / 'log')
    before = checkpoint.read_bytes()
    run = Run(run_words(tmp_path / 'out', '--batch-size', '8', '--amp', 'bf16'), tmp_path / 'log')
    assert run.code() == 2
    line = one_error(run.said())
    assert 'recipe.batch_size: 4 there, 8 asked for' in line and 'amp: off there, bfloat16 asked for' in line and '--fresh' in line and 'recipe.lr' not in line
    assert checkpoint.read_bytes() == before
    finish(tmp_path / 'out', tmp_path / 'log', whole)


def test_a_checkpoint_of_another_recipe_is_refused_even_without_a_config(tmp_path):
    from unet_course.data import course_split
    from unet_course.datasets.synthetic import synthetic_pets
    from unet_course.factory import create_model
    from unet_course.losses import DiceLoss
    from unet_course.runs.callbacks import Checkpoint
    from unet_course.support.files import TrainingError
    from unet_course.training import Recipe, Trainer, TrainingData
    pets = synthetic_pets(10, size=32)
    make = lambda width=2, seed=0, **recipe: Trainer(create_model(dict(base_width=width, depth=1), seed=0), DiceLoss(), TrainingData(pets, course_split(pets)), Recipe(epochs=1, **recipe),
                                                     [Checkpoint(tmp_path / 'last.ckpt')], seed)
    make().fit()
    with pytest.raises(TrainingError, match=r'lr: 0\.003 there, 0\.1 asked for'): make(lr=0.1).fit()
    with pytest.raises(TrainingError, match='seed: 0 there, 1 asked for'): make(seed=1).fit()
    with pytest.raises(TrainingError, match='of another network.*--fresh'): make(width=3).fit()
    make().fit()


def test_one_process_a_run_folder(whole, tmp_path):
    first = Run(run_words(tmp_path / 'out'), tmp_path / 'log1', prepare=Slow())
    assert first.wait_for(STARTED)
    os.kill(first.process.pid, signal.SIGSTOP)  # alive, and holding the lock
    try:
        second = Run(run_words(tmp_path / 'out'), tmp_path / 'log2')
        assert second.code() == 2
        assert 'another process is training this run' in one_error(second.said())
        third = Run(run_words(tmp_path / 'out', '--fresh'), tmp_path / 'log3')  # --fresh is no key to somebody else's run
        assert third.code() == 2
    finally: assert first.kill()
    finish(tmp_path / 'out', tmp_path / 'log2', whole)  # the lock died with its holder


# Trouble in the numbers, through the whole command.

def call(capsys, *words):
    from unet_course.cli import main
    with pytest.raises(SystemExit) as stop: main([str(w) for w in words])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr('unet_course.runs.runner.SYNTHETIC_IMAGES', 24)


@pytest.mark.parametrize('poison', [float('nan'), float('inf')])
def test_numbers_that_are_not_finite_stop_the_run_and_keep_the_state_before(whole, tmp_path, capsys, monkeypatch, few, poison):
    from unet_course import training
    threads, step, files = torch.get_num_threads(), training.train_step, []  # the other run had one thread
    def poisoned(model, loss_function, images, *rest):
        checkpoint = run_folder(tmp_path) / 'last.ckpt'
        files.append(checkpoint.read_bytes())
        return step(model, loss_function, images * (poison if len(files) == 8 else 1), *rest)  # in the third step of the second epoch
    torch.set_num_threads(1)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(training, 'train_step', poisoned)
            code, out, err = call(capsys, *run_words(tmp_path))
        assert code == 2 and 'not finite' in one_error(err) and 'learning rate' in err and 'epoch 1/2' in out
        assert len(files) == 8 and (run_folder(tmp_path) / 'last.ckpt').read_bytes() == files[-1] != files[-2]
        state = torch.load(run_folder(tmp_path) / 'last.ckpt', weights_only=True)
        assert (state['epoch'], state['step']) == (1, 2) and all(torch.isfinite(v).all() for v in state['model'].values())
        code, out, err = call(capsys, *run_words(tmp_path))
        assert code == 0 and 'continuing at epoch 2, step 3' in out
    finally: torch.set_num_threads(threads)
    assert result(tmp_path) == whole['result']


class Flat(torch.nn.Module):
    "Pulls every pixel to 'pet'."
    def forward(self, logits, targets): return (logits.float() - 20).square().mean()


def test_one_class_stops_the_command_unless_told_to_go_on(tmp_path, capsys, monkeypatch, few):
    from unet_course import experiments
    from unet_course.runs import runner
    monkeypatch.setattr(runner, 'make_loss', lambda name, **options: Flat())
    monkeypatch.setitem(experiments.PROTOCOLS, 'course', experiments.Recipe(lr=0.2, schedule='none', max_grad_norm=None))
    words = run_words(tmp_path, '--epochs', 9)
    code, out, err = call(capsys, *words)
    assert code == 2 and 'three epochs in a row with every pixel called pet' in one_error(err) and '--keep-going' in err
    assert out.count('every validation pixel is called pet') == 2 and 'after 1 epoch' not in out
    code, out, err = call(capsys, *words, '--keep-going')
    assert code == 0 and 'continuing at epoch' in out
    assert [row['one_class'] for row in result(tmp_path)['history']][-3:] == ['1'] * 3


def test_skipped_steps_are_counted_and_endless_skipping_stops(tmp_path, capsys, monkeypatch, few):
    from unet_course import training
    from unet_course.runs import runner
    monkeypatch.setattr(runner, 'choose_amp', lambda amp, device: torch.float16)
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, 'GradScaler', lambda device, enabled: scaler(device, enabled=enabled, init_scale=2.**20))
    code, out, err = call(capsys, *run_words(tmp_path / 'a', '--keep-going'))
    assert code == 0, err
    skipped = [int(row['skipped_steps']) for row in result(tmp_path / 'a')['history']]
    assert 1 <= skipped[0] <= skipped[1] < 10
    step = training.train_step
    monkeypatch.setattr(training, 'train_step', lambda model, loss, images, *rest: step(model, lambda *a: loss(*a) * float('nan'), images, *rest))
    monkeypatch.setattr(torch.amp, 'GradScaler', lambda device, enabled: scaler(device, enabled=enabled, init_scale=4.))
    code, out, err = call(capsys, *run_words(tmp_path / 'b'))
    assert code == 2 and 'not finite' in one_error(err)


# Same seed, same numbers.

@pytest.mark.parametrize('variant', ['mp-tr-bce', 'mp-tr-dice', 'mp-ups-bce', 'mp-ups-dice', 'str_conv-tr-bce', 'str_conv-tr-dice', 'str_conv-ups-bce', 'str_conv-ups-dice'])
def test_every_variant_is_the_same_bit_for_bit(tmp_path, variant):
    from unet_course.data import course_split
    from unet_course.datasets.synthetic import synthetic_pets
    from unet_course.experiments import make_configs, parse_variants
    from unet_course.runs.runner import run
    pets = synthetic_pets(20, size=32)
    configs = make_configs(parse_variants(variant), [0, 1], data='synthetic', width=4, size=32, epochs=1, batch_size=7)
    torch.manual_seed(len(variant))  # the global stream is nobody's business
    for out, config in (('a', configs[0]), ('b', configs[0]), ('c', configs[1])): run(config, pets, course_split(pets), tmp_path / out, log=lambda line: None)
    a, b, c = (result(tmp_path / out) for out in 'abc')
    assert a == b and a['state'] != c['state'] and a['history'] != c['history']


def test_damaged_results_are_named(tmp_path, capsys):
    folder = tmp_path / 'x/mp-tr-bce/seed0'
    folder.mkdir(parents=True)
    for config, metrics in (('{}', '{}'), ('{"config": {}}', '{"val": {}}'), ('[]', '[]'), ('{"config": 1}', '1'), ('', '{}')):
        (folder / 'config.json').write_text(config)
        (folder / 'metrics.json').write_text(metrics)
        code, out, err = call(capsys, 'table', tmp_path)
        assert code == 2 and err.count('\n') == 1 and 'seed0' in err and '--fresh' in err, (config, metrics)
