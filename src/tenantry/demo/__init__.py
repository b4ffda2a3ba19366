"""The demo: the product's main job on PostgreSQL servers of its own, under load, in plain words.

`product`, `schema.sql` and `fill.sql` say what the customers have, `world` starts the servers, `load` makes the
requests, `history` holds the databases against what was acknowledged, `stages` show one promise after the other,
`tour` has them in order, `teller` and `story` tell it. Every number that is told was measured in the same run; a
promise that does not hold fails the demo.
"""

from tenantry.demo.stage import Options
from tenantry.demo.tour import run

__all__ = ["Options", "run"]
