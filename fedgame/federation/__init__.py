"""The protocols over a network: who says what to whom, what is paid, and the ledger that settles it.

`messages` are all that travels, `member` and `server` what each side does with them, pure functions of
messages. `conduct` runs a federation over any transport; `ledger` holds what was settled, and outlives it.
"""
