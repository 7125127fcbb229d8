"""Part 2: the training step (forward, backward, optimizer) against MONAI's BasicUNet and segmentation_models_pytorch's Unet."""
import functools
import resource
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import child, installed, peak_memory, quartiles, ratio, row, take_turns
from unet_course.support import device as devices
from unet_course.data import batches
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import PROTOCOLS
from unet_course.factory import create_model
from unet_course.losses import WeightedBCE
from unet_course.training import Recipe, make_optimizer, train_step

TITLE = 'Training step: forward, backward, optimizer'
PAIRS = [('mp', 'tr'), ('mp', 'ups'), ('str_conv', 'tr'), ('str_conv', 'ups')]
OURS, PLAIN, OWN_RECIPE = 'ours', 'BasicUNet, batch norm, ReLU', "ours, the course's optimizer"


def a_batch(device: torch.device, count: int, size: int):
    "Images and targets of synthetic pets, the same in every comparison."
    return next(batches(synthetic_pets(count, size), torch.arange(count), count, device=device))


def basic_unet(width: int, batch_norm: bool):
    "MONAI's BasicUNet with our widths, either as it comes (instance norm, leaky ReLU) or with our norm and activation."
    from monai.networks.nets import BasicUNet
    choice = dict(act=('RELU', dict(inplace=True)), norm='batch') if batch_norm else {}
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=(*(width * 2**level for level in range(5)), width), **choice)


def resnet_unet():
    "segmentation_models_pytorch's Unet on a ResNet-34 without weights: a smaller decoder, for reference only."
    import segmentation_models_pytorch as smp
    return smp.Unet('resnet34', encoder_weights=None, in_channels=3, classes=1)


def gflop_of(model, image: torch.Tensor) -> float:
    "GFLOP of one image, forward and backward: two for each multiply-add of the convolutions, as torch counts them."
    model.eval()
    with FlopCounterMode(display=False) as counted: model(image).sum().backward()
    model.zero_grad()
    model.train()
    return round(counted.get_total_flops() / 1e9, 3)


