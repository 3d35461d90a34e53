"""`inspect`: what a file of weights is, what it was made with, and how much of it each program will load."""

from typing import Any

from contract.base import Params, Reply


class InspectParams(Params, frozen=True, kw_only=True):
    """Which file. `hashes` reads it whole once; `norms` computes ‖ΔW‖ per block of an adapter."""

    file: str
    hashes: bool = True
    norms: bool = True


class Evidence(Reply, kw_only=True):
    """Why a family was found: the key or metadata that says so, and what it says."""

    sign: str
    says: str


class BlockSummary(Reply, kw_only=True):
    """The modules of one block. `ranks` and `alphas` count modules by value; `norm` is the Frobenius norm of
    its ΔW with alpha ÷ rank, None where it was not computed."""

    component: str
    block: str
    modules: int
    ranks: dict[str, int]
    alphas: dict[str, int]
    norm: float | None = None


class AdapterSummary(Reply, kw_only=True):
    """What is in an adapter. `networks` counts modules by type (lora, locon, dora, loha, lokr, full, …);
    `unpaired` are keys whose other half is missing, `unknown` those that belong to nothing known: the first
    1,000 of each, and how many there are."""

    naming: str
    networks: dict[str, int]
    modules: int
    components: dict[str, int]
    ranks: dict[str, int]
    alphas: dict[str, int]
    blocks: list[BlockSummary]
    unpaired: list[str] = []
    unknown: list[str] = []
    unpaired_total: int = 0
    unknown_total: int = 0


class Consumer(Reply, kw_only=True):
    """What one program makes of the file: `unmatched` are the keys that it will not use (the first 1,000)."""

    name: str
    matched: int
    total: int
    unmatched: list[str]
    note: str | None = None


class TagCount(Reply, kw_only=True):
    """How often a tag was trained."""

    tag: str
    count: int


class Hashes(Reply, kw_only=True):
    """Lower-case hex; AutoV2 and AutoV3 upper-case, as Civitai shows them. `computed` of `sshs_*` is from the
    bytes, `stated` what the header says; they differ where a tool changed the file and not the header."""

    sha256: str
    autov2: str
    autov3: str
    sshs_model_hash: str
    sshs_legacy_hash: str
    stated_sshs_model_hash: str | None = None
    stated_sshs_legacy_hash: str | None = None


class InspectResult(Reply, kw_only=True):
    """What a file is. `kind`: lora, checkpoint, diffusion_model, vae, text_encoder, embedding, controlnet,
    upscaler. `dtypes` counts bytes by type. `family` None is a file that is none of those we know (and
    `kind` too, where not even that is seen), and `reason` says so. `trigger_sources` says of each trigger
    word where it is from, `tag_frequency` has the 1,000 commonest of `tags` tags, over all folders.
    `training` are the `ss_*` values, decoded from their JSON where they have some; `modelspec` are those keys
    without `modelspec.`, `metadata` all texts as they are. What is too long for a message is cut, and ends by
    saying how long it is."""

    file: str
    bytes: int
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    kind: str | None
    family: str | None
    reason: str | None = None
    evidence: list[Evidence] = []
    trigger_words: list[str] = []
    trigger_sources: dict[str, str] = {}
    tag_frequency: list[TagCount] = []
    tags: int = 0
    training: dict[str, Any] = {}
    modelspec: dict[str, str] = {}
    metadata: dict[str, str] = {}
    recipe: str | None = None
    adapter: AdapterSummary | None = None
    consumers: list[Consumer] = []
    hashes: Hashes | None = None
    warnings: list[str] = []
    timings: dict[str, float] = {}
