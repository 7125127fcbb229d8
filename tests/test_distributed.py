"""Several processes train one network: the same numbers where they must be the same, one writer, and no waiting for the dead."""
import csv
import json
import os
import subprocess
import sys
import time
from functools import partial
from unittest import mock

import pytest
import torch

from conftest import ROOT
from runs import Run, free_port, processes, result, run_folder, run_words
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.factory import create_model
from unet_course.losses import DiceLoss, WeightedBCE
from unet_course.support.device import Distributed, join_process_group, rank_and_world_size
from unet_course.training import Recipe, Trainer, TrainingData

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='kills processes and starts several that share a run as POSIX systems do')

class Both(torch.nn.Module):
    "A loss without sums of its own: a mean over the images, as a reader may write one."
    def forward(self, logits, targets): return WeightedBCE()(logits, targets) + DiceLoss(per_image=True)(logits, targets)


CASES = {  # 21 images in batches of 5: the last one has fewer images than there are processes
    'bce': (partial(WeightedBCE, 3.0), 'background'), 'bce, border ignored': (partial(WeightedBCE, 3.0), 'ignore'),
    'dice per image': (partial(DiceLoss, per_image=True), 'background'), 'dice per image, border ignored': (partial(DiceLoss, per_image=True), 'ignore'),
    'a loss without sums': (Both, 'background'), 'dice': (DiceLoss, 'background'), 'dice, border ignored': (DiceLoss, 'ignore')}


def freeze_norms(model):
    "Batch norm in evaluation mode for good: the one layer whose result depends on who else is in the batch."
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True: None
    return model


def plain_descent(model, recipe, *_):
    "SGD: Adam divides a gradient by its own size, so where that is almost zero it makes whole steps of the rounding, which differs from processor to processor."
    return torch.optim.SGD(model.parameters(), lr=recipe.lr), None


@mock.patch('unet_course.training.make_optimizer', plain_descent)
def train(case):
    "20 steps in fp32: the weights before and after, and the history."
    loss, border = CASES[case]
    pets = synthetic_pets(24, size=32, seed=1)
    split = dict(train=torch.arange(21), val=torch.arange(21, 24))
    trainer = Trainer(freeze_norms(create_model(dict(base_width=4, depth=2), seed=0)), loss(), TrainingData(pets, split, border),
                      Recipe(epochs=4, batch_size=5, lr=.05, schedule='none'), [Distributed()] if rank_and_world_size()[1] > 1 else [])
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.fit()
    assert trainer.steps == 5 and sum(row['skipped_steps'] for row in trainer.history) == 0
    keep = ('train_loss', 'train_accuracy', 'val_loss', 'val_iou', 'val_accuracy')
    return dict(before=before, after=trainer.model.state_dict(), history=[[row[k] for k in keep] for row in trainer.history])


def one_of_two(rank, port, file):
    "What each of two processes does, started as torchrun starts them."
    os.environ.update(WORLD_SIZE='2', RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    join_process_group(torch.device('cpu'))
    results = {case: train(case) for case in CASES}
    torch.save(results, f'{file}{rank}')
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    "The results of both processes, and of a single one."
    file, port = tmp_path_factory.mktemp('pair') / 'rank', free_port()
    started = [processes.Process(target=one_of_two, args=(rank, port, file)) for rank in range(2)]
    for process in started: process.start()
    end = time.monotonic() + 120
    for process in started: process.join(max(1, end - time.monotonic()))
    codes = [process.exitcode for process in started]
    for process in started: process.kill()
    assert codes == [0, 0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    single = {case: train(case) for case in CASES}
    torch.set_num_threads(threads)
    return torch.load(f'{file}0'), torch.load(f'{file}1'), single


def distance(a, b): return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


@pytest.mark.parametrize('case', list(CASES))
def test_two_processes_make_the_steps_of_one(pair, case):
    first, second, single = (results[case] for results in pair)
    assert distance(single['before'], single['after']) > 5e-3  # 20 steps went somewhere
    assert distance(first['after'], second['after']) == 0
    assert distance(first['after'], single['after']) < 1e-5
    for a, b in zip(first['history'], single['history']): assert a == pytest.approx(b, abs=1e-5)
    assert first['history'] == second['history']


def test_the_mean_of_the_halves_is_not_the_whole():
    "Why the sums are added first: without it the losses over a batch would be others."
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, 1, 8, 8, generator=generator), (torch.rand(4, 1, 8, 8, generator=generator) > 0.5).byte()
    targets[:2, :, 2:] = 255
    for loss in (DiceLoss(), WeightedBCE()):
        halves = (loss(logits[:2], targets[:2]) + loss(logits[2:], targets[2:])) / 2
        assert abs(halves - loss(logits, targets)) > 1e-3


class Watch:
    "Notes every file below a folder that this process writes, renames, removes or makes."
    def __init__(self, out, notes): self.out, self.notes = str(out), str(notes)

    def __call__(self):
        def hook(event, args):
            if event not in ('open', 'os.rename', 'os.remove', 'os.mkdir') or not str(args[0]).startswith(self.out): return
            if event == 'open' and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)): return
            with open(self.notes, 'a') as file: file.write(f'{event} {args[0]}\n')
        sys.addaudithook(hook)