class Step:
    "One network with what trains it; calling it makes one step. Ours is the package's `train_step`, a peer has the loop of the tutorials."

    def __init__(self, model, batch, device, dtype=None, channels_last=True, compiled=False, ours=False, tf32=False, recipe=Recipe()):
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model, self.dtype, self.ours, self.tf32 = model.to(device, memory_format=layout).train(), dtype, ours, tf32
        self.images, self.targets = batch[0].contiguous(memory_format=layout), batch[1]
        self.gflop = gflop_of(self.model, self.images[:1])
        self.optimizer = make_optimizer(self.model, recipe, 100, dtype)[0] if ours else torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.scaler, self.loss = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16), WeightedBCE()
        self.called = torch.compile(self.model) if compiled else self.model

    def __call__(self):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        if self.ours: return train_step(self.called, self.loss, self.images, self.targets, self.optimizer, self.scaler, self.dtype, 1.0)
        with torch.autocast(self.images.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            loss = self.loss(self.called(self.images), self.targets)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def formats(device: torch.device) -> dict:
    "The number formats to compare on a device: autocast's type, and whether TF32 may be used."
    if device.type == 'cpu': return dict(fp32={}, bf16=dict(dtype=torch.bfloat16))
    return dict(fp32={}, tf32=dict(tf32=True), bf16=dict(dtype=torch.bfloat16), fp16=dict(dtype=torch.float16))


def setting(device: torch.device, tiny: bool) -> dict:
    "Width, size and batch."
    if tiny: return dict(width=4, size=32, count=2)
    return dict(width=64, size=128, count=64) if device.type == 'cuda' else dict(width=16, size=128, count=16)


def measured(steps: dict, device, tiny: bool, what: str, pairs: list) -> dict:
    "The comparison of some steps; `pairs` names the ratios: (ours, other, target)."
    count = len(next(iter(steps.values())).images)
    times = take_turns(steps, device, rounds=3 if tiny else 9, seconds=100)
    rows = {name: row(name, seconds, count, gflop_per_image=steps[name].gflop) for name, seconds in times.items()}
    for r in rows.values(): r['gflop_per_second'] = float(f"{r['gflop_per_image'] * r['images_per_second']['median']:.4g}")
    wanted = setting(device, tiny)
    return dict(setting=f"{what} Base width {wanted['width']}, batch {count}, {wanted['size']}x{wanted['size']}, weighted BCE, AdamW.", rows=list(rows.values()),
                ratios=[ratio(rows[a], rows[b], target) for a, b, target in pairs],
                notes='GFLOP an image: convolutions only, forward and backward, two for each multiply-add.')


def peers(device, tiny, name: str) -> dict:
    "Ours (mp-tr) against BasicUNet as it comes, with batch norm and ReLU, each in both layouts, and Unet on ResNet-34."
    wanted, options = setting(device, tiny), formats(device)[name]
    make = functools.partial(Step, batch=a_batch(device, wanted['count'], wanted['size']), device=device, **options)
    width, target = wanted['width'], 1.3 if device.type == 'cpu' else None
    steps = {OURS: make(create_model(dict(base_width=width), seed=0), ours=True),
             PLAIN: make(basic_unet(width, True), channels_last=False),
             f'{PLAIN}, channels_last': make(basic_unet(width, True)),
             'BasicUNet as it comes': make(basic_unet(width, False), channels_last=False),
             'BasicUNet as it comes, channels_last': make(basic_unet(width, False))}
    if not tiny: steps['Unet on ResNet-34, channels_last'] = make(resnet_unet())
    pairs = [(OURS, other, target if other == PLAIN and name == 'fp32' else None) for other in list(steps)[1:]]
    return measured(steps, device, tiny, f'{name}, eager; mp-tr.', pairs)


def modes(device, tiny, name: str) -> dict:
    "Our four pairs of modes."
    wanted, options = setting(device, tiny), formats(device)[name]
    make = functools.partial(Step, batch=a_batch(device, wanted['count'], wanted['size']), device=device, ours=True, **options)
    steps = {f'{down}-{up}': make(create_model(dict(base_width=wanted['width'], downsample_mode=down, upsample_mode=up), seed=0)) for down, up in PAIRS}
    return measured(steps, device, tiny, f'{name}, eager; ours.', [('mp-tr', other, None) for other in list(steps)[1:]])


def settings_of_ours(device, tiny) -> dict:
    "Our number formats and layouts, and compiled."
    wanted = setting(device, tiny)
    make = functools.partial(Step, batch=a_batch(device, wanted['count'], wanted['size']), device=device, ours=True)
    net = functools.partial(create_model, dict(base_width=wanted['width']), seed=0)
    steps = {}
    for name, options in formats(device).items():
        steps[f'{name}, NCHW'] = make(net(), channels_last=False, **options)
        steps[f'{name}, channels_last'] = make(net(), **options)
        if device.type == 'cuda': steps[f'{name}, channels_last, compiled'] = make(net(), compiled=True, **options)
    slow, *others = steps
    return measured(steps, device, tiny, 'mp-tr, ours.', [(other, slow, None) for other in others])


def amp_steps(device, tiny) -> dict:
    "Functions without arguments, by name, that make the steps of `best_amp`; BasicUNet's are left out where MONAI is not installed."
    wanted, ways = setting(device, tiny), [('', False)] if tiny else [('', False), (', compiled', True)]
    batch, found = a_batch(device, wanted['count'], wanted['size']), {}
    net, types = functools.partial(create_model, dict(base_width=wanted['width']), seed=0), formats(device)
    for suffix, compiled in ways: found[OURS + suffix] = lambda compiled=compiled: Step(net(), batch, device, torch.bfloat16, compiled=compiled, ours=True)
    found[OWN_RECIPE] = lambda: Step(net(), batch, device, torch.bfloat16, ours=True, recipe=PROTOCOLS['course'])
    if not installed('monai'): return found
    for name in [name for name in ('bf16', 'fp16') if name in types]:
        for layout, channels_last in (('NCHW', False), ('channels_last', True)):
            for suffix, compiled in ways:
                found[f'{PLAIN}, {name}, {layout}{suffix}'] = functools.partial(lambda *words: Step(basic_unet(wanted['width'], True), *words), batch, device, types[name]['dtype'], channels_last, compiled)
    return found


def best_amp(device, tiny, steps: dict | None = None) -> dict:
    "Ours, eager and compiled, against every AMP setting of BasicUNet with batch norm and ReLU; the target counts against the best of them."
    steps = steps or {name: make() for name, make in amp_steps(device, tiny).items()}
    ours, others = [name for name in (OURS, f'{OURS}, compiled') if name in steps], [name for name in steps if name.startswith(PLAIN)]
    result = measured(steps, device, tiny, f'AMP, ours in bf16; mp-tr. The row "{OWN_RECIPE}" has the optimizer of the protocol course, {PROTOCOLS["course"].optimizer}.', [(mine, other, None) for mine in ours for other in others])
    for mine in ours if others else []: min((r for r in result['ratios'] if r['ours'] == mine), key=lambda r: r['ratio']['median'])['target'] = 1.5
    return result


def one_process(keep: bool, width: int, size: int, count: int, amp: str) -> dict:
    "Seconds of some steps in this process, with the C library told to keep freed memory or not, and its page faults and peak memory."
    if keep: devices.keep_freed_memory()
    step = Step(create_model(dict(base_width=width), seed=0), a_batch(torch.device('cpu'), count, size), torch.device('cpu'), formats(torch.device('cpu'))[amp].get('dtype'), ours=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    times = take_turns({'step': step}, torch.device('cpu'), rounds=5)['step']
    after = resource.getrusage(resource.RUSAGE_SELF)
    return dict(times=times, faults=(after.ru_minflt - before.ru_minflt) / 6, peak_mb=peak_memory(), gflop=step.gflop)


def memory_kept(device, tiny: bool, name: str) -> dict:
    "Steps with and without `keep_freed_memory`, each in processes of its own, in turns."
    wanted, found = setting(device, tiny), {'freed memory kept': [], 'as the system has it': []}
    for _ in range(1 if tiny else 4):
        for way, results in found.items(): results.append(child('benchmarks.step', 'one_process', keep=way == 'freed memory kept', amp=name, **wanted))
    rows = [row(way, [t for r in results for t in r['times']], wanted['count'], peak_mb=quartiles([r['peak_mb'] for r in results], 4), page_faults_a_step=round(results[0]['faults'])) for way, results in found.items()]
    return dict(setting=f"mp-tr, {name}, width {wanted['width']}, batch {wanted['count']}, {wanted['size']}x{wanted['size']}; {len(results)} processes of either kind in turns, 5 steps each. The same numbers come out, bit for bit.", rows=rows, ratios=[ratio(*rows)])


def trained(device, wanted: dict, steps: int, double: bool = False, **options):
    "Losses of some steps, and the logits after them, of our network from one seed."
    net = create_model(dict(base_width=wanted['width']), seed=0)
    images, targets = a_batch(device, wanted['count'], wanted['size'])
    step = Step(net.double() if double else net, (images.double() if double else images, targets), device, ours=True, **options)
    first, losses = None, []
    for _ in range(steps):
        loss, logits, _ = step()
        first = logits.double() if first is None else first
        losses.append(loss.item())
    return losses, first


def equality(device, tiny) -> dict:
    "Our fast setting against the plain one and against float64: the same numbers within rounding?"
    wanted, steps = dict(setting(device, tiny), count=4), 3 if tiny else 10
    exact, logits = trained(device, wanted, steps, double=True, channels_last=False)
    rows = []
    for name, options in {'fp32, NCHW (plain)': dict(channels_last=False), 'fp32, channels_last': {}, 'bf16, channels_last': dict(dtype=torch.bfloat16)}.items():
        losses, mine = trained(device, wanted, steps, **options)
        rows.append(dict(name=name, error_of_first_logits=float(f'{((mine - logits).abs().max() / logits.abs().max()).item():.3g}'),
                         error_of_first_loss=float(f'{abs(losses[0] / exact[0] - 1):.3g}'), error_of_last_loss=float(f'{abs(losses[-1] / exact[-1] - 1):.3g}')))
    return dict(setting=f"mp-tr, width {wanted['width']}, {wanted['size']}x{wanted['size']}, batch {wanted['count']}, {steps} steps from one seed; relative errors against the same steps in float64.", rows=rows,
                notes='One rounding is 6e-08 in fp32 and 4e-03 in bf16; a forward pass through 23 convolutions adds up hundreds of terms a number.')


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    for name in formats(device): yield f'peers, {name}', lambda name=name: peers(device, tiny, name)
    for name in formats(device): yield f'modes, {name}', lambda name=name: modes(device, tiny, name)
    yield 'layouts and number formats', lambda: settings_of_ours(device, tiny)
    if device.type == 'cuda': yield 'best AMP', lambda: best_amp(device, tiny)
    if sys.platform == 'linux' and device.type == 'cpu' and hasattr(devices, 'keep_freed_memory'):
        for name in formats(device): yield f'freed memory, {name}', lambda name=name: memory_kept(device, tiny, name)
    yield 'equality', lambda: equality(device, tiny)
