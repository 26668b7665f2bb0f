"""The report: what the stages left, gathered into one HTML page that needs nothing but itself.

`artifacts` reads the folders; `data`, `training`, `results`, `making` and `cautions` turn what is there into the values that the
templates show, one module a part of the page; `charts` and `pictures` do the drawing; `page` puts it together.
"""
