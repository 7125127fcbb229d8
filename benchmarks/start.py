"""Part 8: processor seconds from the start of a command to its first result, without the command's own work."""
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.data import NATIVE
from benchmarks.measuring import environment, ratio, row, run_process
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.support.files import package_folder

TITLE = 'From the start of a command to its first result'
# The command's own work is what it takes the second time, in the same process; the first time it has to import and set up as well.
TWICE = """
import shutil, sys, time
from unet_course import cli, training
class Stepped(BaseException): pass
step, out, words = training.train_step, sys.argv[1], sys.argv[2:]
def one_step(*args):
    step(*args)
    raise Stepped
training.train_step = one_step
def first():
    shutil.rmtree(out, ignore_errors=True)
    try: cli.main(words)
    except Stepped: return
    except SystemExit as end: assert not end.code and words[0] != 'run', end
first()
start = time.process_time()
first()
print(f'own {time.process_time() - start}')
"""
ADAMW = """
import torch
weight = torch.nn.Parameter(torch.ones(2, 2))
optimizer = torch.optim.AdamW([weight])
weight.grad = torch.ones(2, 2)
optimizer.step()
"""


def first_results(device, tiny: bool) -> dict:
    "The first mask of `predict` and the first training step of `run`, beside what torch takes by itself."
    with tempfile.TemporaryDirectory() as scratch:
        photo, runs = Path(scratch) / 'photo.jpg', Path(scratch) / 'runs'
        Image.fromarray(synthetic_pets(1, 128).images[0].permute(1, 2, 0).numpy()).resize(NATIVE).save(photo, quality=90)
        small = '--variants exp1 --width 2 --size 32'.split() if tiny else []
        commands = {'import torch': ['import torch'], 'import torch, and a step of its AdamW': [ADAMW],
                    'run, to the first training step': [TWICE, runs, 'run', '--data', 'synthetic', '--device', 'cpu', '--out', runs, *small]}
        if (package_folder() / 'weights').is_dir(): commands['predict, to the first mask'] = [TWICE, runs, 'predict', photo, '--out', Path(scratch) / 'mask.png']
        done = {name: [] for name in commands}
        for number in range(1 if tiny else 8):
            for name, words in commands.items():
                result = run_process([sys.executable, '-c', *words], environment())
                own = next((float(line.split()[1]) for line in result['output'].splitlines() if line.startswith('own ')), 0.0)
                if number or tiny: done[name].append(result['seconds'] - 2 * own)  # the first round is not counted
    rows = {name: row(name, seconds) for name, seconds in done.items()}
    torch_alone, with_adamw, run, *predict = rows.values()
    what = 'times as long takes the second'
    return dict(setting=f"A photo of {NATIVE[0]}x{NATIVE[1]} pixels; the README's first run. Files in the page cache. The command's own work is what it takes when it is called again in the same process, and is subtracted.",
                rows=list(rows.values()), ratios=[*(ratio(torch_alone, one, what=what) for one in (*predict, run, with_adamw)), ratio(with_adamw, run, what=what)],
                notes='The promise was 1.2 times `import torch` for both. A step of an optimizer of torch loads its compiler (`torch._dynamo`), which no training can do without.')


def comparisons(device, tiny: bool):
    "Name and function of every comparison."
    yield 'first results', lambda: first_results(device, tiny)
