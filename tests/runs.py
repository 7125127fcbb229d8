"""A whole `unet-course` command in a process of its own, which a test can stop, kill, starve and watch."""
import csv
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
processes = multiprocessing.get_context('forkserver' if os.name == 'posix' else 'spawn')  # torch is imported once, by the server; each command is then a fork of it
if os.name == 'posix': processes.set_forkserver_preload(['unet_course.cli', 'unet_course.runs.runner', 'PIL.Image'])

SETTING = '--data synthetic --variants exp2 --width 4 --size 32 --epochs 2 --batch-size 4 --amp off --device cpu --checkpoint-minutes 0'.split()
IMAGES = 24  # of these 17 train: 5 steps an epoch, the last of one image
CLOCK = ('seconds', 'processor_seconds', 'images_per_second', 'peak_memory_mb')  # columns of the history that may differ


def command(words, log, images, environment, prepare):
    "What the child process does: the command, with its output in the file `log`."
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1), os.dup2(file, 2)
    os.environ.update(environment)
    import torch
    torch.set_num_threads(1)
    from unet_course import cli
    from unet_course.runs import runner
    runner.SYNTHETIC_IMAGES = images
    if prepare: prepare()
    cli.main([str(word) for word in words])


class Run:
    "A command that has been started."
    def __init__(self, words, log, images=IMAGES, environment={}, prepare=None):
        self.log = Path(log)
        self.log.unlink(missing_ok=True)
        self.process = processes.Process(target=command, args=(words, self.log, images, environment, prepare))
        self.process.start()

    def said(self) -> str: return self.log.read_text(errors='replace') if self.log.exists() else ''

    def wait_for(self, text, seconds=120) -> bool:
        "True when the command has said `text`; False if it ended without."
        end = time.monotonic() + seconds
        while text not in self.said():
            if not self.process.is_alive(): return text in self.said()
            assert time.monotonic() < end, f'waited {seconds} s for {text!r}: {self.said()}'
            time.sleep(0.002)
        return True

    def kill(self) -> bool:
        "True if it was still running."
        self.process.kill()
        self.process.join(30)
        return self.process.exitcode == -signal.SIGKILL

    def code(self, seconds=180) -> int:
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f'still running after {seconds} s: {self.said()}')
        return self.process.exitcode


def run_words(out, *more): return ['run', *SETTING, '--out', out, *more]


def run_folder(out) -> Path:
    folder, = Path(out).glob('*/*/seed*')
    return folder


def result(out) -> dict:
    "All that must be the same, bit for bit, whatever happened on the way: weights, history, what was measured."
    import json
    import numpy as np
    import torch
    folder = run_folder(out)
    assert sorted(p.name for p in folder.iterdir() if p.name != '.lock') == ['best.pth', 'config.json', 'evaluation.npz', 'history.csv', 'metrics.json']
    with open(folder / 'history.csv', newline='') as file: history = [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]
    metrics = json.loads((folder / 'metrics.json').read_text())
    return dict(state={k: v.numpy().tobytes() for k, v in torch.load(folder / 'best.pth', weights_only=True)['state'].items()}, history=history,
                kept={k: v.tobytes() for k, v in np.load(folder / 'evaluation.npz').items()},
                metrics={k: v for k, v in metrics.items() if k not in CLOCK})


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


# What a child may do to itself before the command starts (functions, so that they can be sent to it).

class KillAtEvent:
    "SIGKILL at the n-th time a file below a folder is opened for writing, renamed or removed."
    EVENTS = ('open', 'os.rename', 'os.remove')

    def __init__(self, n, out, counter=None): self.n, self.out, self.counter = n, str(out), counter

    def __call__(self):
        seen = 0
        def hook(event, args):
            nonlocal seen
            if event not in self.EVENTS or not str(args[0]).startswith(self.out) or str(args[0]).endswith('.lock'): return
            if event == 'open' and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)): return
            seen += 1
            if self.counter:
                with open(self.counter, 'a') as file: file.write(f'{event} {Path(str(args[0])).name}\n')
            if seen == self.n: os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)


class Slow:
    "Every training step takes so many seconds more: time for a signal to arrive in the middle of the work."
    def __init__(self, seconds=.3): self.seconds = seconds

    def __call__(self):
        from unet_course import training
        step = training.train_step
        def slow(*args):
            time.sleep(self.seconds)
            return step(*args)
        training.train_step = slow


class SmallDisk:
    "No file may grow beyond so many bytes: what a full disk does, without filling one."
    def __init__(self, size): self.size = size

    def __call__(self):
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))
