"""Where the parameters of U-Nets and text encoders are in a single file of the original layout.

Which module is where, `trainer.weights.names` knows; here is what lies beside modules.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from trainer.families.pieces import Layout, Piece, piece
from trainer.families.vae_keys import vae_layout
from trainer.weights.names import Site, sites
from trainer.weights.tensor_file import TensorFile

_WORDS: Final = "embeddings.token_embedding"
#: How the key of the words ends: with the levels of transformers, without the first, in open_clip.
_WORD_ENDS: Final = (
    "text_model.embeddings.token_embedding.weight",
    "embeddings.token_embedding.weight",
    "token_embedding.weight",
)
_POSITIONS: Final = "text_model.embeddings.position_embedding.weight"
_PROJECTION: Final = "text_projection.weight"
#: What every U-Net has, in the original layout and in that of diffusers.
_UNET_ENDS: Final = ("input_blocks.0.0.weight", "conv_in.weight")


def single_file_layouts(family: str, file: TensorFile) -> dict[str, Layout]:
    """Component (unet, te1, te2, vae) → its parameters by their names in diffusers, where the file has it.

    Text encoders have the level `text_model.`, as in published files.
    """
    tensors = file.header.tensors
    found = sites(family, {key: facts.shape for key, facts in tensors.items()})
    parts: dict[str, dict[str, Piece]] = {}
    for site in found.all:
        parts.setdefault(site.component, {}).update(_of_site(file, site))
    for component, layout in parts.items():
        inside = [site for site in found.all if site.component == component]
        layout.update(_unknown(file, inside) if component == "unet" else _beside(file, inside))
    vae = vae_layout(file)
    return {**parts, "vae": vae} if vae else {**parts}


def _of_site(file: TensorFile, site: Site) -> Iterator[tuple[str, Piece]]:
    """Its weight, and its bias where it has one."""
    assert site.peft is not None
    module = site.peft.partition(".")[2]
    for leaf, key in (("weight", site.weight), ("bias", site.bias)):
        if key in file.header.tensors:
            yield f"{module}.{leaf}", _rows(piece(file, key), site)


def _rows(whole: Piece, site: Site) -> Piece:
    """The rows of a module in what several are fused in; all of it where it has not as many as its weight."""
    if site.rows is None or whole.shape[:1] != tuple(whole.file.header.tensors[site.weight].shape[:1]):
        return whole
    return whole._replace(shape=(site.rows[1] - site.rows[0], *whole.shape[1:]), rows=site.rows)


def _unknown(file: TensorFile, unet: list[Site]) -> Mapping[str, Piece]:
    """Keys of the U-Net that are of no module: under their own names, so that they are refused."""
    prefix = _prefix(unet, _UNET_ENDS)
    if not prefix:
        return {}
    known = {key for site in unet for key in (site.weight, site.bias)}
    strange = (key for key in file.names if key.startswith(prefix) and key not in known)
    return {key: piece(file, key) for key in strange}


def _beside(file: TensorFile, text: list[Site]) -> Mapping[str, Piece]:
    """Positions and projection of open_clip, which are bare tensors there, the projection turned; the
    projection alone where the layout is that of transformers."""
    prefix = _text_prefix(text)
    if prefix is None:
        return {}
    keys = {
        _POSITIONS: f"{prefix}positional_embedding",
        _PROJECTION: f"{prefix}text_projection",
    }
    found = {name: piece(file, key) for name, key in keys.items() if key in file.header.tensors}
    if _PROJECTION in found and len(found[_PROJECTION].shape) == 2:
        into, out = found[_PROJECTION].shape
        found[_PROJECTION] = found[_PROJECTION]._replace(shape=(out, into), turned=True)
    elif prefix + _PROJECTION in file.header.tensors:
        found[_PROJECTION] = piece(file, prefix + _PROJECTION)
    return found


def _prefix(found: list[Site], ends: tuple[str, ...]) -> str:
    weights = {site.weight for site in found}
    return next((key.removesuffix(end) for key in weights for end in ends if key.endswith(end)), "")


def _text_prefix(text: list[Site]) -> str | None:
    """What the keys of an encoder begin with; None where it has no words."""
    words = next((site.weight for site in text if site.peft is not None and site.peft.endswith(_WORDS)), None)
    if words is None:
        return None
    end = next(end for end in _WORD_ENDS if words.endswith(end))
    return words.removesuffix(end)
