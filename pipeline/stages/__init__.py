"""The stages, one module each: `Params`, `run(inputs, params, out, context) -> summary`, and the record `STAGE`."""