def start_two(words, folder, notes):
    "The command in two processes, as torchrun starts them."
    port = free_port()
    return [Run(words, folder / f'log{rank}', prepare=Watch(folder, f'{notes}{rank}'),
                environment=dict(WORLD_SIZE='2', RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))) for rank in range(2)]


def test_the_command_in_two_processes_writes_once_and_goes_on_after_a_kill(tmp_path):
    notes = tmp_path / 'notes'  # beside the folders watched
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    whole = start_two(run_words(tmp_path / 'a/out'), tmp_path / 'a', notes)
    assert [run.code() for run in whole] == [0, 0], whole[0].said() + whole[1].said()
    wrote = [[line for line in open(f'{notes}{rank}') if '/out/' in line] if os.path.exists(f'{notes}{rank}') else [] for rank in range(2)]
    assert len(wrote[0]) > 10 and wrote[1] == []
    assert '| Experiment |' in whole[0].said() and whole[1].said() == ''
    for text in ('epoch 1/2', 'epoch 2/2'):
        killed = start_two(run_words(tmp_path / 'b/out'), tmp_path / 'b', notes)
        assert killed[0].wait_for(text) or text == 'epoch 2/2'
        for run in killed: run.kill()
    done = start_two(run_words(tmp_path / 'b/out'), tmp_path / 'b', notes)
    assert [run.code() for run in done] == [0, 0], done[0].said() + done[1].said()
    assert result(tmp_path / 'a/out') == result(tmp_path / 'b/out')


def test_what_happens_on_the_way_out_does_not_end_a_run_badly(tmp_path):
    "PyTorch leaves threads of a process group behind, which now and then abort the process when Python takes itself down."
    code = "import atexit, os, sys; atexit.register(os.abort); from unet_course import cli; cli.main(sys.argv[1:])"
    port, words = free_port(), [str(word) for word in run_words(tmp_path / 'out')]
    both = [subprocess.Popen([sys.executable, '-c', code, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | dict(
        WORLD_SIZE='2', RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), OMP_NUM_THREADS='1')) for rank in range(2)]
    said = [run.communicate(timeout=300)[0] for run in both]
    assert [run.returncode for run in both] == [0, 0], said
    assert '| Experiment |' in said[0] and said[1] == ''


def test_an_error_in_the_first_process_ends_both(tmp_path):
    (folder := tmp_path / 'a/out/synthetic-course-w4-32px-2ep/mp-tr-dice/seed0').mkdir(parents=True)
    (folder / 'config.json').write_text('{')
    both = start_two(run_words(tmp_path / 'a/out'), tmp_path / 'a', tmp_path / 'notes')
    assert [run.code(60) for run in both] == [2, 2]
    assert all('config.json: damaged' in run.said() and 'Traceback' not in run.said() for run in both)


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['exp1', 'exp2'])
def test_torchrun_agrees_with_one_process_within_two_points(tmp_path, variant, capsys):
    "With ordinary batch norm, each process normalising by its half of the batch."
    words = ['-m', 'unet_course', 'run', *f'--data synthetic --variants {variant} --width 8 --size 32 --epochs 24 --amp off --device cpu'.split()]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    torchrun = ['-m', 'torch.distributed.run', '--nproc-per-node=2', '--master-addr=127.0.0.1', f'--master-port={free_port()}']
    two = subprocess.run([sys.executable, *torchrun, *words, '--out', tmp_path / 'two'], cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert two.returncode == 0, two.stderr
    one = subprocess.run([sys.executable, *words, '--out', tmp_path / 'one'], cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert one.returncode == 0, one.stderr
    scores = []
    for name in ('one', 'two'):
        with open(run_folder(tmp_path / name) / 'history.csv', newline='') as file: scores.append([float(row['val_iou']) for row in csv.DictReader(file)])
        json.loads((run_folder(tmp_path / name) / 'metrics.json').read_text())
    with capsys.disabled(): print(f'\n{variant}: validation IoU by epoch, one process {[round(x, 3) for x in scores[0]]}, two {[round(x, 3) for x in scores[1]]}')
    assert abs(scores[0][-1] - scores[1][-1]) < 0.02
