"""What `tenantry serve` serves: /metrics, /healthz, and the console for people.

`fleet` reads the control database, `health` asks whether changes arrive, `app` answers. One process of it is
enough for a fleet; a second one does no harm.
"""
