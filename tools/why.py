"""The small experiments behind the chapters' design choices: one change at a time, judged on validation images alone.

    python tools/why.py norm skips depth width       these four, or those named; a stopped one goes on
    python tools/why.py norm --epochs 1 --data synthetic --out /tmp/why    a quick look, no photographs

Each question has a few arms. An arm is a small subclass of `UNet` (or `UNet` itself with another argument), trained from two seeds at
width 16 on photographs of 64x64 pixels by one fixed recipe. What an arm reached is kept in results/why/<question>.json, where chapters 01
and 02 read it. The test split is never built.
"""
import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from unet_course.blocks import DoubleConv  # noqa: E402
from unet_course.data import batches, course_split  # noqa: E402
from unet_course.datasets.oxford_pets import load_pets  # noqa: E402
from unet_course.datasets.synthetic import synthetic_pets  # noqa: E402
from unet_course.factory import UNet, count_macs, count_parameters, create_model  # noqa: E402
from unet_course.losses import WeightedBCE, iou  # noqa: E402
from unet_course.runs.evaluation import THRESHOLDS, counts_at  # noqa: E402
from unet_course.support.device import choose_amp  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402


class NoNormUNet(UNet):
    "A U-Net without batch norm."
    def __init__(self, **config):
        super().__init__(**config)
        for block in self.modules():
            if isinstance(block, DoubleConv): block[1] = block[4] = nn.Identity()


class GroupNormUNet(UNet):
    "A U-Net that standardises eight groups of channels of each picture by itself."
    def __init__(self, **config):
        super().__init__(**config)
        for block in self.modules():
            if isinstance(block, DoubleConv):
                for i in (1, 4): block[i] = nn.GroupNorm(8, block[i].num_features)


class AddUNet(UNet):
    "A U-Net whose decoder adds the skip connection to what comes from below; both sides of the pictures divide by 2**depth."
    def __init__(self, **config):
        super().__init__(**config)
        self.decoder = nn.ModuleList(DoubleConv(decode[3].out_channels, decode[3].out_channels) for decode in self.decoder)

    def forward(self, x):
        skips = []
        for encode, down in zip(self.encoder, self.down):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x)
        for up, decode in zip(self.up, self.decoder): x = decode(self.join(skips.pop(), up(x)))
        return self.head(x)

    def join(self, skip, up): return skip + up


class NoSkipUNet(AddUNet):
    "The same without what the skip connections bring: the decoder has only what comes from below."
    def join(self, skip, up): return up


def arms(question: str) -> list:  # (name, class, config, peak of the learning rate)
    "Return the arms of a question."
    base = dict(base_width=16, depth=4)
    kinds = {'batch norm': UNet, 'no norm': NoNormUNet, 'group norm': GroupNormUNet}
    return dict(
        norm=[(name, kind, base, lr) for lr in (3e-3, 1e-3) for name, kind in kinds.items()],
        skips=[('concatenate', UNet, base, 3e-3), ('add', AddUNet, base, 3e-3), ('none', NoSkipUNet, base, 3e-3)],
        depth=[(f'depth {d}', UNet, base | dict(depth=d), 3e-3) for d in (4, 3, 2, 5)],
        width=[(f'width {w}', UNet, dict(base_width=w, depth=4), 3e-3) for w in (16, 8, 32, 64)])[question]


def train(net, pets, split, epochs, lr, seed, amp) -> list[dict]:  # a row an epoch
    "Return validation IoU after each epoch of AdamW on a one-cycle schedule, without augmentation; the loss is exp1's."
    loss_of, steps = WeightedBCE(3.0), epochs * math.ceil(len(split['train']) / 32)
    net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=.3, cycle_momentum=False)
    rows, started = [], time.process_time()
    for epoch in range(epochs):
        net.train()
        for images, targets in batches(pets, split['train'], 32, seed=seed, epoch=epoch):
            with torch.autocast('cpu', amp or torch.bfloat16, enabled=amp is not None): logits = net(images)
            optimizer.zero_grad()
            loss_of(logits, targets).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        rows.append(dict(epoch=epoch + 1, **validate(net, pets, split['val']), cpu_seconds=round(time.process_time() - started, 1)))
    return rows


