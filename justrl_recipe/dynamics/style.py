"""The page's style sheet: light and dark, wide and narrow, screen and paper."""

STYLE_SHEET = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c5c5c; --line: #d8d8d8; --back: #fff; --card: #f6f6f4;
  --ok: #00694f; --look: #8a5a00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --soft: #a9a9a6; --line: #444; --back: #181818;
  --card: #232323; --ok: #5fd3ad; --look: #f0b95a; --bad: #ff8f85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 82rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, figcaption { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .85rem; }
code { font-size: .9em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
.numbers td:not(:first-child) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.numbers th:not(:first-child) { text-align: right; }
.health td[colspan] { font-weight: 600; padding-top: .8rem; }
.verdict { font-weight: 700; white-space: nowrap; }
.ok { color: var(--ok); } .look { color: var(--look); } .bad { color: var(--bad); }
.not-logged, .too-early { color: var(--soft); font-weight: 400; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
.figures.of2 { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
@media (prefers-color-scheme: dark) { figure svg { background: #f4f4f2; } }
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  .health, .health tbody, .health tr { display: block; }
  .health thead { display: none; }
  .health tr { border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .health td { display: inline; border: 0; padding: 0 .5rem 0 0; }
}
@media print {
  :root { --ink: #000; --soft: #333; --line: #999; --back: #fff; --ok: #000; --look: #000; --bad: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  h2, h2 + .soft { break-after: avoid; }
  .figures, .figures.of2 { grid-template-columns: repeat(2, 1fr); }
  .scroll { overflow: visible; }
  .screen { display: none; }
}
"""
