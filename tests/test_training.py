"""Chapter 04: formats, schedule, one step, files, and runs that are stopped and go on."""
import math
import os
import platform
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from conftest import ROOT
from unet_course.data import batches, course_split
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.factory import create_model
from unet_course.losses import DiceLoss, WeightedBCE
from unet_course.measures import THRESHOLDS
from unet_course.prediction import load_weights, save_weights
from unet_course.runs.callbacks import Checkpoint, OneClassGuard, Progress
from unet_course.runs.run_folder import write_history
from unet_course.support.device import choose_amp, choose_device
from unet_course.support.files import CourseError, TrainingError, save_atomic, write_json
from unet_course.training import Recipe, Trainer, TrainingData, make_optimizer, train_step, validate

CLOCK = ('seconds', 'processor_seconds', 'images_per_second', 'peak_memory_mb')  # columns of a history that may differ


@pytest.fixture(scope='module')
def small():
    pets = synthetic_pets(30, size=32, seed=3)
    return pets, course_split(pets)


def make_trainer(small, loss=None, recipe=Recipe(epochs=2, batch_size=8), modes=('mp', 'tr'), border='background', callbacks=(), **options):
    model = create_model(dict(base_width=4, depth=2, downsample_mode=modes[0], upsample_mode=modes[1]), seed=0)
    return Trainer(model, loss or DiceLoss(), TrainingData(*small, border), recipe, callbacks, **options)


def same_weights(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def numbers(history):
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in history]


def painted(small, value, part='train'):
    "The pets with every trimap pixel of one part of the split painted over."
    pets, split = small
    trimaps = pets.trimaps.clone()
    trimaps[split[part]] = value
    return replace(pets, trimaps=trimaps), split


@pytest.mark.parametrize('value, missing', [(2, 'pet'), (1, 'background')])
def test_a_training_split_with_one_class_only_is_refused_without_any_callback(small, value, missing):
    with pytest.raises(CourseError, match=f'21 train images without one pixel of {missing}'): make_trainer(painted(small, value))


class Own(TrainingData):
    "Batches of one's own making, whose targets are masks as files hold them."
    def targets(self, part): return (255 * target for target in super().targets(part))


def test_targets_of_0_and_255_are_refused(small):
    with pytest.raises(CourseError, match='without one pixel of pet.*hold 0, 255; 1 is pet'):
        Trainer(create_model(dict(base_width=4, depth=2), seed=0), DiceLoss(), Own(*small), Recipe())


def test_images_without_a_pet_choose_no_epoch(small):
    "An empty mask of an empty target is IoU 1: of 9 such images and none with a pet no epoch can be chosen, of some with a pet these count."
    empty = painted(small, 2, 'val')
    with pytest.raises(CourseError, match='val images without one pixel of pet'): make_trainer(empty)
    make_trainer(empty, recipe=Recipe(select='loss'))  # chosen by the loss
    pets, split = small
    mixed = dict(split, val=split['val'][:1])
    extra = replace(pets, trimaps=torch.cat([pets.trimaps, torch.full_like(pets.trimaps[:5], 2)]), images=torch.cat([pets.images, pets.images[:5]]),
                    names=pets.names + [f'empty{i}' for i in range(5)], breeds=torch.cat([pets.breeds, pets.breeds[:5]]), test=torch.cat([pets.test, pets.test[:5]]))
    with_empty = dict(mixed, val=torch.cat([mixed['val'], torch.arange(30, 35)]))
    class Nothing(torch.nn.Module):
        def forward(self, images): return images[:, :1] * 0 - 9
    result = validate(Nothing(), WeightedBCE(), TrainingData(extra, with_empty).val(Recipe()))
    assert result['iou'] == result['iou_threshold'] == result['dice'] == result['predicted'] == 0 < result['true'] < 0.2


@pytest.mark.parametrize('memory, where', [(4, 'gpu'), (3.9, 'host')])
def test_pictures_beyond_a_share_of_the_gpus_memory_stay_on_the_host(small, monkeypatch, memory, where):
    "A quarter of the memory may hold pictures; what is larger is moved by the batch."
    pets, split = small
    size, moved = pets.images.nbytes + pets.trimaps.nbytes, []
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (0, int(memory * size)))
    monkeypatch.setattr(type(pets), 'to', lambda self, device: moved.append(device) or self)
    data = TrainingData(pets, split, device='cuda')
    assert moved == ([torch.device('cuda')] if where == 'gpu' else []) and data.pets is pets


