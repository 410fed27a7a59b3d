"""Searching parameters, choosing ones that hold on other recordings, and handing them to other programs.

`search`, `space`, `folder`, `outputs` look for the best cell and write it down. `choice` says what it is
worth, `plateau` and `stability` whether it is steady, `effects` and `warnings` what the parameters did,
`summary` and `page` put all that on a page. Everything works on the results table of `workbench.sweep`.
"""
