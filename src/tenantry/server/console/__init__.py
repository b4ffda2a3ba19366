"""The console: what an operator looks at. Read-only; a page and its JSON for each thing that there is.

`reading` reads in the background, `history` what was used; `verdict` judges, `overview` and `details` make rows of
it, `charts` draws; `pages` answers requests. `access` says who may look, `live` tells open pages of news.
"""
