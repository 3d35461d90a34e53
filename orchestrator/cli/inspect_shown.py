"""What a file of weights is, for people: lines of text, and the style of each part of them."""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from contract.methods.inspect import AdapterSummary, BlockSummary, Consumer, InspectResult
from contract.rules.families import TITLES
from contract.rules.paths import from_wire
from orchestrator.cli.bars import bar, columns
from orchestrator.cli.table import size


class Part(NamedTuple):
    """Some text of a line, and how it looks on a terminal."""

    text: str
    style: str = ""


Line = list[Part]

#: Columns of the names at the left.
_LEFT: Final = 11
_INDENT: Final = "  "
#: Columns that lists fill where there is no terminal, and those that are left for a text at the least.
_PAGE: Final = 100
_NARROW: Final = 24
_BAR: Final = 24
_PLAIN_BAR: Final = 40
#: Keys, tags and signs that are named; the rest are counted.
_KEYS: Final = 5
_TAGS: Final = 12
_SIGNS: Final = 4
#: In the recipe of a training; one of a merge has none of it.
_OF_TRAINING: Final = '"kind":"train"'
_DIM, _BOLD, _GOOD, _FAIR, _BAD = "dim", "bold", "green", "yellow", "red"

_KINDS: Final = {
    "lora": "LoRA",
    "vae": "VAE",
    "diffusion_model": "diffusion model",
    "text_encoder": "text encoder",
}
_NETWORKS: Final = {
    "lora": "LoRA",
    "locon": "LoCon",
    "dora": "DoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "full": "full difference",
    "norm": "norm",
    "oft": "OFT",
    "glora": "GLoRA",
}
_DTYPES: Final = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F64": "fp64",
    "F8_E4M3": "fp8",
    "F8_E5M2": "fp8",
}
#: Share of the bytes from which a type is told with a number.
_SOME: Final = 0.005
#: What a training was, in this order: how it is called, its key, and how its number is read.
_TRAINING: Final = (
    ("base", "ss_sd_model_name"),
    ("epochs", "ss_epoch"),
    ("steps", "ss_steps"),
    ("images", "ss_num_train_images"),
    ("resolution", "ss_resolution"),
    ("optimizer", "ss_optimizer"),
    ("learning rate", "ss_learning_rate"),
    ("scheduler", "ss_lr_scheduler"),
    ("batch", "ss_total_batch_size"),
    ("seed", "ss_seed"),
    ("loss", "ss_loss_type"),
    ("comment", "ss_training_comment"),
)


def shown(result: InspectResult, *, width: int | None, keys: bool) -> Iterator[Line]:
    """Everything. On a terminal of `width` columns the lines fit and the norms are charts; elsewhere, with
    None, texts are whole and every block has a line. `keys` names all keys that a program leaves aside, and
    what is unpaired or unknown."""
    yield from _title(result, width)
    yield []
    yield from _about(result, width)
    if result.adapter is not None:
        yield from _adapter(result.adapter, keys=keys)
        yield from _norms(result.adapter.blocks, terminal=width is not None)
    yield from _programs(result.consumers, width, keys=keys)
    yield from _hashes(result)
    yield from _warnings(result.warnings, width)


def _title(result: InspectResult, width: int | None) -> Iterator[Line]:
    name = from_wire(result.file).replace("\\", "/").rpartition("/")[2]
    yield [Part(name, _BOLD)]
    kind = "file of unknown kind" if result.kind is None else _KINDS.get(result.kind, result.kind)
    if result.family is None:
        facts = [f"{kind}, unknown family"]
    else:
        facts = [f"{TITLES.get(result.family, result.family)} {kind}"]
    facts.append(size(result.bytes))
    facts += [f"{result.tensors:,} tensors", f"{_short(result.parameters)} parameters", _types(result.dtypes)]
    for line in _sentences(" · ".join(fact for fact in facts if fact), width, len(_INDENT)):
        yield [Part(_INDENT + line, _GOOD if result.family else _FAIR)]


def _types(dtypes: Mapping[str, int]) -> str:
    """`fp16`, or the shares of several; of what is next to nothing, such as tables of indices, no word."""
    total = sum(dtypes.values())
    ordered = sorted(dtypes.items(), key=lambda item: -item[1])
    much = [(_DTYPES.get(code, code), count / total) for code, count in ordered if count > _SOME * total]
    if len(much) == 1:
        return much[0][0]
    return " + ".join(f"{share:.0%} {name}" for name, share in much)


