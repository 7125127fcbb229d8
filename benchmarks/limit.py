"""Part 3: how much of the machine's measured ceiling a training step reaches, and what takes the rest."""
import torch

from benchmarks.measuring import quartiles, row, take_turns
from benchmarks.step import Step, a_batch, formats, setting
from unet_course.factory import create_model

TITLE = 'Against the limit'


def matmul(device, dtype, tiny: bool):
    "A product of two large square matrices, and its GFLOP."
    n = 128 if tiny else 8192 if device.type == 'cuda' else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * n**3 / 1e9


def convolution(device, dtype, tiny: bool):
    "A 3x3 convolution from 256 to 256 channels, forward, and its GFLOP."
    count, size, channels = (1, 16, 16) if tiny else (64, 64, 256) if device.type == 'cuda' else (8, 64, 256)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    x = torch.randn(count, channels, size, size, device=device, dtype=dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(): return layer(x)
    return forward, 2 * 9 * channels**2 * count * size**2 / 1e9


def ceiling(device, tiny: bool, name: str, width: int, steps: dict | None = None) -> dict:
    "Training steps (by default the eager one) beside the two ceilings, in one run."
    options, wanted = formats(device)[name], dict(setting(device, tiny), width=width)
    steps = steps or dict(step=Step(create_model(dict(base_width=width), seed=0), a_batch(device, wanted['count'], wanted['size']), device, ours=True, **options))
    dtype = options.get('dtype') or torch.float32
    ways, gflop = dict(steps), {what: step.gflop * wanted['count'] for what, step in steps.items()}
    for what, make in dict(matmul=matmul, convolution=convolution).items(): ways[what], gflop[what] = make(device, dtype, tiny)
    times = take_turns(ways, device, rounds=3 if tiny else 9, seconds=60)
    rows = {what: dict(row(what, seconds), gflop=round(gflop[what], 2), gflop_per_second=quartiles([gflop[what] / s for s in seconds], 4)) for what, seconds in times.items()}
    best = max(('matmul', 'convolution'), key=lambda what: rows[what]['gflop_per_second']['median'])
    for what in steps: rows[what]['percent_of_ceiling'] = quartiles([100 * a / b * gflop[what] / gflop[best] for a, b in zip(times[best], times[what])], 3)
    return dict(setting=f"mp-tr, {name}, width {width}, batch {wanted['count']}, {wanted['size']}x{wanted['size']}; ceilings: a square matrix product and a 3x3 convolution of 256 channels, forward.", rows=list(rows.values()),
                notes='GFLOP of the step: its convolutions, forward and backward; all other work is in its time, not in its GFLOP.')


GROUPS = {'convolution, backward': ('convolution_backward', 'convolution_overrideable_backward', 'dgrad', 'wgrad'), 'convolution, forward': ('convolution', 'conv', 'gemm'), 'batch norm': ('batch_norm', 'bn_'),
          'ReLU': ('threshold', 'relu', 'clamp_min'), 'max pool': ('max_pool',), 'concatenation': ('cat', 'Cat'), 'copies and conversions': ('copy', 'fill', 'zero', 'empty'), 'optimizer': ('adam', 'Adam', 'foreach', 'lerp', 'addcdiv', 'addcmul', 'sqrt')}


def group_of(name: str) -> str:
    "The part of a training step that an operator belongs to."
    return next((group for group, words in GROUPS.items() if any(word in name for word in words)), 'loss, metrics, everything else')


def profiled(device, tiny: bool, name: str) -> dict:
    "Where the time of a training step goes, by the profiler."
    from torch.profiler import ProfilerActivity, profile
    wanted = setting(device, tiny)
    step = Step(create_model(dict(base_width=wanted['width']), seed=0), a_batch(device, wanted['count'], wanted['size']), device, ours=True, **formats(device)[name])
    steps = 2 if tiny else 4
    for _ in range(2): step()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == 'cuda' else [])]) as run:
        for _ in range(steps): step()
    kind = 'self_device_time_total' if device.type == 'cuda' else 'self_cpu_time_total'
    events = [(e.key, getattr(e, kind), e.count) for e in run.key_averages()]
    if device.type == 'cuda': events = [e for e in events if not e[0].startswith(('aten::', 'autograd', 'Optimizer'))]  # kernels only
    events.sort(key=lambda e: -e[1])
    total, groups = sum(e[1] for e in events), {}
    for key, time, _ in events: groups[group_of(key)] = groups.get(group_of(key), 0) + time
    line = lambda name, time, calls=None: dict(name=name, percent=round(100 * time / total, 1), calls_a_step=calls)
    rows = [line(f'**{group}**', time) for group, time in sorted(groups.items(), key=lambda g: -g[1])]
    rows += [line(key[:60], time, count / steps) for key, time, count in events[:12]]
    return dict(setting=f"mp-tr, {name}, width {wanted['width']}, batch {wanted['count']}, {wanted['size']}x{wanted['size']}; {steps} steps. First the groups, then the twelve operators with most time of their own.", rows=rows)


