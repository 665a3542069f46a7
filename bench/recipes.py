"""Ways to train that are compared: options of `charrnn train`, and PyTorch's best.

A recipe is given as 'NAME: --option value ...'; nothing after the name leaves all to the side's defaults.
Standard library only.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

Side = Literal["charrnn", "PyTorch", "Kneser-Ney", "PPMd"]
BUDGETS = ("--minutes", "--epochs", "--steps")
# What all recipes must have in common, or what the harness itself needs.
FIXED = (
    "-o", "--out", "--lines", "--seed", "--val-fraction", "--val-split", "--val", "--threads", "--json", "-q",
    "--quiet", "--resume",
    "--force", "--plot",
)  # fmt: skip
FIXED_TORCH = ("--train", "--validation", "--seed", "--seconds", "--steps")

# The dropout and weight decay with which a 2 x 256 was best after so many passes over its text: measured on
# tinyshakespeare after 4 passes (one minute), 13 and 45, and more of both where a text is read more often.
TORCH_BY_PASSES = ((8.0, 0.05, 0.01), (25.0, 0.2, 0.03), (100.0, 0.3, 0.05), (float("inf"), 0.5, 0.1))


class RecipeError(Exception):
    """A recipe that cannot be compared with others; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """A side and the options it runs with."""

    name: str
    side: Side
    options: tuple[str, ...]

    def has(self, *names: str) -> bool:
        """Whether one of these options is given, as `--name value` or `--name=value`."""
        return any(option.partition("=")[0] in names for option in self.options)


def parse(text: str, side: Side) -> Recipe:
    """The recipe that 'NAME: --option value' describes.

    Raises:
        RecipeError: it has no name, or options that are not its own.
    """
    name, colon, rest = text.partition(":")
    if not (name.strip() and colon):
        raise RecipeError(f"{text!r} is no recipe: give 'NAME: --option value ...'")
    recipe = Recipe(name.strip(), side, tuple(shlex.split(rest)))
    for option in FIXED if side == "charrnn" else FIXED_TORCH:
        if recipe.has(option):
            raise RecipeError(f"{recipe.name}: {option} is the same for all recipes, leave it out")
    return recipe


# What learns a text in a second, whatever the budget: it has no options.
COUNTING = (Recipe("Kneser-Ney", "Kneser-Ney", ()), Recipe("PPMd", "PPMd", ()))


def regularised(passes: float) -> tuple[str, ...]:
    """PyTorch's options for a run that will read its text so many times."""
    dropout, decay = next((d, w) for most, d, w in TORCH_BY_PASSES if passes <= most)
    return ("--dropout", f"{dropout:g}", "--weight-decay", f"{decay:g}")