@torch.inference_mode()
def validate(net, pets, index) -> dict:
    "Return the mean IoU of the validation images at the best of the 19 thresholds, and that threshold."
    net.eval()
    counts = torch.cat([counts_at(net(images).sigmoid(), targets, THRESHOLDS) for images, targets in batches(pets, index, 64)])
    at = iou(counts).mean(0)
    return dict(val_iou=round(at.max().item(), 5), threshold=THRESHOLDS[int(at.argmax())])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('questions', nargs='+', choices=['norm', 'skips', 'depth', 'width'])
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--seeds', type=int, nargs='+', default=[100, 101], help='not those of the experiments')
    parser.add_argument('--data', choices=['pets', 'synthetic'], default='pets')
    parser.add_argument('--out', type=Path, default=Path('results/why'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    amp = choose_amp('auto', torch.device('cpu'))
    pets = load_pets(None, args.size) if args.data == 'pets' else synthetic_pets(200, args.size)
    split = {part: rows for part, rows in course_split(pets).items() if part != 'test'}
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for question in args.questions: run_arms(question, seed, pets, split, args, amp)


def run_arms(question, seed, pets, split, args, amp):
    "Train the arms of a question from one seed, but for those that are there; write each as it ends."
    path = args.out / f'{question}.json'
    setting = dict(question=question, data=args.data, size=args.size, epochs=args.epochs, images={part: len(rows) for part, rows in split.items()},
                   recipe='AdamW, one cycle, batches of 32, gradient norm at most 1, no augmentation, weighted BCE', amp=str(amp), torch=torch.__version__)
    kept = json.loads(path.read_text()) if path.exists() else setting | dict(runs=[])
    if changed := [name for name in ('data', 'size', 'epochs') if kept[name] != setting[name]]:
        sys.exit(f'{path} holds runs of another {", ".join(changed)}: give another --out')
    for name, kind, config, lr in arms(question):
        run = dict(arm=name, seed=seed, learning_rate=lr, network=f'{kind.__name__}(base_width={config["base_width"]}, depth={config["depth"]})')
        if any(all(old[key] == run[key] for key in run) for old in kept['runs']): continue
        kept['runs'].append(run | (measured(run, args.out, setting) or measure(kind, config, pets, split, args, run, amp)))
        write_json(kept, path)
        print(question, name, lr, seed, kept['runs'][-1]['history'][-1], flush=True)


def measure(kind, config, pets, split, args, run, amp) -> dict:
    "Return what a network costs and reached: parameters, multiply-adds, a row an epoch."
    torch.manual_seed(run['seed'])
    net = kind(**config)
    fresh = create_model(config, seed=run['seed']).state_dict()  # the same start for all arms, where they have the same weights
    own = net.state_dict()
    net.load_state_dict({k: v for k, v in fresh.items() if k in own and own[k].shape == v.shape}, strict=False)
    cost = dict(parameters=count_parameters(net), macs=count_macs(net, args.size))
    return cost | dict(history=train(net, pets, split, args.epochs, run['learning_rate'], run['seed'], amp))


def measured(run, folder, setting) -> dict | None:
    "Return what the same network reached under the same setting for another question, if it was trained already."
    for path in sorted(folder.glob('*.json')):
        other = json.loads(path.read_text())
        if any(other[key] != setting[key] for key in setting if key != 'question'): continue
        for old in other['runs']:
            if all(old[key] == run[key] for key in ('network', 'seed', 'learning_rate')): return {key: old[key] for key in ('parameters', 'macs', 'history')}


if __name__ == '__main__':
    main()
