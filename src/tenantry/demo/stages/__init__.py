"""The demo's stages, each a module with `async def run(demo)`; `tenantry.demo.tour` says in which order."""
