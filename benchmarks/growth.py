"""Part 5: how time and memory grow with image size, width, batch, dataset and processes; every point is a process of its own."""
import csv
import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.job import PYTHON
from benchmarks.measuring import child, now, on_the_wall, peak_memory, row, run_process, take_turns
from benchmarks.step import Step, a_batch
from unet_course.data import Pets, batches
from unet_course.datasets.decode_once import open_cache
from unet_course.factory import create_model
from unet_course.support.device import choose_amp

TITLE = 'How cost grows'


def point(width: int, size: int, count: int, device: str, rounds: int) -> dict:
    "Seconds of some training steps and the peak memory, measured in this process."
    device = torch.device(device)
    step = Step(create_model(dict(base_width=width), seed=0), a_batch(device, count, size), device, choose_amp('auto', device), ours=True)
    times = take_turns({'step': step}, device, rounds=rounds, seconds=15)['step']
    peak = torch.cuda.max_memory_allocated() // 2**20 if device.type == 'cuda' else peak_memory()
    return dict(times=times, peak_mb=peak, gflop=step.gflop)


def sweep(device, tiny: bool, what: str, values: list, **fixed) -> dict:
    "One point for each value."
    rows = []
    for value in values:
        at = dict(fixed, **{what: value})
        found = child('benchmarks.growth', 'point', device=str(device), rounds=3 if tiny else 7, **at)
        rows.append(row(f"{'batch' if what == 'count' else what} {value}", found['times'], at['count'], gflop_per_image=found['gflop'], peak_mb=found['peak_mb']))
    amp = choose_amp('auto', device)
    return dict(setting=f'mp-tr, training step, AMP {str(amp).removeprefix("torch.") if amp else "off"}; ' + ', '.join(f"{'batch' if k == 'count' else k} {v}" for k, v in fixed.items()) + '. Peak memory is of the whole process.' * (device.type == 'cpu'), rows=rows)


def memory_now() -> dict:
    "Resident memory of this process in MiB: its own (anonymous) and mapped file pages, which the system may drop at any time."
    lines = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return {name: int(lines[key].split()[0]) // 1024 for name, key in dict(own='RssAnon', mapped='RssFile').items()}


def large_dataset(images: int, size: int, steps: int, limit_mb: int) -> dict:
    "Memory before and after batches from a decoded set of that many images, with the process's own memory limited to `limit_mb`."
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in (('images', (images, size, size, 3)), ('trimaps', (images, size, size))):
            with open(Path(scratch) / f'{name}.npy', 'wb') as file:
                np.lib.format.write_array_header_1_0(file, dict(descr='|u1', fortran_order=False, shape=shape))
                file.truncate(file.tell() + int(np.prod(shape)))  # a sparse file: zeros that take no disk
        torch.randn(64, 64) @ torch.randn(64, 64)
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mb * 2**20,) * 2)
        arrays = open_cache(Path(scratch), images, size)
        if arrays is None: return dict(opened=False)
        pets = Pets(torch.from_numpy(arrays[0]).permute(0, 3, 1, 2), torch.from_numpy(arrays[1]), [''] * images, torch.ones(images), torch.zeros(images, dtype=torch.bool), 'pets')
        times, memory = [], []
        for number, (x, y) in enumerate(batches(pets, torch.arange(images), 8, seed=0)):
            memory.append(memory_now())
            times.append(now())
            if number == steps: break
        return dict(opened=True, times=np.diff(times).tolist(), set_mb=(arrays[0].nbytes + arrays[1].nbytes) // 2**20,
                    own_mb=[memory[0]['own'], max(m['own'] for m in memory)], mapped_mb=[memory[0]['mapped'], memory[-1]['mapped']])


def larger_than_memory(device, tiny: bool) -> dict:
    "A decoded set larger than the machine's memory, read in random order under a limit of 2 GiB."
    total, size, limit = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'), 512, 2048
    rows = []
    for name, of_memory in {'a tenth of the memory': 0.1, 'one and a half times the memory': 1.5}.items():
        images = 50 if tiny else int(of_memory * total / (4 * size**2))
        found = child('benchmarks.growth', 'large_dataset', images=images, size=size, steps=5 if tiny else 200, limit_mb=limit)
        if not found['opened']: rows.append(dict(name=f'{name}: cannot be opened'))
        else: rows.append(row(name, found['times'], 8, decoded_gb=round(found['set_mb'] / 1024, 1), own_mb_first=found['own_mb'][0], own_mb_peak=found['own_mb'][1], mapped_mb_last=found['mapped_mb'][1]))
    return dict(setting=f'Batches of 8 images of {size}x{size} from a memory-mapped cache, in random order; the process may not hold more than {limit} MiB of its own; memory {total / 2**30:.0f} GiB.', rows=rows,
                notes='Mapped pages belong to the file: the system drops them when it needs the room. They are not counted by the limit.')


def processes(device, tiny: bool) -> dict:
    "One run by one process with all threads, by one with one thread, and by two with one thread each."
    width, size = (2, 32) if tiny else (16, 64)
    words = f'run --data synthetic --variants exp2 --width {width} --size {size} --epochs {1 if tiny else 3} --device {device.type} --fresh'.split()
    rows = []
    for count, threads in ((1, 1), (1, 2), (2, 1)):
        with tempfile.TemporaryDirectory() as out:
            start = [PYTHON, '-m', 'unet_course'] if count == 1 else [PYTHON, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={count}', '-m', 'unet_course']
            result = run_process([*start, *words, '--out', out], dict(OMP_NUM_THREADS=str(threads)))
            history, = Path(out).rglob('history.csv')
            with open(history, newline='') as file: found = list(csv.DictReader(file))
        seconds = [float(r['seconds']) for r in found][0 if tiny else 1:]
        images = round(float(found[-1]['images_per_second']) * float(found[-1]['seconds']))
        rows.append(row(f'{count} process{"es" * (count > 1)}, {threads} thread{"s" * (threads > 1)} each', seconds, images, whole_job_seconds=round(result['seconds'], 1), peak_mb_of_the_largest=result['peak_mb']))
    return dict(setting=f'unet-course run --data synthetic, mp-tr-dice, width {width}, {size}x{size}; seconds of an epoch of training, the first left out.', rows=rows)


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    gpu = device.type == 'cuda'
    width, count = (64, 32) if gpu else (16, 8)
    yield 'image size', lambda: sweep(device, tiny, 'size', [32, 48] if tiny else [64, 128, 256, 512], width=2 if tiny else width, count=2 if tiny else 16 if gpu else 4)
    yield 'width', lambda: sweep(device, tiny, 'width', [2, 4] if tiny else [8, 16, 32, 64], size=32 if tiny else 128, count=2 if tiny else count)
    yield 'batch', lambda: sweep(device, tiny, 'count', [2, 4] if tiny else [8, 32, 128, 512] if gpu else [1, 4, 16, 64], width=2 if tiny else width, size=32 if tiny else 128)
    if sys.platform == 'linux': yield 'dataset larger than memory', lambda: larger_than_memory(device, tiny)
    if not gpu and on_the_wall(): yield 'processes', lambda: processes(device, tiny)