def layers(device, tiny: bool, name: str) -> dict:
    "The convolutions of the network, each alone, forward and backward, against the large one: what their shapes allow."
    wanted, options = setting(device, tiny), formats(device)[name]
    images, _ = a_batch(device, wanted['count'], wanted['size'])
    model = create_model(dict(base_width=wanted['width']), seed=0).to(device, memory_format=torch.channels_last)
    inputs = {}
    handles = [m.register_forward_hook(lambda m, i, o, k=k: inputs.__setitem__(k, (m, i[0].detach(), o.detach()))) for k, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))]
    with torch.inference_mode(False), torch.no_grad(): model(images)
    for handle in handles: handle.remove()
    shapes = {}
    for key, (layer, x, y) in inputs.items():
        shape = (type(layer).__name__, x.shape[1], y.shape[1], layer.kernel_size[0], x.shape[-1])
        shapes.setdefault(shape, [layer, x.clone(memory_format=torch.channels_last), y, 0])[3] += 1
    ways, gflop, times_in_net = {}, {}, {}
    for (kind, i, o, k, side), (layer, x, y, times) in shapes.items():
        x.requires_grad_(i > 3)
        gradient = torch.randn_like(y)
        def both(layer=layer, x=x, gradient=gradient):
            with torch.autocast(device.type, options.get('dtype') or torch.bfloat16, enabled='dtype' in options): out = layer(x)
            out.backward(gradient.to(out.dtype))
            x.grad = None
        label = f"{'transposed ' if 'Transpose' in kind else ''}{k}x{k}, {i} to {o} channels at {side}x{side}"
        macs = (x[0].numel() * layer.weight[0].numel()) if 'Transpose' in kind else y[0].numel() * layer.weight[0].numel()
        ways[label], gflop[label], times_in_net[label] = both, (6 if i > 3 else 4) * macs * wanted['count'] / 1e9, times
    times = take_turns(ways, device, rounds=3 if tiny else 7, seconds=40)
    rows = [dict(row(label, seconds), in_the_network=times_in_net[label], gflop_per_second=quartiles([gflop[label] / s for s in seconds], 4)) for label, seconds in times.items()]
    total = sum(r['seconds']['median'] * r['in_the_network'] for r in rows)
    rows.append(dict(name='all convolutions of one step', seconds=float(f'{total:.4g}'), in_the_network=sum(times_in_net.values()),
                     gflop_per_second=float(f'{sum(gflop[label] * times_in_net[label] for label in ways) / total:.4g}')))
    return dict(setting=f"mp-tr, {name}, width {wanted['width']}, batch {wanted['count']}, {wanted['size']}x{wanted['size']}; every shape of convolution alone, forward and both gradients.", rows=rows,
                notes='The last row is the time below which no reordering of the other work can bring a step with these convolutions.')


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    width = setting(device, tiny)['width']
    for name in formats(device):
        for w in ([width] if tiny or device.type == 'cuda' else [width, 64]): yield f'ceiling, {name}, width {w}', lambda name=name, w=w: ceiling(device, tiny, name, w)
        yield f'profile, {name}', lambda name=name: profiled(device, tiny, name)
        yield f'convolutions alone, {name}', lambda name=name: layers(device, tiny, name)
