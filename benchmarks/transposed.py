"""Part 7: `tr` as one matrix product and a reshape, against `ConvTranspose2d`: the layer alone, the whole step, inference."""
import torch
import torch.nn.functional as F

from benchmarks.measuring import ratio, row, take_turns
from benchmarks.step import Step, a_batch, formats
from unet_course.factory import create_model

TITLE = 'A 2x2 transposed convolution of stride 2 as a matrix product'
LIBRARY, PRODUCT = 'ConvTranspose2d', 'matrix product'


class TransposedConv(torch.nn.ConvTranspose2d):
    "A 2x2 transposed convolution of stride 2, [B, C, H, W] -> [B, C/2, 2H, 2W], computed as one matrix product: every pixel becomes a 2x2 tile."

    def __init__(self,
        channels: int,  # channels that come in, even; half of them go out
    ):
        super().__init__(channels, channels // 2, kernel_size=2, stride=2)

    def forward(self, x):
        "Return the tiles, side by side."
        b, _, h, w = x.shape
        matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2)           # [2 2 C/2, C]: a row for each value of a tile
        tiles = F.linear(x.permute(0, 2, 3, 1), matrix, self.bias.repeat(4))  # [B, H, W, 2 2 C/2]
        tiles = tiles.view(b, h, w, 2, 2, -1).transpose(2, 3)            # [B, H, 2, W, 2, C/2]
        return tiles.reshape(b, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)    # channels_last, as the rest of the network is


def with_products(model):
    "Return the network with the same weights and its `tr` layers as matrix products."
    for level, layer in enumerate(model.up):
        product = TransposedConv(layer.in_channels)
        product.load_state_dict(layer.state_dict())
        model.up[level] = product
    return model


def a_layer(kind, x, dtype, backward: bool):
    "A function that runs the layer forward, and backward if asked."
    layer = kind.to(memory_format=torch.channels_last)
    gradient = torch.randn_like(layer(x[:1])).expand(len(x), -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def call():
        with torch.autocast('cpu', dtype or torch.bfloat16, enabled=dtype is not None), torch.set_grad_enabled(backward): y = layer(x)
        if backward: y.backward(gradient.to(y.dtype))
        layer.zero_grad(); x.grad = None
    return call


def layers(device, tiny: bool, name: str, width: int, backward: bool) -> dict:
    "Each `tr` layer of a network alone."
    dtype, (count, size) = formats(device)[name].get('dtype'), (2, 32) if tiny else (16, 128)
    rows, ratios = [], []
    for level in range(4):
        channels, side = width * 2**(4 - level), size // 2**(4 - level)
        x = torch.randn(count, channels, side, side).to(memory_format=torch.channels_last).requires_grad_(backward)
        library = torch.nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        ways = {f'{what}, {channels} to {channels // 2} channels at {side}x{side}': a_layer(kind, x, dtype, backward) for what, kind in {LIBRARY: library, PRODUCT: TransposedConv(channels)}.items()}
        found = [row(what, seconds, count) for what, seconds in take_turns(ways, device, rounds=3 if tiny else 15, seconds=5).items()]
        rows += found
        ratios.append(ratio(found[1], found[0]))
    return dict(setting=f'{name}, width {width}, batch {count}, {size}x{size}, channels_last, {"forward and backward" if backward else "forward"}.', rows=rows, ratios=ratios)


def steps(device, tiny: bool, name: str, width: int, target) -> dict:
    "The whole training step."
    options, (count, size) = formats(device)[name], (2, 32) if tiny else (16, 128)
    batch, model = a_batch(device, count, size), lambda: create_model(dict(base_width=width), seed=0)
    ways = {LIBRARY: Step(model(), batch, device, ours=True, **options), PRODUCT: Step(with_products(model()), batch, device, ours=True, **options)}
    rows = [row(what, seconds, count) for what, seconds in take_turns(ways, device, rounds=3 if tiny else 9, seconds=100).items()]
    return dict(setting=f'{name}, mp-tr, width {width}, batch {count}, {size}x{size}, channels_last: forward, backward, optimizer.', rows=rows, ratios=[ratio(rows[1], rows[0], target)])


def inference(device, tiny: bool, name: str, width: int) -> dict:
    "The whole network forward, for one image and for a batch."
    dtype, size, rows, ratios = formats(device)[name].get('dtype'), 32 if tiny else 128, [], []
    for count in (1, 16):
        images, ways = a_batch(device, count, size)[0], {}
        for what, model in {LIBRARY: create_model(dict(base_width=width), seed=0), PRODUCT: with_products(create_model(dict(base_width=width), seed=0))}.items():
            model = model.eval().to(memory_format=torch.channels_last)

            def call(model=model):
                with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None): model(images)
            ways[f'{what}, batch {count}'] = call
        found = [row(what, seconds, count) for what, seconds in take_turns(ways, device, rounds=3 if tiny else 25 if count == 1 else 9, seconds=15).items()]
        rows += found
        ratios.append(ratio(found[1], found[0]))
    return dict(setting=f'{name}, mp-tr, width {width}, {size}x{size}, channels_last: forward in evaluation mode.', rows=rows, ratios=ratios)


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    for width, target in ((16, 1.06), (64, 1.10)):
        if tiny: width = 2
        for name in formats(device):
            yield f'step, {name}, width {width}', lambda name=name, width=width, target=target if name == 'bf16' else None: steps(device, tiny, name, width, target)
            for backward in (True, False): yield f'layers, {name}, width {width}, {"training" if backward else "inference"}', lambda name=name, width=width, backward=backward: layers(device, tiny, name, width, backward)
            yield f'inference, {name}, width {width}', lambda name=name, width=width: inference(device, tiny, name, width)
        if tiny: break
