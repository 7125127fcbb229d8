"""The whole series at the original's width of 64 and 128 pixels, as much of it as some minutes of one GPU allow.

    python tools/full_scale.py --minutes 9.4 --root DATA --out OUT

One command runs whole runs in a fixed order (`plan`), as many at a time as the GPU is found to be fastest with, and ends in time: a run
that would not be done by then is not started, a shorter one later in the order may be. Every finished run is packed at once into
`OUT/runs-0.zip` to `runs-3.zip`, each below 15.5 MiB: config, history, metrics, and what was measured image by image; weights only of the
width-16 networks, in fp16. Whatever stops the command, the runs that were packed are whole, and a half-done one is left out. The same
command goes on where it was stopped. The training step is timed (`benchmarks/step.py`, `limit.py`) when the published four have begun and
all its ways are compiled, which is done beside the runs; meanwhile no run begins. Exit code 0: all is done; 3: something is left.

**A GPU lent for minutes, on a machine that has PyTorch (2.11 or later) and this package's few requirements, but nothing of ours.**

- What travels (60 MB): a copy of the repository without `results`, `nbs` and `unet_course/weights`, which are not needed (what is left is
  1.4 MB: `unet_course`, `benchmarks`, `tools`); the pictures at 128 px, 56 MB (a folder that holds `oxford-iiit-pet`); for the comparison
  with MONAI its wheel, 1.7 MB, fetched with `pip download --no-deps monai` (it needs only torch and NumPy; without it that comparison is
  left out, and the log says so).
- There, in the copy's folder, with the pictures in `carried/data` and the wheel in `carried/wheels`:

      python3 -m pip install -q --no-index --no-deps --target /tmp/site carried/wheels/*.whl
      PYTHONUNBUFFERED=1 PYTHONPATH=/tmp/site python3 tools/full_scale.py --minutes 9.4 --root carried/data --out "$OUT"

- What comes back: at most six files, 62 MiB together: the archives, `full_scale.json` (device, rates, what ran when, what failed, what is
  left) and `log.txt`.
- A second time, with an empty OUT: `--before DIR`, a folder with the archives of the first; what is in them counts as done. Only each
  run's `config.json` and `metrics.json` are read: `zip -d COPY.zip '*.npz' '*.csv' '*.pth'` makes them small enough to travel.
- At home: `unzip -n '*.zip' -d runs`, then `python tools/keep_results.py runs/pets-*` for the results,
  `python tools/ship_weights.py runs/pets-course-w16-128px-60ep` for the networks; `runs/benchmarks/*` belong into `results/benchmarks`.
"""
import time
BEGAN = time.monotonic()  # before anything is imported: the minutes count from here
import argparse  # noqa: E402
import hashlib  # noqa: E402
import io  # noqa: E402
import multiprocessing  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import zipfile  # noqa: E402
from multiprocessing.connection import wait  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock, Timeout  # noqa: E402
from tqdm import tqdm  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
from benchmarks import limit, step  # noqa: E402
from benchmarks.measuring import Report  # noqa: E402
from ship_weights import halved  # noqa: E402
from unet_course.experiments import EXPERIMENTS, FACTORIAL, PROTOCOLS, Variant, make_configs  # noqa: E402
from unet_course.prediction import load_weights, save_weights  # noqa: E402
from unet_course.runs import runner  # noqa: E402
from unet_course.runs.run_folder import RunFolder  # noqa: E402
from unet_course.support.device import choose_device, keep_freed_memory, machine  # noqa: E402
from unet_course.support.files import CourseError, read_json, save_atomic, write_json  # noqa: E402

PROCESSES = multiprocessing.get_context('spawn')
PART, PARTS = int(15.5 * 2**20), 4  # bytes of an archive at most, and archives
LONG = 60            # epochs of the long runs
AFTER = 'published'  # the training step is timed after this group
TIMING = 40          # seconds that must be left for it
PROBE = 2.5          # seconds in which so many processes at a time train, to find the best number
SPARE = 4            # seconds before the end at which what is not done is stopped
TRIED = 3            # processes at a time at most


