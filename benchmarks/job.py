"""Part 4: whole jobs from process start, wall time and peak memory, and the same epoch the original's way."""
import csv
import json
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from benchmarks.data import NATIVE, make_folder
from benchmarks.measuring import environment, on_the_wall, quartiles, ratio, row, run_process
from unet_course.datasets.oxford_pets import find_pets, read_lists
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.support.files import package_folder

TITLE = 'Whole jobs, from process start to end'
PYTHON = sys.executable


def turns(commands: dict, rounds: int, **options) -> dict:
    "Rows of the commands, run one after the other, round after round, after one round that is not counted (a single round is counted)."
    done = {name: [] for name in commands}
    for number in range(rounds + (rounds > 1)):
        for name, words in commands.items():
            result = run_process(words, environment(**options))
            if number or rounds == 1: done[name].append(result)
    return {name: row(name, [r['seconds'] for r in results], peak_mb=quartiles([r['peak_mb'] for r in results], 4)) for name, results in done.items()}


def small(device, tiny: bool) -> dict:
    "Imports, help, and the mask of one photo."
    with tempfile.TemporaryDirectory() as scratch:
        photo, mask = Path(scratch) / 'photo.jpg', Path(scratch) / 'mask.png'
        Image.fromarray(synthetic_pets(1, 128).images[0].permute(1, 2, 0).numpy()).resize(NATIVE).save(photo, quality=90)
        commands = {'import unet_course': [PYTHON, '-c', 'import unet_course'],
                    'unet-course --help': [PYTHON, '-m', 'unet_course', '--help'],
                    'import torch, for comparison': [PYTHON, '-c', 'import torch'],
                    'import unet_course.experiments': [PYTHON, '-c', 'import unet_course.experiments']}
        if (package_folder() / 'weights').is_dir(): commands['unet-course predict, one photo'] = [PYTHON, '-m', 'unet_course', 'predict', photo, '--out', mask]
        rows = turns(commands, 1 if tiny else 7)
    ratios = [ratio(rows['import torch, for comparison'], rows['unet-course predict, one photo'], what='times as long as the import of torch alone')] if len(rows) == 5 else []
    return dict(setting=f'Photo of {NATIVE[0]}x{NATIVE[1]} pixels; files in the page cache; CPU.', rows=list(rows.values()), ratios=ratios)


def synthetic(device, tiny: bool) -> dict:
    "The first command of the README."
    words = [PYTHON, '-m', 'unet_course', 'run', '--data', 'synthetic', '--device', device.type]
    if tiny: words += '--variants exp1 --width 2 --size 32 --epochs 1'.split()
    with tempfile.TemporaryDirectory() as scratch: rows = turns({'unet-course run --data synthetic': [*words, '--out', scratch]}, 1)
    return dict(setting='Four variants, width 8, 64x64, 8 epochs of 600 synthetic pets; measured once.', rows=list(rows.values()))


def epochs_in_turns(root: Path, count: int, width: int, side: int, rounds: int, device, ways: dict) -> tuple[list, list]:
    "Rows and ratios of one epoch of the published protocol over `count` pairs, whole processes in turns: ours, with an empty cache of decoded images, by name and options; and the original's way."
    done = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            setting = ['--width', width, '--size', side, '--epochs', 1, '--root', root]
            commands = {name: [PYTHON, '-m', 'unet_course', 'run', '--protocol', 'published', '--variants', 'exp2', '--device', device.type, *setting, *options, '--out', Path(scratch) / f'{name} {number}']
                        for name, options in ways.items()}
            commands["the original's way"] = [PYTHON, '-m', 'benchmarks.original', *setting, '--threads', torch.get_num_threads()]
            for name, words in commands.items():
                result = run_process(words, environment(UNET_COURSE_CACHE=str(Path(scratch) / f'cache {name} {number}')), timeout=200 + count)  # empty: decoding is part of the job
                if name in ways:
                    history, = words[-1].rglob('history.csv')
                    with open(history, newline='') as file: first = next(csv.DictReader(file))
                    result |= dict(train_seconds=float(first['seconds']), val_accuracy=float(first['val_accuracy']))
                else: result |= {k: v for k, v in json.loads(result['output'].splitlines()[-1]).items() if k in ('train_seconds', 'val_accuracy')}
                done.setdefault(name, []).append(result)
    column = lambda results, key, digits: quartiles([r[key] for r in results], digits)
    rows = [row(name, [r['seconds'] for r in results], count, peak_mb=column(results, 'peak_mb', 4), val_accuracy=column(results, 'val_accuracy', 3)) for name, results in done.items()]
    ratios = [ratio(rows[0], rows[-1], 2.5), *(ratio(r, rows[-1]) for r in rows[1:-1])]
    if on_the_wall():  # what the runs themselves say about their training
        epochs = [row(f'{name}, training of the epoch', [r['train_seconds'] for r in results], count * 8 // 10) for name, results in done.items()]
        rows, ratios = rows + epochs, [*ratios, ratio(epochs[0], epochs[-1])]
    return rows, ratios


PROTOCOL = 'one epoch of the published protocol (80 % train, 20 % validate), mp-tr-dice. Ours decodes first, and measures the network at the end in fp32: counts at 19 thresholds, calibration, boundaries.'


def against_the_original(device, tiny: bool, size: tuple[int, int]) -> dict:
    "One epoch over a part of the pets, ours and the original's way."
    width, side, count, rounds = (4, 32, 40, 1) if tiny else (16, 128, 640, 3)
    with tempfile.TemporaryDirectory() as scratch:
        source = make_folder(scratch, count, size)
        rows, ratios = epochs_in_turns(scratch, count, width, side, rounds, device, {'ours': [], 'ours, fp32': ['--amp', 'off']})
    return dict(setting=f'{source}; {count} pairs, width {width}, {side}x{side}; {PROTOCOL}', rows=rows, ratios=ratios)


def real_epoch(device, tiny: bool) -> dict:
    "One epoch over the whole dataset, ours and the original's way."
    folder = find_pets()
    count = len(read_lists(folder))
    rows, ratios = epochs_in_turns(folder, count, 16, 128, 2, device, {'ours': []})
    return dict(setting=f'All {count} pairs of the published photos, width 16, 128x128; {PROTOCOL}', rows=rows, ratios=ratios)


def suite(device, tiny: bool) -> dict:
    "What README.md says to run after a change."
    result = run_process([PYTHON, '-m', 'pytest', '-q'], environment(), timeout=3000)
    return dict(setting=f'`pytest` as README.md has it, without slow and browser tests: {result["output"].splitlines()[-1].strip("= ")}. Measured once; peak memory is that of its largest process.',
                rows=[row('the test suite', [result['seconds']], peak_mb=result['peak_mb'])])


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    yield 'small commands', lambda: small(device, tiny)
    yield 'run --data synthetic', lambda: synthetic(device, tiny)
    if device.type == 'cpu':  # as the original did it: it has no other device here
        yield "the original's way, 128x128 files", lambda: against_the_original(device, tiny, (128, 128))
        yield "the original's way, native-size files", lambda: against_the_original(device, tiny, NATIVE)
        if find_pets() and not tiny: yield 'one real epoch', lambda: real_epoch(device, tiny)
    if on_the_wall() and not tiny: yield 'the test suite', lambda: suite(device, tiny)
