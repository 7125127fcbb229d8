"""Recipes as data, and a `Trainer` that can follow them: Muon, small pictures first, flips, each in a few plain lines."""
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from unet_course.data import Pets, augmentation_table, batches, epoch_order
from unet_course.datasets.loader import TrainingData
from unet_course.training import Recipe, Trainer


@dataclass(frozen=True)
class FastRecipe(Recipe):
    "A `Recipe` with Muon, sizes and flips as further data."
    adam_lr: float = 3e-3            # with Muon: the peak rate of AdamW, for biases and batch norm
    momentum: float = 0.95           # with Muon: decay of the mean of the gradients
    newton_steps: int = 5            # with Muon: Newton-Schulz iterations
    warmup: float = 0.3              # share of the steps in which the rate rises
    anneal: str = 'cos'              # how the rate falls to zero: 'cos' or 'linear'
    sizes: tuple = (1,)              # shares of the full side; the epochs are divided evenly among them
    flips: bool = False              # mirror half of the training images
    train_border: str | None = None  # how training counts the border; None: as validation does
    head: str = 'adam'               # who trains the last 1x1 convolution's weight with Muon: 'adam' or 'muon'

    def __post_init__(self):
        replace_optimizer = dict(self.__dict__, optimizer='adamw') if self.optimizer == 'muon' else self.__dict__
        Recipe(**{name: replace_optimizer[name] for name in Recipe.__dataclass_fields__})  # its checks


BASELINES = dict(  # what the command trained with until now
    course=FastRecipe(epochs=5, augmented=True),
    tuned=FastRecipe(epochs=15, augmented=False))
FAST = FastRecipe(epochs=6, augmented=False, optimizer='muon', lr=0.02, newton_steps=3, anneal='linear', sizes=(.5, .75, 1), flips=True)  # the search's winner


SMALLEST = 32  # pixels: a bottleneck of 2x2 at depth 4


def orthogonalize(
    matrix: torch.Tensor,  # [m, n]
    steps: int = 5,        # Newton-Schulz iterations
) -> torch.Tensor:  # [m, n]
    "Return the matrix with its singular values brought near 1 (0.7 to 1.2); its singular vectors stay."
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix  # the smaller side first: smaller products
    x = x / (x.norm() + 1e-7)  # all singular values are at most 1 now
    for _ in range(steps):  # each step sends a singular value s to 3.4445 s - 4.775 s^3 + 2.0315 s^5
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    "Muon (Jordan 2024) for weights of two and more dimensions, each seen as a matrix [first, all others]."

    def __init__(self,
        params,                       # weights, or groups of them
        lr: float = 0.02,             # learning rate
        weight_decay: float = 0.0,    # each step takes lr times this from the weights
        momentum: float = 0.95,       # decay of the mean of the gradients
        newton_steps: int = 5,        # iterations of `orthogonalize`
        dtype: torch.dtype = torch.float32,  # number format of `orthogonalize`
    ):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, newton_steps=newton_steps))
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None):
        "Make one step with the gradients that the weights hold."
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is None: continue
                if not self.state[p]: self.state[p]['mean'] = torch.zeros_like(p.grad)
                mean = self.state[p]['mean'].lerp_(p.grad, 1 - group['momentum'])
                update = p.grad.lerp(mean, group['momentum'])  # Nesterov: a look ahead
                matrix = update.movedim(1, -1).flatten(1)  # [out, k k in]: of channels_last weights no copy
                update = orthogonalize(matrix.to(self.dtype), group['newton_steps']).to(p.dtype)
                scale = max(1, matrix.shape[0] / matrix.shape[1])**0.5
                p.mul_(1 - group['lr'] * group['weight_decay'])
                p.add_(update.view(p.movedim(1, -1).shape).movedim(-1, 1), alpha=-group['lr'] * scale)


class MuonAdamW(torch.optim.Optimizer):
    "Muon on the groups with `muon=True`, fused AdamW on the others, behind one interface."

    def __init__(self,
        groups: list[dict],  # params, lr, weight_decay, muon
        recipe: FastRecipe,  # momentum, newton_steps
        dtype: torch.dtype,  # number format of `orthogonalize`
    ):
        super().__init__(groups, dict(lr=recipe.lr))
        self.muon = Muon([g for g in self.param_groups if g['muon']], momentum=recipe.momentum, newton_steps=recipe.newton_steps, dtype=dtype)
        self.adamw = torch.optim.AdamW([g for g in self.param_groups if not g['muon']], fused=True)
        self.param_groups = self.muon.param_groups + self.adamw.param_groups  # the same dicts: a scheduler sets the rates of both

    def step(self, closure=None):
        "Make one step of both."
        self.muon.step()
        self.adamw.step()

    def state_dict(self): return dict(muon=self.muon.state_dict(), adamw=self.adamw.state_dict())

    def load_state_dict(self, state):
        for name in ('muon', 'adamw'): getattr(self, name).load_state_dict(state[name])
        self.param_groups = self.muon.param_groups + self.adamw.param_groups


