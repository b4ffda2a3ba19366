"""The demo's stages, each a module with `async def run(demo)`; `tenantry.demo.run` says in which order."""
