"""Part 6: processor seconds to a network of a given validation IoU: our recipe against the old ones, and against other libraries' U-Nets."""
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import installed, processor, quartiles, ratio, row
from benchmarks.recipes import COURSE, TUNED, SearchRecipe, SearchTrainer
from benchmarks.step import basic_unet, resnet_unet
from unet_course.data import Pets, course_split, make_targets, normalize
from unet_course.datasets.oxford_pets import load_pets
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import EXPERIMENTS, PROTOCOLS, loss_arguments, parse_variants
from unet_course.factory import create_model
from unet_course.losses import make_loss
from unet_course.support.device import choose_amp
from unet_course.support.files import write_json
from unet_course.training import Recipe, validate

TITLE = 'Time to quality'
SEARCH, KEPT = Path('results/recipe_search'), Path('results/benchmarks/quality')  # one JSON a run: what is there is not run again
OURS, OLD = 'decay_1e_1', ('tuned', 'course')  # the tries of the search: the one that was chosen, and the recipes before it
PATIENCE = 10  # a peer may spend this many times our processor seconds


def searched(recipe: Recipe, **knobs) -> SearchRecipe:
    "Return a `Recipe` as a `SearchRecipe`."
    return SearchRecipe(**asdict(recipe), **knobs)


RECIPES = dict(decay_1e_1=searched(replace(PROTOCOLS['course'], epochs=6)), tuned=searched(TUNED), course=searched(COURSE))


def the_pets(size: int, tiny: bool) -> tuple[Pets, dict]:
    "Return the pets and their training and validation rows; the test rows stay out."
    pets = synthetic_pets(60, size) if tiny else load_pets(size=size)
    return pets, {part: rows for part, rows in course_split(pets).items() if part != 'test'}


class Seconds:
    "A callback: the processor seconds of each validation, and a line for each epoch."
    def __init__(self, log): self.log, self.seconds, self.end = log, [], 0.0

    def after_step(self, trainer): self.end = time.process_time()

    def after_epoch(self, trainer):
        self.seconds.append(time.process_time() - self.end)
        self.log(trainer.history[-1])


def train_ours(recipe: SearchRecipe, variant, seed: int, pets, split: dict, width: int, device, log=lambda row: None) -> dict:
    "Return the figures of one run of ours: the IoU of its best epoch, the processor seconds, the history."
    seconds, amp = Seconds(log), choose_amp('auto', device)
    model = create_model(dict(base_width=width, downsample_mode=variant.down, upsample_mode=variant.up), seed=seed)
    trainer = SearchTrainer(model, make_loss(variant.loss, **loss_arguments(variant.loss)), pets, split, recipe, seed, device, amp, [seconds])
    trainer.fit()
    history = [dict(epoch=r['epoch'], side=r['side'], train_loss=r['train_loss'], iou=r['val_iou_threshold'], threshold=r['val_threshold'], iou_at_half=r['val_iou'],
                    train_seconds=r['processor_seconds'], validation_seconds=round(validation, 2)) for r, validation in zip(trainer.history, seconds.seconds)]
    return dict(recipe=asdict(recipe), variant=variant.id, **figures(history, seed, width, pets.size), amp=str(amp).removeprefix('torch.'))


def figures(history: list[dict], seed: int, width: int, size: int) -> dict:
    "Return what the rows of a history, one an epoch, say about a run."
    best = max(history, key=lambda r: r['iou'])
    seconds = {f'{part}_seconds': round(sum(r[f'{part}_seconds'] for r in history), 2) for part in ('train', 'validation')}
    return dict(seed=seed, width=width, size=size, **{k: best[k] for k in ('iou', 'threshold', 'iou_at_half')}, best_epoch=best['epoch'], **seconds, history=history,
                processor=processor(), threads=torch.get_num_threads(), packages=installed('torch', 'monai', 'segmentation_models_pytorch'))


class Decoded(torch.utils.data.Dataset):
    "Decoded pictures and their targets, one by one, as a `DataLoader` wants them."

    def __init__(self, pets, rows): self.images, self.targets, self.rows = pets.images, make_targets(pets.trimaps), rows

    def __len__(self): return len(self.rows)

    def __getitem__(self, i): return normalize(self.images[self.rows[i]]), self.targets[self.rows[i]]


PEERS = {'MONAI BasicUNet': lambda width: basic_unet(width, False), 'smp Unet, ResNet-34': lambda width: resnet_unet()}


def peer_loss(name: str, loss: str):
    "Return the loss as the peer's users write it: its own Dice, or torch's cross-entropy."
    if loss == 'bce': return torch.nn.BCEWithLogitsLoss()
    if 'MONAI' in name:
        from monai.losses import DiceLoss
        return DiceLoss(sigmoid=True)
    from segmentation_models_pytorch.losses import DiceLoss
    return DiceLoss('binary')