def _short(count: int) -> str:
    for power, letter in ((9, "B"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {letter}"
    return str(count)


def _row(name: str, *parts: Part, left: int = _LEFT) -> Line:
    return [Part(f"{_INDENT}{name:<{left}}", _DIM), *parts]


def _flow(name: str, items: Sequence[Line], width: int | None) -> Iterator[Line]:
    """As many of the items in a row as fit, three blanks between them."""
    room = (width or _PAGE) - len(_INDENT) - _LEFT
    rows: list[Line] = []
    used = room
    for item in items:
        size = sum(len(part.text) for part in item)
        if used + size > room:
            rows, used = [*rows, []], 0
        else:
            rows[-1].append(Part("   "))
        rows[-1].extend(item)
        used += size + 3
    for index, parts in enumerate(rows):
        yield _row("" if index else name, *parts)


def _sentences(text: str, width: int | None, left: int) -> list[str]:
    """The lines of a text that begins behind `left` columns."""
    return [text] if width is None else textwrap.wrap(text, max(width - left, _NARROW)) or [""]


def _short_key(key: str, room: int) -> str:
    """A key that fits, by leaving out of its middle."""
    if len(key) <= room:
        return key
    head = (room - 1) // 2
    return f"{key[:head]}…{key[head + 1 - room :]}"


def _more(shown_: int, total: int) -> str:
    return f"  … {total - shown_:,} more" if total > shown_ else ""


def _about(result: InspectResult, width: int | None) -> Iterator[Line]:
    if result.reason:
        for index, line in enumerate(_sentences(result.reason, width, len(_INDENT) + _LEFT)):
            yield _row("" if index else "unknown", Part(line, _FAIR))
    yield from _evidence(result, width)
    if title := result.modelspec.get("title"):
        yield _row("title", Part(_line(title)))
    yield from _trained(result.training, width)
    for index, word in enumerate(result.trigger_words):
        source = result.trigger_sources.get(word, "")
        yield _row("" if index else "trigger", Part(_line(word), _BOLD), Part(f"  {source}", _DIM))
    if result.tag_frequency:
        tags = [
            [Part(f"{_line(each.tag)} "), Part(str(each.count), _DIM)]
            for each in result.tag_frequency[:_TAGS]
        ]
        more = _more(_TAGS, result.tags).strip()
        yield from _flow("tags", [*tags, [Part(more, _DIM)]] if more else tags, width)
    if result.recipe is not None:
        again = "reproduce` trains it" if _OF_TRAINING in result.recipe else "merge` runs it"
        yield _row("recipe", Part(f"embedded; `lorakeet {again} again"))


def _evidence(result: InspectResult, width: int | None) -> Iterator[Line]:
    """What says which family it is, and the key that says so."""
    signs = result.evidence[:_SIGNS]
    says = max((len(each.says) for each in signs), default=0)
    if width is not None:
        says = min(says, width - len(_INDENT) - _LEFT - _NARROW)
    left = len(_INDENT) + _LEFT + says + 2
    for index, each in enumerate(signs):
        first, *rest = [each.says] if width is None else textwrap.wrap(each.says, says) or [""]
        key = each.sign if width is None else _short_key(each.sign, width - left)
        yield _row("" if index else "seen by", Part(f"{first:<{says}}  "), Part(key, _DIM))
        for line in rest:
            yield _row("", Part(line))


def _trained(training: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    said = [
        [Part(f"{name} ", _DIM), Part(_line(_words(key, str(training[key]))))]
        for name, key in _TRAINING
        if str(training.get(key) or "None") not in ("None", "")
    ]
    yield from _flow("trained", said, width)


def _words(key: str, text: str) -> str:
    """Of an optimizer, which is stated as a path in Python and its arguments, the name."""
    return text.partition("(")[0].rpartition(".")[2] if key == "ss_optimizer" else text


def _line(text: str) -> str:
    """One line of text, of a length that fits."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else f"{flat[:59]}…"


def _adapter(adapter: AdapterSummary, *, keys: bool) -> Iterator[Line]:
    networks = ", ".join(f"{count:,} {_NETWORKS.get(name, name)}" for name, count in adapter.networks.items())
    components = "  ".join(f"{name} {count:,}" for name, count in adapter.components.items())
    yield _row("modules", Part(networks or "none"), Part(f"   {components}   {adapter.naming} names", _DIM))
    yield _row("rank", Part(_counts(adapter.ranks)))
    yield _row("alpha", Part(_counts({_alpha(name): count for name, count in adapter.alphas.items()})))
    for name, listed, total in (
        ("unpaired", adapter.unpaired, adapter.unpaired_total),
        ("unknown", adapter.unknown, adapter.unknown_total),
    ):
        if total:
            yield _row(name, Part(f"{total:,} keys", _FAIR))
            yield from _keys(listed, total, keys=keys)


def _alpha(name: str) -> str:
    return "the rank" if name == "none" else name


def _counts(counts: Mapping[str, int]) -> str:
    """`16`, or how many modules have each, the commonest first."""
    if len(counts) == 1:
        return next(iter(counts))
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return "  ".join(f"{value} ×{count:,}" for value, count in ordered[:8]) + _more(8, len(ordered))


def _keys(listed: Sequence[str], total: int, *, keys: bool) -> Iterator[Line]:
    count = len(listed) if keys else _KEYS
    for key in listed[:count]:
        yield _row("", Part(f"{_INDENT}{key}", _DIM))
    if total > count:
        yield _row("", Part(f"{_INDENT}… {total - count:,} more", _DIM))


def _norms(blocks: Sequence[BlockSummary], *, terminal: bool) -> Iterator[Line]:
    if all(block.norm is None for block in blocks):
        return
    yield []
    yield [Part(f"{_INDENT}‖ΔW‖ by block", _BOLD)]
    components: defaultdict[str, list[BlockSummary]] = defaultdict(list)
    for block in blocks:
        components[block.component].append(block)
    for component, inside in components.items():
        yield from _chart(component, inside) if terminal else _list(component, inside)


def _chart(component: str, blocks: Sequence[BlockSummary]) -> Iterator[Line]:
    norms = [block.norm for block in blocks]
    *rows, axis = columns(norms, [block.block for block in blocks])
    largest = max((norm for norm in norms if norm is not None), default=0.0)
    sides = [component, f"max {largest:.3g}", *[""] * len(rows)]
    for side, row in zip(sides, rows, strict=False):
        yield _row(side, Part(row, "cyan"))
    yield _row("", Part(axis, _DIM))


def _list(component: str, blocks: Sequence[BlockSummary]) -> Iterator[Line]:
    largest = max((block.norm or 0.0 for block in blocks), default=0.0)
    for block in blocks:
        number = "?" if block.norm is None else f"{block.norm:.4g}"
        drawn = bar(block.norm or 0.0, largest, _PLAIN_BAR, "#")
        yield [Part(f"{_INDENT}{component:<5}{block.block:<9}{number:>9}  {drawn}".rstrip())]


def _programs(consumers: Sequence[Consumer], width: int | None, *, keys: bool) -> Iterator[Line]:
    if not consumers:
        return
    yield []
    yield [Part(f"{_INDENT}Keys that programs will load", _BOLD)]
    left = max(_LEFT, *(len(each.name) + 2 for each in consumers))
    for each in consumers:
        style = _GOOD if each.matched == each.total else _FAIR if each.matched else _BAD
        drawn = bar(each.matched, each.total, _BAR, "━")
        if each.matched < each.total and len(drawn) == _BAR:
            drawn = drawn[:-1]
        yield _row(
            each.name,
            Part(drawn, style),
            Part("─" * (_BAR - len(drawn)), "bright_black"),
            Part(f"  {each.matched:,} of {each.total:,}", style),
            left=left,
        )
        for line in _sentences(each.note or "", width, len(_INDENT) + left) if each.note else ():
            yield _row("", Part(line, _DIM), left=left)
        # A program that takes nothing leaves everything aside; naming some of it says no more.
        if each.unmatched and (each.matched or keys):
            yield from _keys(each.unmatched, each.total - each.matched, keys=keys)


def _hashes(result: InspectResult) -> Iterator[Line]:
    if (hashes := result.hashes) is None:
        return
    yield []
    yield _row("SHA-256", Part(hashes.sha256))
    yield _row("sshs", Part(hashes.sshs_model_hash))
    short = (("AutoV3", hashes.autov3), ("sshs legacy", hashes.sshs_legacy_hash))
    parts = [part for name, text in short for part in (Part(f"   {name}  ", _DIM), Part(text))]
    yield _row("AutoV2", Part(hashes.autov2), *parts)


def _warnings(warnings: Sequence[str], width: int | None) -> Iterator[Line]:
    if warnings:
        yield []
    for warning in warnings:
        for index, line in enumerate(_sentences(warning, width, 2 * len(_INDENT))):
            yield [Part(_INDENT + ("  " if index else "! "), _FAIR), Part(line)]