def plan(
    tiny: bool = False,  # seconds on a CPU, synthetic pets: does it run?
    best: Variant | None = None,  # the factorial's, once it is known
) -> dict:  # group: `RunConfig`s
    "All runs in their order."
    wide, narrow = dict(data='pets', size=128, width=64), dict(data='pets', size=128, width=16)
    if tiny: wide, narrow = dict(data='synthetic', size=32, width=4), dict(data='synthetic', size=32, width=2)
    course, published = (1 if tiny else PROTOCOLS[name].epochs for name in ('course', 'published'))
    long, four = 2 if tiny else LONG, list(EXPERIMENTS.values())
    chosen = list(dict.fromkeys([*four, *([best] if best else [])]))
    return dict(factorial=make_configs(FACTORIAL, [0, 1], 'full', epochs=course, **wide),
                published=make_configs(four, [0], 'full', epochs=published, protocol='published', **wide),
                long=make_configs(chosen, [0], 'full', epochs=long, **wide),
                seed2=make_configs(FACTORIAL, [2], 'full', epochs=course, **wide),
                border=make_configs(four[:2], [0], 'full', epochs=long, border='pet', **wide),
                shipped=make_configs(FACTORIAL, [0], 'full', epochs=long, **narrow))


def best_variant(runs: list) -> Variant | None:
    "The variant of the factorial with the highest mean validation IoU, at the best threshold, over its seeds; None until all are done. The test images are not asked."
    found = {}
    for run in runs:
        if not run.done: return None
        found.setdefault(Variant(*run.config['variant'].split('-')), []).append(run.metrics['val']['iou_threshold'])
    return max(found, key=lambda variant: np.mean(found[variant]))


class Archives:
    "Zip files that are whole at every instant: each addition replaces one of them."

    def __init__(self, folder: Path, part: int = PART, parts: int = PARTS): self.folder, self.part, self.parts = Path(folder), part, parts

    def add(self, files: dict) -> str:
        "The name of the archive that now holds the files (name in it: path): the first with room for all of them."
        for number in range(self.parts):
            path = self.folder / f'runs-{number}.zip'
            content = io.BytesIO(path.read_bytes() if path.is_file() else b'')
            with zipfile.ZipFile(content, 'a', zipfile.ZIP_DEFLATED) as archive:
                for name, file in files.items(): archive.write(file, name)
            if content.getbuffer().nbytes > self.part: continue
            save_atomic(lambda file: file.write(content.getbuffer()), path)
            return path.name
        raise CourseError(f'{self.folder}: {self.parts} archives of {self.part} bytes have no room for {", ".join(files)}; give another --out, and this one as --before')

    def unpack(self, target: Path):
        "Lay the content of all archives below `target`."
        for path in sorted(self.folder.glob('runs-*.zip')):
            try:
                with zipfile.ZipFile(path) as archive: archive.extractall(target)
            except zipfile.BadZipFile as error: raise CourseError(f'{path}: damaged ({error}); move it away, and its runs are done again') from None


def kept(run: RunFolder, scratch: Path, weights: bool) -> dict:  # name in the archive: path
    "The files of a finished run that are packed; its weights, if wanted, are made half as large."
    if weights:
        model, config = load_weights(run.weights)
        save_weights(run.weights, halved(model), config)
    names = [*RunFolder.KEPT, *([RunFolder.WEIGHTS] if weights else [])]
    return {(run.path / name).relative_to(scratch).as_posix(): run.path / name for name in names}


class Stop(Exception): "Enough steps were made."


class Pulse:
    "A callback that stops training after some steps."
    left = 0

    def after_step(self, trainer):
        self.left -= 1
        if self.left <= 0: raise Stop


