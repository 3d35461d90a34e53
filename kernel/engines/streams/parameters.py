"""The parameters of a step, block by block."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from contract.errors import InvalidParams
from contract.methods.merge import BlockWeights, CheckpointMerge, RecipeStep
from contract.rules.blocks import BASE, LAYOUTS, BlocksInvalid, weights_by_block
from contract.rules.merge_methods import MERGE_METHODS
from kernel.engines.streams.methods import METHODS, Arguments, Method
from kernel.engines.streams.methods.sums import is_one

_SUM: Final = "weighted_sum"
#: Methods whose first model is what the others learned from.
_WITH_BASE: Final = frozenset(("ties", "dare", "della"))
#: What parameters are that nobody gave.
_DEFAULTS: Final[Mapping[str, object]] = {
    "alpha": 0.5,
    "beta": 0.5,
    "density": 0.5,
    "epsilon": 0.1,
    "normalize": False,
}
#: One number for everything, or block → number.
Value = float | Mapping[str, float]


class Parameters(NamedTuple):
    """What a step's settings say, before it is known which block a tensor is in. `where` is their place."""

    method: str
    weights: tuple[Value, ...]
    alpha: Value
    beta: Value
    density: float
    epsilon: float
    seed: int
    normalize: bool
    where: str


class ByBlock:
    """Block → the arguments of a method."""

    def __init__(self, parameters: Parameters, family: str | None) -> None:
        """Raises InvalidParams for arguments that the method is not defined for."""
        self.method: Method = METHODS[parameters.method]()
        self._given = parameters
        blocks = LAYOUTS.get(family or "", (BASE,))
        self._known = {block: self._arguments(block) for block in blocks}
        for arguments in self._known.values():
            self._check(arguments)

    def __call__(self, block: str) -> Arguments:
        return self._known.get(block) or self._known[BASE]

    def warnings(self) -> list[str]:
        """What somebody may not have meant."""
        return [*self._unread(), *self._sums()]

    def _unread(self) -> Iterator[str]:
        """Parameters that were given, and that the method does not have."""
        given, reads = self._given, MERGE_METHODS[self.method.name].reads
        for name, default in _DEFAULTS.items():
            if name not in reads and getattr(given, name) != default:
                yield f"`{self.method.name}` has no `{name}`; what was given is not used."
        if "weights" not in reads and any(each != 1 for each in given.weights):
            yield f"`{self.method.name}` has no weights of models; what was given is not used."
        if self.method.name in _WITH_BASE and given.weights[0] != 1:
            yield f"The first model of `{self.method.name}` is its base; its weight is not used."

    def _sums(self) -> Iterator[str]:
        """Weights of a weighted sum that change the size of all numbers."""
        odd = {block: sum(each.weights) for block, each in self._known.items()}
        odd = {block: total for block, total in odd.items() if not is_one(total)}
        if self.method.name == _SUM and odd:
            block, total = next(iter(odd.items()))
            place = "" if len(odd) == len(self._known) else f" in {block}"
            so = "`normalize` divides them by their sum." if total else "So little is left of the models."
            yield f"The weights of `{_SUM}` add up to {total:g}{place}, not to 1: all numbers change. {so}"

    def _arguments(self, block: str) -> Arguments:
        given = self._given
        weights = tuple(at(each, block) for each in given.weights)
        if given.normalize and given.method == _SUM:
            weights = self._normalized(weights)
        return Arguments(
            weights, at(given.alpha, block), at(given.beta, block), given.density, given.epsilon, given.seed
        )

    def _normalized(self, weights: tuple[float, ...]) -> tuple[float, ...]:
        total = sum(weights)
        if not total:
            raise InvalidParams(
                "The weights add up to 0, so they cannot be divided by their sum.", where=self._given.where
            )
        return tuple(each / total for each in weights)

    def _check(self, arguments: Arguments) -> None:
        if (problem := self.method.problem(arguments)) is None:
            return
        parameter, why = problem
        by_block = "_blocks" if isinstance(getattr(self._given, parameter), Mapping) else ""
        raise InvalidParams(
            f"`{parameter}` of `{self.method.name}` {why}; it is {getattr(arguments, parameter):g}.",
            where=f"{self._given.where}.{parameter}{by_block}",
        )


def at(value: Value, block: str) -> float:
    """The number of a block."""
    return value if isinstance(value, int | float) else value.get(block, value[BASE])


def of_merge(settings: CheckpointMerge, family: str | None, where: str) -> Parameters:
    """Raises InvalidParams for block weights that do not fit the family."""
    weights = tuple(
        value(model.weight, model.blocks, family, f"{where}.models[{index}].blocks")
        for index, model in enumerate(settings.models)
    )
    return Parameters(
        method=settings.method,
        weights=weights,
        alpha=value(settings.alpha, settings.alpha_blocks, family, f"{where}.alpha_blocks"),
        beta=value(settings.beta, settings.beta_blocks, family, f"{where}.beta_blocks"),
        density=settings.density,
        epsilon=settings.epsilon,
        seed=settings.seed,
        normalize=settings.normalize,
        where=where,
    )


def of_step(step: RecipeStep, family: str | None, seed: int, where: str) -> Parameters:
    """The same for a step of a recipe. Without weights, a weighted sum is the mean of its inputs."""
    count = len(step.inputs)
    share = 1 / count if step.method == _SUM else 1.0
    return Parameters(
        method=step.method,
        weights=tuple(step.weights) or (share,) * count,
        alpha=value(step.alpha, step.alpha_blocks, family, f"{where}.alpha_blocks"),
        beta=value(step.beta, step.beta_blocks, family, f"{where}.beta_blocks"),
        density=step.density,
        epsilon=step.epsilon,
        seed=seed,
        normalize=step.normalize,
        where=where,
    )


def value(plain: float, blocks: BlockWeights | None, family: str | None, where: str) -> Value:
    """Raises InvalidParams for block weights that do not fit the family."""
    if blocks is None:
        return plain
    try:
        return weights_by_block(family or "a model of no family", blocks)
    except BlocksInvalid as invalid:
        raise InvalidParams(str(invalid), where=where) from None