def test_a_batch_that_batch_norm_cannot_take_is_said_before_training():
    pets = synthetic_pets(40, size=16, seed=3)
    split = dict(train=torch.arange(33), val=torch.arange(33, 40))
    make = lambda batch: Trainer(create_model(dict(base_width=2), seed=0), DiceLoss(), TrainingData(pets, split), Recipe(epochs=1, batch_size=batch))
    with pytest.raises(CourseError, match='33 training images in batches of 32.*--batch-size'): make(32)
    make(33)


def test_the_environment_may_choose_the_device(monkeypatch):
    monkeypatch.setenv('UNET_COURSE_DEVICE', 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert choose_device().type == 'cpu'
    monkeypatch.setenv('UNET_COURSE_DEVICE', 'toaster')
    with pytest.raises(ValueError, match="'toaster': no such device type"): choose_device()


def test_choose_device_names_what_is_wrong():
    assert choose_device('cpu').type == 'cpu'
    with pytest.raises(ValueError, match='no such device type'): choose_device('toaster')
    with pytest.raises(ValueError, match='not available'): choose_device('meta')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='not available'): choose_device('cuda')


def test_choose_amp(monkeypatch):
    cpu = torch.device('cpu')
    assert choose_amp('off', cpu) is None and choose_amp('bf16', cpu) is torch.bfloat16
    for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'): monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert choose_amp('auto', cpu) is None
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: True, raising=False)
    assert choose_amp('auto', cpu) is torch.bfloat16
    with pytest.raises(ValueError, match='needs CUDA'): choose_amp('fp16', cpu)
    with pytest.raises(ValueError, match='auto, off, bf16, fp16'): choose_amp('int8', cpu)


@pytest.mark.parametrize('wrong', [dict(epochs=0), dict(batch_size=0), dict(lr=0.0), dict(optimizer='sgd'), dict(schedule='step'), dict(select='dice'), dict(ema_decay=1.0), dict(ema_decay=-.1)])
def test_recipe_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))): Recipe(**wrong)


def test_decay_is_on_convolution_weights_only():
    model = create_model(dict(base_width=4), seed=0)
    optimizer, schedule = make_optimizer(model, Recipe(weight_decay=0.5), 10)
    decayed, plain = optimizer.param_groups
    assert decayed['weight_decay'] == 0.5 and plain['weight_decay'] == 0
    assert {p.ndim for p in decayed['params']} == {4} and {p.ndim for p in plain['params']} == {1}
    assert sum(len(g['params']) for g in optimizer.param_groups) == len(list(model.parameters()))
    rates = []
    for _ in range(10): rates.append(schedule.get_last_lr()[0]); optimizer.step(); schedule.step()
    assert max(rates) == pytest.approx(3e-3, rel=0.2) and rates[-1] < rates[0] < max(rates)


def test_step_refuses_what_is_not_finite_and_leaves_the_weights(small):
    model = create_model(dict(base_width=4), seed=0)
    images, targets = next(batches(*(small[0], small[1]['train']), 8))
    with torch.no_grad(): model.head.weight[0, 0] = math.nan
    before = [p.clone() for p in model.parameters()]
    scaler = torch.amp.GradScaler('cpu', enabled=False)
    with pytest.raises(TrainingError, match='not finite'):
        train_step(model, WeightedBCE(), images, targets, torch.optim.Adam(model.parameters()), scaler, None, 1.0)
    assert all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in zip(before, model.parameters()))


def test_a_scaler_skips_an_overflow_and_says_so(small):
    model = create_model(dict(base_width=4), seed=0)
    images, targets = next(batches(*(small[0], small[1]['train']), 8))
    scaler = torch.amp.GradScaler('cpu', enabled=True, init_scale=1e38)
    optimizer = torch.optim.Adam(model.parameters())
    before = [p.clone() for p in model.parameters()]
    loss, _, stepped = train_step(model, lambda a, b: 1e6 * WeightedBCE()(a, b), images, targets, optimizer, scaler, None, None)
    assert not stepped and scaler.get_scale() < 1e38 and all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