class Probe:
    "The real training loop of a config for some seconds, at each side of its pictures in turn."

    def __init__(self, config, pets, split, device):
        self.pulse = Pulse()
        self.trainer = runner.make_trainer(config, pets, split, device, [self.pulse])
        self.trainer.schedule = None  # it has an end
        recipe = config.setting.recipe
        self.epochs = {recipe.side(epoch, pets.size): epoch for epoch in range(recipe.epochs)}.values()
        for _ in range(2): self.turn(3)

    def turn(self, steps: int) -> int:
        "Images of some steps at each side."
        images = 0
        for self.trainer.epoch in self.epochs:
            self.trainer.step, self.pulse.left = 0, steps
            try: self.trainer.train_epoch()
            except Stop: pass
            images += min(self.trainer.step * self.trainer.recipe.batch_size, len(self.trainer.data.split['train']))
        return images

    def rate(self, seconds: float) -> float:
        "Images a second."
        began, images = time.monotonic(), 0
        while time.monotonic() < began + seconds: images += self.turn(8)
        return images / (time.monotonic() - began)


def prepare(tiny: bool, threads: int | None = None):
    "What every process does first; it ends when the process that started it does."
    if tiny: runner.SYNTHETIC_IMAGES = 60
    if threads: torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own would outlive a process that is killed
    parent = multiprocessing.parent_process()
    if parent: threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def train(pipe, words, scratch: Path, threads: int):
    "A process that does what is sent: ('run', config), ('warm', config) or ('rate', seconds); it answers (True, result), of a run its validation IoU and seconds, or (False, message)."
    prepare(words.tiny, threads)
    device, loaded, probe = torch.device(words.device), {}, None
    if device.type == 'cpu': keep_freed_memory()
    while True:
        try: what, value = pipe.recv()
        except EOFError: return
        try:
            result = None
            if what == 'rate': result = probe.rate(value)
            else:
                if value.setting.protocol not in loaded: loaded[value.setting.protocol] = runner.load_data(value.setting, words.root)
                data = loaded[value.setting.protocol]
                if what == 'warm': probe = Probe(value, *data, device)
                else:
                    probe, began = None, time.monotonic()
                    metrics = runner.run(value, *data, scratch, device, checkpoint_minutes=None, keep_going=True, log=lambda line: None)
                    result = metrics['val']['iou_threshold'], time.monotonic() - began
            pipe.send((True, result))
        except Exception as error: pipe.send((False, f'{type(error).__name__}: {" ".join(str(error).split())[:500]}'))


def time_the_step(pipe, words, scratch: Path):
    "A process that compiles and warms up, says so, and measures when it is told that nothing else runs."
    os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '8')
    prepare(words.tiny)
    device, steps, failed = torch.device(words.device), {}, []
    for name, make in step.amp_steps(device, words.tiny).items():
        try:
            steps[name] = make()
            for _ in range(3): steps[name]()
        except Exception as error:
            steps.pop(name, None)
            failed.append(f'{name} ({type(error).__name__}: {" ".join(str(error).split())[:200]})')
    pipe.send((True, failed + ([] if any(name.startswith(step.PLAIN) for name in steps) else ['all of BasicUNet'])))
    pipe.recv()
    width = step.setting(device, words.tiny)['width']
    ours = {name: steps[name] for name in (step.OURS, f'{step.OURS}, compiled', step.OWN_RECIPE) if name in steps}
    try:
        for module, part, name, measure in ((step, 'step', 'best AMP', lambda: step.best_amp(device, words.tiny, steps)),
                                            (limit, 'limit', f'ceiling, bf16, width {width}', lambda: limit.ceiling(device, words.tiny, 'bf16', width, ours))):
            report = Report(scratch / 'benchmarks', part, module.TITLE, device, words.tiny)
            report.add(name, measure())
        pipe.send((True, None))
    except Exception as error: pipe.send((False, f'{type(error).__name__}: {error}'))


