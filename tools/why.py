"""The small experiments behind the chapters' design choices: one change at a time, judged on validation images alone.

    python tools/why.py --list                       the arms, and the question that each belongs to
    python tools/why.py no_norm --seed 100           one run of some minutes; stopped, it goes on when called again
    python tools/why.py no_norm --seed 0 --data synthetic --size 32 --epochs 1 --out /tmp/why    a quick look, no photographs

An arm is a small subclass of `UNet`, or `UNet` itself with another argument. Each is trained by the course's recipe (its weight decay is 0.01
here, as it was while the search went on) with exp1's loss, on photographs of 64x64 pixels, with one thread. What a run reached is kept in results/why/<arm>-seed<k>.json, where chapters 01, 02 and 04 read it.
The test split is never built.
"""
import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from unet_course.blocks import UPSAMPLE, DoubleConv  # noqa: E402
from unet_course.data import course_split  # noqa: E402
from unet_course.datasets.oxford_pets import load_pets  # noqa: E402
from unet_course.datasets.synthetic import synthetic_pets  # noqa: E402
from unet_course.experiments import PRESETS, PROTOCOLS, POS_WEIGHT  # noqa: E402
from unet_course.factory import UNet, count_macs, count_parameters, create_model, pad_to_multiple  # noqa: E402
from unet_course.losses import WeightedBCE  # noqa: E402
from unet_course.runs.callbacks import Checkpoint, Progress  # noqa: E402
from unet_course.support.device import amp_name, choose_amp  # noqa: E402
from unet_course.support.files import TrainingError, write_json  # noqa: E402
from unet_course.training import Trainer, TrainingData  # noqa: E402


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


class OneConvUNet(UNet):
    "A U-Net with one convolution a stage."
    def __init__(self, **config):
        super().__init__(**config)
        for block in self.modules():
            if isinstance(block, DoubleConv): del block[3:]


class AddUNet(UNet):
    "A U-Net whose decoder adds the skip connection to what comes from below."
    def __init__(self, **config):
        super().__init__(**config)
        self.decoder = nn.ModuleList(DoubleConv(decode[3].out_channels, decode[3].out_channels) for decode in self.decoder)

    def forward(self, images):
        height, width = images.shape[-2:]
        x, skips = pad_to_multiple(images, 2**len(self.down)), []
        for encode, down in zip(self.encoder, self.down):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x)
        for up, decode in zip(self.up, self.decoder): x = decode(self.join(skips.pop(), up(x)))
        return self.head(x)[..., :height, :width]

    def join(self, skip, up): return skip + up


class NoSkipUNet(AddUNet):
    "The same without what the skip connections bring: the decoder has only what comes from below."
    def join(self, skip, up): return up


def transposed_3x3(channels: int) -> nn.Module:  # [B, C, H, W] -> [B, C/2, 2H, 2W]
    "Return a 3x3 transposed convolution with stride 2: its stamps overlap."
    return nn.ConvTranspose2d(channels, channels // 2, kernel_size=3, stride=2, padding=1, output_padding=1)


def bilinear_conv(channels: int) -> nn.Module:  # [B, C, H, W] -> [B, C/2, 2H, 2W]
    "Return `ups` with bilinear interpolation in the place of nearest neighbour."
    return nn.Sequential(nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
                         nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1))