def test_validate_agrees_with_a_plain_loop(small):
    pets, split = small
    model, loss = create_model(dict(base_width=4), seed=0), WeightedBCE()
    result = validate(model, loss, batches(pets, split['val'], 2))
    assert model.training
    model.eval()
    right = total = 0
    ious = []
    with torch.no_grad():
        for images, targets in batches(pets, split['val'], 1):
            predicted, truth = model(images) > 0, targets == 1
            right, total = right + (predicted == truth).sum().item(), total + truth.numel()
            union = (predicted | truth).sum().item()
            ious.append((predicted & truth).sum().item() / union if union else 1.0)
    assert result['accuracy'] == pytest.approx(right / total) and result['iou'] == pytest.approx(sum(ious) / len(ious))
    with torch.no_grad(): by_cut = {cut: validate_at(model, pets, split['val'], cut) for cut in THRESHOLDS}
    best = max(by_cut, key=lambda cut: by_cut[cut][0])
    assert result['threshold'] == best and result['iou_threshold'] == pytest.approx(by_cut[best][0]) and result['iou_threshold'] >= result['iou']
    assert result['predicted'] == pytest.approx(by_cut[0.5][1]) and result['true'] == pytest.approx((pets.trimaps[split['val']] == 1).float().mean().item())


def validate_at(model, pets, index, cut):
    "Mean IoU of masks cut at one threshold, and the share of pixels called pet: by a plain loop."
    ious, painted = [], []
    for images, targets in batches(pets, index, 1):
        predicted, truth = model(images).sigmoid() > cut, targets == 1
        ious.append(((predicted & truth).sum() / (predicted | truth).sum()).item())
        painted.append(predicted.float().mean().item())
    return sum(ious) / len(ious), sum(painted) / len(painted)


@pytest.mark.parametrize('loss', [WeightedBCE(), DiceLoss()], ids=['bce', 'dice'])
def test_one_batch_can_be_learned_by_heart(small, loss):
    pets, split = small
    few = dict(train=split['train'][:4], val=split['train'][:4])
    trainer = Trainer(create_model(dict(base_width=8, depth=2), seed=0), loss, TrainingData(pets, few), Recipe(epochs=60, batch_size=4, augmented=False, lr=1e-2))
    trainer.fit()
    assert trainer.best['score'] > 0.85
    assert trainer.history[-1]['train_loss'] < 0.5 * trainer.history[0]['train_loss']


class StopAt(Exception):
    "A callback that stops a run right after a step or an epoch."
    def __init__(self, epoch, step): self.at = epoch, step

    def after_step(self, trainer):
        if (trainer.epoch, trainer.step) == self.at: raise self

    def after_epoch(self, trainer): self.after_step(trainer)


@pytest.mark.parametrize('change', [{}, dict(ema_decay=0.9), dict(optimizer='muon', lr=.02, schedule='linear', sizes=(.5, 1), augmented='flip')], ids=['plain', 'average', 'muon'])
@pytest.mark.parametrize('stop_at', [(0, 1), (0, 2), (1, 0), (1, 2)])
def test_a_stopped_run_goes_on_bit_for_bit(small, tmp_path, change, stop_at):
    recipe, path = Recipe(epochs=2, batch_size=8, **change), tmp_path / 'last.ckpt'
    whole = make_trainer(small, recipe=recipe)
    whole.fit()
    with pytest.raises(StopAt): make_trainer(small, recipe=recipe, callbacks=[Checkpoint(path, 0), StopAt(*stop_at)]).fit()
    said = []
    continued = make_trainer(small, recipe=recipe, callbacks=[Checkpoint(path, 0, said.append)])
    best = continued.fit()
    assert said[0] == f'continuing at epoch {stop_at[0] + 1}, step {stop_at[1] + 1}'
    assert same_weights(whole, continued) and numbers(whole.history) == numbers(continued.history)
    assert best['epoch'] == whole.best['epoch'] and all(torch.equal(best['state'][k], whole.best['state'][k]) for k in best['state'])


class InterruptAt(StopAt):
    "Ctrl-C, as the system sends it, while a step is being made."
    def after_step(self, trainer):
        if (trainer.epoch, trainer.step) == self.at: os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize('at', [(0, 2), (1, 1), (1, 0)])