def train_peer(name: str, loss: str, seed: int, pets, split: dict, width: int, wanted: float, most: float, log=lambda row: None) -> dict:
    "Return the figures of a peer trained as its users do: fp32, Adam 1e-3, `DataLoader`, batch 32; it stops at the wanted IoU, or when `most` processor seconds are spent."
    torch.manual_seed(seed)
    model, function = PEERS[name](width), peer_loss(name, loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train, val = (torch.utils.data.DataLoader(Decoded(pets, split[part]), 32, shuffle=part == 'train') for part in ('train', 'val'))
    history, spent = [], 0.0
    while spent < most and not (history and history[-1]['iou'] >= wanted):
        started = time.process_time()
        for images, targets in train:
            optimizer.zero_grad()
            function(model(images), targets.float()).backward()
            optimizer.step()
        trained = time.process_time()
        spent += trained - started
        found = validate(model, lambda logits, targets: function(logits, targets.float()), val)
        history.append(dict(epoch=len(history) + 1, iou=found['iou_threshold'], threshold=found['threshold'], iou_at_half=found['iou'], train_seconds=round(trained - started, 2),
                            validation_seconds=round(time.process_time() - trained, 2)))
        log(history[-1])
    return dict(peer=name, loss=loss, wanted=wanted, most=most, reached=history[-1]['iou'] >= wanted, **figures(history, seed, width, pets.size), amp='None')


def kept(
    path: Path,  # of the run's figures
    measure,     # called if it has not been run yet
    tiny: bool,  # nothing is kept then
) -> dict:
    "Return the kept figures of a run, or run it and keep them."
    if tiny: return measure()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(measure(), path)
    return json.loads(path.read_text())


def run_ours(name: str, alias: str, seed: int, size: int, tiny: bool, device) -> dict:
    "Return the figures of one of `RECIPES`, from the search if it has them."
    def measure():
        pets, split = the_pets(size, tiny)
        found = train_ours(RECIPES[name], EXPERIMENTS[alias], seed, pets, split, 2 if tiny else 16, device, lambda line: print(name, alias, seed, line, flush=True))
        return dict(attempt=name, **found)
    return kept(SEARCH / f'{size}px' / f'{name}-{EXPERIMENTS[alias].id}-seed{seed}.json', measure, tiny)


def line(name: str, runs: list[dict], **more) -> dict:
    "Return the row of some runs."
    return dict(row(name, [r['train_seconds'] for r in runs]), with_validation=quartiles([r['train_seconds'] + r['validation_seconds'] for r in runs]),
                iou=quartiles([r['iou'] for r in runs]), mean_iou=round(float(np.mean([r['iou'] for r in runs])), 4), mean_iou_at_half=round(float(np.mean([r['iou_at_half'] for r in runs])), 4), **more)


def against_the_old(device, tiny: bool, size: int) -> dict:
    "Ours, `tuned` and, at 64 px, `course`: a round is one variant and one seed."
    names = [OURS, *(OLD if size < 128 else OLD[:1])]
    rounds = [(v, s) for s in (100, 101) for v in ('exp1', 'exp4')]
    runs = [{name: run_ours(name, variant, seed, size, tiny, device) for name in names} for variant, seed in rounds]
    rows = {name: line(name, [r[name] for r in runs]) for name in names}
    ratios = [ratio(rows[OURS], rows[old], {'tuned': 3.0, 'course': 1.0}[old], 'times less training') for old in names[1:]]
    gains = '; '.join(f"against {old} {100 * (rows[OURS]['mean_iou'] - rows[old]['mean_iou']):+.2f} points" for old in names[1:])
    return dict(setting=f'Width 16, {size}x{size}, ' + ', '.join(f'{v} seed {s}' for v, s in rounds) + '; processor seconds of one thread; validation IoU of the best epoch at the best of 19 thresholds.',
                rows=list(rows.values()), ratios=ratios, notes=f'Mean validation IoU of ours {gains}.')


def all_variants(device, tiny: bool, size: int) -> dict:
    "Ours and `tuned` on all eight variants, one seed."
    rows, gains = [], {}
    for variant in parse_variants('factorial'):
        runs = {}
        for name in (OURS, 'tuned'):
            def measure():
                pets, split = the_pets(size, tiny)
                return dict(attempt=name, **train_ours(RECIPES[name], variant, 100, pets, split, 2 if tiny else 16, device, lambda line: print(name, variant.id, line, flush=True)))
            runs[name] = kept(SEARCH / f'{size}px' / f'{name}-{variant.id}-seed100.json', measure, tiny)
            rows.append(line(f'{variant.id}, {name}', [runs[name]]))
        gains[variant.id] = 100 * (runs[OURS]['iou'] - runs['tuned']['iou'])
    return dict(setting=f'Width 16, {size}x{size}, seed 100; validation IoU of the best epoch at the best of 19 thresholds.', rows=rows, ratios=[],
                notes='Ours minus tuned, points of validation IoU: ' + ', '.join(f'{name} {gain:+.2f}' for name, gain in gains.items()) +
                      f'; mean {np.mean(list(gains.values())):+.2f}, standard deviation over the variants {np.std(list(gains.values()), ddof=1):.2f}.')


def against_peers(device, tiny: bool, size: int, rounds: tuple) -> dict:
    "Peers until they reach the IoU that `tuned` reaches, or have spent ten times our training."
    alias = dict(bce='exp1', dice='exp4')
    wanted = float(np.mean([run_ours('tuned', alias[loss], seed, size, tiny, device)['iou'] for loss in alias for seed in (100, 101)]))
    ours = {(loss, seed): run_ours(OURS, alias[loss], seed, size, tiny, device) for loss, seed in rounds}
    rows, ratios = [line('ours', list(ours.values()))], []
    for peer in PEERS:
        runs = []
        for (loss, seed), mine in ours.items():
            def measure():
                pets, split = the_pets(size, tiny)
                return train_peer(peer, loss, seed, pets, split, 2 if tiny else 16, wanted, PATIENCE * mine['train_seconds'], lambda line: print(peer, loss, seed, line, flush=True))
            runs.append(kept(KEPT / f'{size}px' / f'{peer.split()[0].lower()}-{loss}-seed{seed}.json', measure, tiny))
        rows.append(line(peer, runs, reached=f"{sum(r['reached'] for r in runs)} of {len(runs)}", epochs=quartiles([len(r['history']) for r in runs])))
        ratios.append(ratio(rows[0], rows[-1], 8.0, 'times less training' + (' at least: not every run of the peer reached it' if not all(r['reached'] for r in runs) else '')))
    return dict(setting=f'Width 16 (ResNet-34: its own), {size}x{size}; wanted: validation IoU {wanted:.4f}, which tuned reaches. Ours: exp1 for BCE, exp4 for Dice. Peers: fp32, Adam 1e-3, DataLoader, batch 32, the same decoded pictures, '
                f'{", ".join(f"{loss} seed {seed}" for loss, seed in rounds)}; stopped at the wanted IoU, or after {PATIENCE} times our training.', rows=rows, ratios=ratios)


def profiles(device, tiny: bool, size: int) -> dict:
    "Where a training step's time goes with ours, `tuned` and `course`: 24 steps at full size, exp1."
    from torch.profiler import ProfilerActivity, profile
    pets, split = the_pets(size, tiny)
    rows, steps = {part: found[:(2 if tiny else 24) * 32 if part == 'train' else 64] for part, found in split.items()}, {}
    shares = {}
    for name in (OURS, *OLD):
        recipe, variant = replace(RECIPES[name], epochs=1, sizes=(1,)), EXPERIMENTS['exp1']
        model = create_model(dict(base_width=2 if tiny else 16, downsample_mode=variant.down, upsample_mode=variant.up), seed=0)
        trainer = SearchTrainer(model, make_loss(variant.loss, **loss_arguments(variant.loss)), pets, rows, recipe, 0, device, choose_amp('auto', device), [])
        start = time.process_time()
        with profile(activities=[ProfilerActivity.CPU]) as run: trainer.fit()
        steps[name] = time.process_time() - start
        events = run.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        for event in events: shares.setdefault(event.key, {})[name] = 100 * event.self_cpu_time_total / total
    most = sorted(shares, key=lambda key: -max(shares[key].values()))[:14]
    table = [dict(name=key[:60], **{f'{name}, percent': round(shares[key].get(name, 0.0), 1) for name in (OURS, *OLD)}) for key in most]
    return dict(setting=f'exp1, width 16, {size}x{size}, batch 32: 24 training steps at full size and a validation of 64 images. The fourteen operators with most time of their own.', rows=table,
                notes='Processor seconds, the profiler included: ' + ', '.join(f'{name} {seconds:.1f}' for name, seconds in steps.items()) + '.')


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    for size in (32,) if tiny else (64, 128):
        yield f'ours, tuned and course, {size} px', lambda size=size: against_the_old(device, tiny, size)
    yield f'all eight variants, {32 if tiny else 64} px', lambda: all_variants(device, tiny, 32 if tiny else 64)
    yield f'peers, {32 if tiny else 64} px', lambda: against_peers(device, tiny, 32 if tiny else 64, (('bce', 100), ('dice', 100), ('bce', 101)))
    for size in (32,) if tiny else (64, 128): yield f'profile of a step, {size} px', lambda size=size: profiles(device, tiny, size)