def make_optimizer(
    model: nn.Module,           # what is trained
    recipe: FastRecipe,         # optimizer, rates, decay, schedule
    steps: int,                 # optimizer steps in the whole run
    dtype: torch.dtype | None,  # autocast's number format: Muon's too
) -> tuple:  # (optimizer, scheduler)
    "Return the optimizer of `recipe` and its schedule over `steps` steps."
    head = model.head.weight if recipe.head == 'adam' else None
    weights = [p for p in model.parameters() if p.ndim > 1 and p is not head]
    plain = [p for p in model.parameters() if p.ndim <= 1 or p is head]
    if recipe.optimizer == 'muon':
        groups = [dict(params=weights, lr=recipe.lr, weight_decay=recipe.weight_decay, muon=True), dict(params=plain, lr=recipe.adam_lr, weight_decay=0.0, muon=False)]
        optimizer = MuonAdamW(groups, recipe, dtype or torch.float32)
    else:
        groups = [dict(params=[p for p in model.parameters() if p.ndim > 1], weight_decay=recipe.weight_decay), dict(params=[p for p in model.parameters() if p.ndim <= 1], weight_decay=0.0)]
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    rates = [group['lr'] for group in optimizer.param_groups]
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, max(steps, 2), pct_start=recipe.warmup, anneal_strategy=recipe.anneal, cycle_momentum=False)


def resized(
    pets: Pets,  # as they are
    side: int,   # pixels, of the new ones
) -> Pets:
    "Return the pets at another size: images as means over areas, trimaps by nearest neighbour."
    if side == pets.size: return pets
    images = [F.interpolate(part.float(), (side, side), mode='area').round().to(torch.uint8) for part in pets.images.split(256)]
    trimaps = F.interpolate(pets.trimaps[:, None], (side, side), mode='nearest-exact')[:, 0]
    return replace(pets, images=torch.cat(images).contiguous(memory_format=torch.channels_last), trimaps=trimaps)


class FastData(TrainingData):
    "The batches of a `FastRecipe`: small pictures first, mirrored ones among them."

    def side(self, recipe: FastRecipe, epoch: int) -> int:
        "Return the side of this epoch's training images, at least `SMALLEST`."
        share = recipe.sizes[epoch * len(recipe.sizes) // recipe.epochs]
        return max(round(self.pets.size * share), min(SMALLEST, self.pets.size))

    def train(self, recipe, seed: int, epoch: int, start: int = 0):
        "Return the batches of an epoch, from number `start` on."
        side, self.small = self.side(recipe, epoch), getattr(self, 'small', {})
        if side not in self.small: self.small[side] = resized(self.pets, side)
        train = self.split['train']
        data = batches(self.small[side], train, recipe.batch_size, border=recipe.train_border or self.border, device=self.device,
                       seed=seed, epoch=epoch, augmented=recipe.augmented, start=start, shard=self.shard)
        if not recipe.flips: return data
        order = train[epoch_order(len(train), seed, epoch)][start * recipe.batch_size:]
        return mirrored(data, order.split(recipe.batch_size), augmentation_table(len(self.pets), seed, epoch)[:, 0] > 0.5)


def mirrored(data, rows, chosen):
    "Return the batches with the chosen images mirrored; which ones depends on seed, epoch and image alone."
    for part, (images, targets) in zip(rows, data):
        here = chosen[part].view(-1, 1, 1, 1).to(images.device)
        yield torch.where(here, images.flip(-1), images), torch.where(here, targets.flip(-1), targets)


class FastTrainer(Trainer):
    "A `Trainer` for a `FastRecipe`."

    def __init__(self, model, loss_function, pets, split, recipe, seed, device, amp, callbacks=()):
        super().__init__(model, loss_function, FastData(pets, split, 'background', device), replace(recipe, optimizer='adamw'), callbacks, seed, amp)
        self.recipe = recipe
        self.optimizer, self.schedule = make_optimizer(self.model, recipe, recipe.epochs * self.steps, amp)