class Worker:
    "One of those processes, and what it is doing."

    def __init__(self, target, *words):
        self.pipe, there = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=target, args=(there, *words), daemon=True)
        self.process.start()
        there.close()
        self.busy = None  # (group, config)

    def ask(self, what: str, value=None):
        try: self.pipe.send((what, value))
        except OSError: pass  # it has died, and `answer` says so

    def answer(self) -> tuple:  # (True, result) or (False, message)
        try: return self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            return False, f'its process ended with {self.process.exitcode}'

    def end(self):
        self.pipe.close()
        self.process.kill()
        self.process.join()


class Series:
    "What is done, what runs, and what comes next."

    def __init__(self, words, scratch: Path):
        self.words, self.scratch, self.device = words, scratch, torch.device(words.device)
        self.out, self.archives, self.end = words.out, Archives(words.out), BEGAN + 60 * words.minutes - SPARE
        self.timer, self.warm, self.failed, self.rates, self.probed = None, False, {}, {}, {}
        self.workers = [self.new_worker() for _ in range(words.at_once or (TRIED if self.device.type == 'cuda' else 1))]  # they start while the pictures are decoded
        self.runs = (read_json(self.out / 'full_scale.json') or {}).get('runs', [])
        for folder in filter(None, (words.before, self.out)): Archives(folder).unpack(scratch)
        self.data = {protocol: runner.load_data(self.groups()[group][0].setting, words.root) for protocol, group in (('course', 'factorial'), ('published', 'published'))}
        wanted = {config.folder: config for variant in FACTORIAL for group in plan(words.tiny, variant).values() for config in group}
        self.done = {folder for folder, config in wanted.items() if self.is_done(config)}
        self.timed = any((scratch / 'benchmarks').glob('limit-*.json')) or 'timing' not in words.groups

    def is_done(self, config) -> bool:
        "True if an archive holds this very run."
        try: return RunFolder(self.scratch / config.folder).check(runner.settle(config, *self.data[config.setting.protocol], self.device))
        except CourseError as error:
            found = str(error).split('; give another')[0].removeprefix(f'{self.scratch}{os.sep}')
            raise CourseError(f'the archives in --out or --before are of another series: {found}; give another --out, without --before') from None

    def log(self, line: str):
        line = f'{time.monotonic() - BEGAN:6.1f} s  {line}'
        print(line, flush=True)
        with open(self.out / 'log.txt', 'a', encoding='utf-8') as file: file.write(line + '\n')

    def groups(self) -> dict:
        best = best_variant([RunFolder(self.scratch / config.folder) for config in plan(self.words.tiny)['factorial']])
        return plan(self.words.tiny, best)

    def todo(self) -> list:  # (group, config)
        "What is not done, not running and has not failed, in order."
        out = self.done | self.failed.keys() | {worker.busy[1].folder for worker in self.workers if worker.busy}
        return [(group, config) for group, configs in self.groups().items() if group in self.words.groups for config in configs if config.folder not in out]

    def seconds(self, config) -> float:
        "How long a run may take: by the slowest of the last runs of its kind, else of any kind."
        kind = config.setting.protocol, config.setting.width
        slowest = max((max(rates[-6:]) for key, rates in self.rates.items() if key == kind or kind not in self.rates), default=0)
        return 1.1 * slowest * runner.images_of_run(config, self.data[config.setting.protocol][1])

    def left(self) -> float: return self.end - time.monotonic()

    def next_run(self):
        "The first run that will be done in time, None if there is none."
        return next(((group, config) for group, config in self.todo() if self.seconds(config) < self.left()), None)

    def new_worker(self) -> Worker: return Worker(train, self.words, self.scratch, max(1, (os.cpu_count() or 1) // (TRIED + 1)))

    def probe(self):
        "Keep as many processes as train most images a second together; one more must bring 5 %."
        config = self.groups()['factorial'][0]
        for worker in self.workers: worker.ask('warm', config)
        ready = []
        for worker in self.workers:
            fine, message = worker.answer()
            if fine: ready.append(worker)
            else:
                worker.end()
                self.log(f'one of {len(self.workers)} processes could not train beside the others: {message}')
        if not ready: raise CourseError(f'a trial of {config.folder} failed: {message}')
        self.workers = ready
        for count in range(1, len(self.workers) + 1):
            for worker in self.workers[:count]: worker.ask('rate', PROBE)
            rates = [rate if fine else 0 for fine, rate in (worker.answer() for worker in self.workers[:count])]
            self.probed[count] = round(sum(rates), 1)
            self.log(f'{count} at a time: {self.probed[count]:.0f} images a second')
        best = 1
        for count in self.probed:
            if self.probed[count] > 1.05 * self.probed[best]: best = count
        for worker in self.workers[best:]: worker.end()
        self.workers = self.workers[:best]
        recipe, size = config.setting.recipe, config.setting.size
        sides = {recipe.side(epoch, size) for epoch in range(recipe.epochs)}  # each had as many images
        self.rates[None] = [best / max(self.probed[best], 1e-9) / float(np.mean([(side / size)**2 for side in sides]))]

    def finish(self, worker: Worker):
        "Take a worker's answer: pack the run, or say why there is none."
        (group, config), (fine, result) = worker.busy, worker.answer()
        worker.busy = None
        if fine:
            run = RunFolder(self.scratch / config.folder)
            try: archive = self.archives.add(kept(run, self.scratch, group == 'shipped'))
            except CourseError as error: fine, result = False, str(error)
        if fine:
            run.weights.unlink()
            score, seconds = result
            self.done.add(config.folder)
            self.rates.setdefault((config.setting.protocol, config.setting.width), []).append(seconds / runner.images_of_run(config, self.data[config.setting.protocol][1]))
            self.runs.append(dict(group=group, run=config.folder.as_posix(), seconds=round(seconds, 1), at=round(time.monotonic() - BEGAN, 1), archive=archive))
            line = f'{group}: {config.folder} {seconds:.0f} s, validation IoU {score:.4f}, in {archive}'
        else:
            self.failed[config.folder] = result
            line = f'{group}: {config.folder} failed: {result}'
            worker.end()  # a GPU's error may stay with its process
            self.workers[self.workers.index(worker)] = self.new_worker()
        self.write()  # first: what the log says is in the account
        self.log(line)

    def write(self):
        "Keep the account of what was done."
        left = [config.folder.as_posix() for _, config in self.todo()] + [worker.busy[1].folder.as_posix() for worker in self.workers if worker.busy]
        write_json(dict(device=machine(self.device, None)['device'], torch=torch.__version__, minutes=self.words.minutes, at_once=len(self.workers), images_per_second=self.probed, runs=self.runs,
                        failed={folder.as_posix(): message for folder, message in self.failed.items()}, left=left + ['timing'] * (not self.timed)), self.out / 'full_scale.json')

    def timing_is_due(self) -> bool:
        "True if the step may be timed now: all is compiled, the runs up to `AFTER` have begun, and no long one would be waited for."
        order, todo = [*plan()], self.todo()
        waits_for = [worker.busy[1].setting.recipe.epochs for worker in self.workers if worker.busy]
        return bool(self.timer and self.warm) and self.left() > TIMING and LONG not in waits_for and not (todo and order.index(todo[0][0]) <= order.index(AFTER))

    def measure(self):
        "Time the training step, while nothing else runs."
        self.timer.ask('go')
        fine, result = self.timer.answer() if self.timer.pipe.poll(max(0, min(self.left(), 3 * TIMING))) else (False, 'it took too long')
        files = {f'benchmarks/{path.name}': path for path in sorted((self.scratch / 'benchmarks').glob('*'))}
        if fine: self.log(f'timing: in {self.archives.add(files)}')
        else: self.log(f'timing failed: {result}')
        self.timer, self.timed = self.timer.end(), True
        self.write()

    def go(self) -> bool:  # is all done?
        "Run until all is done or the time is up."
        if not self.words.at_once and len(self.workers) > 1 and self.todo(): self.probe()
        self.log(f'{len(self.workers)} at a time on {machine(self.device, None)["device"]}')
        if not self.timed: self.timer = Worker(time_the_step, self.words, self.scratch)
        finished = len(self.runs)
        while self.left() > 0 and (len(self.failed) < 4 or len(self.runs) > finished):  # four failures and nothing else: it is no accident
            if self.timer and not self.warm and self.timer.pipe.poll():
                fine, result = self.timer.answer()
                self.warm = fine
                self.log('timing: warm' + (f', without {"; ".join(result)}' if fine and result else '') if fine else f'timing failed: {result}')
                if not fine: self.timer, self.timed = self.timer.end(), True
            busy, due = [worker for worker in self.workers if worker.busy], self.timing_is_due()
            if due and not busy:
                self.measure()
                continue
            for worker in self.workers if not due else []:
                if worker.busy or (found := self.next_run()) is None: continue
                worker.busy = found
                worker.ask('run', found[1])
                busy.append(worker)
            if not busy and not (self.timer and not self.warm and self.left() > TIMING): break
            waited = {worker.pipe: worker for worker in busy} | ({self.timer.pipe: None} if self.timer and not self.warm else {})
            for pipe in wait(waited, timeout=max(0, min(self.left(), 1))):
                if waited[pipe]: self.finish(waited[pipe])
        for worker in [*self.workers, *([self.timer] if self.timer else [])]: worker.end()
        for worker in self.workers: worker.busy = None
        self.write()
        left = len(self.todo())
        self.log(f'{len(self.done)} runs are done, {left} are left, {len(self.failed)} failed' + ('' if self.timed else '; the step was not timed'))
        return not (left or self.failed) and self.timed


def main(argv=None) -> int:
    groups = [*plan(), 'timing']
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, required=True, help='end after this long, counted from the start of the program')
    parser.add_argument('--out', type=Path, required=True, help='folder of the archives, the account and the log')
    parser.add_argument('--root', type=Path, help='folder that holds oxford-iiit-pet (default: $UNET_COURSE_DATA)')
    parser.add_argument('--before', type=Path, help='folder with archives of an earlier call: what is in them is done')
    parser.add_argument('--groups', default=','.join(groups), help='only these, in their order (default: %(default)s)')
    parser.add_argument('--at-once', type=int, help=f'runs at a time (default: on a GPU what is fastest of 1 to {TRIED}, else 1)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: %(default)s)')
    parser.add_argument('--tiny', action='store_true', help='synthetic pets, tiny networks: does it run? The figures mean nothing')
    words = parser.parse_args(argv)
    words.groups = words.groups.split(',')
    if unknown := ', '.join(set(words.groups) - set(groups)): parser.error(f'--groups {unknown}: use {", ".join(groups)}')
    prepare(words.tiny)
    words.out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.gettempdir()) / f'full_scale-{hashlib.sha256(str(words.out.resolve()).encode()).hexdigest()[:12]}'
    try:
        words.device = str(choose_device(words.device))
        with FileLock(f'{scratch}.lock', timeout=0):
            shutil.rmtree(scratch, ignore_errors=True)
            series = Series(words, scratch)
            try: return 0 if series.go() else 3
            finally:
                for worker in filter(None, [*series.workers, series.timer]): worker.end()
                shutil.rmtree(scratch, ignore_errors=True)
    except Timeout: parser.error(f'--out {words.out}: another process works for it; wait, or give another')
    except CourseError as error: parser.error(str(error))


if __name__ == '__main__': raise SystemExit(main())
