"""The recipes that the course had before, as data, and a `Recipe` with the knobs that the search turned and the course then left fixed."""
from dataclasses import dataclass, replace

from torch.optim.lr_scheduler import OneCycleLR

from unet_course.datasets.loader import TrainingData
from unet_course.training import Recipe, Trainer

COURSE = Recipe(epochs=5, optimizer='adamw', lr=3e-3, weight_decay=1e-2, augmented=True)  # the preset `laptop` until now
TUNED = replace(COURSE, epochs=15, augmented=False)                                      # the protocol `tuned`


@dataclass(frozen=True)
class SearchRecipe(Recipe):
    "A `Recipe` with what the search tried and `Recipe` does not name; the values are those that it keeps."
    momentum: float = 0.95           # Muon's
    newton_steps: int = 3            # Muon's iterations of `orthogonalize`
    warmup: float = 0.3              # share of the steps in which the rate rises
    train_border: str | None = None  # how training counts the border; None: as validation does


class SearchData(TrainingData):
    "The batches of a `SearchRecipe`."

    def train(self, recipe, seed: int, epoch: int, start: int = 0):
        "Return the batches of an epoch; the border counts as `train_border` says."
        plain, self.border = self.border, recipe.train_border or self.border
        try: return super().train(recipe, seed, epoch, start)
        finally: self.border = plain


class SearchTrainer(Trainer):
    "A `Trainer` for a `SearchRecipe`."

    def __init__(self, model, loss_function, pets, split, recipe, seed, device, amp, callbacks=()):
        super().__init__(model, loss_function, SearchData(pets, split, 'background', device), recipe, callbacks, seed, amp)
        if recipe.optimizer == 'muon': self.optimizer.momentum, self.optimizer.steps = recipe.momentum, recipe.newton_steps
        if recipe.warmup == 0.3: return
        peaks = [group['max_lr'] for group in self.optimizer.param_groups]
        self.schedule = OneCycleLR(self.optimizer, peaks, max(recipe.epochs * self.steps, 2), pct_start=recipe.warmup, cycle_momentum=False,
                                   anneal_strategy='linear' if recipe.schedule == 'linear' else 'cos')