def test_ctrl_c_saves_this_very_step_and_the_run_goes_on_from_it(small, tmp_path, at):
    whole, said, before = make_trainer(small), [], signal.getsignal(signal.SIGINT)
    whole.fit()
    checkpoint = Checkpoint(tmp_path / 'last.ckpt', 5, said.append)  # no time for one but Ctrl-C
    with pytest.raises(KeyboardInterrupt): make_trainer(small, callbacks=[InterruptAt(*at), checkpoint]).fit()
    state = torch.load(tmp_path / 'last.ckpt', weights_only=True)
    assert (state['epoch'], state['step']) == at and 'Ctrl-C again' in said[0] and signal.getsignal(signal.SIGINT) is before
    continued = make_trainer(small, callbacks=[checkpoint])
    continued.fit()
    assert said[1] == f'continuing at epoch {at[0] + 1}, step {at[1] + 1}'
    assert same_weights(whole, continued) and numbers(whole.history) == numbers(continued.history)


def test_ctrl_c_twice_does_not_wait_for_the_step(small, tmp_path):
    checkpoint = Checkpoint(tmp_path / 'last.ckpt', log=lambda line: None)
    class Twice:
        def after_step(self, trainer):
            if trainer.step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt): make_trainer(small, callbacks=[Twice(), checkpoint]).fit()
    assert torch.load(tmp_path / 'last.ckpt', weights_only=True)['step'] == 0  # the last one, from the start


@pytest.mark.parametrize('modes', [('mp', 'tr'), ('str_conv', 'ups')])
@pytest.mark.parametrize('loss', [WeightedBCE(), DiceLoss()], ids=['bce', 'dice'])
def test_same_seed_same_numbers(small, modes, loss):
    first, second, other = (make_trainer(small, loss, modes=modes, seed=seed) for seed in (0, 0, 1))
    for trainer in (first, second, other): trainer.fit()
    assert same_weights(first, second) and numbers(first.history) == numbers(second.history)
    assert not same_weights(first, other)


def test_one_class_is_said_from_the_third_epoch_on_and_then_stops(small):
    said = []
    flat = lambda logits, targets: (logits.float() - 20).square().mean()  # every pixel is pulled to "pet"
    recipe = Recipe(epochs=12, batch_size=8, lr=0.2, schedule='none', max_grad_norm=None)
    trainer = make_trainer(small, flat, recipe, callbacks=[OneClassGuard(said.append)])
    with pytest.raises(TrainingError, match='three epochs in a row.*pet.*--keep-going'): trainer.fit()
    assert len(trainer.history) >= 5 and len(said) >= 2 and all('after 1 epoch' not in line and 'after 2 epoch' not in line for line in said)
    assert all('every validation pixel is called pet' in line and 'learning rate' in line for line in said)
    trainer = make_trainer(small, flat, replace(recipe, epochs=8), callbacks=[OneClassGuard(said.append, keep_going=True)])
    trainer.fit()
    assert len(trainer.history) == 8 and trainer.history[-1]['one_class'] == 1


def test_progress_says_every_epoch_and_marks_the_best(small):
    said = []
    trainer = make_trainer(small, callbacks=[Progress(said.append)])
    trainer.fit()
    assert [line.split()[1] for line in said] == ['1/2', '2/2'] and f"IoU {trainer.history[0]['val_iou_threshold']:.4f}" in said[0]
    assert said[trainer.best['epoch'] - 1].endswith('*')


def test_impossible_values_stop_the_run(small):
    with pytest.raises(TrainingError, match='impossible'): make_trainer(small, lambda logits, targets: logits.float().mean() - 100).fit()


def test_a_torn_checkpoint_is_named(small, tmp_path):
    path = tmp_path / 'last.ckpt'
    make_trainer(small, callbacks=[Checkpoint(path)]).fit()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TrainingError, match='last.ckpt.*--fresh'): make_trainer(small, callbacks=[Checkpoint(path)]).fit()


@pytest.mark.parametrize('other', [dict(border='pet'), dict(loss=WeightedBCE(3.0)), dict(split=True)], ids=['border', 'loss', 'split'])
def test_a_checkpoint_of_another_run_is_refused(small, tmp_path, other):
    keep = dict(callbacks=[Checkpoint(tmp_path / 'last.ckpt')])
    make_trainer(small, **keep).fit()
    pets, split = small
    if other.pop('split', False): small = pets, dict(split, train=split['train'][1:])
    with pytest.raises(TrainingError, match='is of another run'): make_trainer(small, **keep, **other).fit()


def test_what_a_stopped_step_left_does_not_count(small):
    clean, stopped = make_trainer(small), make_trainer(small)
    for weight in stopped.model.parameters(): weight.grad = torch.ones_like(weight)
    clean.fit(), stopped.fit()
    assert same_weights(clean, stopped)