@dataclass
class Arm:
    "One network of a question, or one way to train it."
    questions: dict  # of each question that it belongs to: what the arm is called there
    kind: type = UNet
    config: tuple = ()     # (argument, value) pairs other than width 16 and depth 4
    rate: float = 1.0      # times the recipe's learning rates
    recipe: tuple = ()     # (field, value) pairs other than the course's recipe

    def make(self, seed: int) -> UNet:
        "Return the network: `create_model`'s weights wherever it has them, so that arms with one seed start alike."
        config = dict(base_width=16, depth=4) | dict(self.config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self.kind(**config)
        ours, fresh = net.state_dict(), create_model(config, seed=seed).state_dict()
        net.load_state_dict({name: value for name, value in fresh.items() if name in ours and ours[name].shape == value.shape}, strict=False)
        return net


MODES = dict(tr_3x3=transposed_3x3, bilinear=bilinear_conv)  # up modes of these experiments alone
ARMS = dict(
    base=Arm(dict(norm='batch norm', depth='depth 4', skips='concatenate', width='width 16', stamps='2x2', convolutions='two', optimizer='Muon', sizes='small first')),
    adamw=Arm(dict(optimizer='AdamW'), recipe=(('optimizer', 'adamw'), ('lr', 3e-3))),
    full_size=Arm(dict(sizes='full size'), recipe=(('sizes', (1,)),)),
    no_norm=Arm(dict(norm='no norm'), NoNormUNet),
    no_norm_third=Arm(dict(norm='no norm, a third of the rate'), NoNormUNet, rate=1 / 3),
    group_norm=Arm(dict(norm='group norm'), GroupNormUNet),
    depth_2=Arm(dict(depth='depth 2'), config=(('depth', 2),)),
    depth_3=Arm(dict(depth='depth 3'), config=(('depth', 3),)),
    depth_5=Arm(dict(depth='depth 5'), config=(('depth', 5),)),
    add=Arm(dict(skips='add'), AddUNet),
    no_skips=Arm(dict(skips='none'), NoSkipUNet),
    width_8=Arm(dict(width='width 8'), config=(('base_width', 8),)),
    width_32=Arm(dict(width='width 32'), config=(('base_width', 32),)),
    width_64=Arm(dict(width='width 64'), config=(('base_width', 64),)),
    tr_3x3=Arm(dict(stamps='3x3'), config=(('upsample_mode', 'tr_3x3'),)),
    one_conv=Arm(dict(convolutions='one'), OneConvUNet),
    ups=Arm(dict(enlarging='nearest'), config=(('upsample_mode', 'ups'),)),
    bilinear=Arm(dict(enlarging='bilinear'), config=(('upsample_mode', 'bilinear'),)))


def recipe_of(arm: Arm, epochs: int):
    "Return the course's recipe with that many epochs, a weight decay of 0.01, and the arm's changes."
    recipe = replace(PROTOCOLS['course'], weight_decay=1e-2)
    rates = {name: getattr(recipe, name) * arm.rate for name in ('lr', 'adam_lr') if hasattr(recipe, name)}
    return replace(recipe, epochs=epochs, **(rates | dict(arm.recipe)))


def run(name: str, seed: int, args) -> dict | None:  # what was stored; None if it was there
    "Train an arm from a seed and store what it reached; a stopped run goes on from its checkpoint."
    arm, path = ARMS[name], args.out / f'{name}-seed{seed}.json'
    recipe = recipe_of(arm, args.epochs)
    setting = dict(data=args.data, size=args.size, recipe=asdict(recipe), loss=f'WeightedBCE({POS_WEIGHT})')
    setting = json.loads(json.dumps(setting))  # tuples as a file has them
    if path.is_file():
        stored = json.loads(path.read_text(encoding='utf-8'))
        changed = [key for key, value in setting.items() if stored[key] != value]
        if changed: sys.exit(f'{path} is of another {", ".join(changed)}: give another --out, or delete it')
        return None
    pets = load_pets(None, args.size) if args.data == 'pets' else synthetic_pets(200, args.size)
    split = {part: rows for part, rows in course_split(pets).items() if part != 'test'}
    amp = choose_amp('auto', torch.device('cpu'))
    net, checkpoint, failed = arm.make(seed), path.with_suffix('.ckpt'), None
    cost = dict(parameters=count_parameters(net), macs=count_macs(net, args.size))
    callbacks = Progress(lambda line: print(name, line, flush=True)), Checkpoint(checkpoint, minutes=1)
    trainer = Trainer(net, WeightedBCE(POS_WEIGHT), TrainingData(pets, split), recipe, callbacks, seed, amp)
    try: trainer.fit()
    except TrainingError as error: failed = str(error)  # a result too: this arm cannot be trained so
    best = trainer.best or dict(score=0.0, epoch=0)
    stored = dict(arm=name, questions=arm.questions, seed=seed, network=arm.kind.__name__, config=net.config, images={part: len(rows) for part, rows in split.items()},
                  **setting, amp=amp_name(amp), torch=torch.__version__, **cost, val_iou=round(best['score'], 5), epoch=best['epoch'], failed=failed,
                  processor_seconds=round(sum(row['processor_seconds'] for row in trainer.history), 1),
                  history=[{key: row[key] for key in ('epoch', 'train_loss', 'val_loss', 'val_iou', 'val_iou_threshold', 'val_threshold', 'processor_seconds')} for row in trainer.history])
    write_json(stored, path)
    checkpoint.unlink(missing_ok=True)
    return stored


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arm', nargs='?', choices=ARMS)
    parser.add_argument('--seed', type=int, default=100, help='100 and 101 are kept: not those of the experiments')
    parser.add_argument('--epochs', type=int, default=PRESETS['laptop']['epochs'])
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--data', choices=['pets', 'synthetic'], default='pets')
    parser.add_argument('--out', type=Path, default=Path(__file__).resolve().parent.parent / 'results/why')
    parser.add_argument('--list', action='store_true')
    args = parser.parse_args()
    if args.list:
        for name, arm in ARMS.items(): print(f'{name:14}', ', '.join(f'{question}: {label}' for question, label in arm.questions.items()))
        return
    if not args.arm: parser.error('name an arm; --list says which there are')
    torch.set_num_threads(1)
    UPSAMPLE.update(MODES)
    args.out.mkdir(parents=True, exist_ok=True)
    done = run(args.arm, args.seed, args)
    print(f'{args.arm}, seed {args.seed}: ' + (f'validation IoU {done["val_iou"]:.4f} in {done["processor_seconds"]:.0f} s' if done else 'there already'))


if __name__ == '__main__': main()
