"""The red team: every attack that we know of, tried on this machine's real defences, and judged from outside.

Read `attack` first (what an attack is and where it is tried), then `sandboxed` with `inside` (attacks by untrusted
code), `readers` (by files), `exams` (by answers), `judges` (on gates and conduct), `record` (on ledger, archive and
pages), `tampering` (on a run at rest), `honest` (who must pass).
"""