def test_the_recorded_rate_is_that_of_the_last_step(small):
    trainer = make_trainer(small)
    rates = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *words: rates.append(optimizer.param_groups[0]['lr']))
    trainer.fit()
    assert [row['lr'] for row in trainer.history] == rates[trainer.steps - 1::trainer.steps] and rates[-1] < 1e-6


def test_ctrl_c_while_a_file_is_written_stays_ctrl_c(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    def stopped(file):  # as torch.save does
        try: raise KeyboardInterrupt
        except KeyboardInterrupt: raise RuntimeError('unexpected pos 5357824 vs 5357720')
    with pytest.raises(KeyboardInterrupt): save_atomic(stopped, path)
    assert path.read_bytes() == b'old' and len(list(tmp_path.iterdir())) == 1


def test_save_atomic_keeps_the_old_file_when_the_disk_is_full(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    def full(file):
        file.write(b'half')
        raise OSError(28, 'No space left on device')
    with pytest.raises(CourseError, match='No space'): save_atomic(full, path)
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


def test_weights_round_trip_and_refusals(tmp_path):
    path = tmp_path / 'best.pth'
    config = dict(model=dict(base_width=4, downsample_mode='str_conv', upsample_mode='ups'), size=64)
    model = create_model(config['model'], seed=5)
    save_weights(path, model.state_dict(), config)
    loaded, stored = load_weights(path)
    assert stored == config and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values()))
    whole = path.read_bytes()
    (tmp_path / 'torn.pth').write_bytes(whole[:len(whole) // 2])
    (tmp_path / 'text.pth').write_text('not weights')
    torch.save([1, 2], tmp_path / 'foreign.pth')
    save_weights(tmp_path / 'mismatch.pth', model.state_dict(), dict(model=dict(base_width=8)))
    save_weights(tmp_path / 'unknown.pth', model.state_dict(), dict(model=dict(base_width=4, colour='red')))
    for name in ('torn', 'text', 'foreign', 'mismatch', 'unknown'):
        with pytest.raises(ValueError, match=f'{name}.pth') as error: load_weights(tmp_path / f'{name}.pth')
        assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match='missing.pth'): load_weights(tmp_path / 'missing.pth')


def test_weights_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self): return os.system, (f'touch {tmp_path / "ran"}',)
    torch.save(dict(config=Evil(), state={}), tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='evil.pth'): load_weights(tmp_path / 'evil.pth')
    assert not (tmp_path / 'ran').exists()


def test_json_and_csv(tmp_path):
    with pytest.raises(ValueError): write_json(dict(x=math.nan), tmp_path / 'x.json')
    assert not list(tmp_path.glob('x.json*'))
    write_history([dict(epoch=1, loss=0.5), dict(epoch=2, loss=0.25)], tmp_path / 'h.csv')
    assert (tmp_path / 'h.csv').read_text() == 'epoch,loss\n1,0.5\n2,0.25\n'


def test_scaling_of_the_epoch_sums(small):
    pets, split = small
    trainer = make_trainer(small, WeightedBCE(), Recipe(epochs=1, batch_size=8, augmented=False, optimizer='adam', schedule='none', max_grad_norm=None))
    trainer.fit()
    assert 0 < trainer.history[0]['train_loss'] < 3 and 0 < trainer.history[0]['train_accuracy'] <= 1
    assert trainer.history[0]['lr'] == trainer.recipe.lr


def test_freed_memory_kept_changes_no_bit():
    "In processes of their own: the switch cannot be turned back."
    program = """
import hashlib, sys
from unet_course.data import course_split
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.factory import create_model
from unet_course.losses import DiceLoss
from unet_course.support.device import keep_freed_memory
from unet_course.training import Recipe, Trainer, TrainingData
if sys.argv[1] == 'keep': assert keep_freed_memory() == (sys.argv[2] == 'glibc')
pets = synthetic_pets(48, 32)
trainer = Trainer(create_model(dict(base_width=4), seed=0), DiceLoss(), TrainingData(pets, course_split(pets)), Recipe(epochs=1, batch_size=8))
trainer.fit()
print(hashlib.sha256(b''.join(v.contiguous().numpy().tobytes() for v in trainer.model.state_dict().values())).hexdigest())
"""
    library = platform.libc_ver()[0] or 'other'
    hashes = [subprocess.run([sys.executable, '-c', program, way, library], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout for way in ('keep', 'plain')]
    assert len(hashes[0].strip()) == 64 and hashes[0] == hashes[1]
